//! What the front doors count.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::doors::{Door, Kind};
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
    pub latency: Family<DoorLabels, Histogram, fn() -> Histogram>,
    /// Connections that are open.
    pub open: Gauge,
    /// Connections that were closed unheard.
    pub refused: Family<RefusedLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY)),
            open: Gauge::default(),
            refused: Family::default(),
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The door that it came in by.
    pub door: Kind,
    /// The HTTP status code.
    pub code: u16,
    /// Why that one.
    pub reason: Reason,
}

/// Which door it is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DoorLabels {
    /// Its kind.
    pub door: Kind,
}

/// Why a connection was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusedLabels {
    /// The limit that was reached.
    pub limit: Limit,
}

/// The handles that requests use, the frequent ones looked up already.
pub(super) struct Counted {
    container: AtDoor,
    imds: AtDoor,
}

impl Counted {
    /// Those of `doors` begin at zero; of others nothing is to be seen.
    pub(super) fn new<'a>(metrics: &Metrics, doors: impl Iterator<Item = &'a Door>) -> Self {
        let counted = Self {
            container: AtDoor::new(Kind::Container, metrics.clone()),
            imds: AtDoor::new(Kind::Imds, metrics.clone()),
        };
        for door in doors {
            counted.of(door.kind()).good();
        }
        counted
    }

    pub(super) fn of(&self, door: Kind) -> &AtDoor {
        match door {
            Kind::Container => &self.container,
            Kind::Imds => &self.imds,
        }
    }
}

/// Those of one kind of door.
pub(super) struct AtDoor {
    door: Kind,
    metrics: Metrics,
    good: OnceLock<Good>,
}

struct Good {
    ok: Counter,
    latency: Histogram,
}

impl AtDoor {
    fn new(door: Kind, metrics: Metrics) -> Self {
        Self {
            door,
            metrics,
            good: OnceLock::new(),
        }
    }

    fn good(&self) -> &Good {
        let door = self.door;
        self.good.get_or_init(|| {
            let (code, reason) = (200, Reason::Ok);
            let of = RequestLabels { door, code, reason };
            let took = DoorLabels { door };
            Good {
                ok: self.metrics.requests.get_or_create_owned(&of),
                latency: self.metrics.latency.get_or_create_owned(&took),
            }
        })
    }

    pub(super) fn ok(&self, took: Duration) {
        let good = self.good();
        good.ok.inc();
        good.latency.observe(took.as_secs_f64());
    }

    pub(super) fn refused(&self, code: u16, reason: Reason, took: Duration) {
        self.count(code, reason);
        self.good().latency.observe(took.as_secs_f64());
    }

    /// A request that could not be read as one, so that it took no time either.
    pub(super) fn unparsed(&self, code: u16) {
        self.count(code, Reason::Unparsed);
    }

    fn count(&self, code: u16, reason: Reason) {
        let door = self.door;
        let labels = RequestLabels { door, code, reason };
        self.metrics.requests.get_or_create(&labels).inc();
    }
}
