//! The kernel's answers about routes, bridges and neighbours.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::link::{
    InfoBridge, InfoData, InfoKind, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::{closed, kind, prefix};
use crate::error::Error;
use crate::paths::Mac;

#[cfg(test)]
mod tests;

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Out of a link, to what is right behind it.
    Link { link: u32, extent: Extent },
    /// Through a gateway, to the node itself, or nowhere.
    Elsewhere,
}

/// How much a route covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// One address.
    Host,
    /// More.
    Network,
}

/// A bridge, and what its table goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub(crate) link: u32,
    /// The VLAN of what the node itself sends; `None` if the bridge knows none.
    pub(crate) vlan: Option<u16>,
}

/// What the neighbour table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Neighbour {
    /// Heard from the neighbour itself.
    Learnt(Mac),
    /// Put there by hand.
    Fixed(Mac),
    /// Nothing, or nothing that could be sent to.
    Unknown,
}

/// Asks the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Questions(Handle);

/// Somebody to ask; the future is what carries the questions.
pub(crate) fn open() -> Result<(Questions, impl Future<Output = Error> + Send), Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Connection)?;
    let driver = async move {
        connection.await;
        closed()
    };
    Ok((Questions(handle), driver))
}

impl Questions {
    /// The indexes of all links.
    pub(crate) async fn links(&self) -> io::Result<BTreeSet<u32>> {
        let links = self.0.link().get().execute();
        let indexes = links.map_ok(|link| link.header.index);
        indexes.try_collect().await.map_err(super::io)
    }

    pub(crate) async fn way(&self, address: IpAddr) -> io::Result<Way> {
        let mut question = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(address, prefix(address))
            .map_err(io::Error::other)?
            .build();
        // Else the answer is about the address, not about the route.
        question.header.flags = RouteFlags::FibMatch;
        let route = self.ask(RouteNetlinkMessage::GetRoute(question)).await;
        match route {
            Ok(RouteNetlinkMessage::NewRoute(route)) => Ok(way(&route)),
            Ok(_) => Err(unexpected()),
            Err(error) if leads_nowhere(&error) => Ok(Way::Elsewhere),
            Err(error) => Err(error),
        }
    }

    /// The link, if it is there and a bridge.
    pub(crate) async fn bridge(&self, link: u32) -> io::Result<Option<Bridge>> {
        let question = self.0.link().get().match_index(link);
        let question =
            question.set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
        match Box::pin(question.execute())
            .try_next()
            .await
            .map_err(super::io)
        {
            Ok(answer) => Ok(answer.as_ref().and_then(bridge)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn neighbour(&self, link: u32, address: IpAddr) -> io::Result<Neighbour> {
        let question = about(link, address, NeighbourState::None);
        let answer = self.ask(RouteNetlinkMessage::GetNeighbour(question)).await;
        Ok(found(answer)?.map_or(Neighbour::Unknown, |answer| neighbour(&answer)))
    }

    /// The port of the bridge that the link-layer address was heard at. `None`
    /// also for the node's own.
    pub(crate) async fn station(&self, bridge: &Bridge, mac: Mac) -> io::Result<Option<u32>> {
        let mut question = NeighbourMessage::default();
        question.header.family = AddressFamily::Bridge;
        question.attributes = vec![
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
            NeighbourAttribute::Controller(bridge.link),
        ];
        question
            .attributes
            .extend(bridge.vlan.map(NeighbourAttribute::Vlan));
        let answer = self.ask(RouteNetlinkMessage::GetNeighbour(question)).await;
        Ok(found(answer)?.and_then(|answer| port(&answer)))
    }

    /// Makes the kernel ask a neighbour that it knows whether it is still there.
    /// `NTF_USE` would ask one that was heard of lately not at all, and others
    /// in five seconds.
    pub(crate) async fn probe(&self, link: u32, address: IpAddr) -> io::Result<()> {
        let change = about(link, address, NeighbourState::Probe);
        match self.tell(change, NLM_F_REPLACE).await {
            // It was forgotten in between.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {
                self.seek(link, address).await
            }
            done => done,
        }
    }

    /// Makes the kernel ask everybody on the link, as `ip neigh replace ... use`.
    pub(crate) async fn seek(&self, link: u32, address: IpAddr) -> io::Result<()> {
        let mut change = about(link, address, NeighbourState::None);
        change.header.flags = NeighbourFlags::Use;
        self.tell(change, NLM_F_CREATE | NLM_F_REPLACE).await
    }

    async fn ask(&self, question: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        let mut question = NetlinkMessage::from(question);
        question.header.flags = NLM_F_REQUEST;
        let mut answers = self.0.clone().request(question).map_err(super::io)?;
        match answers.next().await.map(|answer| answer.payload) {
            Some(NetlinkPayload::InnerMessage(answer)) => Ok(answer),
            Some(NetlinkPayload::Error(error)) => Err(error.to_io()),
            Some(_) => Err(unexpected()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    async fn tell(&self, change: NeighbourMessage, flags: u16) -> io::Result<()> {
        let mut change = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(change));
        change.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut answers = self.0.clone().request(change).map_err(super::io)?;
        // An acknowledgment is told by the end.
        match answers.next().await.map(|answer| answer.payload) {
            Some(NetlinkPayload::Error(error)) => Err(error.to_io()),
            Some(_) | None => Ok(()),
        }
    }
}

fn unexpected() -> io::Error {
    io::Error::other("the kernel answered another question")
}

/// A message about a neighbour. The kernel (`neigh_valid_get_req`) refuses a
/// question with anything else in it.
fn about(link: u32, address: IpAddr, state: NeighbourState) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = link;
    message.header.state = state;
    message.attributes = vec![NeighbourAttribute::Destination(address.into())];
    message
}

/// What a neighbour table has, which may be nothing, for a link that may have gone.
fn found(answer: io::Result<RouteNetlinkMessage>) -> io::Result<Option<NeighbourMessage>> {
    match answer {
        Ok(RouteNetlinkMessage::NewNeighbour(answer)) => Ok(Some(answer)),
        Ok(_) => Err(unexpected()),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV) => Ok(None),
            _ => Err(error),
        },
    }
}

/// No route, or one that is `unreachable`, `prohibit` or `blackhole`, as Calico
/// has for the addresses of its node that no pod has (`fib_props`).
fn leads_nowhere(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
    )
}

