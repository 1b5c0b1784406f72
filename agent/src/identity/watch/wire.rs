//! Pods in the JSON of the Kubernetes API, taken as they come.
//!
//! Not `k8s_openapi`'s `Pod`: one pod that does not fit that type would fail
//! the list of all, and every pod would be held whole to read a few fields.

use std::time::SystemTime;

use jiff::Timestamp;
use kube::core::Request;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::apiserver::Object;
use crate::identity::pods::{Life, Network, OptIn, Report};
use crate::model::OwnRole;

#[cfg(test)]
mod tests;

/// What is kept of a pod's object. Any JSON makes one: what is missing, or of
/// another type, is empty or unclear, for the index to judge.
#[derive(Clone, Deserialize)]
#[serde(from = "Value")]
pub(super) struct PodObject {
    pub(super) report: Report,
    /// `metadata.resourceVersion`.
    pub(super) version: String,
}

/// The pods of one namespace, whose name is a legal one.
pub(super) fn pods_of(namespace: &str) -> Request {
    Request::new(format!("/api/v1/namespaces/{namespace}/pods"))
}

impl Object for PodObject {
    fn version(&self) -> &str {
        &self.version
    }
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
            life: match (status["phase"].as_str(), &metadata["deletionTimestamp"]) {
                (Some("Succeeded" | "Failed"), _) => Life::Over,
                (Some(_) | None, Value::Null) => Life::Live,
                (Some(_) | None, _) => Life::Terminating,
            },
            imds: opt_in(&metadata["labels"]),
            own_role: match &metadata["annotations"][OwnRole::ANNOTATION] {
                Value::Null => String::new(),
                Value::String(role) => role.clone(),
                // No role, and not to be passed over as if there were none.
                other
                @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                    other.to_string()
                }
            },
            addresses,
            node_addresses: ips(&status["hostIPs"]),
            as_of: latest(status),
        };
        Self {
            report,
            version: text(&metadata["resourceVersion"]),
        }
    }
}

/// What the index is told of a pod whose object this is.
impl<'de> Deserialize<'de> for Report {
    fn deserialize<D: Deserializer<'de>>(object: D) -> Result<Self, D::Error> {
        PodObject::deserialize(object).map(|pod| pod.report)
    }
}

/// The labels by which a pod asks for instance metadata, with their values. GKE
/// on AWS takes `True` and no other spelling, and so do pods that it left out.
const OPTS_IN: [(&str, &str); 2] = [
    (
        "gkemulticloud.googleapis.com/aws-imds-emulator-enabled",
        "True",
    ),
    ("credlet.dev/imds", "enabled"),
];

fn opt_in(labels: &Value) -> OptIn {
    if OPTS_IN
        .iter()
        .any(|(label, value)| labels[*label] == *value)
    {
        OptIn::In
    } else {
        OptIn::Out
    }
}

/// Conditions that nobody but the kubelet sets, which sees the pod's addresses
/// as it does so. Others change, say, `Ready` and leave addresses as they were.
/// That they hold no more may be as the pod's sandbox has gone: the kubelet then
/// goes on to report the addresses of before (`getPodIPs` in its pleg).
const OF_THE_KUBELET: [&str; 3] = [
    "PodReadyToStartContainers",
    "Initialized",
    "ContainersReady",
];

/// The latest moment at which the kubelet saw something begin.
fn latest(status: &Value) -> Option<SystemTime> {
    let list = |name: &str| status[name].as_array().into_iter().flatten();
    let conditions = list("conditions").filter(|condition| {
        let kind = condition["type"].as_str();
        kind.is_some_and(|kind| OF_THE_KUBELET.contains(&kind)) && condition["status"] == "True"
    });
    let containers = list("initContainerStatuses").chain(list("containerStatuses"));
    let changed = conditions.map(|condition| &condition["lastTransitionTime"]);
    let started = containers.map(|container| &container["state"]["running"]["startedAt"]);
    let moments = changed
        .chain(started)
        .filter_map(|moment| moment.as_str()?.parse::<Timestamp>().ok());
    moments.max().map(SystemTime::from)
}

/// Of what is no text: the empty one, which no field of a pod may be.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn ips(list: &Value) -> Vec<String> {
    let ips = list.as_array().into_iter().flatten();
    ips.map(|entry| text(&entry["ip"])).collect()
}
