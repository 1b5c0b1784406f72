//! The pod watch: Kubernetes -> index.
//!
//! A plain list and then a watch that resumes where it stopped. The list asks
//! for no pages and for the latest state: since Kubernetes 1.31 that is served
//! from the API server's cache by its index of nodes, whereas a `limit` sends
//! each agent's list to etcd, through the pods of the whole cluster
//! (`shouldDelegateList` in k8s.io/apiserver's cacher). Streaming lists would
//! need less memory still, but servers before 1.34 refuse them here and there.
//!
//! `kube::runtime::watcher` is not used: it keeps bookmarks to itself, asks for
//! the same version for ever when that is answered with the HTTP status 410,
//! and waits without limit for a list that stalls.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use kube::core::params::{ListParams, WatchParams};
use kube::core::{ObjectList, WatchEvent};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

pub use self::connect::{ConnectError, connect};
pub use self::fresh::Reader;
use self::lost::{Lost, Next};
pub use self::lost::{LostLabels, Reason};
use self::wire::{PodObject, pods};
use super::backoff::Backoff;
use super::pods::{Outcome, PodIndex, Report};
use super::{Known, Shared};

mod connect;
mod fresh;
mod lost;
mod wire;

/// The API server, as far as the rooms that pass it on need to know.
pub use kube::Client;

/// How long the watch waits for the API server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a whole list, and for a watch to open.
    pub answer: Duration,
    /// For the next event or bookmark, before the connection counts as dead
    /// and the watch resumes on another. API servers bookmark about once a
    /// minute (`bookmarkFrequency` in k8s.io/apiserver's cacher).
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(150),
        }
    }
}

/// What the watch counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Lists and watches that ended before their time.
    pub lost: Family<LostLabels, Counter>,
    /// Pods that were refused, or an address of theirs, each once for a reason.
    pub refused_pods: Counter,
}

/// The one writer of the index.
pub struct Watch {
    client: Client,
    /// The field selector for the pods of this node.
    fields: String,
    limits: Limits,
    metrics: Metrics,
    shared: Arc<Shared>,
    health: Health,
    backoff: Backoff,
}

/// Whether the last thing to log was good or bad.
enum Health {
    Well,
    Lost,
}

