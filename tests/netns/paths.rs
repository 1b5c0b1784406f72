//! What the kernel shows of who has an address, on a simulated node.

mod bridge;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use credlet_tests::client;
use credlet_tests::node::netlink;
use credlet_tests::node::{BRIDGE_IPV4, BRIDGE_IPV6, NODE_IPV4, Namespace, Node, Pod};
use netsetup::{Change, Changes, LinkEvent, Path, Paths, Port, Shown, Spec};
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::RouteMessageBuilder;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::network::drop_capabilities;

const V4: Ipv4Addr = Ipv4Addr::new(10, 250, 1, 2);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, 2);
const OTHER_V4: Ipv4Addr = Ipv4Addr::new(10, 250, 1, 3);
const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, 3);

/// The node's own loopback link.
const LO: u32 = 1;

/// For what the kernel does within milliseconds.
const SOON: Duration = Duration::from_secs(10);

/// After which nothing more is told of what has happened.
const QUIET: Duration = Duration::from_millis(200);

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Listens as the agent does, and asks to be told the links.
async fn listen(ns: &Namespace, address: SocketAddr) -> io::Result<TcpListener> {
    ns.run(async move || {
        let listener = TcpListener::bind(address).await?;
        match address {
            SocketAddr::V4(_) => setsockopt(&listener, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&listener, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        Ok(listener)
    })
    .await
}

/// The link by which the node says that a connection came in, made there from
/// the first address to the second, which is the node's.
async fn ingress(node: &Node, ns: &Namespace, from: IpAddr, to: IpAddr) -> Result<Option<u32>> {
    let to = SocketAddr::from((to, 80));
    let listener = listen(&node.ns, to).await?;
    let connected = ns.run(async move || client::connect(from, to).await);
    let _client = timeout(SOON, connected).await??;
    let (accepted, peer) = listener.accept().await?;
    assert_eq!(peer.ip(), from);
    Ok(netsetup::ingress(accepted.as_fd(), peer.ip()))
}

/// The kernel's side of the node.
async fn kernel(node: &Node) -> Result<(Paths, Changes)> {
    node.ns
        .run(async || {
            let (paths, changes, driver) = Paths::open().await?;
            tokio::task::spawn_local(driver);
            Ok((paths, changes))
        })
        .await
}

/// Waits until this is told.
async fn told(changes: &mut Changes, wanted: Change) -> Result {
    let wait = async {
        while changes.next().await? != wanted {}
        Ok(())
    };
    let late = |_| format!("never told: {wanted:?}");
    timeout(SOON, wait).await.map_err(late)?
}

/// A link that is the pod's own.
fn own(pod: &Pod) -> Shown {
    Shown::Path(Path {
        link: pod.node_link,
        port: Port::Own,
    })
}

fn link(index: u32, event: LinkEvent) -> Change {
    Change::Link { index, event }
}

async fn dual_stack(node: &Node) -> io::Result<(Pod, Pod)> {
    Ok((
        node.add_pod(V4, Some(V6)).await?,
        node.add_pod(OTHER_V4, Some(OTHER_V6)).await?,
    ))
}

#[tokio::test]
async fn a_connection_tells_the_link_of_its_pod() -> Result {
    let node = Node::new().await?;
    let (door_v4, door_v6) = ("169.254.170.23".parse()?, "fd00:ec2::23".parse()?);
    let spec = Spec::new(vec![door_v4, door_v6]);
    node.ns
        .run(async move || netsetup::ensure(&spec).await)
        .await?;
    let (one, other) = dual_stack(&node).await?;
    assert_ne!(one.node_link, other.node_link);
    for pod in [&one, &other] {
        let (v4, v6) = (pod.ipv4.into(), pod.ipv6.expect("dual-stack").into());
        let link = Some(pod.node_link);
        assert_eq!(ingress(&node, &pod.ns, v4, door_v4).await?, link);
        assert_eq!(ingress(&node, &pod.ns, v6, door_v6).await?, link);
    }
    Ok(())
}

#[tokio::test]
async fn the_nodes_own_connections_come_in_by_the_link_that_has_the_address() -> Result {
    let node = Node::bridged().await?;
    let (lo_v4, lo_v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    assert_eq!(ingress(&node, &node.ns, lo_v4, lo_v4).await?, Some(LO));
    assert_eq!(ingress(&node, &node.ns, lo_v6, lo_v6).await?, Some(LO));
    let (v4, v6) = (BRIDGE_IPV4.0.into(), BRIDGE_IPV6.0.into());
    assert_eq!(ingress(&node, &node.ns, v4, v4).await?, node.bridge);
    assert_eq!(ingress(&node, &node.ns, v6, v6).await?, node.bridge);
    Ok(())
}

#[tokio::test]
async fn every_pod_on_a_bridge_comes_in_by_the_bridge() -> Result {
    let node = Node::bridged().await?;
    let (one, other) = dual_stack(&node).await?;
    for pod in [&one, &other] {
        let (v4, v6) = (pod.ipv4.into(), pod.ipv6.expect("dual-stack").into());
        let (to_v4, to_v6) = (BRIDGE_IPV4.0.into(), BRIDGE_IPV6.0.into());
        assert_eq!(ingress(&node, &pod.ns, v4, to_v4).await?, node.bridge);
        assert_eq!(ingress(&node, &pod.ns, v6, to_v6).await?, node.bridge);
    }
    Ok(())
}

#[tokio::test]
async fn a_pod_with_a_link_of_its_own_has_it_for_a_path() -> Result {
    let node = Node::new().await?;
    let (one, other) = dual_stack(&node).await?;
    let (paths, _) = kernel(&node).await?;
    assert_eq!(paths.path(V4.into()).await?, own(&one));
    assert_eq!(paths.path(V6.into()).await?, own(&one));
    assert_eq!(paths.path(OTHER_V4.into()).await?, own(&other));
    assert_eq!(paths.path(OTHER_V6.into()).await?, own(&other));
    Ok(())
}

#[tokio::test]
async fn an_address_that_shares_its_way_with_others_has_no_path() -> Result {
    let node = Node::new().await?;
    let (paths, _) = kernel(&node).await?;
    let far: IpAddr = "192.0.2.1".parse()?;
    let nowhere = paths.path(far).await?;
    let uplink = async || {
        let gateway = Ipv4Addr::new(10, 250, 0, 254);
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway);
        netlink()?.route().add(route.build()).execute().await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    node.ns.run(uplink).await?;
    let through_a_gateway = paths.path(far).await?;
    let on_a_shared_link = paths.path(Ipv4Addr::new(10, 250, 0, 9).into()).await?;
    let of_the_node = paths.path(NODE_IPV4.into()).await?;
    let shown = [nowhere, through_a_gateway, on_a_shared_link, of_the_node];
    assert_eq!(shown, [Shown::Hidden; 4]);
    Ok(())
}

#[tokio::test]
async fn a_path_goes_with_its_link_and_the_next_owner_has_another() -> Result {
    let node = Node::new().await?;
    let (paths, mut changes) = kernel(&node).await?;
    let pod = node.add_pod(V4, Some(V6)).await?;
    told(&mut changes, link(pod.node_link, LinkEvent::Appeared)).await?;
    told(&mut changes, Change::Address(V6.into())).await?;
    assert!(changes.links().any(|index| index == pod.node_link));

    node.unplug(&pod).await?;
    told(&mut changes, link(pod.node_link, LinkEvent::Gone)).await?;
    assert_eq!(paths.path(V4.into()).await?, Shown::Hidden);
    assert_eq!(paths.path(V6.into()).await?, Shown::Hidden);
    assert!(!changes.links().any(|index| index == pod.node_link));

    let heir = node.add_pod(V4, Some(V6)).await?;
    assert!(heir.node_link > pod.node_link);
    told(&mut changes, link(heir.node_link, LinkEvent::Appeared)).await?;
    told(&mut changes, Change::Address(V4.into())).await?;
    assert_eq!(paths.path(V4.into()).await?, own(&heir));
    assert_eq!(paths.path(V6.into()).await?, own(&heir));
    Ok(())
}

#[tokio::test]
async fn of_two_pods_with_one_address_the_newest_has_the_path() -> Result {
    let node = Node::new().await?;
    let _old = node.add_pod(V4, Some(V6)).await?;
    let (paths, mut changes) = kernel(&node).await?;
    let new = node.add_pod(V4, Some(V6)).await?;
    told(&mut changes, Change::Address(V4.into())).await?;
    assert_eq!(paths.path(V4.into()).await?, own(&new));
    Ok(())
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_so_and_misses_no_link() -> Result {
    let node = Node::bridged().await?;
    let (_, mut changes) = kernel(&node).await?;
    let bridge = node.bridge.expect("it is bridged");
    let flood = async move || {
        let handle = netlink()?;
        for host in 0..4000_u16 {
            let [high, low] = host.to_be_bytes();
            let address = Ipv4Addr::new(10, 250, high, low).into();
            let add = handle.neighbours().add(bridge, address);
            add.link_layer_address(&[2; 6]).replace().execute().await?;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    node.ns.run(flood).await?;
    let pod = node.add_pod(V4, None).await?;
    told(&mut changes, link(pod.node_link, LinkEvent::Appeared)).await?;
    told(&mut changes, Change::All).await
}

#[tokio::test]
async fn a_link_that_has_gone_is_in_the_backlog_until_it_was_dealt_with() -> Result {
    let node = Node::new().await?;
    let pod = node.add_pod(V4, Some(V6)).await?;
    let (_, mut changes) = kernel(&node).await?;
    let backlog = changes.backlog();
    assert!(backlog.is_empty());
    node.unplug(&pod).await?;
    assert!(!backlog.is_empty());
    told(&mut changes, link(pod.node_link, LinkEvent::Gone)).await?;
    assert!(!backlog.is_empty(), "it was told and not dealt with");
    while timeout(QUIET, changes.next()).await.is_ok() {}
    assert!(backlog.is_empty());
    Ok(())
}

#[tokio::test]
async fn to_look_takes_no_privilege_and_to_make_the_kernel_ask_is_refused_without() -> Result {
    let node = Node::bridged().await?;
    let (_pod, _) = dual_stack(&node).await?;
    let unprivileged = || {
        drop_capabilities()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let look = async {
            let (paths, _changes, driver) = Paths::open().await?;
            tokio::select! {
                error = driver => Err(error),
                both = async { (paths.path(V4.into()).await, paths.resolve(V4.into()).await) } => {
                    Ok(both)
                }
            }
        };
        Result::Ok(runtime.block_on(look)?)
    };
    let thread = node
        .ns
        .run(async move || std::thread::spawn(unprivileged))
        .await;
    let (seen, asked) = thread.join().expect("it does not panic")?;
    assert_eq!(seen?, Shown::Unresolved);
    let refused = asked.expect_err("it has no capability");
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    Ok(())
}
