//! What the rooms count, handed to them when they are opened.

use prometheus_client::metrics::counter::Counter;

use crate::{apiserver, aws, events, identity, serve};

/// One for each room that counts; clones count together.
#[derive(Clone, Default)]
pub(super) struct Counters {
    /// The front doors.
    pub(super) serve: serve::Metrics,
    /// Calls to AWS.
    pub(super) aws: aws::Metrics,
    /// Who is calling.
    pub(super) identity: identity::Metrics,
    /// Lists and watches of where associations are declared.
    pub(super) association_watches_lost: apiserver::Losses,
    /// Events on pods.
    pub(super) events: events::Metrics,
    /// Repairs of the node's network.
    pub(super) network_repairs: Counter,
}
