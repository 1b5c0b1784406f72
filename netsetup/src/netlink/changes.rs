//! The kernel's notifications of what paths are made of.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::closed;
use super::paths::{self, Neighbour};
use crate::error::Error;
use crate::paths::{Change, LinkEvent, StationEvent};

#[cfg(test)]
mod tests;

/// Room for what the kernel tells of links while nobody takes it: some thousand
/// messages. It takes `CAP_NET_ADMIN` to have so much.
const ROOM: usize = 4 * 1024 * 1024;

/// Sockets that are told. What pods can make the kernel say has one of its own,
/// so that they can drown no word about links.
pub(crate) struct Notifications {
    links: Told,
    rest: Told,
    backlog: Backlog,
}

/// One socket, and what was read from it.
struct Told {
    connection: BoxFuture<'static, ()>,
    messages: BoxStream<'static, Payload>,
}

type Payload = NetlinkPayload<RouteNetlinkMessage>;

/// Notifications from the moment that this returns.
pub(crate) fn subscribe() -> Result<Notifications, Error> {
    let (links, socket) = told(&[MulticastGroup::Link]).map_err(Error::Connection)?;
    if setsockopt(&socket, sockopt::RcvBufForce, &ROOM).is_err() {
        // What there is will do.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &ROOM);
    }
    let groups = [
        MulticastGroup::Neigh,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (rest, _) = told(&groups).map_err(Error::Connection)?;
    let done = Arc::new(AtomicBool::new(true));
    let backlog = Backlog {
        socket: Arc::new(socket),
        done,
    };
    Ok(Notifications {
        links,
        rest,
        backlog,
    })
}

/// The socket of these groups, and a second descriptor of it.
fn told(groups: &[MulticastGroup]) -> io::Result<(Told, OwnedFd)> {
    let (mut connection, _, messages) = rtnetlink::new_multicast_connection(groups)?;
    let socket = connection.socket_mut().as_raw_fd();
    // SAFETY: the connection owns the descriptor, and is there until the end.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    let socket = socket.try_clone_to_owned()?;
    let told = Told {
        connection: connection.boxed(),
        messages: messages.map(|(message, _)| message.payload).boxed(),
    };
    Ok((told, socket))
}

impl Told {
    /// Reads from the socket only when all that was read has been taken, so that
    /// what nobody takes fills the socket, which is bounded, and no queue of ours.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Payload>> {
        if let Poll::Ready(message) = self.messages.poll_next_unpin(cx) {
            return Poll::Ready(message);
        }
        let ended = self.connection.poll_unpin(cx).is_ready();
        match self.messages.poll_next_unpin(cx) {
            Poll::Pending if ended => Poll::Ready(None),
            other => other,
        }
    }
}

impl Notifications {
    /// What is about links comes first.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Payload, Error>> {
        // Before anything is read: see `Backlog::is_empty`.
        self.backlog.done.store(false, Ordering::SeqCst);
        if let Poll::Ready(message) = self.links.poll(cx) {
            return Poll::Ready(match message {
                Some(NetlinkPayload::Overrun(_)) => Err(Error::Missed),
                message => message.ok_or_else(closed),
            });
        }
        self.backlog.done.store(true, Ordering::SeqCst);
        self.rest.poll(cx).map(|message| message.ok_or_else(closed))
    }
}

/// What the kernel has told of links and nobody has dealt with yet. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Backlog {
    socket: Arc<OwnedFd>,
    /// Whoever takes the changes has come back for more and found nothing.
    done: Arc<AtomicBool>,
}

impl Backlog {
    /// Whether each link that had gone before this was called, and so before
    /// another could have its index, has been told by [`Changes::next`], and
    /// that was called again since. One system call.
    pub fn is_empty(&self) -> bool {
        // In this order: what leaves the socket after the first look is not
        // done with at the second.
        let mut sockets = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let is_silent = poll(&mut sockets, PollTimeout::ZERO) == Ok(0);
        is_silent && self.done.load(Ordering::SeqCst)
    }
}

/// What changes, from before [`Paths::open`](crate::Paths::open) returned on.
/// What is not taken is kept by the kernel, as far as its buffer goes; then
/// [`Change::All`] says so, or, where it was about links, an error: an index may
/// have gone from one link to the next unheard.
pub struct Changes {
    notifications: Notifications,
    links: Links,
}

