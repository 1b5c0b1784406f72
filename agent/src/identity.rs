//! Who is calling: the peer address of a connection names a pod of this node.

use std::collections::HashSet;
use std::net::IpAddr;

use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use crate::model::ServiceAccount;

pub mod pods;
pub mod watch;

pub use pods::Caller;

/// Why nobody is known to be calling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first full list of pods has not arrived yet.
    #[error("the pods of this node are not known yet")]
    NotSynced,
    /// No live pod of this node owns the address, and none came to within the deadline.
    #[error("no pod of this node has the address {0}")]
    Unknown(IpAddr),
    /// More than one live pod claims the address.
    #[error("more than one pod of this node claims the address {0}")]
    Ambiguous(IpAddr),
    /// The address is the node's own: it names no pod.
    #[error("the address {0} is the node's own and names no pod")]
    Node(IpAddr),
    /// The pod is known, but what it says of itself cannot be used.
    #[error("the pod at {0} cannot be used: {1}")]
    Unusable(IpAddr, String),
}

/// The readers' side of the pod index. Cheap to clone.
#[derive(Clone)]
pub struct Identity {}

impl Identity {
    /// Who calls from `peer` on a connection to `local`.
    ///
    /// An address that nobody owns yet is waited for until `deadline`, woken by
    /// the index.
    pub async fn caller(
        &self,
        peer: IpAddr,
        local: IpAddr,
        deadline: Instant,
    ) -> Result<Caller, Error> {
        todo!()
    }

    /// The accounts of all live pods of this node that have or will have an
    /// address of their own.
    pub fn accounts(&self) -> HashSet<ServiceAccount> {
        todo!()
    }

    /// Changes whenever the index does.
    pub fn changes(&self) -> Receiver<u64> {
        todo!()
    }
}
