//! The pod watch: Kubernetes -> index.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::Instant;
use tracing::{info, warn};

pub use self::fresh::Reader;
use self::wire::PodObject;
use super::pods::{Outcome, PodIndex, Report};
use super::{Known, Shared};
use crate::apiserver::{Again, Follow, Keep, Lost, Place, View};
pub use crate::apiserver::{Client, ConnectError, Limits, LostLabels, Reason, connect};

mod fresh;
mod wire;

/// What the watch counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Lists and watches that ended before their time.
    pub lost: Family<LostLabels, Counter>,
    /// Pods that were refused, or an address of theirs, each once for a reason.
    pub refused_pods: Counter,
}

/// Fills the index with the pods of the node `node`, for the life of the process.
pub(super) async fn run(
    client: Client,
    node: &str,
    limits: Limits,
    metrics: Metrics,
    shared: Arc<Shared>,
) -> Infallible {
    let place = Place {
        path: "/api/v1/pods".to_owned(),
        fields: Some(format!("spec.nodeName={node}")),
        labels: None,
        view: View::Whole,
    };
    let writer = Writer {
        metrics,
        shared,
        health: Health::Well,
    };
    Follow::new(client, place, limits, writer).run().await
}

/// The one writer of the index.
struct Writer {
    metrics: Metrics,
    shared: Arc<Shared>,
    health: Health,
}

/// Whether the last thing to log was good or bad.
enum Health {
    Well,
    Lost,
}

impl Keep for Writer {
    type Object = PodObject;

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

    fn apply(&mut self, pod: PodObject) {
        self.change(pod.report, PodIndex::apply);
    }

    fn remove(&mut self, pod: PodObject) {
        self.change(pod.report, PodIndex::remove);
    }

    fn heard(&mut self) {
        self.publish(|_| ());
        self.recovered();
    }

    fn lost(&mut self, lost: &Lost) -> Again {
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
        Again::Soon
    }
}

impl Writer {
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

    fn recovered(&mut self) {
        if let Health::Lost = self.health {
            info!("the pod watch is back");
            self.health = Health::Well;
        }
    }
}
