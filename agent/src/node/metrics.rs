//! `/metrics`: the one place where metrics have names.
//!
//! Rooms count what happens; what can be read off their state is read when
//! somebody asks.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::counters::Counters;
use super::rooms::Rooms;
use crate::associations::eks::Eks;
use crate::associations::file::File;
use crate::identity;

/// Everything under its name.
pub(super) struct Metrics {
    registry: Registry,
    rooms: Arc<Rooms>,
    gauges: Gauges,
}

#[derive(Default)]
struct Gauges {
    pods: Gauge,
    watch_age: Seconds,
    paths: Family<StateLabels, Gauge>,
    keys_age: Seconds,
    association_age: Seconds,
    lists: Family<ListLabels, Gauge>,
    association_file_outdated: Gauge,
    credentials: Family<StateLabels, Gauge>,
    shortest: Seconds,
}

/// Whole seconds would hide a watch that stutters.
type Seconds = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListLabels {
    source: &'static str,
    state: &'static str,
}

impl Metrics {
    /// Names everything.
    pub(super) fn new(counters: Counters, rooms: Arc<Rooms>) -> Self {
        let Counters {
            serve,
            aws,
            identity,
            association_watches_lost,
            events,
            network_repairs,
        } = counters;
        let gauges = Gauges::default();
        let mut root = Registry::with_prefix("credlet");
        let it = &mut root;

        it.register(
            "requests",
            "Requests to the front doors by status code and reason",
            serve.requests,
        );
        it.register_with_unit(
            "request",
            "Time from a request's head to its answer",
            Unit::Seconds,
            serve.latency,
        );
        it.register(
            "connections",
            "Connections to the front doors that are open",
            serve.open,
        );
        it.register(
            "connections_refused",
            "Connections closed unheard by the limit that was reached",
            serve.refused,
        );
        aws.register(it);
        it.register(
            "credentials",
            "Sessions that are kept by state",
            gauges.credentials.clone(),
        );
        it.register_with_unit(
            "credentials_shortest",
            "Time left of the session that ends first",
            Unit::Seconds,
            gauges.shortest.clone(),
        );
        name_identity(it, identity, &gauges);
        it.register_with_unit(
            "association_age",
            "Age of the oldest association from EKS in use",
            Unit::Seconds,
            gauges.association_age.clone(),
        );
        it.register(
            "association_lists",
            "Lists of where associations are declared by source and state",
            gauges.lists.clone(),
        );
        it.register(
            "association_watch_lost",
            "Lists and watches of associations that ended before their time by reason",
            association_watches_lost,
        );
        it.register(
            "association_file_outdated",
            "1 while the association file cannot be used, so that an older content is",
            gauges.association_file_outdated.clone(),
        );
        it.register(
            "events",
            "Events on pods by what became of them; repeats that are only counted are in none",
            events.events,
        );
        it.register(
            "network_repairs",
            "Repairs of the node's link and addresses",
            network_repairs,
        );
        it.register(
            "build",
            "The agent's version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        Self {
            registry: root,
            rooms,
            gauges,
        }
    }

    /// The `OpenMetrics` text, as things stand now.
    pub(super) fn render(&self) -> String {
        self.look();
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a String takes what is written");
        out
    }

    fn look(&self) {
        let Rooms {
            clock,
            identity,
            eks,
            file,
            crd,
            annotation,
            vault,
            broker: _,
        } = &*self.rooms;
        let gauges = &self.gauges;
        let age = |since: Option<SystemTime>| {
            let age = since.and_then(|since| clock.now().duration_since(since).ok());
            age.unwrap_or_default().as_secs_f64()
        };
        gauges.pods.set(count(identity.pods().unwrap_or_default()));
        gauges
            .watch_age
            .set(identity.watch_age().unwrap_or_default().as_secs_f64());
        let identity::paths::Counts {
            known,
            hidden,
            unconfirmed,
        } = identity.paths();
        set_states(
            &gauges.paths,
            [
                ("Known", known),
                ("Hidden", hidden),
                ("Unconfirmed", unconfirmed),
            ],
        );
        gauges
            .keys_age
            .set(identity.keys_age().unwrap_or_default().as_secs_f64());
        gauges
            .association_age
            .set(age(eks.as_ref().and_then(Eks::oldest)));
        let outdated = file.as_ref().is_some_and(File::is_outdated);
        gauges.association_file_outdated.set(outdated.into());

        let crd = crd.as_ref().map(|it| ("crd", it.standing()));
        let annotation = annotation.as_ref().map(|it| ("annotation", it.standing()));
        for (source, standing) in crd.into_iter().chain(annotation) {
            for (state, lists) in [
                ("Known", standing.known),
                ("Absent", standing.absent),
                ("Unknown", standing.unknown),
            ] {
                let labels = ListLabels { source, state };
                gauges.lists.get_or_create(&labels).set(count(lists));
            }
        }

        let standing = vault.standing();
        set_states(
            &gauges.credentials,
            [
                ("Pending", standing.pending),
                ("Fresh", standing.fresh),
                ("Stale", standing.stale),
                ("Failed", standing.failed),
            ],
        );
        gauges
            .shortest
            .set(standing.shortest.unwrap_or_default().as_secs_f64());
    }
}

/// Who is calling.
fn name_identity(it: &mut Registry, counters: identity::Metrics, gauges: &Gauges) {
    let identity::Metrics {
        pods,
        paths,
        tokens,
    } = counters;
    it.register(
        "pods",
        "Pods of this node that are known",
        gauges.pods.clone(),
    );
    it.register(
        "pods_refused",
        "Pods, or addresses of theirs, that cannot be used",
        pods.refused_pods,
    );
    it.register(
        "pod_watch_lost",
        "Lists and watches that ended before their time by reason",
        pods.lost,
    );
    it.register_with_unit(
        "pod_watch_age",
        "Time since the API server last said anything about pods",
        Unit::Seconds,
        gauges.watch_age.clone(),
    );
    it.register(
        "pod_addresses",
        "Addresses of pods by whether the path to their pod is known",
        gauges.paths.clone(),
    );
    it.register(
        "pod_confirmations",
        "Reads of pods whose path was not known to be theirs by outcome",
        paths.confirmations,
    );
    it.register(
        "token_verifications",
        "Tokens that were verified anew by way and outcome",
        tokens.verifications,
    );
    it.register(
        "tokens_remembered",
        "Tokens that had been verified before",
        tokens.remembered,
    );
    it.register(
        "token_key_fetches",
        "Fetches of the keys that tokens are verified by by outcome",
        tokens.fetches,
    );
    it.register(
        "token_requests",
        "Tokens that were requested for exchanges by outcome",
        tokens.requests,
    );
    it.register_with_unit(
        "token_keys_age",
        "Age of the keys that tokens are verified by",
        Unit::Seconds,
        gauges.keys_age.clone(),
    );
}

fn set_states<const N: usize>(
    family: &Family<StateLabels, Gauge>,
    states: [(&'static str, usize); N],
) {
    for (state, entries) in states {
        family
            .get_or_create(&StateLabels { state })
            .set(count(entries));
    }
}

fn count(things: usize) -> i64 {
    i64::try_from(things).unwrap_or(i64::MAX)
}
