//! What the front doors count.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::guests::Limit;
use super::wire::Reason;

/// Upper bounds in seconds: from a hit in the cache to the last answer in time.
const LATENCY: [f64; 12] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0,
];

/// The counters; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Answered requests.
    pub requests: Family<RequestLabels, Counter>,
    /// From a request's head to its answer's, in seconds.
    pub latency: Histogram,
    /// Connections that are open.
    pub open: Gauge,
    /// Connections that were closed unheard.
    pub refused: Family<RefusedLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            latency: Histogram::new(LATENCY),
            open: Gauge::default(),
            refused: Family::default(),
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The HTTP status code.
    pub code: u16,
    /// Why that one.
    pub reason: Reason,
}

/// Why a connection was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusedLabels {
    /// The limit that was reached.
    pub limit: Limit,
}

/// The handles that requests use, the frequent one looked up already.
pub(super) struct Counted {
    metrics: Metrics,
    ok: Counter,
}

impl Counted {
    pub(super) fn new(metrics: Metrics) -> Self {
        let ok = metrics.requests.get_or_create_owned(&RequestLabels {
            code: 200,
            reason: Reason::Ok,
        });
        Self { metrics, ok }
    }

    pub(super) fn ok(&self, took: Duration) {
        self.ok.inc();
        self.metrics.latency.observe(took.as_secs_f64());
    }

    pub(super) fn refused(&self, code: u16, reason: Reason, took: Duration) {
        let labels = RequestLabels { code, reason };
        self.metrics.requests.get_or_create(&labels).inc();
        self.metrics.latency.observe(took.as_secs_f64());
    }

    /// A request that could not be read as one, so that it took no time either.
    pub(super) fn unparsed(&self, code: u16) {
        let reason = Reason::Unparsed;
        let labels = RequestLabels { code, reason };
        self.metrics.requests.get_or_create(&labels).inc();
    }
}
