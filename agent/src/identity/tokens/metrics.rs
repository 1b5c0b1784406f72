//! What is counted of tokens.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Flaw;

/// What the room counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Tokens that were verified, or were not; remembered ones are not among them.
    pub verifications: Family<VerificationLabels, Counter>,
    /// Tokens that had been verified before and were remembered.
    pub remembered: Counter,
    /// Attempts to fetch the cluster's keys.
    pub fetches: Family<FetchLabels, Counter>,
    /// Requests for tokens.
    pub requests: Family<RequestLabels, Counter>,
}

/// The labels of [`Metrics::verifications`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct VerificationLabels {
    /// By what.
    pub way: Way,
    /// With what result.
    pub outcome: Outcome,
}

/// By what a token is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Way {
    /// Here, with the cluster's keys.
    Keys,
    /// By the API server.
    Review,
}

/// What became of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is good.
    Ok,
    /// It is not.
    Refused(Flaw),
    /// Nobody could tell in time.
    Unavailable,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Ok => "Ok".encode(encoder),
            Self::Refused(flaw) => flaw.encode(encoder),
            Self::Unavailable => "Unavailable".encode(encoder),
        }
    }
}

/// The labels of [`Metrics::fetches`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FetchLabels {
    /// How it ended.
    pub outcome: Fetched,
}

/// How an attempt to fetch the keys ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Fetched {
    /// With keys.
    Ok,
    /// The agent may not read them, or they are not there: 401, 403 or 404.
    Refused,
    /// Another status than 200.
    Failing,
    /// No connection, or it broke.
    Unreachable,
    /// No answer in time.
    Silent,
    /// No document of keys, or one that cannot be used.
    Garbled,
}

/// The labels of [`Metrics::requests`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// How it ended.
    pub outcome: Requested,
}

/// How a request for a token ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Requested {
    /// With a token.
    Ok,
    /// The pod, or its account, is gone: 404 or 409.
    Gone,
    /// The agent may not: 401 or 403.
    Refused,
    /// Another status.
    Failing,
    /// No connection, or it broke.
    Unreachable,
    /// No answer in time.
    Silent,
    /// No token in the answer.
    Garbled,
}
