//! What an agent tells of itself at `/status`.

use std::net::{IpAddr, Ipv4Addr};

use credlet::status::{Asked, Exchange, SourceState, State};
use credlet_tests::client;
use credlet_tests::fake_aws::{Answer, Api, Entry};
use credlet_tests::fake_kube::{NODE, Pod};
use hyper::StatusCode;

use crate::agent::rig::Rig;

const CHECKOUT: &str = "arn:aws:iam::111122223333:role/pods/checkout";
const REPORTS: &str = "arn:aws:iam::111122223333:role/pods/reports";

fn pod(name: &str, account: &str, address: &str) -> Pod {
    Pod::new("shop", name).account(account).addresses([address])
}

#[tokio::test]
async fn each_account_of_the_node_is_told_with_its_session_its_pods_and_what_is_wrong() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    rig.aws.associate("shop", "reports", Entry::of(REPORTS));
    rig.aws.script_for(Api::AssumeRole, REPORTS, Answer::Denied);
    rig.kube.apply(pod("checkout-1", "checkout", "127.0.3.1"));
    rig.kube.apply(pod("checkout-2", "checkout", "127.0.3.2"));
    rig.kube.apply(pod("reports-1", "reports", "127.0.3.3"));
    rig.kube.apply(pod("web-1", "web", "127.0.3.4"));

    let fresh = rig.stands("checkout", State::Fresh).await;
    assert_eq!(fresh.role.as_deref(), Some(CHECKOUT));
    assert_eq!(fresh.session.as_deref(), Some("shop.checkout"));
    assert_eq!(fresh.exchange, Some(Exchange::AssumeRole));
    assert_eq!(fresh.source.as_deref(), Some("eks"));
    assert_eq!(fresh.pods, ["checkout-1", "checkout-2"]);
    let [refreshed, next, expires] = [fresh.refreshed_at, fresh.next_at, fresh.expires_at];
    assert!(refreshed < next && next < expires, "{fresh:?}");

    let failed = rig.stands("reports", State::Failed).await;
    assert_eq!(failed.role.as_deref(), Some(REPORTS));
    let trouble = failed.trouble.expect("AWS refuses");
    assert!(
        trouble.message.contains("AWS refuses the role"),
        "{trouble:?}"
    );
    assert!(trouble.attempts >= 1 && trouble.at.is_some(), "{trouble:?}");

    let none = rig.stands("web", State::NoRole).await;
    assert_eq!((none.role, none.users), (None, 1));

    let status = rig.status().await;
    assert_eq!((&*status.node, status.pods.known), (NODE, Some(4)));
    assert!(status.is_ready(), "{:?}", status.gates);
    assert!(status.pods.heard_at.is_some());
    let sources: Vec<_> = status
        .sources
        .iter()
        .map(|it| (&*it.name, it.state))
        .collect();
    assert_eq!(
        sources,
        [
            ("crd", SourceState::Absent),
            ("eks", SourceState::Good),
            ("annotation", SourceState::Good),
        ]
    );
    assert_eq!(status.sources[1].known, 2);
    rig.leave().await;
}

#[tokio::test]
async fn no_secret_is_told_nor_the_id_of_a_key() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    let address = IpAddr::from([127, 0, 3, 1]);
    rig.kube.apply(pod("checkout-1", "checkout", "127.0.3.1"));
    let credentials = rig.get(address).await;
    assert_eq!(credentials.status, StatusCode::OK);
    for path in ["/status", "/"] {
        let told = client::get(Ipv4Addr::LOCALHOST.into(), rig.metrics, path).await;
        assert_eq!(told.status, StatusCode::OK);
        for field in ["AccessKeyId", "SecretAccessKey", "Token"] {
            let secret = credentials.field(field);
            assert!(
                !secret.is_empty() && !told.text().contains(&secret),
                "{path}: {field}"
            );
        }
    }
    rig.leave().await;
}

#[tokio::test]
async fn each_pod_with_a_session_of_its_own_is_told_by_itself() {
    let rig = Rig::with_flags("--session-scope pod").await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    rig.kube.apply(pod("checkout-1", "checkout", "127.0.3.1"));
    rig.kube.apply(pod("checkout-2", "checkout", "127.0.3.2"));
    rig.metric("credlet_credentials{state=\"Fresh\"} 2").await;
    let accounts = rig.status().await.accounts;
    let pods: Vec<_> = accounts.iter().map(|it| it.pod.as_deref()).collect();
    assert_eq!(pods, [Some("checkout-1"), Some("checkout-2")]);
    assert!(
        accounts.iter().all(|it| it.state == State::Fresh),
        "{accounts:?}"
    );
    rig.leave().await;
}

#[tokio::test]
async fn an_association_file_that_went_bad_is_told_with_what_is_wrong() {
    let good = format!(
        "associations: [{{namespace: shop, serviceAccount: checkout, roleArn: {CHECKOUT}}}]"
    );
    let rig = Rig::with_file(&good).await;
    rig.synced().await;
    let told = rig.status().await.sources.remove(0);
    assert_eq!(
        (told.state, told.known, told.error),
        (SourceState::Good, 1, None)
    );
    rig.write_file("associations: [{namespace: shop}]");
    rig.metric("credlet_association_file_outdated 1").await;
    let told = rig.status().await.sources.remove(0);
    assert_eq!((told.state, told.known), (SourceState::Failing, 1));
    let error = told.error.expect("what is wrong");
    assert!(error.contains("serviceAccount"), "{error}");
    rig.leave().await;
}

#[tokio::test]
async fn what_a_pod_would_be_answered_is_told_without_secrets_and_without_an_event() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    rig.aws.associate("shop", "reports", Entry::of(REPORTS));
    rig.aws.script_for(Api::AssumeRole, REPORTS, Answer::Denied);
    rig.kube.apply(pod("checkout-1", "checkout", "127.0.3.1"));
    rig.kube.apply(pod("reports-1", "reports", "127.0.3.2"));
    rig.kube.apply(pod("web-1", "web", "127.0.3.3"));
    rig.metric("credlet_pods 3").await;
    let asked = async |name: &str| {
        let path = format!("/explain/pods/shop/{name}");
        let from = Ipv4Addr::LOCALHOST.into();
        let answer = client::get(from, rig.metrics, &path).await;
        let text = answer.text();
        for secret in ["AccessKeyId", "ASIA", "SecretAccessKey", "Token"] {
            assert!(!text.contains(secret), "{text}");
        }
        let asked = serde_json::from_str::<Asked>(&text).map_err(|_| text);
        (answer.status, asked)
    };
    let (status, good) = asked("checkout-1").await;
    let good = good.expect("an answer");
    assert_eq!((status, good.status), (StatusCode::OK, 200));
    let session = good.session.expect("credentials");
    assert!(
        session.ends_with(":assumed-role/checkout/shop.checkout"),
        "{session}"
    );
    assert!(good.expires_at.is_some());
    let code = async |name| asked(name).await.1.expect("an answer").code;
    assert_eq!(code("reports-1").await.as_deref(), Some("Denied"));
    assert_eq!(code("web-1").await.as_deref(), Some("NoAssociation"));
    assert_eq!(asked("nobody").await.0, StatusCode::NOT_FOUND);
    assert!(rig.kube.events().is_empty());
    rig.leave().await;
}
