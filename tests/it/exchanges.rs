//! Each exchange through the whole agent: what pods get, and what it costs.

use std::net::IpAddr;
use std::time::Duration;

use credlet_tests::client::{Answer, Kept};
use credlet_tests::fake_aws::{Api, Call, Entry, issued_to};
use credlet_tests::fake_kube::{Kind, Pod, Verb};
use futures::future::join_all;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::agent::rig::Rig;

const STS: &str = "sts.amazonaws.com";
const EKS: &str = "pods.eks.amazonaws.com";
const HOUR: Duration = Duration::from_hours(1);

/// As many pods as a node may have, of as many accounts as the issue says.
const PODS: u8 = 100;
const ACCOUNTS: u8 = 10;

fn address(seat: u8) -> IpAddr {
    [127, 0, 5, seat].into()
}

fn account(seat: u8) -> String {
    format!("account-{}", seat % ACCOUNTS)
}

fn role(seat: u8) -> String {
    format!("arn:aws:iam::111122223333:role/{}", account(seat))
}

fn pod(seat: u8) -> Pod {
    let address = address(seat).to_string();
    Pod::new("shop", &format!("pod-{seat}"))
        .account(&account(seat))
        .addresses([address.as_str()])
}

/// A file that gives each account its role, in these words.
fn file(entry: impl Fn(u8) -> String) -> String {
    let entries: Vec<String> = (0..ACCOUNTS)
        .map(|seat| {
            let (account, what) = (account(seat), entry(seat));
            format!("{{namespace: shop, serviceAccount: {account}, {what}}}")
        })
        .collect();
    format!("associations: [{}]", entries.join(", "))
}

/// Of an SDK that is told to come again (the JS SDK's).
const TRIES: usize = 4;

async fn ask(rig: &Rig, seat: u8, token: Option<&str>) -> Answer {
    let mut pod = Kept::open(address(seat), rig.door).await.expect("a door");
    let answer = pod.get("/v1/credentials", token).await;
    answer.expect("an answer")
}

/// Every pod asks at once, with a token for this audience, and gets its own
/// account's credentials.
async fn all_ask(rig: &Rig, audience: &str) {
    let answers = (1..=PODS).map(|seat| async move {
        let token = rig.kube.token(&pod(seat), audience, HOUR);
        let mut answer = ask(rig, seat, Some(&token)).await;
        // On a slow machine a hundred may be late, and SDKs ask again.
        for _ in 1..TRIES {
            if answer.status == StatusCode::SERVICE_UNAVAILABLE {
                answer = ask(rig, seat, Some(&token)).await;
            }
        }
        (seat, answer)
    });
    for (seat, answer) in join_all(answers).await {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let whose = issued_to(&answer.field("AccessKeyId"));
        assert_eq!(whose, Some(format!("shop/{}", account(seat))));
        assert_eq!(answer.field("AccountId"), "111122223333");
    }
}

fn one_call_an_account(rig: &Rig, api: Api) {
    let accounts = usize::from(ACCOUNTS);
    assert_eq!(rig.aws.count(api), accounts);
    assert_eq!(rig.aws.calls().len(), accounts, "no other call");
}

async fn has_pods(rig: &Rig) {
    for seat in 1..=PODS {
        rig.kube.apply(pod(seat));
    }
    rig.metric(&format!("credlet_pods {PODS}")).await;
}

#[tokio::test]
async fn web_identities_of_a_hundred_pods_of_ten_accounts_cost_ten_exchanges_and_no_call_to_eks() {
    let entry = |seat| format!("exchange: web-identity, roleArn: \"{}\"", role(seat));
    let rig = Rig::with_file(&file(entry)).await;
    has_pods(&rig).await;
    all_ask(&rig, STS).await;
    one_call_an_account(&rig, Api::WebIdentity);
    assert_eq!(rig.kube.count(Verb::Token), 0, "none is requested");
    rig.leave().await;
}

/// A hundred pods of accounts whose roles the API server says, in these objects.
async fn declared_in_the_cluster_cost_ten_exchanges(
    source: &str,
    kinds: &[Kind],
    object: impl Fn(u8) -> (Kind, Value),
) {
    let flags = format!("--association-sources {source}");
    let rig = Rig::prepared(&flags, |kube| {
        kube.offer(kinds);
        kube.put(Kind::Namespace, json!({"metadata": {"name": "shop"}}));
        for seat in 0..ACCOUNTS {
            let (kind, object) = object(seat);
            kube.put(kind, object);
        }
    })
    .await;
    has_pods(&rig).await;
    all_ask(&rig, STS).await;
    one_call_an_account(&rig, Api::WebIdentity);
    rig.leave().await;
}

#[tokio::test]
async fn annotations_of_ten_accounts_cost_ten_exchanges_and_no_call_to_eks() {
    let kinds = [Kind::Namespace, Kind::ServiceAccount];
    let annotated = |seat| {
        let annotations = json!({"eks.amazonaws.com/role-arn": role(seat)});
        let (namespace, name) = ("shop", account(seat));
        let metadata = json!({"namespace": namespace, "name": name, "annotations": annotations});
        (Kind::ServiceAccount, json!({"metadata": metadata}))
    };
    declared_in_the_cluster_cost_ten_exchanges("annotation", &kinds, annotated).await;
}

