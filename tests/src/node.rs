//! A simulated node: network namespaces joined by veth pairs.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use credlet_tests::node::Node;
//!
//! let node = Node::new().await?;
//! let pod = node.add_pod("10.250.1.2".parse().unwrap(), None).await?;
//! let listener = node.ns.run(async || tokio::net::TcpListener::bind("0.0.0.0:80").await).await?;
//! pod.ns.run(async || tokio::net::TcpStream::connect("10.250.0.1:80").await).await?;
//! assert_eq!(listener.accept().await?.1.ip(), pod.ipv4);
//! # Ok(())
//! # }
//! ```
//!
//! Pods are joined as the VPC CNI, Calico and the ptp plugin do it: one veth
//! pair and one host route a pod, and a default route through a gateway that
//! exists on the link only. What a pod sends to any address of the node
//! arrives with the pod's own source address.
//!
//! Everything vanishes with the values that stand for it, also when a test
//! panics; nothing is named outside. It takes `CAP_SYS_ADMIN` and
//! `CAP_NET_ADMIN`: root, or `unshare -rn`.

mod namespace;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage, State,
};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

pub use namespace::{Namespace, netlink};

/// The node's own address, on its `eth0`.
pub const NODE_IPV4: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 1);

/// The gateway of every pod, as in the VPC CNI and Calico.
const GATEWAY_IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY_IPV6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The link-layer address of the node's end of every pod's veth pair, as in Calico.
const NODE_MAC: [u8; 6] = [0xee; 6];

/// The name of a pod's link inside the pod, and of the node's uplink.
const ETH0: &str = "eth0";

/// A node that runs no pods yet.
pub struct Node {
    /// Where the node's processes run, those of host network pods too.
    pub ns: Namespace,
    pods: AtomicU16,
}

/// A pod on its node's network. Dropping it removes its link soon after;
/// [`Node::remove_pod`] at once.
pub struct Pod {
    /// Where the pod's processes run.
    pub ns: Namespace,
    /// The source address of what it sends over IPv4.
    pub ipv4: Ipv4Addr,
    /// The source address of what it sends over IPv6, if it is dual-stack.
    pub ipv6: Option<Ipv6Addr>,
    /// The index, on the node, of the link that its packets come in by.
    pub node_link: u32,
}

impl Node {
    /// A namespace with `lo` up, the address [`NODE_IPV4`] and forwarding on.
    ///
    /// # Errors
    /// `PermissionDenied` names what is missing.
    pub async fn new() -> io::Result<Self> {
        let ns = Namespace::new()?;
        ns.run(async || {
            enable("net/ipv4/ip_forward")?;
            if Path::new("/proc/sys/net/ipv6").exists() {
                enable("net/ipv6/conf/all/forwarding")?;
            }
            let handle = netlink()?;
            // On a link of its own and not on `lo`, as on a real node: the
            // kernel prefers addresses on `lo` as a source.
            let uplink = LinkVeth::new(ETH0, "cable").build();
            handle
                .link()
                .add(uplink)
                .execute()
                .await
                .map_err(io::Error::other)?;
            set_up(&handle, "cable").await?;
            let eth0 = set_up(&handle, ETH0).await?;
            add_address(&handle, eth0, NODE_IPV4.into(), 24).await
        })
        .await?;
        Ok(Self {
            ns,
            pods: AtomicU16::new(0),
        })
    }

