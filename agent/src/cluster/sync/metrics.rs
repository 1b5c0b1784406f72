//! What `credlet sync` counts, under its names.

use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::board;
use super::mirror;
use super::mirrored::Feed;
use crate::apiserver::Losses;
use crate::aws;

/// The counters. Clones count together.
#[derive(Clone, Default)]
pub(super) struct Metrics {
    /// Calls to EKS.
    pub(super) aws: aws::Metrics,
    /// Lists and watches of the API server's.
    pub(super) losses: Losses,
    writes: Family<WriteLabels, Counter>,
}

/// What is asked of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Verb {
    /// A new object.
    Create,
    /// A change.
    Replace,
    /// An end.
    Delete,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Well.
    Ok,
    /// Somebody else was faster.
    Overtaken,
    /// Not, and why.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    verb: Verb,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FeedLabels {
    feed: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

impl Metrics {
    /// One write.
    pub(super) fn count(&self, verb: Verb, written: &Written) {
        let outcome = match written {
            Written::Ok => "Ok",
            Written::Overtaken => "Overtaken",
            Written::Failed(_) => "Failed",
        };
        let labels = WriteLabels { verb, outcome };
        self.writes.get_or_create(&labels).inc();
    }
}

/// What is looked up when somebody asks.
pub(super) struct Look<'a> {
    /// Whether this process leads.
    pub(super) leads: bool,
    /// How the feeds do.
    pub(super) feeds: &'a [(Feed, board::Standing)],
    /// How the objects are.
    pub(super) objects: &'a mirror::Standing,
    /// The time.
    pub(super) now: SystemTime,
}

/// Everything under its name.
pub(super) struct Names {
    registry: Registry,
    leads: Gauge,
    associations: Family<FeedLabels, Gauge>,
    unusable: Family<FeedLabels, Gauge>,
    age: Family<FeedLabels, Gauge<f64, AtomicU64>>,
    objects: Family<StateLabels, Gauge>,
}

impl Names {
    /// Names everything.
    pub(super) fn new(metrics: Metrics) -> Self {
        let Metrics {
            aws,
            losses,
            writes,
        } = metrics;
        let mut registry = Registry::with_prefix("credlet");
        let names = Self {
            registry: Registry::default(),
            leads: Gauge::default(),
            associations: Family::default(),
            unusable: Family::default(),
            age: Family::default(),
            objects: Family::default(),
        };
        let it = &mut registry;
        it.register(
            "sync_leads",
            "1 while this process is the one that mirrors",
            names.leads.clone(),
        );
        it.register(
            "sync_associations",
            "Associations that were listed last by feed",
            names.associations.clone(),
        );
        it.register(
            "sync_unusable",
            "Associations that cannot be mirrored, or not be described, by feed",
            names.unusable.clone(),
        );
        it.register_with_unit(
            "sync_list_age",
            "Time since all associations were last listed by feed",
            Unit::Seconds,
            names.age.clone(),
        );
        it.register(
            "sync_objects",
            "Associations by whether the cluster has them",
            names.objects.clone(),
        );
        it.register(
            "sync_writes",
            "Writes to the API server by verb and outcome",
            writes,
        );
        it.register(
            "sync_watch_lost",
            "Lists and watches of the API server's that ended before their time by reason",
            losses,
        );
        aws.register(it);
        it.register(
            "build",
            "The version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        Self { registry, ..names }
    }

    /// The `OpenMetrics` text, as things stand.
    pub(super) fn render(&self, look: &Look<'_>) -> String {
        let Look {
            leads,
            feeds,
            objects,
            now,
        } = look;
        self.leads.set((*leads).into());
        for (feed, standing) in *feeds {
            let labels = FeedLabels {
                feed: feed.to_string(),
            };
            let set = |family: &Family<FeedLabels, Gauge>, value| {
                family.get_or_create(&labels).set(count(value));
            };
            set(&self.associations, standing.associations);
            set(&self.unusable, standing.unusable.len());
            let age = standing
                .listed_at
                .and_then(|at| now.duration_since(at).ok());
            if let Some(age) = age {
                self.age.get_or_create(&labels).set(age.as_secs_f64());
            }
        }
        for (state, value) in [
            ("Mirrored", objects.mirrored),
            ("Waiting", objects.waiting),
            ("Shadowed", objects.shadowed),
            ("Failed", objects.failed),
        ] {
            let labels = StateLabels { state };
            self.objects.get_or_create(&labels).set(count(value));
        }
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a String takes what is written");
        out
    }
}

fn count(things: usize) -> i64 {
    i64::try_from(things).unwrap_or(i64::MAX)
}
