//! `credlet explain`, as a person runs it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use credlet_tests::process::binary;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::control_plane::ControlPlane;
use crate::declarations::declare;
use crate::follower::PATIENCE;
use crate::place::Place;

const ROLE: &str = "arn:aws:iam::111122223333:role/pods/cart";
const OTHER: &str = "arn:aws:iam::111122223333:role/pods/other";

/// The agent of a place's node as the manifests make it, ready.
async fn add_agent(place: &Place) {
    let settings = json!({
        "metadata": {"name": place.node, "namespace": "credlet"},
        "data": {"CREDLET_CLUSTER_NAME": "prod", "CREDLET_ASSOCIATION_SOURCES": "file,crd,annotation"},
    });
    let file = json!({
        "metadata": {"name": format!("{}-file", place.node), "namespace": "credlet"},
        "data": {"it.yaml": "associations: []"},
    });
    for map in [settings, file] {
        let maps = Api::<ConfigMap>::namespaced(place.admin.clone(), "credlet");
        let map = serde_json::from_value(map).expect("a map");
        let made = maps.create(&PostParams::default(), &map).await;
        made.expect("a map");
    }
    let name = format!("credlet-{}", place.node);
    let agent = json!({
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "credlet"}},
        "spec": {
            "nodeName": place.node,
            "serviceAccountName": "credlet",
            "containers": [{
                "name": "credlet",
                "image": "localhost/credlet",
                "args": ["run", "--association-file", "/etc/credlet/it.yaml"],
                "envFrom": [{"configMapRef": {"name": place.node}}],
                "volumeMounts": [{"name": "file", "mountPath": "/etc/credlet"}],
            }],
            "volumes": [{"name": "file", "configMap": {"name": format!("{}-file", place.node)}}],
        },
    });
    let pods = Api::<Pod>::namespaced(place.admin.clone(), "credlet");
    let agent = serde_json::from_value(agent).expect("a pod");
    let made = pods.create(&PostParams::default(), &agent).await;
    made.expect("a pod");
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let (as_usual, ready) = (PatchParams::default(), Patch::Merge(ready));
    let set = pods.patch_status(&name, &as_usual, &ready).await;
    set.expect("a status");
}

/// What a person sees who may do anything.
async fn explain(place: &Place, program: &Path, pod: &str, flags: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    let text = place.cluster.admins_kubeconfig();
    fs::write(&kubeconfig, text).expect("a file in it");
    let mut command = Command::new(program);
    command
        .args(["explain", "pod", &format!("{}/{pod}", place.namespace)])
        .args(flags)
        .env("CREDLET_KUBECONFIG", &kubeconfig)
        // Nothing of the agent's is this process's.
        .env("CREDLET_ASSOCIATION_SOURCES", "eks")
        .kill_on_drop(true);
    let said = timeout(PATIENCE, command.output()).await;
    said.expect("it ends").expect("it starts")
}

fn json_of(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"))
}

#[tokio::test]
async fn a_pod_that_the_webhook_missed_is_explained_and_so_is_what_counts_for_it() {
    let place = Place::on(ControlPlane::shared().await).await;
    add_agent(&place).await;
    declare(
        &place,
        "exact",
        json!({"serviceAccount": "cart", "roleArn": ROLE}),
    )
    .await;
    declare(
        &place,
        "wide",
        json!({"serviceAccount": "*", "roleArn": OTHER}),
    )
    .await;
    let annotation = "eks.amazonaws.com/role-arn";
    place.annotate_account("cart", annotation, OTHER).await;
    place.add_pod("cart-0").await;
    place.runs_at("cart-0", &["127.0.1.1"]).await;

    let output = explain(&place, &binary(), "cart-0", &["--output", "json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = json_of(&output);
    let verdicts = said["associations"].as_array().expect("a list").iter();
    let verdicts: Vec<_> = verdicts.map(|it| (&it["source"], &it["verdict"])).collect();
    let wanted = [
        ("crd", "counts"),
        ("crd", "hidden"),
        ("annotation", "hidden"),
    ];
    let wanted = wanted.map(|(source, verdict)| (json!(source), json!(verdict)));
    let wanted: Vec<_> = wanted.iter().map(|(one, other)| (one, other)).collect();
    assert_eq!(verdicts, wanted, "{said:#}");
    assert_eq!(said["session"]["role"], ROLE);
    assert_eq!(said["session"]["tags"]["eks-cluster-name"], "prod");
    assert_eq!(said["settingsAssumed"], Value::Null);
    assert_eq!(said["agent"], format!("credlet-{}, ready", place.node));
    let lacks = &said["containers"][0]["lacks"];
    assert_eq!(lacks[0], "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    assert_eq!(said["firstRequest"]["outcome"], "not-asked");

    // As kubectl finds it.
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = folder.path().join("kubectl-credlet");
    symlink(binary(), &plugin).expect("a link");
    let output = explain(&place, &plugin, "cart-0", &[]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("lacks AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        "{text}"
    );
}

#[tokio::test]
async fn a_pod_that_asks_is_told_what_it_gets_by_its_node_s_agent() {
    let place = Place::on(ControlPlane::shared().await).await;
    let env = json!([{
        "name": "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "value": "http://169.254.170.23/v1/credentials",
    }]);
    let containers = json!([{"name": "it", "image": "localhost/it", "env": env}]);
    let spec = json!({"nodeName": place.node, "containers": containers});
    place.add_pod_as("cart-0", spec).await;
    place.runs_at("cart-0", &["127.0.1.1"]).await;
    let first = async |code| {
        let output = explain(&place, &binary(), "cart-0", &["--output", "json"]).await;
        assert_eq!(output.status.code(), Some(code));
        json_of(&output)["firstRequest"].take()
    };
    let why = "there is no agent on the pod's node";
    assert_eq!(first(1).await, json!({"outcome": "nobody", "why": why}));
    add_agent(&place).await;
    assert_eq!(first(1).await["code"], "NoAssociation");
    declare(
        &place,
        "it",
        json!({"serviceAccount": "cart", "roleArn": ROLE}),
    )
    .await;
    let asked = json!({"outcome": "asked", "call": "sts:AssumeRole"});
    assert_eq!(first(0).await, asked);

    let output = explain(&place, &binary(), "cart-1", &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("\"cart-1\" not found"), "{error}");
}