    /// Joins a new pod, from which the node can be reached when this returns.
    /// Two pods may ask for the same address: as on a real node, the kernel
    /// then delivers to the newest.
    pub async fn add_pod(&self, ipv4: Ipv4Addr, ipv6: Option<Ipv6Addr>) -> io::Result<Pod> {
        let name = format!("pod{}", self.pods.fetch_add(1, Ordering::Relaxed));
        let ns = Namespace::new()?;
        // 0a:58 and the address: the CNI bridge plugin's convention.
        let [a, b, c, d] = ipv4.octets();
        let pod_mac = [0x0a, 0x58, a, b, c, d];
        let addresses: Vec<IpAddr> = [Some(ipv4.into()), ipv6.map(IpAddr::V6)]
            .into_iter()
            .flatten()
            .collect();

        let pod_ns = ns.file().await?;
        let link_name = name.clone();
        let node_link = self
            .ns
            .run(async move || {
                let handle = netlink()?;
                let pair = veth_into(&pod_ns, &link_name, pod_mac);
                handle
                    .link()
                    .add(pair)
                    .execute()
                    .await
                    .map_err(io::Error::other)?;
                link_index(&handle, &link_name).await
            })
            .await?;
        let inside = addresses.clone();
        ns.run(async move || join_pod(&inside).await).await?;
        self.ns
            .run(async move || join_node(&name, &addresses, pod_mac).await)
            .await?;
        ns.run(async || running(&netlink()?, ETH0).await).await?;
        Ok(Pod {
            ns,
            ipv4,
            ipv6,
            node_link,
        })
    }

    /// Takes a pod off the network, its link and routes included, and kills
    /// its processes.
    pub async fn remove_pod(&self, pod: Pod) -> io::Result<()> {
        self.ns
            .run(async move || {
                netlink()?
                    .link()
                    .del(pod.node_link)
                    .execute()
                    .await
                    .map_err(io::Error::other)
            })
            .await
    }
}

/// The pod's side: addresses, and a default route through the node.
async fn join_pod(addresses: &[IpAddr]) -> io::Result<()> {
    let handle = netlink()?;
    let link = set_up(&handle, ETH0).await?;
    for &address in addresses {
        add_address(&handle, link, address, host_prefix(address)).await?;
        let gateway = match address {
            IpAddr::V4(_) => IpAddr::V4(GATEWAY_IPV4),
            IpAddr::V6(_) => IpAddr::V6(GATEWAY_IPV6),
        };
        add_neighbour(&handle, link, gateway, NODE_MAC).await?;
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
        handle
            .route()
            .add(route)
            .execute()
            .await
            .map_err(io::Error::other)?;
    }
    Ok(())
}

/// The node's side: a host route to each address of the pod.
async fn join_node(name: &str, addresses: &[IpAddr], pod_mac: [u8; 6]) -> io::Result<()> {
    let handle = netlink()?;
    let link = set_up(&handle, name).await?;
    for &address in addresses {
        add_neighbour(&handle, link, address, pod_mac).await?;
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(address, host_prefix(address))
            .map_err(io::Error::other)?
            .output_interface(link);
        let route = match address {
            IpAddr::V4(_) => route.scope(RouteScope::Link),
            IpAddr::V6(_) => route,
        };
        // Replaces: the newest owner of an address is whom the kernel delivers to.
        let add = handle.route().add(route.build()).replace();
        add.execute().await.map_err(io::Error::other)?;
    }
    running(&handle, name).await
}

fn veth_into(pod: &fs::File, name: &str, pod_mac: [u8; 6]) -> LinkMessage {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(ETH0)
        .address(pod_mac.to_vec())
        .setns_by_fd(pod.as_raw_fd())
        .build();
    LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(name)
        .address(NODE_MAC.to_vec())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build()
}

async fn set_up(handle: &Handle, name: &str) -> io::Result<u32> {
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

/// Waits until the kernel sends on a link whose other end is up. Until then it
/// drops packets, and a lost handshake costs a second.
async fn running(handle: &Handle, name: &str) -> io::Result<()> {
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

async fn link_index(handle: &Handle, name: &str) -> io::Result<u32> {
    link(handle, name).await.map(|link| link.header.index)
}

async fn link(handle: &Handle, name: &str) -> io::Result<LinkMessage> {
    let mut links = Box::pin(handle.link().get().match_name(name).execute());
    let link = links.try_next().await.map_err(io::Error::other)?;
    link.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no link {name}")))
}

async fn add_address(handle: &Handle, link: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    let mut add = handle.address().add(link, address, prefix);
    if address.is_ipv6() {
        // Until duplicates are ruled out, a pod would speak from `::1`.
        add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    }
    add.execute().await.map_err(io::Error::other)
}

async fn add_neighbour(
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

fn host_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Turns a switch of this thread's network namespace on.
fn enable(key: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys").join(key), "1")
}
