//! Roles that are had for a pod's token, without any AWS permission.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::future::ProvideCredentials as Provided;
use credlet::aws;
use credlet::credentials::{Exchange, Key, NoToken, Refusal};
use credlet::model::{Association, Credentials, Grant, Means, ServiceAccount, Session};
use credlet_tests::fake_aws::{Answer, Api, Call, FakeAws, REGION, issued_to};

use super::{Shown, exchanges, sessions};

const ROLE: &str = "arn:aws:iam::111122223333:role/irsa/checkout";
const TARGET: &str = "arn:aws:iam::444455556666:role/warehouse";
const AUDIENCE: &str = "sts.amazonaws.com";
const HOUR: Duration = Duration::from_hours(1);

fn grant() -> Grant {
    Grant {
        means: Means::WebIdentity {
            audience: AUDIENCE.into(),
        },
        ..Grant::of(ROLE.parse().expect("valid"))
    }
}

fn key(grant: Grant) -> Key {
    Key {
        account: ServiceAccount::new("shop", "checkout").expect("valid"),
        pod: None,
        association: Arc::new(Association::Role(grant)),
    }
}

/// Where an agent finds none and should not have looked.
#[derive(Debug)]
struct Untouched;

impl ProvideCredentials for Untouched {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        panic!("the agent looked for credentials of its own");
    }
}

/// An agent that has no credentials and must not look for some: where there are
/// none, that takes seconds.
async fn bare_sdk(aws: &FakeAws) -> SdkConfig {
    aws::settings()
        .region(Region::new(REGION))
        .credentials_provider(Untouched)
        .endpoint_url(aws.url())
        .load()
        .await
}

async fn ask_with(aws: &FakeAws, grant: Grant, shown: Shown) -> Result<Credentials, Refusal> {
    let sdk = bare_sdk(aws).await;
    let exchanges = exchanges(&sdk, sessions(None, HOUR), shown, &aws::Metrics::default());
    exchanges.exchange(key(grant)).await
}

async fn ask(aws: &FakeAws, grant: Grant) -> Result<Credentials, Refusal> {
    ask_with(aws, grant, Shown::token("checkout", AUDIENCE, 600)).await
}

fn refusal(answer: Result<Credentials, Refusal>) -> Refusal {
    match answer {
        Err(refusal) => refusal,
        Ok(_) => panic!("got credentials"),
    }
}

#[tokio::test]
async fn an_agent_without_credentials_of_its_own_has_the_role_for_the_token() {
    let aws = FakeAws::start().await;
    let got = ask(&aws, grant()).await.expect("credentials");
    assert_eq!(
        issued_to(&got.access_key_id).as_deref(),
        Some("shop/checkout")
    );
    assert_eq!(got.role.account_id(), "111122223333");
    let [Call::WebIdentity(call)] = &aws.calls()[..] else {
        panic!("another call: {:?}", aws.calls());
    };
    assert_eq!(
        (call.role.as_str(), call.session_name.as_str()),
        (ROLE, "shop.checkout")
    );
    assert_eq!(call.duration, HOUR);
    assert_eq!(call.signer, "", "nobody signs it");
    assert!(call.tags.is_empty(), "STS takes none with it");
}

#[tokio::test]
async fn a_target_role_is_assumed_with_the_token_s_session_and_gets_the_tags() {
    let aws = FakeAws::start().await;
    let chained = Grant {
        target_role: Some(TARGET.parse().expect("valid")),
        external_id: Some("us/them".to_owned()),
        ..grant()
    };
    let got = ask(&aws, chained).await.expect("credentials");
    assert_eq!(got.role.account_id(), "444455556666");
    let [Call::WebIdentity(first), Call::AssumeRole(last)] = &aws.calls()[..] else {
        panic!("other calls: {:?}", aws.calls());
    };
    assert_eq!((first.role.as_str(), last.role.as_str()), (ROLE, TARGET));
    assert_eq!(issued_to(&last.signer).as_deref(), Some("shop/checkout"));
    assert_eq!(
        (first.external_id.as_deref(), last.external_id.as_deref()),
        (None, Some("us/them"))
    );
    assert_eq!(last.tags["kubernetes-service-account"], "checkout");
    assert_eq!(last.duration, HOUR);
}

