//! How the kernel reaches an address: by which link, and behind a bridge by
//! which port and link-layer address. It changes with the address's owner.

use std::io;
use std::net::IpAddr;

use crate::error::Error;
use crate::netlink::paths::{self as netlink, Extent, Neighbour, Way};

pub use crate::netlink::changes::{Backlog, Changes};

/// A link-layer address.
pub type Mac = [u8; 6];

/// What the kernel shows of an address's path, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The path, which no other address's owner shares.
    Path(Path),
    /// Behind a bridge, and the kernel does not know where: it has not heard of
    /// the address lately, or at a link-layer address that is the node's own.
    Unresolved,
    /// No path that would tell one owner from another: through a gateway or a
    /// link with many behind it, to the node itself, or none at all.
    Hidden,
}

/// Where what is sent to an address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The index of the link by which its packets leave and come in, a bridge
    /// included. A namespace does not use one twice.
    pub link: u32,
    /// What is behind the link.
    pub port: Port,
}

/// What is behind a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// Nothing else: the link is the address's own.
    Own,
    /// The link is a bridge.
    Bridged {
        /// The index of the bridge's port.
        port: u32,
        /// The link-layer address that answers for the address.
        mac: Mac,
    },
}

/// What changed in the kernel. It can have changed back since: what is carried
/// here is what held then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A route to this address alone.
    Address(IpAddr),
    /// A route to all addresses that begin with the same `prefix` bits.
    Network {
        /// The first of them.
        address: IpAddr,
        /// The number of bits.
        prefix: u8,
    },
    /// Who answers for an address on a link. Of no consequence for a
    /// [`Port::Own`].
    Neighbour {
        /// The link.
        link: u32,
        /// The address.
        address: IpAddr,
        /// Who answers, if anybody.
        mac: Option<Mac>,
    },
    /// Where a link-layer address is on a bridge.
    Station {
        /// The link-layer address.
        mac: Mac,
        /// The bridge's port.
        port: u32,
        /// Whether it is there.
        event: StationEvent,
    },
    /// A link. Its routes may have gone with it: the kernel does not tell of
    /// each IPv4 route that falls with its link.
    Link {
        /// Its index.
        index: u32,
        /// What it did.
        event: LinkEvent,
    },
    /// Anything but a link: the kernel had more to tell than it kept.
    All,
}

/// What came of a link-layer address on a bridge's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StationEvent {
    /// It is there, and nowhere else.
    Seen,
    /// Not heard of for some minutes, or the port has gone.
    Forgotten,
}

/// What came of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is new in this namespace.
    Appeared,
    /// Up, down, renamed, into or out of a bridge.
    Changed,
    /// It has left this namespace.
    Gone,
}

/// Asks the kernel for paths. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Paths(netlink::Questions);

impl Paths {
    /// For the network namespace of the calling thread. The changes are those
    /// from before this returns on, on a socket of their own. The future is what
    /// answers all questions, and ends only by failing: it must be polled.
    pub async fn open() -> Result<(Self, Changes, impl Future<Output = Error> + Send), Error> {
        // Listens before it looks, so that no link falls between the two.
        let notifications = crate::netlink::changes::subscribe()?;
        let (questions, driver) = netlink::open()?;
        let mut driver = Box::pin(driver);
        let links = tokio::select! {
            links = questions.links() => links.map_err(Error::Observe)?,
            error = &mut driver => return Err(error),
        };
        let changes = Changes::new(notifications, links);
        Ok((Self(questions), changes, driver))
    }

    /// How the kernel reaches the address now; an error if it does not say.
    pub async fn path(&self, address: IpAddr) -> io::Result<Shown> {
        let Way::Link { link, extent } = self.0.way(address).await? else {
            return Ok(Shown::Hidden);
        };
        let Some(bridge) = self.0.bridge(link).await? else {
            return Ok(match extent {
                Extent::Host => Shown::Path(Path {
                    link,
                    port: Port::Own,
                }),
                Extent::Network => Shown::Hidden,
            });
        };
        let mac = match self.0.neighbour(link, address).await? {
            Neighbour::Learnt(mac) | Neighbour::Fixed(mac) => mac,
            Neighbour::Unknown => return Ok(Shown::Unresolved),
        };
        // Not `Hidden` where it is the node's own: a pod may claim the
        // link-layer address of the node's end of its veth pair, and a guard
        // that is off where nothing is shown must not be turned off by that.
        Ok(match self.0.station(&bridge, mac).await? {
            Some(port) => Shown::Path(Path {
                link,
                port: Port::Bridged { port, mac },
            }),
            None => Shown::Unresolved,
        })
    }

    /// Makes the kernel ask for the address behind a bridge, so that its
    /// [`path`](Self::path) is known soon after, if somebody answers: the answer
    /// is among the changes. Nothing is done for an address elsewhere.
    ///
    /// `PermissionDenied` without `CAP_NET_ADMIN`; then only traffic makes the
    /// kernel ask.
    pub async fn resolve(&self, address: IpAddr) -> io::Result<()> {
        let Way::Link { link, .. } = self.0.way(address).await? else {
            return Ok(());
        };
        if self.0.bridge(link).await?.is_none() {
            return Ok(());
        }
        match self.0.neighbour(link, address).await? {
            // The bridge forgets sooner than the neighbour table. A packet of
            // the neighbour's tells both.
            Neighbour::Learnt(_) => self.0.probe(link, address).await,
            Neighbour::Unknown => self.0.seek(link, address).await,
            // Somebody set it; asking would make it one that is learnt.
            Neighbour::Fixed(_) => Ok(()),
        }
    }
}
