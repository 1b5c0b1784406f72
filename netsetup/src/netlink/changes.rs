//! The kernel's notifications of what paths are made of.

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::closed;
use super::paths::{self, Neighbour, Questions};
use crate::error::Error;
use crate::paths::{Change, LinkEvent, StationEvent};

#[cfg(test)]
mod tests;

/// A socket that is told, and what was read from it.
pub(crate) struct Notifications {
    connection: BoxFuture<'static, ()>,
    messages: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
}

/// Notifications from the moment that this returns.
pub(crate) fn subscribe() -> Result<Notifications, Error> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Neigh,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, _, messages) =
        rtnetlink::new_multicast_connection(&groups).map_err(Error::Connection)?;
    Ok(Notifications {
        connection: connection.boxed(),
        messages: messages.map(|(message, _)| message).boxed(),
    })
}

impl Notifications {
    /// Reads from the socket only when all that was read has been taken, so that
    /// what nobody takes fills the socket, which is bounded, and no queue of ours.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<NetlinkMessage<RouteNetlinkMessage>>> {
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

/// What changes, from before [`Paths::open`](crate::Paths::open) returned on.
/// What is not taken is kept by the kernel, as far as its buffer goes; then
/// [`Change::All`] says so.
pub struct Changes {
    notifications: Notifications,
    questions: Questions,
    links: Links,
    ready: VecDeque<Change>,
}

impl Changes {
    pub(crate) fn new(
        notifications: Notifications,
        questions: Questions,
        links: BTreeSet<u32>,
    ) -> Self {
        Self {
            notifications,
            questions,
            links: Links {
                known: links,
                trust: Trust::Complete,
            },
            ready: VecDeque::new(),
        }
    }

    /// The indexes of all links that have appeared and not gone by the changes
    /// taken so far; before the first, the links that there were from the start.
    pub fn links(&self) -> impl Iterator<Item = u32> {
        self.links.known.iter().copied()
    }

    /// Waits for the next change. Dropping the future loses none.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            if self.links.trust == Trust::Lost {
                let links = self.questions.links().await.map_err(Error::Observe)?;
                self.ready.extend(self.links.relist(links));
                continue;
            }
            let message = poll_fn(|cx| self.notifications.poll(cx)).await;
            let message = message.ok_or_else(closed)?;
            self.ready.extend(self.links.read(&message.payload));
        }
    }
}

/// The links, which is what tells a new one from one that changed: the kernel
/// says the same of both.
struct Links {
    known: BTreeSet<u32>,
    trust: Trust,
}

/// Whether every link was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    Complete,
    /// Some may be missing: list them anew.
    Lost,
}

impl Links {
    fn read(&mut self, payload: &NetlinkPayload<RouteNetlinkMessage>) -> Option<Change> {
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
            NetlinkPayload::Overrun(_) => {
                self.trust = Trust::Lost;
                Some(Change::All)
            }
            _ => None,
        }
    }

    fn came(&mut self, link: &LinkMessage) -> Change {
        let index = link.header.index;
        let event = if !is_of_port(link) && self.known.insert(index) {
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
            self.known.remove(&index);
            LinkEvent::Gone
        };
        Change::Link { index, event }
    }

    /// Takes a list for true, and tells the difference.
    fn relist(&mut self, links: BTreeSet<u32>) -> Vec<Change> {
        let change = |event| move |&index: &u32| Change::Link { index, event };
        let gone = self.known.difference(&links).map(change(LinkEvent::Gone));
        let new = links.difference(&self.known);
        let changes = gone.chain(new.map(change(LinkEvent::Appeared))).collect();
        (self.known, self.trust) = (links, Trust::Complete);
        changes
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
