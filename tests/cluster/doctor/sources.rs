//! Where associations come from.

use std::io::Write;

use serde_json::json;
use tempfile::NamedTempFile;

use super::Rig;

const DECLARED: &str = "/apis/credlet.dev/v1alpha1/namespaces/shop/podidentityassociations";
const ROLE: &str = "arn:aws:iam::111122223333:role/pods/cart";

pub(super) async fn of_all_kinds(rig: &Rig) {
    let check = "sources";
    let report = rig.look("").await;
    report.has(check, "warning", "no source declares any association");
    report.has(check, "ok", "crd: 0 associations can be used");
    report.has(check, "ok", "annotation: 0 service accounts");

    let good = json!({
        "apiVersion": "credlet.dev/v1alpha1",
        "kind": "PodIdentityAssociation",
        "metadata": {"name": "good"},
        "spec": {"serviceAccount": "cart", "roleArn": ROLE},
    });
    let mut bad = good.clone();
    bad["metadata"]["name"] = "bad".into();
    bad["spec"]["sessionName"] = "{pod}".into();
    rig.create(DECLARED, good).await;
    rig.create(DECLARED, bad).await;
    let account = "/api/v1/namespaces/shop/serviceaccounts/cart";
    let annotations = json!({"eks.amazonaws.com/role-arn": ROLE});
    rig.change(account, json!({"metadata": {"annotations": annotations}}))
        .await;
    let report = rig.look("").await;
    report.has_no(check, "warning");
    report.has(check, "ok", "crd: 1 associations can be used");
    report.has(check, "failure", "crd: shop/bad cannot be used");
    report.has(check, "ok", "annotation: 1 service accounts");
    rig.delete(&format!("{DECLARED}/bad")).await;
    rig.look("").await.has_no(check, "failure");
    let report = rig.look("--annotation-prefix example.com").await;
    report.has(check, "ok", "annotation: 0 service accounts");

    let mut file = NamedTempFile::new().expect("a file");
    let flags = format!("--association-file {}", file.path().display());
    let entry = format!("- namespace: shop\n  serviceAccount: cart\n  roleArn: {ROLE}\n");
    write!(file, "associations:\n{entry}").expect("written");
    rig.look(&flags).await.has(check, "ok", "has 1 entries");
    write!(file, "{entry}").expect("written");
    rig.look(&flags)
        .await
        .has(check, "failure", "a second entry for");
    let report = rig.look("--association-file /nowhere").await;
    report.has(check, "failure", "/nowhere cannot be read");
}

pub(super) async fn not_installed(rig: &Rig) {
    for plural in ["podidentityassociations", "clusterpodidentityassociations"] {
        let kinds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        rig.delete(&format!("{kinds}/{plural}.credlet.dev")).await;
        gone(rig, plural).await;
    }
    let report = rig.look("").await;
    report.has(
        "sources",
        "skipped",
        "crd: the custom resources are not installed: the source is off",
    );
    let report = rig.look("--association-sources crd").await;
    report.has(
        "sources",
        "failure",
        "crd: the custom resources are not installed",
    );
}

/// Returns once the API server serves them no longer.
async fn gone(rig: &Rig, plural: &str) {
    let path = format!("/apis/credlet.dev/v1alpha1/{plural}");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_mins(1);
    let list = || hyper::Request::get(&path).body(Vec::new()).expect("a path");
    while rig.admin.request_text(list()).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "{plural} stays");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
