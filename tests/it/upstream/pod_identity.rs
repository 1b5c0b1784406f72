//! What EKS has declared, for a pod's token.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use credlet::aws;
use credlet::credentials::{Exchange, Key, NoToken, Refusal};
use credlet::model::{Association, Credentials, ServiceAccount};
use credlet_tests::fake_aws::{Answer, Api, CLUSTER, Call, Entry, FakeAws, issued_to};

use super::{AGENT, Shown, exchanges, sdk, sessions};

const ROLE: &str = "arn:aws:iam::111122223333:role/pods/checkout";
const AUDIENCE: &str = "pods.eks.amazonaws.com";
const HOUR: Duration = Duration::from_hours(1);

async fn ask_with(aws: &FakeAws, shown: Shown) -> Result<Credentials, Refusal> {
    let sdk = sdk(aws).await;
    let exchanges = exchanges(
        &sdk,
        sessions(Some(CLUSTER), HOUR),
        shown,
        &aws::Metrics::default(),
    );
    let key = Key {
        account: ServiceAccount::new("shop", "checkout").expect("valid"),
        pod: None,
        association: Arc::new(Association::EksAuth),
    };
    exchanges.exchange(key).await
}

async fn ask(aws: &FakeAws) -> Result<Credentials, Refusal> {
    ask_with(aws, Shown::token("checkout", AUDIENCE, 600)).await
}

fn refusal(answer: Result<Credentials, Refusal>) -> Refusal {
    match answer {
        Err(refusal) => refusal,
        Ok(_) => panic!("got credentials"),
    }
}

#[tokio::test]
async fn eks_gives_the_credentials_for_the_token_without_a_list_or_a_description() {
    let aws = FakeAws::start().await;
    aws.associate("shop", "checkout", Entry::of(ROLE));
    let got = ask(&aws).await.expect("credentials");
    assert_eq!(
        issued_to(&got.access_key_id).as_deref(),
        Some("shop/checkout")
    );
    assert_eq!(got.role.account_id(), "111122223333");
    let left = got.left(SystemTime::now());
    assert!(left > 5 * HOUR && left <= 6 * HOUR, "{left:?}");
    let [Call::PodIdentity(call)] = &aws.calls()[..] else {
        panic!("other calls: {:?}", aws.calls());
    };
    assert_eq!(
        (call.cluster.as_str(), call.signer.as_str()),
        (CLUSTER, AGENT)
    );
}

#[tokio::test]
async fn an_account_that_eks_does_not_know_has_no_association() {
    let aws = FakeAws::start().await;
    let refused = refusal(ask(&aws).await);
    assert!(matches!(refused, Refusal::NotAssociated), "{refused}");
}

#[tokio::test]
async fn another_account_s_credentials_are_refused() {
    let aws = FakeAws::start().await;
    aws.associate("shop", "reports", Entry::of(ROLE));
    let refused = refusal(ask_with(&aws, Shown::token("reports", AUDIENCE, 600)).await);
    assert!(matches!(refused, Refusal::Malformed(_)), "{refused}");
}

#[tokio::test]
async fn without_a_token_eks_is_not_asked() {
    let aws = FakeAws::start().await;
    let refused = refusal(ask_with(&aws, Shown(None)).await);
    assert!(
        matches!(refused, Refusal::NoToken(NoToken::NoneShown(_))),
        "{refused}"
    );
    assert!(aws.calls().is_empty());
}

#[tokio::test]
async fn each_of_eks_auth_s_errors_keeps_its_meaning() {
    let aws = FakeAws::start().await;
    aws.associate("shop", "checkout", Entry::of(ROLE));
    let of_the_pod = [
        "AccessDeniedException",
        "InvalidTokenException",
        "InvalidParameterException",
        "InvalidRequestException",
    ];
    for code in of_the_pod {
        aws.script(Api::PodIdentity, Answer::Refused(code));
        let refused = refusal(ask(&aws).await);
        assert!(
            matches!(&refused, Refusal::Denied(why) if why.starts_with(code)),
            "{refused}"
        );
    }
    for code in ["ExpiredTokenException"] {
        aws.script(Api::PodIdentity, Answer::Refused(code));
        let refused = refusal(ask(&aws).await);
        assert!(
            matches!(refused, Refusal::Unavailable(_)),
            "{code}: {refused}"
        );
    }
    aws.script(Api::PodIdentity, Answer::Throttled);
    assert!(matches!(refusal(ask(&aws).await), Refusal::Throttled));
    aws.script(Api::PodIdentity, Answer::Broken);
    assert!(matches!(refusal(ask(&aws).await), Refusal::Unavailable(_)));
    for answer in [Answer::Malformed, Answer::Empty] {
        aws.script(Api::PodIdentity, answer);
        let refused = refusal(ask(&aws).await);
        assert!(
            matches!(refused, Refusal::Malformed(_)),
            "{answer:?}: {refused}"
        );
    }
}