impl Changes {
    pub(crate) fn new(notifications: Notifications, links: BTreeSet<u32>) -> Self {
        Self {
            notifications,
            links: Links(links),
        }
    }

    /// The indexes of all links that have appeared and not gone by the changes
    /// taken so far; before the first, the links that there were from the start.
    pub fn links(&self) -> impl Iterator<Item = u32> {
        self.links.0.iter().copied()
    }

    /// What of the links was not taken yet, for those who do not take it.
    pub fn backlog(&self) -> Backlog {
        self.notifications.backlog.clone()
    }

    /// Waits for the next change. Dropping the future loses none.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            let payload = poll_fn(|cx| self.notifications.poll(cx)).await?;
            if let Some(change) = self.links.read(&payload) {
                return Ok(change);
            }
        }
    }
}

/// The links, which is what tells a new one from one that changed: the kernel
/// says the same of both.
struct Links(BTreeSet<u32>);

impl Links {
    fn read(&mut self, payload: &Payload) -> Option<Change> {
        match payload {
            NetlinkPayload::InnerMessage(message) => match message {
                RouteNetlinkMessage::NewLink(link) => Some(self.came(link)),
                RouteNetlinkMessage::DelLink(link) => Some(self.went(link)),
                RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                    route_change(route)
                }
                RouteNetlinkMessage::NewNeighbour(entry) => entry_change(entry, Presence::Here),
                RouteNetlinkMessage::DelNeighbour(entry) => entry_change(entry, Presence::Gone),
                _ => None,
            },
            NetlinkPayload::Overrun(_) => Some(Change::All),
            _ => None,
        }
    }

    fn came(&mut self, link: &LinkMessage) -> Change {
        let index = link.header.index;
        let event = if !is_of_port(link) && self.0.insert(index) {
            LinkEvent::Appeared
        } else {
            LinkEvent::Changed
        };
        Change::Link { index, event }
    }

    fn went(&mut self, link: &LinkMessage) -> Change {
        let index = link.header.index;
        let event = if is_of_port(link) {
            LinkEvent::Changed
        } else {
            self.0.remove(&index);
            LinkEvent::Gone
        };
        Change::Link { index, event }
    }
}

/// Whether a bridge speaks of its port, which came to it or left it and is a
/// link of the node before and after.
fn is_of_port(link: &LinkMessage) -> bool {
    link.header.interface_family == AddressFamily::Bridge
}

fn route_change(route: &RouteMessage) -> Option<Change> {
    let prefix = route.header.destination_prefix_length;
    let destination = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some((*v4).into()),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some((*v6).into()),
            _ => None,
        });
    // A default route has no destination.
    let address: IpAddr = match (destination, route.header.address_family) {
        (Some(address), _) => address,
        (None, AddressFamily::Inet) => Ipv4Addr::UNSPECIFIED.into(),
        (None, AddressFamily::Inet6) => Ipv6Addr::UNSPECIFIED.into(),
        (None, _) => return None,
    };
    Some(if prefix == super::prefix(address) {
        Change::Address(address)
    } else {
        Change::Network { address, prefix }
    })
}

/// Whether an entry of a table is told to be there.
#[derive(Clone, Copy)]
enum Presence {
    Here,
    Gone,
}

fn entry_change(entry: &NeighbourMessage, presence: Presence) -> Option<Change> {
    let link = entry.header.ifindex;
    if entry.header.family == AddressFamily::Bridge {
        // Tunnels have such tables too, and no bridge to name.
        let is_bridges = |attribute| matches!(attribute, &NeighbourAttribute::Controller(_));
        if !entry.attributes.iter().any(is_bridges) {
            return None;
        }
        return Some(Change::Station {
            mac: paths::mac(entry)?,
            port: link,
            event: match presence {
                Presence::Here => StationEvent::Seen,
                Presence::Gone => StationEvent::Forgotten,
            },
        });
    }
    Some(Change::Neighbour {
        link,
        address: paths::destination(entry)?,
        mac: match (presence, paths::neighbour(entry)) {
            (Presence::Here, Neighbour::Learnt(mac) | Neighbour::Fixed(mac)) => Some(mac),
            (Presence::Here, Neighbour::Unknown) | (Presence::Gone, _) => None,
        },
    })
}
