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
//! Pods are joined in one of two ways. [`Node::new`]: as the VPC CNI, Calico and
//! the ptp plugin do it, one veth pair and one host route a pod, and a default
//! route through a gateway that exists on the link only. [`Node::bridged`]: as
//! the bridge plugin, Flannel and kubenet do it, veth pairs into one bridge that
//! has the pods' prefix and is their gateway. What a pod sends to any address of
//! the node arrives with the pod's own source address.
//!
//! Everything vanishes with the values that stand for it, also when a test
//! panics; nothing is named outside. It takes `CAP_SYS_ADMIN` and
//! `CAP_NET_ADMIN`: root, or `unshare -rn`.

mod forge;
mod links;
mod namespace;
mod upstream;

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{LinkBridge, LinkVeth, RouteMessageBuilder};

use links::{
    End, add_address, add_default_route, add_neighbour, enable, host_prefix, link_index, own,
    running, set_up, speak_at_once, veth_into,
};

pub use forge::Forgery;
pub use namespace::{Namespace, netlink};
pub use upstream::{IMDS, Manner, REAL, Tokens, Upstream};

/// The node's own address, on its `eth0`.
pub const NODE_IPV4: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 1);

/// The address and prefix of a bridged node's bridge, its pods' gateway.
pub const BRIDGE_IPV4: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 250, 1, 1), 24);
/// The same over IPv6.
pub const BRIDGE_IPV6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, 1), 64);

/// The gateway of every pod with a link of its own, as in the VPC CNI and Calico.
const GATEWAY_IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY_IPV6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The link-layer address of the node's end of every such pod's veth pair, as in Calico.
const NODE_MAC: [u8; 6] = [0xee; 6];

/// A bridge without one of its own takes that of a port, and changes it with its ports.
const BRIDGE_MAC: [u8; 6] = [0x0a, 0x58, 10, 250, 1, 1];

/// The name of a pod's link inside the pod, and of the node's uplink.
const ETH0: &str = "eth0";
const BRIDGE: &str = "cni0";

/// A node that runs no pods yet.
pub struct Node {
    /// Where the node's processes run, those of host network pods too.
    pub ns: Namespace,
    /// The index of the pods' bridge, if they are on one.
    pub bridge: Option<u32>,
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
    /// The index, on the node, of the node's end of its veth pair: the link that
    /// its packets come in by, or the bridge's port.
    pub node_link: u32,
    /// The link-layer address of the node's end: the same for all pods whose
    /// links are their own.
    pub node_mac: [u8; 6],
    /// The link-layer address of the pod's end, which no other pod has.
    pub mac: [u8; 6],
}

impl Node {
    /// A namespace with `lo` up, the address [`NODE_IPV4`] and forwarding on.
    /// Each pod will have a link of its own.
    ///
    /// # Errors
    /// `PermissionDenied` names what is missing.
    pub async fn new() -> io::Result<Self> {
        let ns = Namespace::new()?;
        ns.run(async || {
            enable("net/ipv4/ip_forward")?;
            speak_at_once()?;
            if Path::new("/proc/sys/net/ipv6").exists() {
                enable("net/ipv6/conf/all/forwarding")?;
            }
            let handle = netlink()?;
            // On a link of its own and not on `lo`, as on a real node: the
            // kernel prefers addresses on `lo` as a source.
            let uplink = LinkVeth::new(ETH0, "cable").build();
            let add = handle.link().add(uplink);
            add.execute().await.map_err(io::Error::other)?;
            set_up(&handle, "cable").await?;
            let eth0 = set_up(&handle, ETH0).await?;
            add_address(&handle, eth0, NODE_IPV4.into(), 24).await
        })
        .await?;
        Ok(Self {
            ns,
            bridge: None,
            pods: AtomicU16::new(0),
        })
    }

    /// The same, with a bridge that all pods will be on, with addresses of
    /// [`BRIDGE_IPV4`] and [`BRIDGE_IPV6`].
    ///
    /// # Errors
    /// `PermissionDenied` names what is missing.
    pub async fn bridged() -> io::Result<Self> {
        let mut node = Self::new().await?;
        let bridge = node.ns.run(async || {
            let handle = netlink()?;
            let bridge = LinkBridge::new(BRIDGE).address(BRIDGE_MAC.to_vec());
            let add = handle.link().add(bridge.build());
            add.execute().await.map_err(io::Error::other)?;
            let bridge = set_up(&handle, BRIDGE).await?;
            let ((v4, v4_prefix), (v6, v6_prefix)) = (BRIDGE_IPV4, BRIDGE_IPV6);
            add_address(&handle, bridge, v4.into(), v4_prefix).await?;
            if Path::new("/proc/sys/net/ipv6").exists() {
                add_address(&handle, bridge, v6.into(), v6_prefix).await?;
                own(&handle, v6.into()).await?;
            }
            Ok::<_, io::Error>(bridge)
        });
        node.bridge = Some(bridge.await?);
        Ok(node)
    }