impl Watch {
    /// Fills the index with the pods of the node `node`.
    pub(super) fn new(
        client: Client,
        node: &str,
        limits: Limits,
        metrics: Metrics,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            client,
            fields: format!("spec.nodeName={node}"),
            limits,
            metrics,
            shared,
            health: Health::Well,
            backoff: Backoff::default(),
        }
    }

    /// Follows the API server for the life of the process, whatever it does.
    pub async fn run(mut self) -> Infallible {
        let mut next = Next::List;
        loop {
            let lost = match next {
                Next::List => match self.list().await {
                    Ok(version) => self.follow(version).await,
                    Err(lost) => lost,
                },
                Next::Resume(version) => self.follow(version).await,
            };
            self.report(&lost);
            sleep(self.backoff.next()).await;
            next = lost.next;
        }
    }

    /// Replaces the index by a full list, as of the version that it returns.
    async fn list(&mut self) -> Result<String, Lost> {
        let params = ListParams::default().fields(&self.fields);
        let request = pods().list(&params).expect("a node's name fits a query");
        let text = self.answer(self.client.request_text(request)).await?;
        let list: ObjectList<PodObject> = serde_json::from_str(&text)
            .map_err(|_| Lost::new(Reason::Garbled, "the answer is no list of pods"))?;
        drop(text);
        let version = list.metadata.resource_version.unwrap_or_default();
        let is_part = list.metadata.continue_.is_some_and(|it| !it.is_empty());
        if version.is_empty() || is_part {
            let why = "the list has no version, or is only a part";
            return Err(Lost::new(Reason::Garbled, why));
        }
        self.replace(list.items);
        Ok(version)
    }

    /// Applies what happens after `version`, until the watch is lost.
    async fn follow(&mut self, mut version: String) -> Lost {
        loop {
            let from = version.clone();
            if let Err(lost) = self.follow_once(&mut version).await {
                return lost.resume_at(version);
            }
            // The server ends every watch after some minutes. One that said
            // nothing may be the first of many, so the next one is not hurried.
            if version == from {
                return Lost::new(Reason::Ended, "the watch ended early").resume_at(version);
            }
        }
    }

    /// One watch, which the server ended well, or not.
    async fn follow_once(&mut self, version: &mut String) -> Result<(), Lost> {
        let params = WatchParams::default().fields(&self.fields);
        let request = pods()
            .watch(&params, version)
            .expect("a node's name and a version fit a query");
        let opening = self.client.request_events::<PodObject>(request);
        let events = self.answer(opening).await?;
        pin_mut!(events);
        loop {
            let Ok(event) = timeout(self.limits.silence, events.next()).await else {
                return Err(Lost::silent(self.limits.silence));
            };
            let Some(event) = event else {
                return Ok(());
            };
            let at = match event? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    self.change(pod.report, PodIndex::apply);
                    pod.version
                }
                WatchEvent::Deleted(pod) => {
                    self.change(pod.report, PodIndex::remove);
                    pod.version
                }
                WatchEvent::Bookmark(bookmark) => bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(status.into()),
            };
            if at.is_empty() {
                return Err(Lost::new(Reason::Garbled, "an event without a version"));
            }
            *version = at;
            self.backoff = Backoff::default();
            self.publish(|_| ());
            self.recovered();
        }
    }

    /// The server's answer, in time.
    async fn answer<T>(&self, answer: impl Future<Output = kube::Result<T>>) -> Result<T, Lost> {
        match timeout(self.limits.answer, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Lost::silent(self.limits.answer)),
        }
    }

    fn replace(&mut self, pods: Vec<PodObject>) {
        let mut index = PodIndex::default();
        let mut flawed = Vec::new();
        for pod in pods {
            let name = (pod.report.namespace.clone(), pod.report.name.clone());
            if let Outcome::Flawed(flaw) = index.apply(pod.report) {
                flawed.push((name, flaw));
            }
        }
        let count = index.len();
        let before = self.publish(|known| {
            if let Some(before) = &known.pods {
                index.succeed(before);
            }
            known.pods.replace(index)
        });
        for ((namespace, name), flaw) in flawed {
            let is_old = |before: &PodIndex| before.agrees_on_flaw(&namespace, &name, flaw);
            if !before.as_ref().is_some_and(is_old) {
                self.refused(&namespace, &name, &flaw);
            }
        }
        self.shared.changed();
        if before.is_none() {
            info!(pods = count, "the pods of this node are known");
        }
        self.recovered();
    }

    fn change(&self, report: Report, change: impl FnOnce(&mut PodIndex, Report) -> Outcome) {
        let (namespace, name) = (report.namespace.clone(), report.name.clone());
        let apply = |known: &mut Known| {
            let index = known.pods.as_mut().expect("a watch begins with a list");
            change(index, report)
        };
        match self.publish(apply) {
            Outcome::Same => return,
            Outcome::Changed => {}
            Outcome::Flawed(flaw) => self.refused(&namespace, &name, &flaw),
        }
        self.shared.changed();
    }

    fn publish<T>(&self, publish: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.shared.write();
        known.heard = Some(Instant::now());
        publish(&mut known)
    }

    fn refused(&self, namespace: &str, name: &str, why: &dyn fmt::Display) {
        self.metrics.refused_pods.inc();
        warn!(namespace, pod = name, %why, "a pod, or an address of it, is refused");
    }

    fn report(&mut self, lost: &Lost) {
        let reason = lost.reason;
        self.metrics
            .lost
            .get_or_create(&LostLabels { reason })
            .inc();
        if reason != Reason::Ended && matches!(self.health, Health::Well) {
            warn!(
                ?reason,
                why = lost.why,
                "the pod watch is lost; what it said last holds"
            );
            self.health = Health::Lost;
        }
    }

    fn recovered(&mut self) {
        if let Health::Lost = self.health {
            info!("the pod watch is back");
            self.health = Health::Well;
        }
    }
}
