//! The pods that the stand-in serves, in the JSON of the Kubernetes API.

use credlet::model::OwnRole;
use serde_json::{Value, json};

use super::NODE;

const OPTS_IN: &str = "gkemulticloud.googleapis.com/aws-imds-emulator-enabled";

/// A running pod of the node [`NODE`], of the account `default`, without an address.
#[derive(Clone, Debug)]
#[must_use]
pub struct Pod(Value);

impl Pod {
    /// A pod whose UID is `uid-of-NAMESPACE-NAME`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-of-{namespace}-{name}")},
            "spec": {
                "nodeName": NODE,
                "serviceAccountName": "default",
                "containers": [{"name": "main", "image": "main"}],
            },
            "status": {"phase": "Running", "hostIPs": [{"ip": "192.0.2.1"}]},
        }))
    }

    /// Sets the UID: a namesake of a pod that was there before has another.
    pub fn uid(self, uid: &str) -> Self {
        self.edit(|pod| pod["metadata"]["uid"] = uid.into())
    }

    /// Sets the service account.
    pub fn account(self, name: &str) -> Self {
        self.edit(|pod| pod["spec"]["serviceAccountName"] = name.into())
    }

    /// Sets the node that the pod is bound to.
    pub fn node(self, name: &str) -> Self {
        self.edit(|pod| pod["spec"]["nodeName"] = name.into())
    }

    /// Sets `podIPs`, and `podIP` to the first of them, as a kubelet does that
    /// has made the pod's sandbox just now.
    pub fn addresses<'a>(self, addresses: impl IntoIterator<Item = &'a str>) -> Self {
        let ips: Vec<Value> = addresses.into_iter().map(|ip| json!({"ip": ip})).collect();
        self.edit(|pod| {
            pod["status"]["podIP"] = ips.first().map_or(Value::Null, |ip| ip["ip"].clone());
            pod["status"]["podIPs"] = ips.into();
            pod["status"]["conditions"] = json!([{
                "type": "PodReadyToStartContainers",
                "status": "True",
                "lastTransitionTime": jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
            }]);
        })
    }

    /// Sets the phase: `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub fn phase(self, phase: &str) -> Self {
        self.edit(|pod| pod["status"]["phase"] = phase.into())
    }

    /// Puts the pod on the node's own network.
    pub fn host_network(self) -> Self {
        self.edit(|pod| pod["spec"]["hostNetwork"] = true.into())
    }

    /// Marks the pod as terminating.
    pub fn terminating(self) -> Self {
        self.edit(|pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into())
    }

    /// Has the pod ask for instance metadata as GKE on AWS does it.
    pub fn opted_in(self) -> Self {
        self.edit(|pod| pod["metadata"]["labels"][OPTS_IN] = "True".into())
    }

    /// Has the pod name a role for itself, which counts if it has opted in.
    pub fn names(self, role: &str) -> Self {
        self.edit(|pod| pod["metadata"]["annotations"][OwnRole::ANNOTATION] = role.into())
    }

    /// Changes anything, for pods that no API server would serve.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.0);
        self
    }

    pub(super) fn key(&self) -> Key {
        let text = |field: &str| match &self.0["metadata"][field] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (text("namespace"), text("name"))
    }

    pub(super) fn is_on(&self, node: Option<&str>) -> bool {
        node.is_none_or(|node| self.0["spec"]["nodeName"] == node)
    }

    pub(super) fn at_version(self, version: u64) -> Self {
        self.edit(|pod| pod["metadata"]["resourceVersion"] = version.to_string().into())
    }

    pub(super) fn json(&self) -> &Value {
        &self.0
    }
}

/// Namespace and name.
pub(super) type Key = (String, String);
