//! Pods in the JSON of the Kubernetes API, taken as they come.
//!
//! Not `k8s_openapi`'s `Pod`: one pod that does not fit that type would fail
//! the list of all, and every pod would be held whole to read eight fields.

use kube::core::Request;
use serde::Deserialize;
use serde_json::Value;

use crate::identity::pods::{Life, Network, Report};

/// What is kept of a pod's object. Any JSON makes one: what is missing, or of
/// another type, is empty or unclear, for the index to judge.
#[derive(Clone, Deserialize)]
#[serde(from = "Value")]
pub(super) struct PodObject {
    pub(super) report: Report,
    /// `metadata.resourceVersion`.
    pub(super) version: String,
}

/// The pods of all namespaces.
pub(super) fn pods() -> Request {
    Request::new("/api/v1/pods")
}

impl From<Value> for PodObject {
    fn from(object: Value) -> Self {
        let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
        let mut addresses = ips(&status["podIPs"]);
        if !status["podIP"].is_null() {
            addresses.push(text(&status["podIP"]));
        }
        let report = Report {
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"]),
            uid: text(&metadata["uid"]),
            account: match &spec["serviceAccountName"] {
                Value::Null => "default".to_owned(),
                account => text(account),
            },
            network: match &spec["hostNetwork"] {
                Value::Null | Value::Bool(false) => Network::Pod,
                Value::Bool(true) => Network::Node,
                Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                    Network::Unclear
                }
            },
            life: match status["phase"].as_str() {
                Some("Succeeded" | "Failed") => Life::Over,
                Some(_) | None => Life::Live,
            },
            addresses,
            node_addresses: ips(&status["hostIPs"]),
        };
        Self {
            report,
            version: text(&metadata["resourceVersion"]),
        }
    }
}

/// Of what is no text: the empty one, which no field of a pod may be.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn ips(list: &Value) -> Vec<String> {
    let ips = list.as_array().into_iter().flatten();
    ips.map(|entry| text(&entry["ip"])).collect()
}
