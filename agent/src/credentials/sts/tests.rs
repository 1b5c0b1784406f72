//! Session names, and where the global endpoint applies.

use aws_sdk_sts::primitives::DateTime;

use super::*;

fn account(namespace: &str, name: &str) -> ServiceAccount {
    ServiceAccount::new(namespace, name).expect("valid")
}

fn fits(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    (2..=64).contains(&name.len()) && name.bytes().all(allowed)
}

#[test]
fn a_session_is_named_after_its_service_account() {
    assert_eq!(session_name(&account("shop", "checkout")), "shop.checkout");
}

#[test]
fn every_legal_account_has_a_name_that_sts_accepts() {
    for namespace in [1, 32, 63] {
        for name in [1, 30, 31, 32, 63, 64, 253] {
            let account = account(&"n".repeat(namespace), &"a".repeat(name));
            let name = session_name(&account);
            assert!(fits(&name), "{account}: {name}");
        }
    }
    assert!(fits(&session_name(&account("0", "a.b-c.d"))));
}

#[test]
fn long_accounts_that_differ_at_the_end_have_different_names() {
    let long = "a".repeat(252);
    let one = session_name(&account("shop", &format!("{long}1")));
    let two = session_name(&account("shop", &format!("{long}2")));
    assert_ne!(one, two);
}

/// Policies and trails name sessions, so a name that changed would break them.
#[test]
fn a_long_account_keeps_its_name_from_release_to_release() {
    let name = session_name(&account("shop", &"a".repeat(253)));
    let start = format!("shop.{}=", "a".repeat(42));
    assert_eq!(name.strip_prefix(&start), Some("5a5bb605ebe6c5fe"));
}

#[test]
fn credentials_of_which_a_part_is_missing_are_refused() {
    let role = "arn:aws:iam::111122223333:role/checkout".parse();
    let role = role.expect("valid");
    let issued = |parts: [&str; 3], expiration: i64| {
        let [id, secret, token] = parts;
        let issued = types::Credentials::builder()
            .access_key_id(id)
            .secret_access_key(secret)
            .session_token(token)
            .expiration(DateTime::from_secs(expiration));
        kept(issued.build().expect("all is set"), &role).err()
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
