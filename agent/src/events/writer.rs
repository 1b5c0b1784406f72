//! From the ledger to the API server, one event at a time.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use kube::core::Request;
use kube::core::params::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::ledger::{Entry, Ledger, What};
use super::{Metrics, Outcome, lock};
use crate::apiserver::Client;
use crate::causes::causes;

/// Who reports.
const CONTROLLER: &str = "credlet";

/// What was being done, as the API wants to be told.
const ACTION: &str = "ServeCredentials";

/// How long the API server may take for one event.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long nothing is written after a failure: twice as long after each in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_mins(5);

/// What the API server takes of the reporting instance, in bytes.
const LONGEST_INSTANCE: usize = 128;

/// The cause of a 403 where the namespace is being deleted (`NamespaceTerminatingCause`).
const NAMESPACE_ENDS: &str = "NamespaceTerminating";

/// The one task that writes.
pub(super) struct Writer {
    client: Client,
    instance: String,
    ledger: Arc<Mutex<Ledger>>,
    waiting: Receiver<Entry>,
    metrics: Metrics,
    standing: Standing,
}

enum Standing {
    Well,
    /// Until then what comes is dropped.
    Failing {
        until: Instant,
        pause: Duration,
    },
}

/// What a failure says of the events after it.
enum Failure {
    /// Nothing: the API server would not have this one.
    OfOne,
    /// They would fail, too.
    OfAll(String),
}

impl Failure {
    fn of(error: &kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            // Else whoever has a namespace that does not end keeps the node silent.
            let mut reasons = status.details.iter().flat_map(|it| &it.causes);
            let is_ending = reasons.any(|it| it.reason == NAMESPACE_ENDS);
            if is_ending || matches!(status.code, 400 | 404 | 409 | 422) {
                return Self::OfOne;
            }
        }
        Self::OfAll(causes(error))
    }
}

impl Writer {
    pub(super) fn new(
        client: Client,
        node: &str,
        ledger: Arc<Mutex<Ledger>>,
        waiting: Receiver<Entry>,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            instance: node[..node.floor_char_boundary(LONGEST_INSTANCE)].to_owned(),
            ledger,
            waiting,
            metrics,
            standing: Standing::Well,
        }
    }

    pub(super) async fn run(mut self) -> &'static str {
        loop {
            let next_due = lock(&self.ledger).next_due();
            let due = async {
                match next_due {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                entry = self.waiting.recv() => match entry {
                    Some(entry) => self.take(entry).await,
                    None => return "nobody has anything to tell any more",
                },
                () = due => {
                    let entries = lock(&self.ledger).due(Instant::now());
                    for entry in entries {
                        self.take(entry).await;
                    }
                }
            }
        }
    }

    async fn take(&mut self, entry: Entry) {
        let outcome = match self.standing {
            Standing::Failing { until, .. } if Instant::now() < until => Outcome::Dropped,
            Standing::Failing { .. } | Standing::Well => match self.write(&entry).await {
                Ok(()) => {
                    self.recovered();
                    Outcome::Written
                }
                Err(Failure::OfOne) => Outcome::Failed,
                Err(Failure::OfAll(why)) => {
                    self.failed(&why);
                    Outcome::Failed
                }
            },
        };
        match outcome {
            Outcome::Written => {}
            Outcome::Limited | Outcome::Dropped | Outcome::Failed => {
                lock(&self.ledger).forget(&entry);
            }
        }
        self.metrics.count(outcome);
    }

    async fn write(&self, entry: &Entry) -> Result<(), Failure> {
        let namespace = &entry.tale.subject.namespace;
        let folder = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let folder = Request::new(folder);
        let request = match entry.what {
            What::First { at } => {
                let event = first(entry, &self.instance, at).to_string();
                folder.create(&PostParams::default(), event.into_bytes())
            }
            What::Series { count, last } => {
                let series = json!({"series": {"count": count, "lastObservedTime": micros(last)}});
                folder.patch(&entry.name, &PatchParams::default(), &Patch::Merge(series))
            }
        };
        let request = request.expect("a namespace and an event's own name fit a path");
        match timeout(PATIENCE, self.client.request_text(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Err(_) => Err(Failure::OfAll(format!("no answer for {PATIENCE:?}"))),
        }
    }

    fn failed(&mut self, why: &str) {
        let pause = match self.standing {
            Standing::Well => {
                warn!(
                    why,
                    "an event on a pod could not be written; nothing else depends on it"
                );
                FIRST_PAUSE
            }
            Standing::Failing { pause, .. } => (pause * 2).min(LAST_PAUSE),
        };
        let until = Instant::now() + pause;
        self.standing = Standing::Failing { until, pause };
    }

    fn recovered(&mut self) {
        if let Standing::Failing { .. } = self.standing {
            info!("events on pods are written again");
            self.standing = Standing::Well;
        }
    }
}

/// The event as it is written first.
fn first(entry: &Entry, instance: &str, at: SystemTime) -> Value {
    let tale = &entry.tale;
    let (namespace, pod) = (&*tale.subject.namespace, &tale.subject.pod);
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": namespace, "name": &*entry.name},
        "eventTime": micros(at),
        "type": "Warning",
        "reason": tale.reason.as_str(),
        "action": ACTION,
        "note": &*tale.note,
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": namespace,
            "name": &*pod.name,
            "uid": pod.uid.to_string(),
        },
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
    })
}

/// As Kubernetes writes a `MicroTime`.
fn micros(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::MAX);
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
