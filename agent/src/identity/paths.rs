//! The path to each address: what tells a pod from the next one that has its address.
//!
//! An address goes from one pod to the next before the API server says so, but
//! the kernel knows at once: the veth pair of a pod that went is gone, and the
//! next pod has another. So each address is held together with the path that
//! the kernel took to it when its owner became known, and a caller that comes by
//! another path is not that owner.

use std::io;
use std::net::IpAddr;

use futures::future::BoxFuture;

pub(super) mod book;
mod keeper;

pub(super) use book::{Book, Proof};
pub use book::{Counts, Way};
pub use keeper::{Keeper, Metrics, Outcome, OutcomeLabels};

/// The way to a pod, as links of the node. A link that comes from inside a pod
/// may have the index of one that has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// By which its packets come in.
    pub link: u32,
    /// What of it is the pod's alone.
    pub port: Port,
}

/// What tells a pod from others whose packets come in by the same link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// There are no others: the link is the pod's own.
    Own,
    /// The link is a bridge.
    Bridged {
        /// The index of the bridge's port that is the pod's own.
        port: u32,
        /// The pod's link-layer address.
        mac: [u8; 6],
    },
}

impl Path {
    /// The link that is the pod's alone.
    pub fn own_link(&self) -> u32 {
        match self.port {
            Port::Own => self.link,
            Port::Bridged { port, .. } => port,
        }
    }
}

/// What the kernel says about the way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// This is it.
    Path(Path),
    /// It leads over a bridge, and the neighbour is not known yet.
    Unresolved,
    /// It tells no pod from another.
    Hidden,
}

/// The node's network as the kernel shows it.
pub trait Kernel: Send + Sync + 'static {
    /// The way that a packet to `address` would take now.
    fn path(&self, address: IpAddr) -> BoxFuture<'_, io::Result<Shown>>;

    /// Asks the neighbour at `address` for its link-layer address. What it
    /// answers is told as a change.
    fn resolve(&self, address: IpAddr) -> BoxFuture<'_, io::Result<()>>;

    /// Whether each link that had gone before this was called has been told, and
    /// what was told has been dealt with.
    fn is_heard(&self) -> bool;
}

/// What may be shown otherwise from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The way to this address.
    Address(IpAddr),
    /// Who answers for this address, where that matters for the way to it.
    Neighbour(IpAddr),
    /// The port of a bridge by which this link-layer address is reached.
    Mac([u8; 6]),
    /// All that leads by this link.
    Link(u32),
    /// This link is new.
    Appeared(u32),
    /// This link has gone; another may have its index.
    Gone(u32),
    /// The ways to the addresses that have so many bits in common with this one.
    Network(IpAddr, u8),
    /// Anything but a link.
    Any,
}
