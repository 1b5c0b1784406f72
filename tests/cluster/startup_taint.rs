//! The node's start-up taint, which the agent takes away, and no more of any node.

use std::sync::Arc;

use credlet::identity::watch::Client;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep, timeout};

use crate::agent::Rig;
use crate::control_plane::{ControlPlane, Settings};
use crate::follower::PATIENCE;
use crate::manifests;
use crate::permissions;
use crate::place::Place;

const KEY: &str = "credlet.dev/agent-not-ready";

/// What the API server gives each new node.
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// A node with the taint twice, its place, and a client that is its agent.
struct Tainted {
    place: Place,
    agent: Client,
}

impl Tainted {
    async fn on(cluster: &Arc<ControlPlane>) -> Self {
        let place = Place::on(Arc::clone(cluster)).await;
        manifests::apply(&place.admin, manifests::STARTUP_TAINT).await;
        // As the kubelet registers it, with the taint that each new node has.
        let taints = json!([
            {"key": KEY, "effect": "NoSchedule"},
            {"key": NOT_READY, "effect": "NoSchedule"},
            {"key": KEY, "effect": "NoExecute", "value": "true"},
        ]);
        let node = json!({"spec": {"taints": taints}});
        patch(&place.admin, &place.node, node)
            .await
            .expect("a taint");

        // A token that says on which node its pod is.
        let (pod, own) = (format!("agent-of-{}", place.node), place.beside("credlet"));
        let spec = json!({"nodeName": place.node, "serviceAccountName": "credlet"});
        own.add_pod_as(&pod, spec).await;
        let audience = "https://kubernetes.default.svc";
        let token = own.token_of("credlet", audience, Some(&pod)).await;
        let agent = cluster.client(&token, cluster.api_server_at()).await;
        Self { place, agent }
    }

    async fn keys(&self) -> Vec<String> {
        let nodes = Api::<Node>::all(self.place.admin.clone());
        let node = nodes.get(&self.place.node).await.expect("a node");
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        taints.into_iter().map(|taint| taint.key).collect()
    }

    /// Whether the agent may change the node so.
    async fn may(&self, node: &str, change: Value) -> bool {
        match patch(&self.agent, node, change).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) => {
                assert!((400..500).contains(&status.code), "{status}");
                false
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn patch(client: &Client, node: &str, change: Value) -> kube::Result<Node> {
    let nodes = Api::<Node>::all(client.clone());
    let change = Patch::Merge(change);
    nodes.patch(node, &PatchParams::default(), &change).await
}

fn with_taints(keys: &[&str]) -> Value {
    let taint = |key: &&str| match *key {
        KEY => json!({"key": key, "effect": "NoExecute", "value": "true"}),
        _ => json!({"key": key, "effect": "NoSchedule"}),
    };
    let taints: Vec<Value> = keys.iter().map(taint).collect();
    json!({"spec": {"taints": taints}})
}

/// The policy takes effect somewhat after it is there.
async fn until_bound(node: &Tainted) {
    let label = json!({"metadata": {"labels": {"credlet.dev/seen": "yes"}}});
    let bound = async {
        while node.may(&node.place.node, label.clone()).await {
            sleep(Duration::from_millis(50)).await;
            let undo = json!({"metadata": {"labels": {"credlet.dev/seen": null}}});
            let admin = &node.place.admin;
            patch(admin, &node.place.node, undo).await.expect("a node");
        }
    };
    timeout(PATIENCE, bound).await.expect("the policy is bound");
}

#[tokio::test]
async fn a_ready_agent_takes_it_away_by_what_the_component_grants_and_no_other_taint() {
    let cluster = Arc::new(ControlPlane::start(Settings::default()).await);
    let node = Tainted::on(&cluster).await;
    until_bound(&node).await;
    let flags = format!("--startup-taint {KEY}");
    let rig = Rig::serve_as(&node.place, node.agent.clone(), &flags).await;
    let goes = async {
        while node.keys().await != [NOT_READY] {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let gone = timeout(PATIENCE, goes).await.is_ok();
    assert!(gone, "{:?}", node.keys().await);
    let granted = permissions::granted(manifests::STARTUP_TAINT);
    permissions::until_used(&cluster, &granted).await;
    rig.leave().await;
}

#[tokio::test]
async fn an_agent_may_take_it_from_its_own_node_and_change_nothing_else_of_any() {
    let cluster = ControlPlane::shared().await;
    let (node, other) = (Tainted::on(&cluster).await, Tainted::on(&cluster).await);
    until_bound(&node).await;
    let own = &*node.place.node;
    for (change, why) in [
        (with_taints(&[NOT_READY, KEY, "more"]), "adds a taint"),
        (with_taints(&[KEY]), "takes another's taint"),
        (json!({"spec": {"taints": null}}), "takes all taints"),
        (json!({"spec": {"unschedulable": true}}), "cordons"),
        (json!({"spec": {"providerID": "aws:///i"}}), "names it"),
        (json!({"metadata": {"labels": {"a": "b"}}}), "labels"),
        (
            json!({"metadata": {"annotations": {"a": "b"}}}),
            "annotates",
        ),
        (json!({"metadata": {"finalizers": ["a.b/c"]}}), "holds it"),
    ] {
        assert!(!node.may(own, change).await, "an agent {why}");
    }
    let without = with_taints(&[NOT_READY]);
    assert!(!node.may(&other.place.node, without.clone()).await);
    // A token that does not say where its pod is.
    let nowhere = Tainted {
        agent: node.place.agent().await,
        place: node.place.beside(&node.place.namespace),
    };
    assert!(!nowhere.may(own, without.clone()).await);
    assert!(node.may(own, with_taints(&[NOT_READY, KEY])).await);
    assert!(node.may(own, without).await);
    assert_eq!(node.keys().await, [NOT_READY]);
}
