//! Why the watch stopped following, and how it goes on.

use std::time::Duration;

use kube::core::Status;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

use crate::causes::causes;

/// What a list or a watch ended with.
#[derive(Debug)]
pub struct Lost {
    /// For those who count.
    pub reason: Reason,
    /// For people.
    pub why: String,
    /// The HTTP status, if the server answered with one.
    pub status: Option<u16>,
    pub(super) next: Next,
}

/// How to go on.
#[derive(Debug)]
pub(super) enum Next {
    /// By a full list: something was missed, or may have been.
    List,
    /// By a watch from this resource version: nothing was missed.
    Resume(String),
}

/// The labels of a count of losses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LostLabels {
    /// Why.
    pub reason: Reason,
}

/// Why a list or a watch ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Reason {
    /// The server could not be asked, or the connection broke.
    Unreachable,
    /// The server said nothing for too long.
    Silent,
    /// The server is overloaded or out of order: 429 or 5xx.
    Failing,
    /// The server ended a watch on which it had told nothing new.
    Ended,
    /// The server no longer knows what happened since then: 410.
    Expired,
    /// The server refuses: a missing permission, mostly.
    Refused,
    /// The server said what cannot be understood.
    Garbled,
}

impl Lost {
    /// To be followed by a list.
    pub(crate) fn new(reason: Reason, why: impl Into<String>) -> Self {
        Self {
            reason,
            why: why.into(),
            status: None,
            next: Next::List,
        }
    }

    pub(super) fn silent(limit: Duration) -> Self {
        Self::new(Reason::Silent, format!("nothing heard for {limit:?}"))
    }

    /// Goes on after `version`, where that misses nothing and can succeed.
    pub(super) fn resume_at(mut self, version: String) -> Self {
        self.next = match self.reason {
            Reason::Unreachable | Reason::Silent | Reason::Failing | Reason::Ended => {
                Next::Resume(version)
            }
            Reason::Expired | Reason::Refused | Reason::Garbled => Next::List,
        };
        self
    }
}

impl From<Box<Status>> for Lost {
    fn from(status: Box<Status>) -> Self {
        let reason = match status.code {
            410 => Reason::Expired,
            429 | 500.. => Reason::Failing,
            _ => Reason::Refused,
        };
        Self {
            status: Some(status.code),
            ..Self::new(reason, format!("{}: {}", status.code, status.message))
        }
    }
}

impl From<kube::Error> for Lost {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => status.into(),
            // Not the error's text: it may quote the object.
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
                Self::new(Reason::Garbled, "no JSON of such an object")
            }
            other => Self::new(Reason::Unreachable, causes(&other)),
        }
    }
}
