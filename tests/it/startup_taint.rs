//! The node's start-up taint, which goes once the agent is ready.

use std::time::Duration;

use credlet_tests::fake_kube::{FakeKube, Fault, Kind, NODE, Verb};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::agent::rig::Rig;

const KEY: &str = "credlet.dev/agent-not-ready";
const FLAG: &str = "--startup-taint credlet.dev/agent-not-ready";

fn ours() -> Value {
    json!({"key": KEY, "effect": "NoSchedule"})
}

fn others() -> Value {
    json!({"key": "dedicated", "value": "batch", "effect": "NoSchedule"})
}

/// A node with these, and one beside it with ours.
fn tainted(kube: &FakeKube, taints: &Value) {
    kube.offer(&[Kind::Node]);
    for (name, taints) in [(NODE, taints), ("node-2", &json!([ours()]))] {
        let node = json!({"metadata": {"name": name}, "spec": {"taints": taints}});
        kube.put(Kind::Node, node);
    }
}

async fn until(kube: &FakeKube, taints: &Value) {
    let comes = async {
        while kube.node(NODE)["spec"]["taints"] != *taints {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let came = timeout(Duration::from_secs(10), comes).await.is_ok();
    assert!(came, "{}", kube.node(NODE));
}

#[tokio::test]
async fn it_stays_until_the_first_list_of_pods_and_goes_alone() {
    let rig = Rig::prepared(FLAG, |kube| {
        tainted(kube, &json!([others(), ours()]));
        kube.forbid(Verb::List);
    })
    .await;
    rig.kube.called(Verb::List, 3).await;
    assert_eq!(rig.kube.count(Verb::PatchNode), 0);
    assert_eq!(rig.kube.count(Verb::ListOther), 0);
    rig.kube.permit(Verb::List);
    until(&rig.kube, &json!([others()])).await;
    assert!(rig.probe("/readyz").await.status.is_success());
    assert_eq!(rig.kube.node("node-2")["spec"]["taints"], json!([ours()]));
    rig.leave().await;
}

#[tokio::test]
async fn a_node_that_registers_anew_loses_it_again() {
    let rig = Rig::prepared(FLAG, |kube| tainted(kube, &json!([ours()]))).await;
    until(&rig.kube, &json!([])).await;
    rig.kube.take(Kind::Node, "", NODE);
    tainted(&rig.kube, &json!([ours(), others()]));
    until(&rig.kube, &json!([others()])).await;
    rig.leave().await;
}

#[tokio::test]
async fn what_the_api_server_does_not_take_is_tried_again() {
    let rig = Rig::prepared(FLAG, |kube| {
        tainted(kube, &json!([ours()]));
        for fault in [Fault::Status(422), Fault::Status(403), Fault::Cut] {
            kube.fail_next(Verb::PatchNode, fault);
        }
    })
    .await;
    until(&rig.kube, &json!([])).await;
    assert_eq!(rig.kube.count(Verb::PatchNode), 4);
    rig.leave().await;
}

#[tokio::test]
async fn nodes_are_not_looked_at_without_the_flag() {
    let rig = Rig::prepared("", |kube| tainted(kube, &json!([ours()]))).await;
    rig.synced().await;
    let asks = rig.kube.calls();
    assert!(
        asks.iter().all(|call| !call.path.contains("/nodes")),
        "{asks:?}"
    );
    rig.leave().await;
}
