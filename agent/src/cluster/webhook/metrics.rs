//! What the webhook counts, and under which names.

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::apiserver::Losses;
use crate::{aws, events};

/// Upper bounds in seconds: from one that needs nothing to one that the API server gives up.
const LATENCY: [f64; 10] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.1, 1.0, 5.0,
];

/// The counters; clones count together.
#[derive(Clone)]
pub(super) struct Metrics {
    /// Reviews by their outcome.
    pub(super) reviews: Family<Outcome, Counter>,
    /// From a review's head to its answer, in seconds.
    pub(super) seconds: Histogram,
    /// Connections that are open.
    pub(super) connections: Gauge,
    /// Pods that have the environment of nobody; of the leader alone.
    pub(super) missed: Gauge,
    /// Missed pods that were evicted, or were not, by outcome.
    pub(super) evictions: Family<Outcome, Counter>,
    /// Whether this replica leads.
    pub(super) leads: Gauge,
    /// Whether there is a certificate that is served.
    pub(super) certificate: Gauge,
    /// Lists and watches that ended before their time.
    pub(super) losses: Losses,
    /// Events on pods.
    pub(super) events: events::Metrics,
    /// Calls to AWS.
    pub(super) aws: aws::Metrics,
}

/// How something ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Outcome {
    /// In one word.
    pub(super) outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reviews: Family::default(),
            seconds: Histogram::new(LATENCY),
            connections: Gauge::default(),
            missed: Gauge::default(),
            evictions: Family::default(),
            leads: Gauge::default(),
            certificate: Gauge::default(),
            losses: Losses::default(),
            events: events::Metrics::default(),
            aws: aws::Metrics::default(),
        }
    }
}

impl Metrics {
    /// Counts a review.
    pub(super) fn reviewed(&self, outcome: &'static str) {
        self.reviews.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts an eviction.
    pub(super) fn evicted(&self, outcome: &'static str) {
        self.evictions.get_or_create(&Outcome { outcome }).inc();
    }

    /// Everything under its name.
    pub(super) fn registry(&self) -> Registry {
        let mut root = Registry::with_prefix("credlet");
        let it = root.sub_registry_with_prefix("webhook");
        let reviews = "Reviews of pods by outcome";
        it.register("reviews", reviews, self.reviews.clone());
        it.register_with_unit(
            "review",
            "Time from a review's head to its answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
        it.register(
            "connections",
            "Connections that are open",
            self.connections.clone(),
        );
        it.register(
            "pods_missed",
            "Pods whose account has a role and that use AWS's SDK environment of nobody; 0 unless this replica leads",
            self.missed.clone(),
        );
        it.register(
            "evictions",
            "Evictions of missed pods by outcome",
            self.evictions.clone(),
        );
        it.register("leads", "1 if this replica leads", self.leads.clone());
        it.register(
            "certificate",
            "1 if there is a certificate to serve",
            self.certificate.clone(),
        );
        it.register(
            "watch_lost",
            "Lists and watches that ended before their time by reason",
            self.losses.clone(),
        );
        root.register(
            "events",
            "Events on pods by what became of them",
            self.events.events.clone(),
        );
        self.aws.register(&mut root);
        root
    }
}

/// As the `OpenMetrics` text format has it.
pub(super) fn render(registry: &Registry) -> String {
    let mut out = String::new();
    text::encode(&mut out, registry).expect("a string takes everything");
    out
}
