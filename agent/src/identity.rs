//! Who is calling: the peer address of a connection names a pod of this node.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::watch::Receiver;
use tokio::time::{Instant, timeout_at};

use crate::model::ServiceAccount;

mod backoff;
pub mod pods;
pub mod tokens;
pub mod watch;

pub use pods::Caller;
use pods::PodIndex;

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

/// The readers' side of the pod index. Cheap to clone. What it says is as old
/// as the watch; through an outage of the API server it says what it said last.
#[derive(Clone)]
pub struct Identity {
    known: Arc<RwLock<Known>>,
    changes: Receiver<u64>,
}

/// What the watch publishes, and no one else.
#[derive(Default)]
struct Known {
    /// `None` before the first full list.
    pods: Option<PodIndex>,
    /// When the API server last said anything.
    heard: Option<Instant>,
}

impl Identity {
    /// Who calls from `peer` on a connection to `local`.
    ///
    /// An address that nobody owns yet is waited for until `deadline`, and so
    /// is the first list of pods; both are woken by the index.
    pub async fn caller(
        &self,
        peer: IpAddr,
        local: IpAddr,
        deadline: Instant,
    ) -> Result<Caller, Error> {
        let peer = peer.to_canonical();
        if peer == local.to_canonical() {
            return Err(Error::Node(peer));
        }
        let mut changes = None;
        loop {
            let missing = match self.look_up(peer) {
                Err(missing @ (Error::Unknown(_) | Error::NotSynced)) => missing,
                found => return found,
            };
            // Only a miss pays for it. What changed between the look and this
            // is caught by looking again before waiting.
            let Some(changes) = &mut changes else {
                changes = Some(self.changes());
                continue;
            };
            match timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(missing),
            }
        }
    }

    fn look_up(&self, peer: IpAddr) -> Result<Caller, Error> {
        let known = self.known();
        known.pods.as_ref().ok_or(Error::NotSynced)?.caller(peer)
    }

    /// The accounts of all live pods of this node that have or will have an
    /// address of their own. Empty before the first list.
    pub fn accounts(&self) -> HashSet<ServiceAccount> {
        let known = self.known();
        known
            .pods
            .as_ref()
            .map(PodIndex::accounts)
            .unwrap_or_default()
    }

    /// Changes whenever the index does from now on, the first list included;
    /// that a pod changed in what the index does not keep is no change.
    pub fn changes(&self) -> Receiver<u64> {
        let mut changes = self.changes.clone();
        changes.mark_unchanged();
        changes
    }

    /// Returns once the first full list of pods is there.
    pub async fn synced(&self) {
        let mut changes = self.changes();
        while self.known().pods.is_none() {
            if changes.changed().await.is_err() {
                // The watch has gone, and so has the process, all but.
                std::future::pending::<()>().await;
            }
        }
    }

    /// How many live pods are known, those that are refused included; `None`
    /// before the first list.
    pub fn pods(&self) -> Option<usize> {
        self.known().pods.as_ref().map(PodIndex::len)
    }

    /// How long ago the API server last said anything: a list, an event or a
    /// bookmark. `None` before the first. A healthy server bookmarks about
    /// once a minute.
    pub fn watch_age(&self) -> Option<Duration> {
        self.known().heard.map(|heard| heard.elapsed())
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        // A writer that panicked has ended the process: the watch is supervised.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}
