//! What a listener is a door to.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelValue;

use super::container;
use super::imds::Metadata;

/// What those get who come in by a listener.
#[derive(Clone)]
pub enum Door {
    /// `/v1/credentials`.
    Container,
    /// Instance metadata.
    Imds(Arc<Metadata>),
    /// Both, told apart by the path: for where there is one port.
    Both(Arc<Metadata>),
}

impl Door {
    /// What answers for the path, unless the container endpoint does.
    pub(super) fn metadata(&self, path: &str) -> Option<&Metadata> {
        match self {
            Self::Container => None,
            Self::Imds(metadata) => Some(metadata),
            Self::Both(metadata) => (path != container::PATH).then_some(metadata),
        }
    }

    /// As what is counted that is not known to be for one of both.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Container => Kind::Container,
            Self::Imds(_) | Self::Both(_) => Kind::Imds,
        }
    }
}

/// A kind of door: a label, so there are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Kind {
    /// `/v1/credentials`.
    Container,
    /// Instance metadata.
    Imds,
}
