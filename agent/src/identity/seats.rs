//! Where the pods of this node sit: their addresses and links, for who routes
//! by whether a pod has asked for instance metadata.

use std::net::IpAddr;

use super::paths::Way;
use super::pods::PodIndex;
use super::{Caller, Identity, OptIn};

/// An address that exactly one live pod owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Canonical.
    pub address: IpAddr,
    /// Where its packets come in.
    pub way: Way,
    /// Whether its pod has asked for instance metadata.
    pub imds: OptIn,
}

impl Identity {
    /// All of them, in no order; none before the first list. As new as
    /// [`Self::changes`], which tells of every change of it.
    pub fn seats(&self) -> Vec<Seat> {
        let known = self.shared.read();
        let owned = known.pods.iter().flat_map(PodIndex::owned);
        let seat = |(address, _, caller): (IpAddr, _, &Caller)| Seat {
            address,
            way: known.paths.way(address, caller.pod()),
            imds: caller.imds(),
        };
        owned.map(seat).collect()
    }
}
