//! Associations that are declared in the API server.

use std::net::IpAddr;
use std::time::Duration;

use credlet_tests::client::Answer;
use credlet_tests::fake_aws::{Api, Entry};
use credlet_tests::fake_kube::{FakeKube, Fault, Interruption, Kind, Pod, Verb};
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::agent::rig::Rig;

mod own;

const PATIENCE: Duration = Duration::from_secs(10);
const ALL: [Kind; 4] = [
    Kind::Association,
    Kind::ClusterAssociation,
    Kind::Namespace,
    Kind::ServiceAccount,
];

fn role(name: &str) -> String {
    format!("arn:aws:iam::111122223333:role/{name}")
}

fn seat() -> IpAddr {
    [127, 0, 1, 1].into()
}

fn add_pod(kube: &FakeKube) {
    let pod = Pod::new("shop", "cart-1").account("cart");
    kube.apply(pod.addresses([seat().to_string().as_str()]));
}

fn namespace(annotations: &Value) -> Value {
    let labels = json!({"team": "a"});
    json!({"metadata": {"name": "shop", "labels": labels, "annotations": annotations}})
}

/// As the agent's own identity assumes it: without a token of the pod's.
fn account(annotations: &[(&str, &str)]) -> Value {
    let mut all = json!({"credlet.dev/exchange": "assume-role"});
    for (key, value) in annotations {
        all[format!("eks.amazonaws.com/{key}")] = (*value).into();
    }
    json!({"metadata": {"namespace": "shop", "name": "cart", "annotations": all}})
}

fn declared(name: &str, spec: &Value) -> Value {
    let created = "2026-01-01T00:00:00Z";
    let metadata = json!({"namespace": "shop", "name": name, "creationTimestamp": created});
    json!({"metadata": metadata, "spec": spec})
}

/// All kinds, a namespace that bounds nothing, and a pod.
fn offer_all(kube: &FakeKube) {
    kube.offer(&ALL);
    kube.put(Kind::Namespace, namespace(&json!({})));
    add_pod(kube);
}

impl Rig {
    async fn role_given(&self) -> Option<String> {
        let answer = self.get(seat()).await;
        let is_given = answer.status == StatusCode::OK;
        is_given.then(|| {
            let id = answer.field("AccessKeyId");
            self.aws.role_of(&id).expect("issued by this one")
        })
    }