    /// Joins a new pod, from which the node can be reached when this returns.
    /// Two pods may ask for the same address. Where each has its own link, the
    /// kernel then delivers to the newest, as on a real node; on a bridge to the
    /// one that it heard of last.
    pub async fn add_pod(&self, ipv4: Ipv4Addr, ipv6: Option<Ipv6Addr>) -> io::Result<Pod> {
        self.add_pod_in(Namespace::new()?, ipv4, ipv6).await
    }

    /// The same with the addresses of a pod that was unplugged, and with the
    /// index that its link had.
    pub async fn add_pod_instead(&self, old: &Pod) -> io::Result<Pod> {
        let index = Some(old.node_link);
        self.join(Namespace::new()?, old.ipv4, old.ipv6, index)
            .await
    }

    /// The same in a namespace that is there: a new one, or that of a pod which
    /// was unplugged.
    pub async fn add_pod_in(
        &self,
        ns: Namespace,
        ipv4: Ipv4Addr,
        ipv6: Option<Ipv6Addr>,
    ) -> io::Result<Pod> {
        self.join(ns, ipv4, ipv6, None).await
    }

    async fn join(
        &self,
        ns: Namespace,
        ipv4: Ipv4Addr,
        ipv6: Option<Ipv6Addr>,
        index: Option<u32>,
    ) -> io::Result<Pod> {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        let name = format!("pod{number}");
        let [high, low] = number.to_be_bytes();
        let mac = [0x0a, 0x58, 0, 0, high, low];
        let (bridge, node_mac) = match self.bridge {
            None => (None, NODE_MAC),
            Some(bridge) => (Some(bridge), [0x0a, 0x58, 0, 1, high, low]),
        };
        let addresses: Vec<IpAddr> = [Some(ipv4.into()), ipv6.map(IpAddr::V6)]
            .into_iter()
            .flatten()
            .collect();

        let (pod_ns, link_name) = (ns.file().await?, name.clone());
        let end = End {
            mac: node_mac,
            bridge,
            index,
        };
        let plug = async move || plug(&pod_ns, &link_name, end, mac).await;
        let node_link = self.ns.run(plug).await?;
        let (inside, owned) = (addresses.clone(), addresses.clone());
        ns.run(async move || match bridge {
            None => join_pod(&inside).await,
            Some(_) => join_bridged_pod(&inside).await,
        })
        .await?;
        self.ns
            .run(async move || match bridge {
                None => join_node(&name, &addresses, mac).await,
                Some(_) => join_bridge(&name).await,
            })
            .await?;
        ns.run(async move || {
            let handle = netlink()?;
            running(&handle, ETH0).await?;
            for address in owned {
                own(&handle, address).await?;
            }
            Ok::<_, io::Error>(())
        })
        .await?;
        Ok(Pod {
            ns,
            ipv4,
            ipv6,
            node_link,
            node_mac,
            mac,
        })
    }

    /// Takes a pod off the network, its link and routes included, and kills
    /// its processes.
    pub async fn remove_pod(&self, pod: Pod) -> io::Result<()> {
        self.unplug(&pod).await
    }

    /// Takes a pod's link and routes away, as when its sandbox is torn down. Its
    /// processes live on.
    pub async fn unplug(&self, pod: &Pod) -> io::Result<()> {
        let link = pod.node_link;
        self.ns
            .run(async move || {
                let del = netlink()?.link().del(link);
                del.execute().await.map_err(io::Error::other)
            })
            .await
    }
}

/// Makes a veth pair, one end of it in the pod, and returns the index of the node's.
async fn plug(pod: &File, name: &str, end: End, mac: [u8; 6]) -> io::Result<u32> {
    let handle = netlink()?;
    let add = handle.link().add(veth_into(pod, name, end, mac));
    add.execute().await.map_err(io::Error::other)?;
    link_index(&handle, name).await
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
        add_default_route(&handle, link, gateway).await?;
    }
    Ok(())
}

/// The same on a bridge: addresses in its prefix, and its own as the gateway.
async fn join_bridged_pod(addresses: &[IpAddr]) -> io::Result<()> {
    let handle = netlink()?;
    let link = set_up(&handle, ETH0).await?;
    for &address in addresses {
        let (gateway, prefix): (IpAddr, u8) = match address {
            IpAddr::V4(_) => (BRIDGE_IPV4.0.into(), BRIDGE_IPV4.1),
            IpAddr::V6(_) => (BRIDGE_IPV6.0.into(), BRIDGE_IPV6.1),
        };
        add_address(&handle, link, address, prefix).await?;
        add_default_route(&handle, link, gateway).await?;
    }
    Ok(())
}

/// The node's side: a host route to each address of the pod.
async fn join_node(name: &str, addresses: &[IpAddr], mac: [u8; 6]) -> io::Result<()> {
    let handle = netlink()?;
    let link = set_up(&handle, name).await?;
    for &address in addresses {
        add_neighbour(&handle, link, address, mac).await?;
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

/// The same on a bridge, which learns of the pod's addresses by itself.
async fn join_bridge(name: &str) -> io::Result<()> {
    let handle = netlink()?;
    set_up(&handle, name).await?;
    running(&handle, name).await?;
    // It has no carrier before its first port has one.
    running(&handle, BRIDGE).await
}
