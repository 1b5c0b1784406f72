//! Every manifest is what the API server takes, and grants what is said and no more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::admissionregistration::v1beta1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, Namespace, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The folders of manifests.
const FOLDERS: &[&str] = &[
    "manifests",
    "manifests/components/token-review",
    "manifests/components/request-tokens",
    "manifests/components/association-status",
    "manifests/components/mutating-policy",
    "manifests/components/webhook",
    "manifests/components/evict-missed",
    "manifests/components/startup-taint",
    "manifests/components/monitoring",
    "manifests/components/sync",
    "manifests/components/sync-ack",
    "manifests/components/agent-writes",
];

/// The components that have no manifest of their own and change others'; those of
/// sidecars have tests of their own.
const CHANGES: [&str; 3] = ["imds", "sidecar-fargate", "sidecar-gke"];

#[test]
fn every_manifest_is_what_its_kubernetes_type_says_to_the_last_field() {
    for (path, document) in FOLDERS.iter().flat_map(|folder| documents(folder)) {
        let kind = document["kind"].as_str().unwrap_or_default();
        let read_back = match (document["apiVersion"].as_str().unwrap_or_default(), kind) {
            ("apps/v1", "DaemonSet") => through::<DaemonSet>(&document),
            ("apps/v1", "Deployment") => through::<Deployment>(&document),
            ("policy/v1", "PodDisruptionBudget") => through::<PodDisruptionBudget>(&document),
            ("rbac.authorization.k8s.io/v1", "Role") => through::<Role>(&document),
            ("rbac.authorization.k8s.io/v1", "RoleBinding") => through::<RoleBinding>(&document),
            ("rbac.authorization.k8s.io/v1", "ClusterRole") => through::<ClusterRole>(&document),
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
                through::<ClusterRoleBinding>(&document)
            }
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => {
                through::<CustomResourceDefinition>(&document)
            }
            ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration") => {
                through::<MutatingWebhookConfiguration>(&document)
            }
            ("v1", "Secret") => through::<Secret>(&document),
            ("v1", "Service") => through::<Service>(&document),
            ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy") => {
                through::<ValidatingAdmissionPolicy>(&document)
            }
            ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding") => {
                through::<ValidatingAdmissionPolicyBinding>(&document)
            }
            ("admissionregistration.k8s.io/v1beta1", "MutatingAdmissionPolicy") => {
                through::<MutatingAdmissionPolicy>(&document)
            }
            ("admissionregistration.k8s.io/v1beta1", "MutatingAdmissionPolicyBinding") => {
                through::<MutatingAdmissionPolicyBinding>(&document)
            }
            ("v1", "ConfigMap") => through::<ConfigMap>(&document),
            ("v1", "Namespace") => through::<Namespace>(&document),
            ("v1", "Pod") => through::<Pod>(&document),
            ("v1", "ServiceAccount") => through::<ServiceAccount>(&document),
            // Types of Prometheus's operator; `monitoring` holds what is in them.
            ("monitoring.coreos.com/v1", "PodMonitor" | "PrometheusRule") => Ok(document.clone()),
            (version, kind) => panic!("{}: no type for {version} {kind}", path.display()),
        };
        let read_back = read_back.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // A field that the type does not have is missing in what it gives back.
        assert_eq!(document, read_back, "{} {kind}", path.display());
    }
}

