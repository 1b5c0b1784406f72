//! Links, addresses, neighbours and routes of the calling thread's namespace.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage, State,
};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::ETH0;

/// The node's end of a veth pair.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) mac: [u8; 6],
    /// The index of the bridge that it is a port of.
    pub(super) bridge: Option<u32>,
    /// The index that it is to have; `None` leaves it to the kernel.
    pub(super) index: Option<u32>,
}

pub(super) fn veth_into(pod: &File, name: &str, end: End, mac: [u8; 6]) -> LinkMessage {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(ETH0)
        .address(mac.to_vec())
        .setns_by_fd(pod.as_raw_fd())
        .build();
    let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(name)
        .address(end.mac.to_vec())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
    let mut message = match end.bridge {
        None => pair.build(),
        Some(bridge) => pair.controller(bridge).build(),
    };
    message.header.index = end.index.unwrap_or_default();
    message
}

/// A default route out of the link, whatever the link's prefixes.
pub(super) async fn add_default_route(
    handle: &Handle,
    link: u32,
    gateway: IpAddr,
) -> io::Result<()> {
    let route = match gateway {
        IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .output_interface(link)
            .onlink()
            .build(),
        IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
            .gateway(gateway)
            .output_interface(link)
            .onlink()
            .build(),
    };
    let add = handle.route().add(route);
    add.execute().await.map_err(io::Error::other)
}

pub(super) async fn set_up(handle: &Handle, name: &str) -> io::Result<u32> {
    let index = link_index(handle, name).await?;
    let up = LinkUnspec::new_with_index(index).up().build();
    handle
        .link()
        .change(up)
        .execute()
        .await
        .map_err(io::Error::other)?;
    Ok(index)
}

/// Waits until the kernel takes what comes in for an address as its own. Over
/// IPv6 it sees to that after it has accepted the address.
pub(super) async fn own(handle: &Handle, address: IpAddr) -> io::Result<()> {
    let question = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(address, host_prefix(address))
        .map_err(io::Error::other)?
        .build();
    let wait = async {
        loop {
            let mut routes = Box::pin(handle.route().get(question.clone()).execute());
            if let Ok(Some(route)) = routes.try_next().await
                && route.header.kind == RouteType::Local
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    Ok(tokio::time::timeout(Duration::from_secs(10), wait).await?)
}

/// Waits until the kernel sends on a link whose other end is up. Until then it
/// drops packets, and a lost handshake costs a second.
pub(super) async fn running(handle: &Handle, name: &str) -> io::Result<()> {
    let wait = async {
        while !link(handle, name)
            .await?
            .attributes
            .contains(&LinkAttribute::OperState(State::Up))
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await?
}

pub(super) async fn link_index(handle: &Handle, name: &str) -> io::Result<u32> {
    link(handle, name).await.map(|link| link.header.index)
}

pub(super) async fn link(handle: &Handle, name: &str) -> io::Result<LinkMessage> {
    let mut links = Box::pin(handle.link().get().match_name(name).execute());
    let link = links.try_next().await.map_err(io::Error::other)?;
    link.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no link {name}")))
}

pub(super) async fn add_address(
    handle: &Handle,
    link: u32,
    address: IpAddr,
    prefix: u8,
) -> io::Result<()> {
    let mut add = handle.address().add(link, address, prefix);
    if address.is_ipv6() {
        // Until duplicates are ruled out, a pod would speak from `::1`.
        add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    }
    add.execute().await.map_err(io::Error::other)
}

pub(super) async fn add_neighbour(
    handle: &Handle,
    link: u32,
    address: IpAddr,
    mac: [u8; 6],
) -> io::Result<()> {
    let add = handle
        .neighbours()
        .add(link, address)
        .link_layer_address(&mac);
    add.execute().await.map_err(io::Error::other)
}

pub(super) fn host_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Turns a switch of this thread's network namespace on.
pub(super) fn enable(key: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys").join(key), "1")
}

/// Has links that are made from now on speak from their link-local addresses at
/// once. Ruling out duplicates takes seconds, in which neighbours are not asked.
pub(super) fn speak_at_once() -> io::Result<()> {
    for which in ["all", "default"] {
        let key = Path::new("/proc/sys/net/ipv6/conf").join(which);
        if key.exists() {
            fs::write(key.join("accept_dad"), "0")?;
        }
    }
    Ok(())
}
