//! Pods that were made without the environment that they should have: the leader
//! looks for them, tells their owners, and may have them made anew.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;
use tracing::{info, warn};

use super::knowledge::Knowledge;
use super::metrics::Metrics;
use crate::apiserver::{
    Again, Client, Follow, Keep, Limits, Lost, LostLabels, Object, Place, Reason, View,
};
use crate::events::{Notices, Reason as Told};
use crate::inject::{self, Settings, Spread};
use crate::model::{PodName, PodUid, ServiceAccount};

mod evict;

pub(super) use evict::{Evictor, Order};

/// A page of pods: some megabytes.
const PAGE: u32 = 500;

/// How often all pods are looked at: their accounts may have changed since.
const ROUND: Duration = Duration::from_mins(30);

/// Looks for missed pods.
#[derive(Clone)]
pub(super) struct Search {
    /// Lists pods.
    pub(super) client: Client,
    /// Says what their accounts are.
    pub(super) knowledge: Knowledge,
    /// Say what they should have.
    pub(super) settings: Settings,
    /// Tells their owners.
    pub(super) notices: Notices,
    /// Counts them.
    pub(super) metrics: Metrics,
    /// Has them evicted, if that is wanted.
    pub(super) orders: Option<Sender<Order>>,
}

/// A pod, whole: it is looked at once.
#[derive(Clone, Deserialize)]
#[serde(from = "Value")]
struct Pod {
    object: Value,
    version: String,
}

impl From<Value> for Pod {
    fn from(object: Value) -> Self {
        let version = object["metadata"]["resourceVersion"].as_str();
        Self {
            version: version.unwrap_or_default().to_owned(),
            object,
        }
    }
}

impl Object for Pod {
    fn version(&self) -> &str {
        &self.version
    }
}

impl Search {
    /// Looks for as long as this process leads.
    pub(super) async fn run(self) -> Infallible {
        self.knowledge.complete().await;
        let missed = Arc::default();
        let _reset = Reset(self.metrics.clone());
        loop {
            let keeper = Keeper {
                search: self.clone(),
                missed: Arc::clone(&missed),
                listed: HashSet::new(),
                lost: false,
            };
            let place = Place {
                path: "/api/v1/pods".to_owned(),
                // Those that have ended need nothing.
                fields: Some("status.phase!=Succeeded,status.phase!=Failed".to_owned()),
                labels: None,
                view: View::Whole,
            };
            let follow = Follow::new(self.client.clone(), place, Limits::default(), keeper);
            let Err(_elapsed) = timeout(ROUND, follow.paged(PAGE).run()).await;
        }
    }

    /// The containers that lack credentials they should have, and the pod's account;
    /// `None` if it lacks nothing, or nobody knows.
    fn lacks(&self, pod: &Value) -> Option<(ServiceAccount, Vec<String>)> {
        let metadata = &pod["metadata"];
        let has_ended = matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        );
        if has_ended || metadata.get("deletionTimestamp").is_some() {
            return None;
        }
        let namespace = metadata["namespace"].as_str()?;
        let account = ServiceAccount::new(namespace, inject::account(pod)).ok()?;
        let facts = self.knowledge.look(&account).ok()??;
        let annotations = facts.annotations();
        let decided = self
            .settings
            .decide(pod, annotations, facts.declared(), Spread::NONE);
        let injection = decided.ok()?;
        let bare: Vec<String> = injection.bare(pod).map(ToOwned::to_owned).collect();
        (!bare.is_empty()).then_some((account, bare))
    }

    fn tell(&self, pod: &Value, account: &ServiceAccount, bare: &[String]) {
        let metadata = &pod["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        let Some(uid) = uid(pod) else { return };
        let note = format!(
            "The service account {account} has a role, but nobody gave this pod's containers \
             ({}) the environment to ask for it: SDKs may use the node's role. The pod was made \
             before the role was declared, or while credlet's webhook did not answer. Make the \
             pod anew.",
            bare.join(", ")
        );
        let name = PodName {
            uid,
            name: name.into(),
        };
        self.notices
            .tell(account.namespace(), &name, Told::NotInjected, &note);
    }
}

/// Who does not lead says of no pod that it was missed.
struct Reset(Metrics);

impl Drop for Reset {
    fn drop(&mut self) {
        self.0.missed.set(0);
    }
}

/// What is known of pods.
struct Keeper {
    search: Search,
    /// Of which their owners know.
    missed: Arc<Mutex<HashSet<PodUid>>>,
    /// Those of the list that is under way.
    listed: HashSet<PodUid>,
    lost: bool,
}

/// By what a pod came to be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Change,
    List,
}

impl Keeper {
    /// Whether a pod is missed. Tells of one that was not known to be.
    fn judge(&self, pod: &Value, cause: Cause) -> bool {
        let (Some((account, bare)), Some(uid)) = (self.search.lacks(pod), uid(pod)) else {
            return false;
        };
        let is_old = self.with(|missed| missed.contains(&uid));
        match cause {
            Cause::Change if is_old => return true,
            // Again with each list: events end after an hour, and too many are dropped.
            Cause::Change | Cause::List => self.search.tell(pod, &account, &bare),
        }
        if let Some((orders, order)) = self.search.orders.as_ref().zip(Order::of(pod)) {
            // Those that do not fit come with the next list.
            let _ = orders.try_send(order);
        }
        true
    }

    fn look(&mut self, pods: Vec<Pod>) {
        for pod in pods {
            if self.judge(&pod.object, Cause::List) {
                self.listed.extend(uid(&pod.object));
            }
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashSet<PodUid>) -> T) -> T {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut missed);
        let count = i64::try_from(missed.len()).unwrap_or(i64::MAX);
        self.search.metrics.missed.set(count);
        done
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.lost) {
            info!(what = "pods", "a watch is back");
        }
    }
}

impl Keep for Keeper {
    type Object = Pod;

    fn page(&mut self, pods: Vec<Pod>) {
        self.look(pods);
    }

    fn replace(&mut self, pods: Vec<Pod>) {
        self.look(pods);
        let listed = std::mem::take(&mut self.listed);
        self.with(|missed| *missed = listed);
        self.recovered();
    }

    fn apply(&mut self, pod: Pod) {
        let Some(uid) = uid(&pod.object) else { return };
        if self.judge(&pod.object, Cause::Change) {
            self.with(|missed| missed.insert(uid));
        } else {
            self.with(|missed| missed.remove(&uid));
        }
    }

    fn remove(&mut self, pod: Pod) {
        if let Some(uid) = uid(&pod.object) {
            self.with(|missed| missed.remove(&uid));
        }
    }

    fn heard(&mut self) {
        self.recovered();
    }

    fn lost(&mut self, lost: &Lost) -> Again {
        self.listed.clear();
        let reason = lost.reason;
        let losses = &self.search.metrics.losses;
        losses.get_or_create(&LostLabels { reason }).inc();
        if reason != Reason::Ended && !std::mem::replace(&mut self.lost, true) {
            warn!(what = "pods", ?reason, why = lost.why, "a watch is lost");
        }
        Again::Soon
    }
}

fn uid(pod: &Value) -> Option<PodUid> {
    PodUid::new(pod["metadata"]["uid"].as_str()?).ok()
}
