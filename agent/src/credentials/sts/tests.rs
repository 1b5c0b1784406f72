//! What STS may answer, and where the global endpoint applies.

use aws_sdk_sts::primitives::DateTime;

use super::*;

#[test]
fn credentials_of_which_a_part_is_missing_are_refused() {
    let user = types::AssumedRoleUser::builder()
        .arn("arn:aws:sts::111122223333:assumed-role/checkout/shop")
        .assumed_role_id("AROAEXAMPLE:shop")
        .build()
        .expect("all is set");
    let issued = |parts: [&str; 3], expiration: i64| {
        let [id, secret, token] = parts;
        let issued = types::Credentials::builder()
            .access_key_id(id)
            .secret_access_key(secret)
            .session_token(token)
            .expiration(DateTime::from_secs(expiration));
        kept((issued.build().expect("all is set"), user.clone())).err()
    };
    assert!(issued(["id", "secret", "token"], 1_800_000_000).is_none());
    let impossible = [
        issued(["", "secret", "token"], 1_800_000_000),
        issued(["id", "", "token"], 1_800_000_000),
        issued(["id", "secret", ""], 1_800_000_000),
    ];
    for refusal in impossible {
        assert!(
            matches!(refusal, Some(Refusal::Malformed(_))),
            "{refusal:?}"
        );
    }
}

async fn endpoint(resolver: &impl ResolveEndpoint, region: &str) -> String {
    let params = Params::builder().region(region).build().expect("valid");
    let endpoint = resolver.resolve_endpoint(&params).await;
    endpoint.expect("the region has one").url().to_owned()
}

#[tokio::test]
async fn the_global_endpoint_serves_the_old_regions_only_when_that_is_asked_for() {
    let (regional, legacy) = (DefaultResolver::new(), Legacy::default());
    let old = "eu-west-1";
    assert_eq!(endpoint(&legacy, old).await, "https://sts.amazonaws.com");
    assert_eq!(
        endpoint(&regional, old).await,
        "https://sts.eu-west-1.amazonaws.com"
    );
    let new = "eu-central-2";
    assert_eq!(
        endpoint(&legacy, new).await,
        "https://sts.eu-central-2.amazonaws.com"
    );
}
