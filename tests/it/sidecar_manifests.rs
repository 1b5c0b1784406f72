//! The sidecars' components: what they put into a pod is what Kubernetes takes, and
//! may do what it must and no more.

use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde_json::Value;

/// What a component puts into a pod, a template and a template's template: the same.
fn pod_of(component: &str) -> PodSpec {
    let file = format!("../manifests/components/{component}/kustomization.yaml");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(file).expect("readable");
    let kustomization: Value = serde_saphyr::from_str(&text).expect("YAML");
    let patches = kustomization["patches"].as_array().expect("patches");
    let places = [
        "/spec",
        "/spec/template/spec",
        "/spec/jobTemplate/spec/template/spec",
    ];
    assert_eq!(patches.len(), places.len());
    let pods = patches.iter().zip(places).map(|(patch, place)| {
        let patch = patch["patch"].as_str().expect("a text");
        let patch: Value = serde_saphyr::from_str(patch).expect("YAML");
        patch.pointer(place).expect("a pod").clone()
    });
    let pods: Vec<Value> = pods.collect();
    assert!(pods.iter().all(|pod| *pod == pods[0]), "{component}");
    // Containers are there in any pod.
    let mut whole = pods[0].clone();
    whole["containers"] = Value::Array(Vec::new());
    let pod: PodSpec = serde_json::from_value(whole.clone()).expect("a pod's fields");
    let read_back = serde_json::to_value(&pod).expect("plain data");
    // A field that the type does not have is missing in what it gives back.
    assert_eq!(read_back, whole, "{component}");
    pod
}

fn may_add(container: &Container) -> Vec<String> {
    let context = container.security_context.clone().expect("a context");
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!(context.read_only_root_filesystem, Some(true));
    let capabilities = context.capabilities.expect("capabilities");
    assert_eq!(capabilities.drop.expect("dropped"), ["ALL"]);
    capabilities.add.unwrap_or_default()
}

#[test]
fn on_gke_the_set_up_may_change_the_network_and_the_sidecar_nothing() {
    let pod = pod_of("sidecar-gke");
    let [set_up, sidecar] = &pod.init_containers.expect("init containers")[..] else {
        panic!("two");
    };
    assert_eq!(may_add(set_up), ["NET_ADMIN"]);
    assert_eq!(may_add(sidecar), [""; 0]);
    assert_eq!(sidecar.restart_policy.as_deref(), Some("Always"));
    assert!(sidecar.startup_probe.is_some());
    let context = sidecar.security_context.as_ref().expect("a context");
    assert_eq!(context.run_as_non_root, Some(true));
}

#[test]
fn on_fargate_nothing_may_do_anything() {
    let pod = pod_of("sidecar-fargate");
    let [sidecar] = &pod.init_containers.expect("init containers")[..] else {
        panic!("one");
    };
    assert_eq!(may_add(sidecar), [""; 0]);
    assert_eq!(sidecar.restart_policy.as_deref(), Some("Always"));
    assert!(sidecar.startup_probe.is_some());
    assert!(pod.security_context.is_none());
}