#[tokio::test]
async fn a_policy_narrows_the_session() {
    let aws = FakeAws::start().await;
    let policy = Some("{}".to_owned());
    let narrowed = Grant {
        session: Session::Untagged { policy },
        ..grant()
    };
    ask(&aws, narrowed).await.expect("credentials");
    let [Call::WebIdentity(call)] = &aws.calls()[..] else {
        panic!("another call: {:?}", aws.calls());
    };
    assert_eq!(call.policy.as_deref(), Some("{}"));
}

#[tokio::test]
async fn without_a_token_sts_is_not_asked() {
    let aws = FakeAws::start().await;
    let refused = refusal(ask_with(&aws, grant(), Shown(None)).await);
    assert!(
        matches!(refused, Refusal::NoToken(NoToken::NoneShown(_))),
        "{refused}"
    );
    assert!(aws.calls().is_empty());
}

#[tokio::test]
async fn what_sts_says_of_the_token_or_the_role_is_the_pod_s_fault_unless_it_passes() {
    let aws = FakeAws::start().await;
    let of_the_pod = [
        "AccessDenied",
        "InvalidIdentityToken",
        "IDPRejectedClaim",
        "RegionDisabledException",
        "MalformedPolicyDocument",
        "ValidationError",
        "NoSuchEntity",
    ];
    for code in of_the_pod {
        aws.script(Api::WebIdentity, Answer::Refused(code));
        let refused = refusal(ask(&aws, grant()).await);
        assert!(
            matches!(&refused, Refusal::Denied(why) if why.starts_with(code)),
            "{refused}"
        );
    }
    // Another token may be good, or the issuer be reached.
    for code in ["ExpiredTokenException", "IDPCommunicationError"] {
        aws.script(Api::WebIdentity, Answer::Refused(code));
        let refused = refusal(ask(&aws, grant()).await);
        assert!(
            matches!(refused, Refusal::Unavailable(_)),
            "{code}: {refused}"
        );
    }
    aws.script(Api::WebIdentity, Answer::Throttled);
    let refused = refusal(ask(&aws, grant()).await);
    assert!(matches!(refused, Refusal::Throttled), "{refused}");
    aws.script(Api::WebIdentity, Answer::Broken);
    let refused = refusal(ask(&aws, grant()).await);
    assert!(matches!(refused, Refusal::Unavailable(_)), "{refused}");
}

#[tokio::test]
async fn what_does_not_fit_is_told_with_what_to_drop() {
    let aws = FakeAws::start().await;
    aws.script(Api::AssumeRole, Answer::Refused("PackedPolicyTooLarge"));
    let policy = Some("{}".to_owned());
    let chained = Grant {
        target_role: Some(TARGET.parse().expect("valid")),
        session: Session::Untagged { policy },
        ..grant()
    };
    let refused = refusal(ask(&aws, chained).await);
    assert!(
        matches!(&refused, Refusal::TooLarge(why) if why.ends_with("; shorten the association's policy")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_role_of_a_shorter_maximum_gets_an_hour_and_is_asked_for_no_more() {
    let aws = FakeAws::start().await;
    aws.script(Api::WebIdentity, Answer::Longest(3600));
    let sdk = bare_sdk(&aws).await;
    let long = Grant {
        duration: Some(4 * HOUR),
        ..grant()
    };
    let shown = Shown::token("checkout", AUDIENCE, 600);
    let exchanges = exchanges(&sdk, sessions(None, HOUR), shown, &aws::Metrics::default());
    let mut asked = Vec::new();
    for _ in 0..2 {
        exchanges
            .exchange(key(long.clone()))
            .await
            .expect("credentials");
    }
    for call in aws.calls() {
        let Call::WebIdentity(call) = call else {
            panic!("another call: {call:?}");
        };
        asked.push(call.duration);
    }
    assert_eq!(asked, [4 * HOUR, HOUR, HOUR]);
}
