//! A release against a real API server: installed, upgraded, taken back, removed.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{COMPONENTS, helm, run};
use crate::control_plane::{ControlPlane, Settings};

/// As a person does it. The network policy of Cilium is left out: the API server
/// does not have that kind.
#[tokio::test]
async fn a_release_is_installed_over_the_kustomizations_objects_upgraded_and_removed() {
    let cluster = ControlPlane::bare(Settings {
        flags: &[
            "--feature-gates=MutatingAdmissionPolicy=true",
            "--runtime-config=admissionregistration.k8s.io/v1beta1=true",
        ],
        ..Settings::default()
    });
    let cluster = cluster.await;
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    fs::write(&kubeconfig, cluster.admin_kubeconfig()).expect("writable");
    let by = |program: &Path, arguments: &str| {
        let mut command = Command::new(program);
        command
            .args(arguments.split(' '))
            .env("KUBECONFIG", &kubeconfig);
        for (variable, name) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            command.env(variable, folder.path().join(name));
        }
        run(&mut command).unwrap_or_else(|error| panic!("{arguments}: {error}"))
    };
    let kubectl = |arguments: &str| by(Path::new("kubectl"), arguments);
    let helm = |arguments: &str| by(&helm(), arguments);

    kubectl("apply -k manifests");
    let said = helm(
        "install credlet manifests/chart --namespace credlet --take-ownership --force-conflicts",
    );
    assert!(said.contains("daemonset/credlet"), "{said}");
    // The kustomization's own namespace is labelled as it must be.
    assert!(!said.contains("kubectl label"), "{said}");
    let image = "--namespace credlet get daemonset credlet --output jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(
        kubectl(image),
        concat!("localhost/credlet:", env!("CARGO_PKG_VERSION"))
    );

    kubectl("create namespace shop");
    // The API server does not have the kinds of Prometheus's operator.
    let switches = COMPONENTS
        .iter()
        .filter(|(key, _)| *key != "monitoring")
        .map(|(key, _)| format!("components.{key}=true"));
    let switches = switches.collect::<Vec<_>>().join(",");
    helm(&format!(
        "upgrade credlet manifests/chart --namespace credlet --force-conflicts --set image.tag=v2,{switches},networkPolicies.namespaces={{shop}}"
    ));
    assert_eq!(kubectl(image), "localhost/credlet:v2");
    kubectl("--namespace shop get networkpolicy credlet");
    kubectl("get clusterrole credlet-request-tokens");
    helm("rollback credlet 1 --namespace credlet");
    assert_eq!(
        kubectl(image),
        concat!("localhost/credlet:", env!("CARGO_PKG_VERSION"))
    );

    helm("uninstall credlet --namespace credlet");
    let left =
        kubectl("get daemonsets,networkpolicies,clusterroles --all-namespaces --output name");
    assert!(!left.contains("credlet"), "{left}");
    // With the definitions would go what is declared by them.
    kubectl("get podidentityassociations --all-namespaces");

    let said = helm(
        "install credlet manifests/chart --namespace elsewhere --create-namespace --take-ownership --force-conflicts",
    );
    let label =
        "label namespace elsewhere --overwrite pod-security.kubernetes.io/enforce=privileged";
    assert!(said.contains(label), "{said}");
    kubectl(label);
}