    /// What is answered changes soon after what is declared.
    async fn until(&self, name: &str) {
        let wanted = Some(role(name));
        let comes = async {
            while self.role_given().await != wanted {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, comes).await.expect("the role is given");
    }

    async fn until_refused(&self, status: StatusCode, code: &str) -> Answer {
        let comes = async {
            loop {
                let answer = self.get(seat()).await;
                if answer.status == status && answer.field("code") == code {
                    return answer;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let came = timeout(PATIENCE, comes).await;
        came.unwrap_or_else(|_| panic!("{status} {code} never came"))
    }
}

#[tokio::test]
async fn an_annotated_account_has_its_role_and_a_change_of_it_at_once() {
    let rig = Rig::prepared("", offer_all).await;
    rig.kube
        .put(Kind::ServiceAccount, account(&[("role-arn", &role("one"))]));
    rig.until("one").await;
    rig.kube
        .put(Kind::ServiceAccount, account(&[("role-arn", &role("two"))]));
    rig.until("two").await;
    rig.kube.put(
        Kind::ServiceAccount,
        account(&[("role-arn", &role("two")), ("token-expiration", "1")]),
    );
    let refused = StatusCode::FORBIDDEN;
    let answer = rig.until_refused(refused, "BadAssociation").await;
    assert!(
        answer.text().contains("token-expiration"),
        "{}",
        answer.text()
    );
    rig.kube.take(Kind::ServiceAccount, "shop", "cart");
    rig.until_refused(StatusCode::NOT_FOUND, "NoAssociation")
        .await;
    rig.leave().await;
}

#[tokio::test]
async fn only_accounts_and_namespaces_with_pods_here_are_read() {
    let rig = Rig::prepared("", offer_all).await;
    rig.kube
        .put(Kind::ServiceAccount, account(&[("role-arn", &role("one"))]));
    rig.until("one").await;
    let calls = rig.kube.calls();
    let others = calls.iter().filter(|call| call.verb == Verb::ListOther);
    for call in others {
        let selector = call.query.get("fieldSelector").map(String::as_str);
        let wanted = match call.path.rsplit('/').next() {
            Some("serviceaccounts") => Some("metadata.name=cart"),
            Some("namespaces") => Some("metadata.name=shop"),
            _ => None,
        };
        assert_eq!(selector, wanted, "{}", call.path);
        let is_here = !call.path.contains("/namespaces/") || call.path.contains("/shop/");
        assert!(is_here, "{}", call.path);
    }
}

#[tokio::test]
async fn the_sources_count_in_their_order_and_custom_resources_before_eks() {
    let rig = Rig::prepared("", offer_all).await;
    rig.aws.associate("shop", "cart", Entry::of(&role("eks")));
    rig.kube.put(
        Kind::ServiceAccount,
        account(&[("role-arn", &role("note"))]),
    );
    rig.until("eks").await;
    let spec = json!({"serviceAccount": "c*", "namespace": "shop", "roleArn": role("cluster")});
    rig.kube
        .put(Kind::ClusterAssociation, declared("all", &spec));
    rig.until("cluster").await;
    for (name, glob) in [("any", "*"), ("some", "ca*"), ("it", "cart")] {
        let spec = json!({"serviceAccount": glob, "roleArn": role(name)});
        rig.kube.put(Kind::Association, declared(name, &spec));
        rig.until(name).await;
    }
    rig.kube.take(Kind::Association, "shop", "it");
    rig.until("some").await;
    let bad = json!({"serviceAccount": "cart", "roleArn": "cart"});
    rig.kube.put(Kind::Association, declared("it", &bad));
    rig.until_refused(StatusCode::FORBIDDEN, "BadAssociation")
        .await;
    rig.leave().await;
}

#[tokio::test]
async fn a_selector_of_namespaces_follows_their_labels() {
    let rig = Rig::prepared("--association-sources crd", offer_all).await;
    let selector = json!({"matchLabels": {"team": "b"}});
    let spec = json!({
        "serviceAccount": "cart", "namespaceSelector": selector, "roleArn": role("team"),
    });
    rig.kube
        .put(Kind::ClusterAssociation, declared("team", &spec));
    rig.until_refused(StatusCode::NOT_FOUND, "NoAssociation")
        .await;
    let mut moved = namespace(&json!({}));
    moved["metadata"]["labels"]["team"] = "b".into();
    rig.kube.put(Kind::Namespace, moved);
    rig.until("team").await;
    rig.leave().await;
}

#[tokio::test]
async fn a_namespace_bounds_the_roles_that_are_declared_in_it_and_not_eks_s() {
    let rig = Rig::prepared("", offer_all).await;
    rig.kube.put(
        Kind::ServiceAccount,
        account(&[("role-arn", &role("shop/one"))]),
    );
    rig.until("shop/one").await;
    let bounds = |text: &str| namespace(&json!({"credlet.dev/allowed-roles": text}));
    let (shop, other) = (role("shop/*"), role("other/*"));
    rig.kube.put(Kind::Namespace, bounds(&other));
    let refused = StatusCode::FORBIDDEN;
    let answer = rig.until_refused(refused, "RoleNotAllowed").await;
    assert!(answer.text().contains("shop/one"), "{}", answer.text());
    rig.metric("credlet_events_total{outcome=\"Written\"} 1")
        .await;
    assert_eq!(rig.kube.events()[0]["reason"], "RoleNotAllowed");
    rig.metric("credlet_requests_total{door=\"Container\",code=\"403\",reason=\"RoleNotAllowed\"}")
        .await;
    rig.kube
        .put(Kind::Namespace, bounds(&format!("{other} {shop}")));
    rig.until("shop/one").await;
    rig.kube.put(Kind::Namespace, bounds("[a]"));
    rig.until_refused(refused, "BadAssociation").await;
    let spec = json!({"serviceAccount": "*", "namespace": "*", "roleArn": role("cluster")});
    rig.kube
        .put(Kind::ClusterAssociation, declared("all", &spec));
    rig.until("cluster").await;
    rig.leave().await;
}

#[tokio::test]
async fn what_a_namespace_allows_must_be_known() {
    let prepare = |kube: &FakeKube| {
        kube.offer(&[Kind::ServiceAccount]);
        kube.put(Kind::ServiceAccount, account(&[("role-arn", &role("one"))]));
        add_pod(kube);
    };
    let rig = Rig::prepared("--association-sources annotation", prepare).await;
    let answer = rig
        .until_refused(StatusCode::SERVICE_UNAVAILABLE, "SourceFailed")
        .await;
    assert!(
        answer.text().contains("the namespace shop"),
        "{}",
        answer.text()
    );
    assert_eq!(rig.aws.count(Api::AssumeRole), 0);
    rig.leave().await;
}

#[tokio::test]
async fn the_flag_bounds_the_roles_of_all_sources() {
    let rig = Rig::prepared("--allowed-roles arn:*:role/shop/*", offer_all).await;
    rig.aws.associate("shop", "cart", Entry::of(&role("eks")));
    let refused = StatusCode::FORBIDDEN;
    let answer = rig.until_refused(refused, "RoleNotAllowed").await;
    assert!(
        answer.text().contains("--allowed-roles"),
        "{}",
        answer.text()
    );
    assert_eq!(rig.aws.count(Api::AssumeRole), 0);
    let spec = json!({"serviceAccount": "cart", "roleArn": role("shop/it")});
    rig.kube.put(Kind::Association, declared("it", &spec));
    rig.until("shop/it").await;
    rig.leave().await;
}

#[tokio::test]
async fn a_kind_that_the_cluster_has_not_is_off_unless_it_is_named() {
    let rig = Rig::prepared("", add_pod).await;
    rig.aws.associate("shop", "cart", Entry::of(&role("eks")));
    rig.until("eks").await;
    rig.metric("credlet_association_lists{source=\"crd\",state=\"Absent\"} 2")
        .await;
    rig.leave().await;

    let rig = Rig::prepared("--association-sources crd,eks", add_pod).await;
    rig.aws.associate("shop", "cart", Entry::of(&role("eks")));
    let late = StatusCode::SERVICE_UNAVAILABLE;
    rig.until_refused(late, "SourceFailed").await;
    assert_eq!(rig.aws.count(Api::AssumeRole), 0);
    rig.leave().await;
}

#[tokio::test]
async fn a_source_that_is_silent_or_fails_is_not_off() {
    for fault in [Fault::Stall, Fault::Status(500), Fault::Status(401)] {
        let prepare = |kube: &FakeKube| {
            offer_all(kube);
            for _ in 0..1000 {
                kube.fail_next(Verb::ListOther, fault);
            }
        };
        let rig = Rig::prepared("", prepare).await;
        rig.aws.associate("shop", "cart", Entry::of(&role("eks")));
        let answer = rig.get(seat()).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{fault:?}");
        assert_eq!(rig.aws.count(Api::AssumeRole), 0);
        rig.leave().await;
    }
}

#[tokio::test]
async fn what_was_answered_once_survives_a_refusal_and_an_outage() {
    let rig = Rig::prepared("", offer_all).await;
    let spec = json!({"serviceAccount": "cart", "roleArn": role("it")});
    rig.kube.put(Kind::Association, declared("it", &spec));
    rig.until("it").await;
    rig.kube.forbid(Verb::ListOther);
    rig.kube.forbid(Verb::WatchOther);
    let lists = rig.kube.count(Verb::ListOther);
    rig.kube.interrupt(Interruption::Error(410));
    rig.kube.called(Verb::ListOther, lists + 8).await;
    assert_eq!(rig.role_given().await, Some(role("it")));
    // A namespace that is new meanwhile is not without associations.
    let pod = Pod::new("new", "cart-1").account("cart");
    rig.kube.apply(pod.addresses(["127.0.1.2"]));
    let answer = rig.get([127, 0, 1, 2].into()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    rig.kube.down().await;
    assert_eq!(rig.role_given().await, Some(role("it")));
    rig.leave().await;
}
