//! Events on pods: what their owners can see of why there are no credentials.
//!
//! In `events.k8s.io/v1`, which is made for many writers: repeats are a count in
//! the event that is there (`series`), and the API server checks who reports
//! what. `kubectl describe pod` shows them like those of the older API.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::Instant;

use crate::apiserver::Client;
use crate::clock::Clock;
use crate::model::PodName;

mod bucket;
mod ledger;
mod writer;

pub use bucket::Rate;
use ledger::{Entry, Heard, Ledger, Subject};
use writer::Writer;

/// Events that wait for the API server. More are dropped: no request waits.
const QUEUE: usize = 64;

/// What happened to a pod: few, and stable, for those who alert on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing is declared for the pod's account.
    NoAssociation,
    /// AWS refuses the role.
    RoleRefused,
    /// AWS wants a token, and no pod of the account has shown one.
    NoToken,
    /// The role is beyond what the pod's account may use.
    RoleNotAllowed,
    /// What is declared for the pod's account cannot be used.
    BadAssociation,
    /// The session's tags and policy are more than STS takes.
    SessionTooLarge,
    /// The pod has not been given the environment that its SDKs need.
    NotInjected,
}

impl Reason {
    /// As it stands in the event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAssociation => "NoAssociation",
            Self::RoleRefused => "RoleRefused",
            Self::NoToken => "NoToken",
            Self::RoleNotAllowed => "RoleNotAllowed",
            Self::BadAssociation => "BadAssociation",
            Self::SessionTooLarge => "SessionTooLarge",
            Self::NotInjected => "NotInjected",
        }
    }
}

/// How much is written.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long repeats of an event are counted before the count is written.
    pub window: Duration,
    /// New events of one pod.
    pub pod: Rate,
    /// New events of all pods of the node.
    pub node: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: Duration::from_mins(10),
            pod: Rate::new(5, Duration::from_mins(2)),
            node: Rate::new(25, Duration::from_secs(5)),
        }
    }
}

/// Events by what became of them. Repeats that are only counted are in none.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// How many.
    pub events: Family<Labels, Counter>,
}

/// What tells them apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Labels {
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    /// The API server has it, or has its new count.
    Written,
    /// The pod, or the node, has had too many.
    Limited,
    /// Too many waited, or the API server took none just before.
    Dropped,
    /// The API server took it not.
    Failed,
}

impl Default for Metrics {
    /// With all outcomes at zero, as most stay.
    fn default() -> Self {
        let metrics = Self {
            events: Family::default(),
        };
        for outcome in [
            Outcome::Written,
            Outcome::Limited,
            Outcome::Dropped,
            Outcome::Failed,
        ] {
            drop(metrics.events.get_or_create(&Labels { outcome }));
        }
        metrics
    }
}

impl Metrics {
    fn count(&self, outcome: Outcome) {
        self.events.get_or_create(&Labels { outcome }).inc();
    }
}

/// Takes what is to be told. Cheap to clone.
#[derive(Clone)]
pub struct Notices {
    ledger: Arc<Mutex<Ledger>>,
    queue: Sender<Entry>,
    metrics: Metrics,
    clock: Clock,
}

impl Notices {
    /// What reports as this node, and the task that writes, for the life of the process.
    pub fn open(
        client: Client,
        node: &str,
        limits: Limits,
        metrics: Metrics,
        clock: Clock,
    ) -> (Self, BoxFuture<'static, &'static str>) {
        let ledger = Arc::new(Mutex::new(Ledger::new(limits)));
        let (queue, waiting) = mpsc::channel(QUEUE);
        let writer = Writer::new(client, node, Arc::clone(&ledger), waiting, metrics.clone());
        let notices = Self {
            ledger,
            queue,
            metrics,
            clock,
        };
        (notices, writer.run().boxed())
    }

    /// Has an event on this pod say `note`, which must hold no secret: who may
    /// read events reads it. Never waits; what is too much is not told.
    pub fn tell(&self, namespace: &str, pod: &PodName, reason: Reason, note: &str) {
        let subject = Subject {
            namespace: namespace.into(),
            pod: pod.clone(),
        };
        let (now, wall) = (Instant::now(), self.clock.now());
        let heard = lock(&self.ledger).hear(&subject, reason, note, now, wall);
        match heard {
            Heard::Repeat => {}
            Heard::Limited => self.metrics.count(Outcome::Limited),
            Heard::New(entry) => {
                if let Err(error) = self.queue.try_send(entry) {
                    self.metrics.count(Outcome::Dropped);
                    lock(&self.ledger).forget(&error.into_inner());
                }
            }
        }
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    // The worst that a panic under it leaves behind is a wrong count.
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