#[tokio::test]
async fn associations_of_ten_accounts_cost_ten_exchanges_and_no_call_to_eks() {
    let kinds = [Kind::Namespace, Kind::Association, Kind::ClusterAssociation];
    let declared = |seat| {
        let (created, name) = ("2026-01-01T00:00:00Z", account(seat));
        let metadata = json!({"namespace": "shop", "name": name, "creationTimestamp": created});
        let exchange = "web-identity";
        let spec = json!({"serviceAccount": name, "roleArn": role(seat), "exchange": exchange});
        (
            Kind::Association,
            json!({"metadata": metadata, "spec": spec}),
        )
    };
    declared_in_the_cluster_cost_ten_exchanges("crd", &kinds, declared).await;
}

#[tokio::test]
async fn eks_auth_for_a_hundred_pods_of_ten_accounts_costs_ten_exchanges_and_no_list() {
    let rig = Rig::with_flags("--exchange eks-auth").await;
    for seat in 0..ACCOUNTS {
        let entry = Entry::of(&role(seat));
        rig.aws.associate("shop", &account(seat), entry);
    }
    has_pods(&rig).await;
    all_ask(&rig, EKS).await;
    one_call_an_account(&rig, Api::PodIdentity);
    rig.leave().await;
}

#[tokio::test]
async fn a_pod_that_eks_knows_no_association_of_is_told_what_another_source_would_tell_it() {
    let rig = Rig::with_flags("--exchange eks-auth").await;
    rig.kube.apply(pod(1));
    rig.metric("credlet_pods 1").await;
    let token = rig.kube.token(&pod(1), EKS, HOUR);
    let told = ask(&rig, 1, Some(&token)).await;
    assert_eq!(
        (told.status, &*told.field("code")),
        (StatusCode::NOT_FOUND, "NoAssociation")
    );
    rig.leave().await;
}

#[tokio::test]
async fn a_pod_without_a_token_gets_none_until_one_is_shown_for_the_right_audience() {
    let entry = |seat| format!("exchange: web-identity, roleArn: \"{}\"", role(seat));
    let rig = Rig::with_file(&file(entry)).await;
    rig.kube.apply(pod(1));
    rig.kube.apply(pod(11));
    rig.metric("credlet_pods 2").await;
    for token in [None, Some(rig.kube.token(&pod(1), EKS, HOUR))] {
        let told = ask(&rig, 1, token.as_deref()).await;
        let wanted = (StatusCode::FORBIDDEN, "NoToken");
        assert_eq!((told.status, &*told.field("code")), wanted);
    }
    assert_eq!(rig.aws.calls(), [], "AWS is not asked in vain");
    let token = rig.kube.token(&pod(11), STS, HOUR);
    for (seat, token) in [(11, Some(token.as_str())), (1, None)] {
        let answer = ask(&rig, seat, token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    rig.leave().await;
}

#[tokio::test]
async fn what_the_flags_say_of_sessions_reaches_sts() {
    let rig = Rig::with_flags(
        "--session-scope pod --session-name {cluster}.{pod} --source-identity {serviceAccount} \
         --session-tag team=shop --session-duration 2h",
    )
    .await;
    rig.aws.associate("shop", &account(1), Entry::of(&role(1)));
    for seat in [1, 11] {
        rig.kube.apply(pod(seat));
    }
    rig.metric("credlet_pods 2").await;
    for seat in [1, 11] {
        let answer = ask(&rig, seat, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    let calls = rig.aws.calls();
    let mut sessions: Vec<_> = calls
        .iter()
        .filter_map(|call| match call {
            Call::AssumeRole(call) => Some(call),
            Call::WebIdentity(_) | Call::PodIdentity(_) | Call::List(_) | Call::Describe(_) => None,
        })
        .collect();
    sessions.sort_by(|one, other| one.session_name.cmp(&other.session_name));
    assert_eq!(sessions.len(), 2, "a session each");
    for (session, seat) in sessions.into_iter().zip([1, 11]) {
        assert_eq!(session.session_name, format!("blue.pod-{seat}"));
        assert_eq!(session.source_identity, Some(account(1)));
        assert_eq!(session.duration, 2 * HOUR);
        assert_eq!(session.tags["team"], "shop");
        assert_eq!(session.tags["kubernetes-pod-name"], format!("pod-{seat}"));
        assert!(session.tags.contains_key("kubernetes-pod-uid"));
        assert!(
            session
                .tags
                .keys()
                .all(|key| session.transitive.contains(key))
        );
    }
    rig.leave().await;
}

#[tokio::test]
async fn one_node_serves_roles_by_every_exchange() {
    let text = format!(
        "associations: [{{namespace: shop, serviceAccount: account-1, roleArn: \"{}\"}}, \
         {{namespace: shop, serviceAccount: account-2, exchange: web-identity, roleArn: \"{}\"}}, \
         {{namespace: shop, serviceAccount: account-3, exchange: eks-auth}}]",
        role(1),
        role(2)
    );
    let rig = Rig::with_file(&text).await;
    rig.aws.associate("shop", &account(3), Entry::of(&role(3)));
    for seat in [1, 2, 3] {
        rig.kube.apply(pod(seat));
    }
    rig.metric("credlet_pods 3").await;
    for (seat, audience) in [(1, None), (2, Some(STS)), (3, Some(EKS))] {
        let token = audience.map(|audience| rig.kube.token(&pod(seat), audience, HOUR));
        let answer = ask(&rig, seat, token.as_deref()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let whose = issued_to(&answer.field("AccessKeyId"));
        assert_eq!(whose, Some(format!("shop/{}", account(seat))));
    }
    for api in [Api::AssumeRole, Api::WebIdentity, Api::PodIdentity] {
        assert_eq!(rig.aws.count(api), 1, "{api:?}");
    }
    rig.leave().await;
}