#[test]
fn the_kustomization_leaves_no_manifest_out() {
    for folder in FOLDERS {
        let kustomization = kustomization(folder);
        let listed: BTreeSet<_> = strings(&kustomization["resources"])
            .into_iter()
            .filter(|resource| Path::new(resource).extension().is_some())
            .collect();
        let there: BTreeSet<_> = manifests(folder)
            .iter()
            .map(|path| {
                path.file_name()
                    .expect("a file")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        assert_eq!(listed, there, "{folder}");
    }
}

#[test]
fn every_component_has_manifests_or_changes_and_is_known_here() {
    let entries = fs::read_dir(root().join("manifests/components")).expect("the folder is there");
    let there: BTreeSet<_> = entries
        .map(|entry| entry.expect("readable").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let with_manifests = FOLDERS.iter().skip(1);
    let known = with_manifests
        .filter_map(|folder| folder.rsplit('/').next())
        .chain(CHANGES);
    assert_eq!(there, known.map(str::to_owned).collect());
    for component in CHANGES {
        let kustomization = kustomization(&format!("manifests/components/{component}"));
        assert_eq!(kustomization["kind"], "Component", "{component}");
        assert_eq!(kustomization["resources"], Value::Null, "{component}");
    }
}

/// That no permission and no capability is added with it.
#[test]
fn instance_metadata_is_one_setting_of_the_agent_and_changes_nothing_else() {
    let kustomization = kustomization("manifests/components/imds");
    let patches = kustomization["patches"].as_array().expect("a list");
    let [patch] = &patches[..] else {
        panic!("one patch");
    };
    let set = daemon_set();
    let target = json!({"kind": "DaemonSet", "name": set.metadata.name});
    assert_eq!(patch["target"], target);
    let operations: Value =
        serde_saphyr::from_str(patch["patch"].as_str().expect("a text")).expect("YAML");
    let wanted = json!([{
        "op": "add",
        "path": "/spec/template/spec/containers/0/env/-",
        "value": {"name": "CREDLET_IMDS", "value": "node"},
    }]);
    assert_eq!(operations, wanted);
    // Such an operation needs the list to be there, and would set a name twice.
    let env = container().env.expect("a list of settings");
    assert!(env.iter().all(|setting| setting.name != "CREDLET_IMDS"));
}

/// One pod may be given what it lacks by any of them.
#[test]
fn the_mutating_policies_differ_in_whom_they_are_for_and_not_in_what_they_give() {
    let documents = documents("manifests/components/mutating-policy");
    let of = |kind: &'static str| documents.iter().filter(move |(_, it)| it["kind"] == kind);
    let settings = of("ConfigMap").map(|(_, it)| it["data"]["settings"].clone());
    let settings: Vec<Value> = settings.collect();
    let given: Vec<_> = of("MutatingAdmissionPolicy")
        .map(|(_, policy)| {
            let spec = &policy["spec"];
            let variables = spec["variables"].as_array().expect("a list");
            let [first, ..] = &variables[..] else {
                panic!("no variables");
            };
            assert_eq!([first["expression"].clone()], settings[..]);
            let shared = variables.iter().take_while(|it| it["name"] != "skipped");
            let shared: Vec<_> = shared.collect();
            assert!(shared.len() > 15, "shared variables come first");
            (shared, &spec["mutations"][0])
        })
        .collect();
    assert_eq!(given.len(), 3);
    assert!(given.iter().all(|it| *it == given[0]));
}

#[test]
fn the_image_carries_the_version_of_this_workspace() {
    let kustomization = kustomization("manifests");
    assert_eq!(
        kustomization["images"][0]["name"],
        container().image.expect("an image")
    );
    assert_eq!(
        kustomization["images"][0]["newTag"],
        env!("CARGO_PKG_VERSION")
    );
}

#[test]
fn the_cluster_has_no_name_until_somebody_gives_it_one() {
    let settings = fs::read_to_string(root().join("manifests/settings.env")).expect("readable");
    assert!(settings.lines().any(|line| line == "CREDLET_CLUSTER_NAME="));
}

#[test]
fn the_agent_may_read_pods_keys_and_declarations_write_events_and_nothing_else() {
    let role: ClusterRole = the_only("ClusterRole");
    let rules = serde_json::to_value(role.rules).expect("plain data");
    let wanted = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {
            "nonResourceURLs": ["/.well-known/openid-configuration", "/openid/v1/jwks"],
            "verbs": ["get"],
        },
        {
            "apiGroups": [""],
            "resources": ["namespaces", "serviceaccounts"],
            "verbs": ["list", "watch"],
        },
        {
            "apiGroups": ["credlet.dev"],
            "resources": ["podidentityassociations", "clusterpodidentityassociations"],
            "verbs": ["list", "watch"],
        },
        {
            "apiGroups": ["events.k8s.io"],
            "resources": ["events"],
            "verbs": ["create", "patch"],
        },
    ]);
    assert_eq!(rules, wanted);
}

#[test]
fn the_agent_has_two_capabilities_and_cannot_gain_any() {
    let context = container().security_context.expect("a security context");
    let capabilities = context.capabilities.expect("capabilities");
    assert_eq!(capabilities.drop.expect("dropped"), ["ALL"]);
    assert_eq!(
        capabilities.add.expect("added"),
        ["NET_ADMIN", "NET_BIND_SERVICE"]
    );
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!(context.read_only_root_filesystem, Some(true));
    assert_eq!(context.privileged, None);
}

#[test]
fn two_agents_fit_on_a_node_while_it_is_updated() {
    assert_eq!(container().ports, None);
    let update = daemon_set().spec.update_strategy.expect("a strategy");
    let rolling = serde_json::to_value(update.rolling_update).expect("plain data");
    assert_eq!(rolling["maxUnavailable"], 0);
    assert_ne!(rolling["maxSurge"], 0);
}

#[test]
fn an_update_that_never_gets_ready_leaves_the_old_agent_an_hour() {
    let probe = container().readiness_probe.expect("a readiness probe");
    let seconds = probe.period_seconds.zip(probe.failure_threshold);
    assert!(seconds.is_some_and(|(period, failures)| period * failures >= 3600));
}

fn daemon_set() -> DaemonSet {
    the_only("DaemonSet")
}

fn container() -> Container {
    let pod = daemon_set().spec.template.spec.expect("a pod");
    let [container] = <[_; 1]>::try_from(pod.containers).expect("one container");
    container
}

fn the_only<T: DeserializeOwned>(kind: &str) -> T {
    let mut found = documents("manifests");
    found.retain(|(_, document)| document["kind"] == kind);
    let [(_, document)] = <[_; 1]>::try_from(found).expect("one of its kind");
    serde_json::from_value(document).expect("checked by a test above")
}

fn through<T: DeserializeOwned + Serialize>(document: &Value) -> serde_json::Result<Value> {
    serde_json::to_value(T::deserialize(document)?)
}

fn documents(folder: &str) -> Vec<(PathBuf, Value)> {
    let mut documents = Vec::new();
    for path in manifests(folder) {
        let text = fs::read_to_string(&path).expect("readable");
        let parsed: Vec<Value> = serde_saphyr::from_multiple(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!parsed.is_empty(), "{} is empty", path.display());
        documents.extend(parsed.into_iter().map(|document| (path.clone(), document)));
    }
    documents
}

fn manifests(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
            && !path.ends_with("kustomization.yaml")
    });
    assert!(!paths.is_empty(), "no manifest in {folder}");
    paths
}

fn kustomization(folder: &str) -> Value {
    let path = root().join(folder).join("kustomization.yaml");
    serde_saphyr::from_str(&fs::read_to_string(path).expect("readable")).expect("YAML")
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|item| item.as_str().expect("a string").to_owned())
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
