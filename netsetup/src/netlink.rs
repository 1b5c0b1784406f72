//! The kernel's side: reads the node's network, changes it, listens for changes.

use std::io;
use std::net::IpAddr;

use futures::{FutureExt, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{LinkDummy, LinkUnspec, MulticastGroup};

pub(crate) use rtnetlink::Handle;

use crate::error::Error;
use crate::plan::{Admin, Dummies, Held, LinkState, Named, Observed, Origin};
use crate::spec::{Ipv6State, Spec};
use crate::step::{Place, Step};

pub(crate) mod changes;
pub(crate) mod paths;
mod rules;

/// Marks what is ours, so that removal can tell it from what is others': of
/// addresses (`IFA_PROTO`, Linux 5.18) the kernel uses 1 to 3 itself, of rules
/// and routes routing daemons use some more.
const ORIGIN: u8 = 0xc5;

/// `ifa_preferred` and `ifa_valid` of an address that does not expire.
const FOREVER: u32 = u32::MAX;

/// Runs work on a connection to the kernel.
pub(crate) async fn connected<T>(
    work: impl AsyncFnOnce(&Handle) -> Result<T, Error>,
) -> Result<T, Error> {
    // Strict, for the routes of one table and not of all; before Linux 4.20 there
    // is no such thing.
    let (connection, handle, _) = rtnetlink::new_connection_with_strict_check()
        .or_else(|_| rtnetlink::new_connection())
        .map_err(Error::Connection)?;
    tokio::select! {
        result = work(&handle) => result,
        () = connection => Err(closed()),
    }
}

/// The kernel's notifications of changed links, addresses, rules and routes,
/// from the moment that this returns. It has a socket of its own: when the socket overflows,
/// notifications are lost, but never an answer.
pub(crate) fn subscribe() -> Result<(impl Future<Output = ()>, Changes), Error> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, _, messages) =
        rtnetlink::new_multicast_connection(&groups).map_err(Error::Connection)?;
    Ok((
        connection,
        Changes {
            messages: messages.map(|(message, _)| message).boxed(),
        },
    ))
}

type Message = NetlinkMessage<RouteNetlinkMessage>;

pub(crate) struct Changes {
    messages: futures::stream::BoxStream<'static, Message>,
}

impl Changes {
    /// Waits until something changed that may concern the spec.
    pub(crate) async fn next(&mut self, spec: &Spec, observed: &Observed) -> Result<(), Error> {
        self.next_of(|message| concerns(message, spec, observed))
            .await
    }

    /// Waits until something changed that may concern exemptions.
    pub(crate) async fn next_of_rules(&mut self, observed: &Observed) -> Result<(), Error> {
        self.next_of(|message| rules::concerns(message) || renames(message, observed))
            .await
    }

    async fn next_of(&mut self, concerns: impl Fn(&Message) -> bool) -> Result<(), Error> {
        loop {
            let message = self.messages.next().await.ok_or_else(closed)?;
            let is_overrun = matches!(message.payload, NetlinkPayload::Overrun(_));
            // The socket overflowed: anything may have changed.
            if is_overrun || concerns(&message) {
                // One look answers all that came together.
                while let Some(Some(_)) = self.messages.next().now_or_never() {}
                return Ok(());
            }
        }
    }
}

/// The kernel closed the connection.
pub(crate) fn closed() -> Error {
    Error::Connection(io::ErrorKind::UnexpectedEof.into())
}

/// Whether a link that was seen has gone, or has another name.
fn renames(message: &Message, seen: &Observed) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
            seen.names.contains_key(&link.header.index)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
            let seen = seen.names.get(&link.header.index);
            seen.is_some_and(|seen| name(link).is_some_and(|name| name != seen))
        }
        _ => false,
    }
}

fn concerns(message: &Message, spec: &Spec, seen: &Observed) -> bool {
    let ours = |index| {
        [Place::Lo, Place::Dummy]
            .iter()
            .any(|&p| seen.index(p) == Some(index))
    };
    match &message.payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link),
        ) => ours(link.header.index) || name(link) == Some(&spec.name),
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewAddress(message) | RouteNetlinkMessage::DelAddress(message),
        ) => {
            let wanted = |address| spec.addresses.contains(&address);
            ours(message.header.index) || address(message).is_some_and(wanted)
        }
        _ => rules::concerns(message),
    }
}

