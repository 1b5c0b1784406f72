//! Who is connected: so many at one time, and so many from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelValue;

use super::{Limits, Metrics, RefusedLabels};

/// Which limit a connection was refused by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Limit {
    /// Its own address has as many as it may have.
    Peer,
    /// There are as many as there may be.
    Total,
}

/// All open connections.
pub(super) struct Guests {
    limits: Limits,
    metrics: Metrics,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_peer: HashMap<IpAddr, usize>,
    /// So that a full house is told once, and not for each that it refuses.
    told: bool,
}

/// One open connection; dropping it makes room.
pub(super) struct Guest {
    guests: Arc<Guests>,
    peer: IpAddr,
}

impl Guests {
    pub(super) fn new(limits: Limits, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            limits,
            metrics,
            open: Mutex::default(),
        })
    }

    /// Room for one more connection from `peer`, or none.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Guest> {
        let admitted = self.count_in(peer);
        match admitted {
            Ok(()) => {
                self.metrics.open.inc();
                Some(Guest {
                    guests: Arc::clone(self),
                    peer,
                })
            }
            Err(limit) => {
                let labels = RefusedLabels { limit };
                self.metrics.refused.get_or_create(&labels).inc();
                None
            }
        }
    }

    fn count_in(&self, peer: IpAddr) -> Result<(), Limit> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = open.by_peer.get(&peer).copied().unwrap_or_default();
        let limit = if open.total >= self.limits.connections {
            Limit::Total
        } else if of_peer >= self.limits.connections_per_peer {
            Limit::Peer
        } else {
            open.total += 1;
            open.by_peer.insert(peer, of_peer + 1);
            return Ok(());
        };
        if !std::mem::replace(&mut open.told, true) {
            tracing::warn!(%peer, of_peer, total = open.total, "too many connections: refusing more");
        }
        Err(limit)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let guests = &self.guests;
        guests.metrics.open.dec();
        let mut open = guests.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(of_peer) = open.by_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                open.by_peer.remove(&self.peer);
            }
        }
        // Told again after the crowd has gone, not after each that goes.
        if open.total <= guests.limits.connections_per_peer / 2 {
            open.told = false;
        }
    }
}
