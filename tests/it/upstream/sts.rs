//! Sessions: what STS is asked, and what becomes of its answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as Provided;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use credlet::aws;
use credlet::credentials::exchanges::Exchanges;
use credlet::credentials::{Exchange, Key, Refusal};
use credlet::model::{Association, Credentials, Grant, ServiceAccount, Session};
use credlet_tests::fake_aws::{Answer, Api, AssumeRole, CLUSTER, CLUSTER_ARN, FakeAws, issued_to};
use tokio::net::TcpListener;

use super::{AGENT, by_agent, hasty_sdk, scrape, sdk, sessions};

const ROLE: &str = "arn:aws:iam::111122223333:role/pods/checkout";
const TARGET: &str = "arn:aws:iam::444455556666:role/warehouse";
const HOUR: Duration = Duration::from_hours(1);

fn tagged() -> Grant {
    Grant {
        session: Session::Tagged {
            cluster_arn: Some(CLUSTER_ARN.into()),
            extra: BTreeMap::new(),
        },
        ..Grant::of(ROLE.parse().expect("valid"))
    }
}

fn untagged() -> Grant {
    Grant {
        session: Session::Untagged {
            policy: Some("{}".to_owned()),
        },
        external_id: Some("us/them".to_owned()),
        ..tagged()
    }
}

fn chained(grant: Grant) -> Grant {
    Grant {
        target_role: Some(TARGET.parse().expect("valid")),
        ..grant
    }
}

fn key(namespace: &str, name: &str, grant: Grant) -> Key {
    Key {
        account: ServiceAccount::new(namespace, name).expect("valid"),
        pod: None,
        association: Arc::new(Association::Role(grant)),
    }
}

fn checkout(grant: Grant) -> Key {
    key("shop", "checkout", grant)
}

fn sts(sdk: &SdkConfig, duration: Duration, metrics: &aws::Metrics) -> Exchanges {
    by_agent(sdk, sessions(Some(CLUSTER), duration), metrics)
}

/// Asks for one session of an hour.
async fn ask(aws: &FakeAws, key: Key) -> Result<Credentials, Refusal> {
    ask_for(aws, key, HOUR).await
}

async fn ask_for(aws: &FakeAws, key: Key, duration: Duration) -> Result<Credentials, Refusal> {
    let sts = sts(&sdk(aws).await, duration, &aws::Metrics::default());
    sts.exchange(key).await
}

/// A default chain that found nothing.
#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::ready(Err(CredentialsError::not_loaded("none configured")))
    }
}

fn refusal(answer: Result<Credentials, Refusal>) -> Refusal {
    match answer {
        Err(refusal) => refusal,
        Ok(_) => panic!("got credentials"),
    }
}

