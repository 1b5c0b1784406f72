//! Eviction of missed pods, slowly, and of no pod whose successor would be missed, too.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use kube::core::Request;
use kube::core::params::PostParams;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::apiserver::Client;
use crate::causes::causes;
use crate::clock::Clock;
use crate::cluster::webhook::metrics::Metrics;

/// How long after one the next pod is evicted.
const EVERY: Duration = Duration::from_secs(5);

/// How long an owner is left alone whose new pods are missed like its old ones.
const REST: Duration = Duration::from_hours(1);

const PATIENCE: Duration = Duration::from_secs(10);

/// Orders that wait. More come again with the next list.
const QUEUE: usize = 256;

/// Who makes another pod for one that is evicted, and loses nothing by it but time.
const OWNERS: [&str; 4] = [
    "DaemonSet",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
];

/// A pod that is to be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster::webhook) struct Order {
    namespace: String,
    name: String,
    uid: String,
    owner: String,
    made: Timestamp,
}

impl Order {
    /// For a pod that somebody makes anew.
    pub(in crate::cluster::webhook) fn of(pod: &Value) -> Option<Self> {
        let metadata = &pod["metadata"];
        let text = |field: &str| metadata[field].as_str().map(ToOwned::to_owned);
        let mut owners = metadata["ownerReferences"].as_array()?.iter();
        let owner = owners.find(|owner| owner["controller"] == true)?;
        let kind = owner["kind"].as_str()?;
        OWNERS.contains(&kind).then_some(())?;
        Some(Self {
            namespace: text("namespace")?,
            name: text("name")?,
            uid: text("uid")?,
            owner: owner["uid"].as_str()?.to_owned(),
            made: text("creationTimestamp")?.parse().ok()?,
        })
    }
}

/// When an owner's pod was evicted last. No I/O.
#[derive(Debug, Default)]
struct Owners(HashMap<String, SystemTime>);

impl Owners {
    /// Whether a pod may be evicted. Not one that was made after another of its
    /// owner's was evicted: so would the next be.
    fn allow(&mut self, order: &Order, now: SystemTime) -> bool {
        let is_recent = |at: &SystemTime| now.duration_since(*at).is_ok_and(|it| it < REST);
        self.0.retain(|_, at| is_recent(at));
        let made = SystemTime::from(order.made);
        self.0.get(&order.owner).is_none_or(|at| made < *at)
    }

    fn evicted(&mut self, order: &Order, now: SystemTime) {
        // The API server's times have no fractions: what it made in this second
        // was made before.
        let at = now + Duration::from_secs(1);
        self.0.entry(order.owner.clone()).or_insert(at);
    }
}

/// Carries out orders.
pub(in crate::cluster::webhook) struct Evictor {
    client: Client,
    clock: Clock,
    metrics: Metrics,
    orders: Receiver<Order>,
    owners: Owners,
}

impl Evictor {
    /// Evicts whatever is ordered.
    pub(in crate::cluster::webhook) fn new(
        client: Client,
        clock: Clock,
        metrics: Metrics,
    ) -> (Sender<Order>, Self) {
        let (sender, orders) = mpsc::channel(QUEUE);
        let evictor = Self {
            client,
            clock,
            metrics,
            orders,
            owners: Owners::default(),
        };
        (sender, evictor)
    }

    /// Evicts one pod after the other.
    pub(in crate::cluster::webhook) async fn run(mut self) -> &'static str {
        while let Some(order) = self.orders.recv().await {
            let now = self.clock.now();
            let (namespace, pod) = (&*order.namespace, &*order.name);
            if !self.owners.allow(&order, now) {
                self.metrics.evicted("hopeless");
                warn!(
                    namespace,
                    pod, "made anew, the pod was missed again: it stays"
                );
                continue;
            }
            match self.evict(&order).await {
                Ok(()) => {
                    self.metrics.evicted("evicted");
                    info!(
                        namespace,
                        pod, "evicted: it was made without its environment"
                    );
                    self.owners.evicted(&order, now);
                }
                Err(why) => {
                    self.metrics.evicted("refused");
                    warn!(namespace, pod, why, "a pod was not evicted");
                }
            }
            sleep(EVERY).await;
        }
        "nobody orders evictions any more"
    }

    async fn evict(&self, order: &Order) -> Result<(), String> {
        let folder = format!(
            "/api/v1/namespaces/{}/pods/{}/eviction",
            order.namespace, order.name
        );
        let eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"namespace": order.namespace, "name": order.name},
            "deleteOptions": {"preconditions": {"uid": order.uid}},
        });
        let eviction = eviction.to_string().into_bytes();
        let request = Request::new(folder).create(&PostParams::default(), eviction);
        let request = request.expect("names of objects fit a path");
        match timeout(PATIENCE, self.client.request_text(request)).await {
            Ok(Ok(_)) => Ok(()),
            // Gone by itself, or another by its name.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(()),
            Ok(Err(error)) => Err(causes(&error)),
            Err(_) => Err(format!("no answer for {PATIENCE:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(kind: &str, made: &str) -> Value {
        json!({"metadata": {
            "namespace": "shop", "name": "cart-1", "uid": "1", "creationTimestamp": made,
            "ownerReferences": [{"kind": kind, "uid": "o", "controller": true}],
        }})
    }

    #[test]
    fn only_pods_that_a_controller_makes_anew_are_evicted() {
        let made = "2026-11-25T12:00:00Z";
        for kind in OWNERS {
            assert!(Order::of(&pod(kind, made)).is_some(), "{kind}");
        }
        assert_eq!(Order::of(&pod("Job", made)), None);
        let mut bare = pod("ReplicaSet", made);
        bare["metadata"]["ownerReferences"][0]["controller"] = false.into();
        assert_eq!(Order::of(&bare), None);
        bare["metadata"]["ownerReferences"] = Value::Null;
        assert_eq!(Order::of(&bare), None);
    }

    #[test]
    fn a_pod_made_after_its_owner_s_eviction_stays_for_an_hour() {
        let at = |text: &str| SystemTime::from(text.parse::<Timestamp>().expect("a time"));
        let order = |made| Order::of(&pod("ReplicaSet", made)).expect("an order");
        let mut owners = Owners::default();
        let old = order("2026-11-25T12:00:00Z");
        let now = at("2026-11-25T12:30:00Z");
        assert!(owners.allow(&old, now));
        owners.evicted(&old, now);
        // The others that were missed with it may go, too.
        assert!(owners.allow(&old, now + Duration::from_secs(5)));
        let new = order("2026-11-25T12:30:02Z");
        assert!(!owners.allow(&new, now + Duration::from_secs(5)));
        assert!(owners.allow(&new, now + REST + Duration::from_secs(2)));
    }
}
