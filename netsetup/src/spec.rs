//! What is wanted of the node, and what came of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::rule::Family;
use crate::step::Step;

/// What [`ensure`](crate::ensure) is to make true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The name of the dummy link. Not used for anything on `lo`.
    pub name: String,
    /// Which link carries the addresses.
    pub kind: LinkKind,
    /// The addresses that the node is to answer on, each as a host (/32, /128).
    /// One that the node already has on some link is left there. Loopback and
    /// unspecified addresses are every node's own: nothing is done for them.
    pub addresses: Vec<IpAddr>,
    /// Others' addresses at which pods are to reach this node; `None`: none, and
    /// what an earlier run captured is let go.
    pub captured: Option<Captured>,
}

/// Others' addresses at which everything that is forwarded reaches this node
/// instead, by policy routing. What the node's own processes send to them, and
/// so host-network pods, goes where it always went.
///
/// The addresses do not become the node's: a listener there takes
/// `IP_TRANSPARENT`. While there is none, a client gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The one over IPv4.
    pub v4: Ipv4Addr,
    /// The one over IPv6. Nothing is done for it where the kernel has no IPv6.
    pub v6: Ipv6Addr,
    /// Whether any pods are let go.
    pub others: Others,
}

/// What becomes of pods' packets that are not to be captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// There are none: all are captured.
    Block,
    /// Those of [`exempt()`](crate::exempt())'s addresses go where they always went.
    Pass,
}

/// An address whose packets are not captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exempt {
    /// The source.
    pub address: IpAddr,
    /// The index of the link that they come in by, so that another that has the
    /// address later, behind another link, is captured. `None`: any link.
    pub link: Option<u32>,
}

/// Which kind of link is to carry the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A dummy link where the kernel has them, else `lo`. Addresses that are on
    /// `lo` from an earlier run stay there.
    Auto,
    /// A dummy link; an error where the kernel has none.
    Dummy,
    /// The loopback link.
    Lo,
}

/// How the node was found or made to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The link that carries the addresses.
    pub link: Link,
    /// The wanted addresses that the node now has, in the order of the spec.
    pub addresses: Vec<IpAddr>,
    /// Whether IPv6 addresses could be had.
    pub ipv6: Ipv6State,
    /// What was changed to get here; nothing when all was there.
    pub steps: Vec<Step>,
}

/// The link that carries the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The dummy link of the spec's name.
    Dummy,
    /// `lo`, and why.
    Lo(LoReason),
}

/// Why the addresses are on `lo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoReason {
    /// [`LinkKind::Lo`] was asked for.
    Asked,
    /// The kernel has no dummy links.
    NoDummy,
    /// An earlier run put them there.
    FoundThere,
}

/// Whether the link can have IPv6 addresses, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6State {
    /// It can.
    Available,
    /// `net.ipv6.conf.*.disable_ipv6` is set for the link.
    DisabledBySysctl,
    /// The kernel was built or booted without IPv6.
    NoKernelSupport,
}

impl Spec {
    /// The addresses on a dummy link `credlet0` where the kernel has dummy
    /// links, else on `lo`; IPv6 where the node has it; nothing captured.
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        Self {
            name: "credlet0".into(),
            kind: LinkKind::Auto,
            addresses,
            captured: None,
        }
    }

    /// The addresses that something must be done for, given the state of IPv6.
    pub(crate) fn wanted(&self, ipv6: Ipv6State) -> impl Iterator<Item = IpAddr> {
        self.own_addresses()
            .filter(move |address| address.is_ipv4() || ipv6 == Ipv6State::Available)
    }

    /// The addresses that are not every node's own.
    pub(crate) fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses
            .iter()
            .copied()
            .filter(|address| !address.is_loopback() && !address.is_unspecified())
    }
}

impl Captured {
    pub(crate) fn of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}

impl Outcome {
    /// Whether the node is the same after both, however it got there.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (self.link, &self.addresses, self.ipv6) == (other.link, &other.addresses, other.ipv6)
    }
}