/// Reads what matters for the spec.
pub(crate) async fn observe(
    handle: &Handle,
    spec: &Spec,
    dummies: Dummies,
) -> Result<Observed, Error> {
    let links: Vec<_> = handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(|e| Error::Observe(io(e)))?;
    let lo = links
        .iter()
        .find(|link| link.header.flags.contains(LinkFlags::Loopback))
        .ok_or_else(|| Error::Observe(io::Error::other("there is no loopback link")))?;
    let named = links.iter().find(|link| name(link) == Some(&spec.name));
    let addresses: Vec<_> = handle
        .address()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(|e| Error::Observe(io(e)))?;
    let observed = async {
        let rules = rules::rules(handle).await?;
        Ok((rules, rules::routes(handle, lo.header.index).await?))
    };
    let (rules, routes) = observed.await.map_err(Error::Observe)?;
    Ok(Observed {
        lo: state(lo),
        named: match named.map(|link| (link, kind(link))) {
            None => Named::Nothing,
            Some((link, Some(InfoKind::Dummy))) => Named::Dummy(state(link)),
            Some((_, Some(other))) => Named::Other {
                kind: other.to_string(),
            },
            Some((_, None)) => Named::Other {
                kind: "hardware link".into(),
            },
        },
        dummies,
        addresses: addresses.iter().filter_map(held).collect(),
        rules,
        routes,
        names: rules::names(&links),
    })
}

/// Takes one step.
pub(crate) async fn apply(
    handle: &Handle,
    spec: &Spec,
    observed: &Observed,
    step: &Step,
) -> io::Result<()> {
    let index = |place| {
        observed
            .index(place)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    };
    let lo = observed.lo.index;
    let result = match *step {
        Step::AddRule(ref rule) => return rules::add_rule(handle, rule).await,
        Step::RemoveRule(ref rule) => return rules::remove_rule(handle, rule).await,
        Step::AddRoute(address) => return rules::add_route(handle, address, lo).await,
        Step::RemoveRoute(address) => return rules::remove_route(handle, address, lo).await,
        Step::CreateDummy => {
            handle
                .link()
                .add(LinkDummy::new(&spec.name).up().build())
                .execute()
                .await
        }
        Step::SetUp(place) => {
            let up = LinkUnspec::new_with_index(index(place)?).up().build();
            handle.link().change(up).execute().await
        }
        Step::AddAddress(place, address) => {
            let mut add = handle
                .address()
                .add(index(place)?, address, prefix(address));
            dress(add.message_mut(), address);
            add.execute().await
        }
        Step::RemoveAddress(place, address) => {
            let mut named = handle
                .address()
                .add(index(place)?, address, prefix(address));
            let message = named.message_mut().clone();
            handle.address().del(message).execute().await
        }
        Step::DeleteDummy => handle.link().del(index(Place::Dummy)?).execute().await,
    };
    result.map_err(io)
}

/// Makes the address one to be reached at and never one to speak from. The
/// kernel would else pick it as the source of the node's own connections over
/// links without an address, such as those to pods, and prefer it on `lo`.
fn dress(message: &mut AddressMessage, address: IpAddr) {
    message
        .attributes
        .push(AddressAttribute::Protocol(AddressProtocol::Other(ORIGIN)));
    match address {
        IpAddr::V4(_) => message.header.scope = AddressScope::Link,
        IpAddr::V6(_) => {
            // Nobody else can have it on this link, and waiting for the proof takes a second.
            message.header.flags |= AddressHeaderFlags::Nodad;
            // Deprecated: accepts connections, is no source for new ones (RFC 4862, 5.5.4).
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_preferred = 0;
            lifetime.ifa_valid = FOREVER;
            message
                .attributes
                .push(AddressAttribute::CacheInfo(lifetime));
        }
    }
}

fn name(link: &LinkMessage) -> Option<&String> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        })
}

fn kind(link: &LinkMessage) -> Option<&InfoKind> {
    let infos = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        })?;
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })
}

fn state(link: &LinkMessage) -> LinkState {
    LinkState {
        index: link.header.index,
        admin: if link.header.flags.contains(LinkFlags::Up) {
            Admin::Up
        } else {
            Admin::Down
        },
        ipv6: ipv6(link),
    }
}

/// A kernel without IPv6 says nothing of it; one that has it tells each link's
/// `disable_ipv6`.
fn ipv6(link: &LinkMessage) -> Ipv6State {
    let families = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::AfSpecUnspec(families) => Some(families),
            _ => None,
        });
    let inet6 = families
        .into_iter()
        .flatten()
        .find_map(|family| match family {
            AfSpecUnspec::Inet6(inet6) => Some(inet6),
            _ => None,
        });
    let Some(inet6) = inet6 else {
        return Ipv6State::NoKernelSupport;
    };
    let disabled = inet6.iter().any(|attribute| match attribute {
        AfSpecInet6::DevConf(conf) => conf.disable_ipv6 != 0,
        _ => false,
    });
    if disabled {
        Ipv6State::DisabledBySysctl
    } else {
        Ipv6State::Available
    }
}

fn held(message: &AddressMessage) -> Option<Held> {
    let ours = message
        .attributes
        .contains(&AddressAttribute::Protocol(AddressProtocol::Other(ORIGIN)));
    Some(Held {
        link: message.header.index,
        address: address(message)?,
        origin: if ours { Origin::Ours } else { Origin::Foreign },
    })
}

/// On point-to-point links `IFA_ADDRESS` is the peer's; `IFA_LOCAL` is the
/// node's where it is given.
fn address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
    local.or_else(|| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
    })
}

fn prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
