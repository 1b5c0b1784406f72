//! The node's start-up taint: taken away once the agent is ready.

use std::sync::Arc;
use std::time::Duration;

use kube::core::Request;
use kube::core::params::{Patch, PatchParams};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::readiness::Readiness;
use crate::apiserver::{
    Again, Backoff, Client, Follow, Keep, Limits, Lost, Object, Place, Reason, View,
};
use crate::causes::causes;
use crate::config::TaintKey;

/// How long the API server may take for a change.
const PATIENCE: Duration = Duration::from_secs(5);

const JSON_PATCH: &str = "application/json-patch+json";

/// `metadata` and what of `spec` is looked at.
#[derive(Clone, Deserialize)]
struct Node {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    resource_version: String,
}

#[derive(Clone, Default, Deserialize)]
struct Spec {
    /// As the API server writes them, whatever fields they have.
    #[serde(default)]
    taints: Vec<Value>,
}

impl Object for Node {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// Has the node be without taints of this key from when the agent is ready on: a
/// node that registers anew, as it does after it was deleted, has it again.
/// Returns only if that breaks.
pub(super) async fn remove(
    client: Client,
    node: String,
    key: TaintKey,
    readiness: Readiness,
) -> &'static str {
    readiness.ready().await;
    let (told, taints) = watch::channel(Arc::default());
    let seen = Seen {
        key: key.clone(),
        told,
        lost: false,
    };
    let place = Place {
        path: "/api/v1/nodes".to_owned(),
        fields: Some(format!("metadata.name={node}")),
        labels: None,
        view: View::Whole,
    };
    let follow = Follow::new(client.clone(), place, Limits::default(), seen);
    let remover = Remover { client, node, key };
    tokio::select! {
        never = follow.run() => match never {},
        why = remover.run(taints) => why,
    }
}

/// The taints of the node, all of them and in order.
type Taints = Arc<Vec<Value>>;

struct Seen {
    key: TaintKey,
    told: watch::Sender<Taints>,
    lost: bool,
}

impl Keep for Seen {
    type Object = Node;

    fn replace(&mut self, mut nodes: Vec<Node>) {
        match nodes.pop() {
            Some(node) => self.apply(node),
            None => drop(self.told.send_replace(Arc::default())),
        }
        self.lost = false;
    }

    fn apply(&mut self, node: Node) {
        let taints = Arc::new(node.spec.taints);
        self.told.send_if_modified(|before| {
            let differs = *before != taints;
            *before = taints;
            differs
        });
    }

    fn remove(&mut self, _: Node) {
        self.told.send_replace(Arc::default());
    }

    fn heard(&mut self) {
        self.lost = false;
    }

    fn lost(&mut self, lost: &Lost) -> Again {
        let is_trouble = lost.reason != Reason::Ended;
        if is_trouble && !std::mem::replace(&mut self.lost, true) {
            let (key, why) = (self.key.as_str(), &lost.why);
            warn!(
                key,
                why, "the node cannot be seen; its start-up taint may stay"
            );
        }
        Again::Soon
    }
}

struct Remover {
    client: Client,
    node: String,
    key: TaintKey,
}

impl Remover {
    async fn run(self, mut taints: watch::Receiver<Taints>) -> &'static str {
        let mut backoff = Backoff::default();
        let mut fails = false;
        loop {
            let now = Arc::clone(&taints.borrow_and_update());
            let steps = steps(&now, self.key.as_str());
            if !steps.is_empty() {
                let key = self.key.as_str();
                match self.write(steps).await {
                    Ok(()) => {
                        info!(key, "the node's start-up taint is taken away");
                        (backoff, fails) = (Backoff::default(), false);
                    }
                    Err(why) => {
                        if !std::mem::replace(&mut fails, true) {
                            warn!(
                                key,
                                why, "the node's start-up taint could not be taken away"
                            );
                        }
                        sleep(backoff.next()).await;
                        continue;
                    }
                }
            }
            if taints.changed().await.is_err() {
                return "the node is no longer followed";
            }
        }
    }

    async fn write(&self, steps: Vec<Value>) -> Result<(), String> {
        let steps = Patch::Merge(Value::Array(steps));
        let request = Request::new("/api/v1/nodes");
        let request = request.patch(&self.node, &PatchParams::default(), &steps);
        let mut request = request.map_err(|error| error.to_string())?;
        // A merge patch to kube, which writes JSON patches with a library only.
        let kind = JSON_PATCH.parse().expect("a header's value");
        request.headers_mut().insert("content-type", kind);
        match timeout(PATIENCE, self.client.request_text(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(causes(&error)),
            Err(_) => Err(format!("no answer for {PATIENCE:?}")),
        }
    }
}

/// What takes away each taint of the key, from the last on, so that the numbers
/// of the others hold. Where the taints have changed meanwhile, all of it fails.
fn steps(taints: &[Value], key: &str) -> Vec<Value> {
    let ours = taints.iter().enumerate().rev();
    let ours = ours.filter(|(_, taint)| taint["key"] == key);
    let steps = ours.flat_map(|(at, taint)| {
        let path = format!("/spec/taints/{at}");
        [
            json!({"op": "test", "path": path, "value": taint}),
            json!({"op": "remove", "path": path}),
        ]
    });
    steps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_taint_of_the_key_goes_whatever_its_effect_and_no_other() {
        let ours = json!({"key": "k", "effect": "NoSchedule"});
        let other = json!({"key": "k2", "effect": "NoSchedule"});
        let evicts = json!({"key": "k", "effect": "NoExecute", "value": "v"});
        let wanted = [
            json!({"op": "test", "path": "/spec/taints/2", "value": evicts}),
            json!({"op": "remove", "path": "/spec/taints/2"}),
            json!({"op": "test", "path": "/spec/taints/0", "value": ours}),
            json!({"op": "remove", "path": "/spec/taints/0"}),
        ];
        assert_eq!(steps(&[ours, other.clone(), evicts], "k"), wanted);
        assert!(steps(&[other], "k").is_empty());
    }
}
