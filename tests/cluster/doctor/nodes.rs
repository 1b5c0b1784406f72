//! Nodes and their agents, others' agents, and policies between pods and them.

use serde_json::{Value, json};

use super::Rig;

const NODES: &str = "/api/v1/nodes";
const AGENTS: &str = "/api/v1/namespaces/credlet/pods";
const SETS: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets";

pub(super) async fn agents_and_taints(rig: &Rig) {
    let check = "nodes";
    let taint = "--startup-taint credlet.dev/not-ready";
    let taints = json!([{"key": "credlet.dev/not-ready", "effect": "NoSchedule"}]);
    let node = json!({"metadata": {"name": "node-0"}, "spec": {"taints": taints}});
    rig.create(NODES, node).await;
    // No agent could run there.
    let fargate = json!({"eks.amazonaws.com/compute-type": "fargate"});
    rig.create(
        NODES,
        json!({"metadata": {"name": "fargate-0", "labels": fargate}}),
    )
    .await;
    let report = rig.look(taint).await;
    report.has(check, "failure", "the node node-0 has no agent");
    report.has(check, "failure", "credlet.dev/not-ready:NoSchedule");
    report.has("pod-watch", "skipped", "no node was named");
    let report = rig.look("--node-name node-0").await;
    report.has("pod-watch", "warning", "knows no pod on a node node-0");

    let agent = json!({
        "metadata": {"name": "credlet-0", "labels": {"app.kubernetes.io/name": "credlet"}},
        "spec": {
            "nodeName": "node-0",
            "serviceAccountName": "credlet",
            "containers": [{"name": "credlet", "image": "localhost/credlet"}],
        },
    });
    rig.create(AGENTS, agent).await;
    let report = rig.look("--node-name node-0").await;
    report.has(
        "pod-watch",
        "ok",
        "the 1 pods of node-0 can be listed and watched",
    );
    report.has(
        check,
        "failure",
        "the agent of the node node-0 is not ready",
    );
    set_status(rig, "False").await;
    let report = rig.look(taint).await;
    report.has(check, "failure", "CrashLoopBackOff");

    set_status(rig, "True").await;
    rig.look("")
        .await
        .has(check, "ok", "each of 1 nodes has an agent that is ready");
    let report = rig.look(taint).await;
    report.has(
        check,
        "failure",
        "has its start-up taint credlet.dev/not-ready:NoSchedule still",
    );
    rig.change("/api/v1/nodes/node-0", json!({"spec": {"taints": null}}))
        .await;
    rig.look(taint).await.has(check, "ok", "each of 1 nodes");
}

async fn set_status(rig: &Rig, ready: &str) {
    let container = json!({
        "name": "credlet", "image": "", "imageID": "", "restartCount": 3, "ready": false,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    });
    let status = json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": ready}],
        "containerStatuses": [container],
    });
    let path = format!("{AGENTS}/credlet-0/status");
    rig.change(&path, json!({"status": status})).await;
}

pub(super) async fn other_agents(rig: &Rig) {
    let check = "other-agents";
    rig.look("")
        .await
        .has(check, "ok", "neither the EKS agent nor kiam nor kube2iam");
    for (name, image, flags, verdict) in [
        (
            "eks",
            "registry.example/eks/eks-pod-identity-agent:v0.1.33",
            "",
            "failure",
        ),
        ("kiam", "quay.io/uswitch/kiam@sha256:00", "", "warning"),
        ("kube2iam", "jtblin/kube2iam", "--imds node", "failure"),
    ] {
        let labels = json!({"app": name});
        let set = json!({
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "it", "image": image}]},
                },
            },
        });
        rig.create(SETS, set).await;
        let words = format!("the DaemonSet kube-system/{name}");
        rig.look(flags).await.has(check, verdict, &words);
        rig.delete(&format!("{SETS}/{name}")).await;
    }
    rig.look("").await.has(check, "ok", "neither");
}

pub(super) async fn policies(rig: &Rig) {
    let check = "network-policies";
    rig.create("/api/v1/namespaces", json!({"metadata": {"name": "shop"}}))
        .await;
    let accounts = "/api/v1/namespaces/shop/serviceaccounts";
    rig.create(accounts, json!({"metadata": {"name": "cart"}}))
        .await;
    let uri = "http://169.254.170.23/v1/credentials";
    let env = json!([{"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": uri}]);
    let pod = json!({
        "metadata": {"name": "cart-0", "labels": {"app": "cart"}},
        "spec": {
            "serviceAccountName": "cart",
            "containers": [{"name": "it", "image": "localhost/it", "env": env}],
        },
    });
    rig.create("/api/v1/namespaces/shop/pods", pod).await;
    rig.look("")
        .await
        .has(check, "ok", "0 policies keep none of 1 pods");
    add_policy(rig, "nothing", json!([])).await;
    let report = rig.look("").await;
    report.has(
        check,
        "failure",
        "pods of shop ask the agent and may not reach it: cart-0",
    );
    report.has(check, "failure", "by NetworkPolicy nothing");
    let agent = json!([{"ipBlock": {"cidr": "169.254.170.23/32"}}]);
    let rule = json!([{"to": agent, "ports": [{"port": 80}]}]);
    add_policy(rig, "agent", rule).await;
    rig.look("")
        .await
        .has(check, "ok", "2 policies keep none of 1 pods");
    // Where the agent has another port, that rule is for nothing.
    rig.look("--port 8080")
        .await
        .has(check, "failure", "may not reach it: cart-0");
}

async fn add_policy(rig: &Rig, name: &str, egress: Value) {
    let policy = json!({
        "metadata": {"name": name},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": egress},
    });
    let path = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies";
    rig.create(path, policy).await;
}

/// As the agents' own pods have them: after [`policies`], which allow port 80.
pub(super) async fn agents_settings(rig: &Rig) {
    let check = "settings";
    let report = rig.look("").await;
    report.has(check, "skipped", "are taken to be those given here");
    let data = json!({
        "CREDLET_PORT": "8080",
        "CREDLET_ASSOCIATION_FILE": "/etc/credlet/associations.yaml",
    });
    let map = json!({"metadata": {"name": "credlet"}, "data": data});
    rig.create("/api/v1/namespaces/credlet/configmaps", map)
        .await;
    let labels = json!({"app": "credlet"});
    let container = json!({
        "name": "credlet",
        "image": "localhost/credlet",
        "args": ["run", "--request-tokens"],
        "envFrom": [{"configMapRef": {"name": "credlet"}}],
    });
    let set = json!({
        "metadata": {"name": "credlet"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    });
    let sets = "/apis/apps/v1/namespaces/credlet/daemonsets";
    rig.create(sets, set).await;
    let report = rig.look("").await;
    report.has(check, "ok", "those of the DaemonSet credlet/credlet");
    report.has("network-policies", "failure", "may not reach it: cart-0");
    let words = "/etc/credlet/associations.yaml is in the agents' pods";
    report.has("sources", "skipped", words);
    rig.delete(&format!("{sets}/credlet")).await;
}