fn way(route: &RouteMessage) -> Way {
    let mut out = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(_)
            | RouteAttribute::Via(_)
            | RouteAttribute::MultiPath(_)
            | RouteAttribute::Encap(_) => return Way::Elsewhere,
            RouteAttribute::Oif(link) => out = Some(*link),
            _ => {}
        }
    }
    match (route.header.kind, out, route.header.address_family) {
        (RouteType::Unicast, Some(link), family) => Way::Link {
            link,
            extent: match (family, route.header.destination_prefix_length) {
                (AddressFamily::Inet, 32) | (AddressFamily::Inet6, 128) => Extent::Host,
                _ => Extent::Network,
            },
        },
        _ => Way::Elsewhere,
    }
}

fn bridge(link: &LinkMessage) -> Option<Bridge> {
    if kind(link) != Some(&InfoKind::Bridge) {
        return None;
    }
    let infos = link
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
    let settings = infos.flatten().filter_map(|info| match info {
        LinkInfo::Data(InfoData::Bridge(settings)) => Some(settings),
        _ => None,
    });
    let (mut filtering, mut vlan) = (false, None);
    for setting in settings.flatten() {
        match setting {
            InfoBridge::VlanFiltering(on) => filtering = *on,
            InfoBridge::VlanDefaultPvid(id) => vlan = Some(*id),
            _ => {}
        }
    }
    Some(Bridge {
        link: link.header.index,
        // Without filtering all is in VLAN 0, whatever the default is.
        vlan: vlan.filter(|&id| filtering && id != 0),
    })
}

pub(super) fn neighbour(message: &NeighbourMessage) -> Neighbour {
    let Some(mac) = mac(message) else {
        return Neighbour::Unknown;
    };
    match message.header.state {
        NeighbourState::Reachable
        | NeighbourState::Stale
        | NeighbourState::Delay
        | NeighbourState::Probe => Neighbour::Learnt(mac),
        NeighbourState::Permanent | NeighbourState::Noarp => Neighbour::Fixed(mac),
        // The rest keep the last link-layer address and do not believe in it.
        _ => Neighbour::Unknown,
    }
}

/// An entry that is permanent is the link-layer address of the bridge or of the
/// node's end of a port, which nobody behind the bridge is to answer from.
pub(super) fn port(entry: &NeighbourMessage) -> Option<u32> {
    let is_own = entry.header.state == NeighbourState::Permanent;
    (!is_own).then_some(entry.header.ifindex)
}

pub(super) fn mac(message: &NeighbourMessage) -> Option<Mac> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok(),
            _ => None,
        })
}

pub(super) fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some((*v4).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some((*v6).into()),
            _ => None,
        })
}