#[tokio::test]
async fn a_session_carries_its_service_account_and_cluster_as_transitive_tags() {
    let aws = FakeAws::start().await;
    ask(&aws, checkout(tagged())).await.expect("credentials");
    let tags = BTreeMap::from(
        [
            ("eks-cluster-arn", CLUSTER_ARN),
            ("eks-cluster-name", CLUSTER),
            ("kubernetes-namespace", "shop"),
            ("kubernetes-service-account", "checkout"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    let wanted = AssumeRole {
        role: ROLE.to_owned(),
        session_name: "shop.checkout".to_owned(),
        duration: HOUR,
        transitive: tags.keys().cloned().collect(),
        tags,
        external_id: None,
        policy: None,
        token: None,
        source_identity: None,
        signer: AGENT.to_owned(),
    };
    assert_eq!(aws.assume_roles(), [wanted]);
}

#[tokio::test]
async fn an_unknown_cluster_is_not_tagged() {
    let aws = FakeAws::start().await;
    let association = Grant {
        session: Session::TAGGED,
        ..tagged()
    };
    let (sdk, metrics) = (sdk(&aws).await, aws::Metrics::default());
    let sts = by_agent(&sdk, sessions(None, HOUR), &metrics);
    sts.exchange(checkout(association))
        .await
        .expect("credentials");
    let tags: Vec<_> = aws.assume_roles()[0].tags.keys().cloned().collect();
    assert_eq!(tags, ["kubernetes-namespace", "kubernetes-service-account"]);
}

#[tokio::test]
async fn without_session_tags_the_policy_and_the_external_id_go_alone() {
    let aws = FakeAws::start().await;
    ask(&aws, checkout(untagged())).await.expect("credentials");
    let call = aws.assume_roles().remove(0);
    assert_eq!(
        (call.tags, call.transitive),
        (BTreeMap::new(), BTreeSet::new())
    );
    assert_eq!(call.policy.as_deref(), Some("{}"));
    assert_eq!(call.external_id.as_deref(), Some("us/them"));
}

#[tokio::test]
async fn the_answer_is_what_sts_issued_for_the_role() {
    let aws = FakeAws::start().await;
    let got = ask(&aws, checkout(tagged())).await.expect("credentials");
    assert_eq!(
        issued_to(&got.access_key_id).as_deref(),
        Some("shop/checkout")
    );
    let left = got.left(SystemTime::now());
    assert!(left > Duration::from_mins(59) && left <= HOUR, "{left:?}");
    assert_eq!(got.role.account_id(), "111122223333");
}

#[tokio::test]
async fn a_chain_signs_its_second_session_with_its_first() {
    let aws = FakeAws::start().await;
    let key = checkout(chained(tagged()));
    let got = ask_for(&aws, key, 12 * HOUR).await.expect("credentials");
    assert_eq!(got.role.account_id(), "444455556666");
    assert_eq!(
        issued_to(&got.access_key_id).as_deref(),
        Some("shop/checkout")
    );

    let [first, last] = aws.assume_roles().try_into().expect("two calls");
    assert_eq!((first.role.as_str(), last.role.as_str()), (ROLE, TARGET));
    assert_eq!(first.signer, AGENT);
    assert_eq!(issued_to(&last.signer).as_deref(), Some("shop/checkout"));
    assert_eq!(first.duration, HOUR / 4);
    assert_eq!(last.duration, HOUR, "STS allows a chained session no more");
    assert_eq!(first.tags.len(), 4);
    assert!(
        last.tags.is_empty(),
        "they are inherited; STS refuses them twice"
    );
}

#[tokio::test]
async fn the_external_id_and_the_policy_are_for_the_last_role_of_a_chain() {
    let aws = FakeAws::start().await;
    let key = checkout(chained(untagged()));
    ask(&aws, key).await.expect("credentials");
    let [first, last] = aws.assume_roles().try_into().expect("two calls");
    assert_eq!((first.external_id, first.policy), (None, None));
    assert_eq!(last.external_id.as_deref(), Some("us/them"));
    assert_eq!(last.policy.as_deref(), Some("{}"));
}

#[tokio::test]
async fn a_chain_ends_where_it_is_refused() {
    let aws = FakeAws::start().await;
    aws.script_for(Api::AssumeRole, ROLE, Answer::Denied);
    let refused = refusal(ask(&aws, checkout(chained(tagged()))).await);
    assert!(matches!(refused, Refusal::Denied(_)), "{refused}");
    assert_eq!(aws.count(Api::AssumeRole), 1);
}

#[tokio::test]
async fn an_agent_that_is_itself_a_session_gets_an_hour_after_one_refusal() {
    let aws = FakeAws::start().await;
    aws.script(Api::AssumeRole, Answer::Longest(3600));
    let exchanges = by_agent(
        &sdk(&aws).await,
        sessions(Some(CLUSTER), 12 * HOUR),
        &aws::Metrics::default(),
    );
    for _ in 0..2 {
        let got = exchanges.exchange(checkout(tagged())).await;
        got.expect("credentials");
    }
    let asked: Vec<_> = aws
        .assume_roles()
        .iter()
        .map(|call| call.duration)
        .collect();
    assert_eq!(asked, [12 * HOUR, HOUR, HOUR]);
}

#[tokio::test]
async fn tags_that_are_too_large_are_told_with_what_to_drop() {
    let aws = FakeAws::start().await;
    aws.script(Api::AssumeRole, Answer::Refused("PackedPolicyTooLarge"));
    let refused = refusal(ask(&aws, checkout(tagged())).await);
    let advice = "disable the association's session tags";
    assert!(
        matches!(&refused, Refusal::TooLarge(why) if why.ends_with(advice)),
        "{refused}"
    );
}

#[tokio::test]
async fn an_answer_without_credentials_is_malformed() {
    let aws = FakeAws::start().await;
    aws.script(Api::AssumeRole, Answer::Empty);
    let refused = refusal(ask(&aws, checkout(tagged())).await);
    assert!(matches!(refused, Refusal::Malformed(_)), "{refused}");
}

/// The stand-in refuses names and tags that are beyond STS's limits.
#[tokio::test]
async fn every_legal_service_account_gets_a_session() {
    let aws = FakeAws::start().await;
    for namespace in ["a".to_owned(), "n".repeat(63)] {
        for name in ["0".to_owned(), "a.b-c".to_owned(), "s".repeat(253)] {
            let key = key(&namespace, &name, tagged());
            ask(&aws, key).await.expect("credentials");
        }
    }
    let names: BTreeSet<_> = aws
        .assume_roles()
        .into_iter()
        .map(|call| call.session_name)
        .collect();
    assert_eq!(names.len(), 6);
}

#[tokio::test]
async fn every_answer_has_its_refusal_and_its_count() {
    let aws = FakeAws::start().await;
    let metrics = aws::Metrics::default();
    let patient = sts(&sdk(&aws).await, HOUR, &metrics);
    let hasty = sts(&hasty_sdk(&aws).await, HOUR, &metrics);
    for (answer, told, counted) in [
        (
            Answer::Denied,
            "AWS refuses the role: AccessDenied: User: the agent",
            "Denied",
        ),
        (Answer::Throttled, "AWS throttles", "Throttled"),
        (
            Answer::Broken,
            "AWS could not be asked: InternalFailure",
            "Unavailable",
        ),
        (
            Answer::Hang,
            "AWS could not be asked: no answer in time",
            "TimedOut",
        ),
        (
            Answer::Malformed,
            "AWS answered what cannot be used: no whole credentials",
            "Malformed",
        ),
    ] {
        aws.script(Api::AssumeRole, answer);
        let sts = if answer == Answer::Hang {
            &hasty
        } else {
            &patient
        };
        let refused = refusal(sts.exchange(checkout(tagged())).await).to_string();
        assert!(refused.starts_with(told), "{answer:?}: {refused}");
        let count = format!("calls_total{{api=\"AssumeRole\",outcome=\"{counted}\"}} 1\n");
        assert!(scrape(&metrics).contains(&count), "{}", scrape(&metrics));
    }
    assert_eq!(aws.count(Api::AssumeRole), 5, "the SDK does not retry");
    let timed = "seconds_count{api=\"AssumeRole\"} 5\n";
    assert!(scrape(&metrics).contains(timed), "{}", scrape(&metrics));
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_an_outage_that_says_why() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let gone = FakeAws::serve(listener);
    let sdk = sdk(&gone).await;
    drop(gone);
    tokio::task::yield_now().await;
    let sts = sts(&sdk, HOUR, &aws::Metrics::default());
    let refused = refusal(sts.exchange(checkout(tagged())).await);
    assert!(
        matches!(&refused, Refusal::Unavailable(why) if why.contains("refused")),
        "{refused}"
    );
}

#[tokio::test]
async fn an_agent_without_credentials_of_its_own_says_so() {
    let aws = FakeAws::start().await;
    let sdk = sdk(&aws).await.into_builder();
    let sdk = sdk
        .credentials_provider(SharedCredentialsProvider::new(NoCredentials))
        .build();
    let sts = sts(&sdk, HOUR, &aws::Metrics::default());
    let refused = refusal(sts.exchange(checkout(tagged())).await);
    assert!(
        matches!(&refused, Refusal::Unavailable(why) if why.contains("credential")),
        "{refused}"
    );
    assert_eq!(aws.calls(), []);
}
