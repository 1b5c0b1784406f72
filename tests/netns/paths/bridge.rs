//! Pods behind a bridge, which the kernel knows by what they send.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use credlet_tests::node::{BRIDGE_IPV4, BRIDGE_IPV6, Forgery, NODE_IPV4, Node, Pod, netlink};
use netsetup::{Change, Changes, Mac, Path, Paths, Port, Shown, StationEvent};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};

use tokio::time::timeout;

use super::{Result, SOON, V4, V6, dual_stack, ingress, kernel, told};

/// For a handshake that must not come about: one that does takes less.
const MOMENT: Duration = Duration::from_millis(500);

/// Sees to it that the node has heard of the addresses of a pod on its bridge.
async fn speak(node: &Node, pod: &Pod) -> Result {
    ingress(node, &pod.ns, pod.ipv4.into(), BRIDGE_IPV4.0.into()).await?;
    if let Some(v6) = pod.ipv6 {
        ingress(node, &pod.ns, v6.into(), BRIDGE_IPV6.0.into()).await?;
    }
    Ok(())
}

/// Waits until the address has this path. Behind a bridge that takes a packet,
/// and links have some to send of their own accord.
async fn becomes(paths: &Paths, changes: &mut Changes, address: IpAddr, wanted: Shown) -> Result {
    let wait = async {
        while paths.path(address).await? != wanted {
            changes.next().await?;
        }
        Ok(())
    };
    let late = |_| format!("{address} never has the path {wanted:?}");
    timeout(SOON, wait).await.map_err(late)?
}

/// The pod's port of the bridge, and a link-layer address.
fn behind(node: &Node, pod: &Pod, mac: Mac) -> Shown {
    Shown::Path(Path {
        link: node.bridge.expect("it is bridged"),
        port: Port::Bridged {
            port: pod.node_link,
            mac,
        },
    })
}

fn neighbour(node: &Node, address: IpAddr, mac: Option<Mac>) -> Change {
    Change::Neighbour {
        link: node.bridge.expect("it is bridged"),
        address,
        mac,
    }
}

fn station(pod: &Pod, mac: Mac, event: StationEvent) -> Change {
    Change::Station {
        mac,
        port: pod.node_link,
        event,
    }
}

#[tokio::test]
async fn an_idle_pod_behind_a_bridge_is_known_once_it_was_asked_for() -> Result {
    let node = Node::bridged().await?;
    let (pod, _) = dual_stack(&node).await?;
    let (paths, mut changes) = kernel(&node).await?;
    for address in [V4.into(), V6.into()] {
        assert_eq!(paths.path(address).await?, Shown::Unresolved);
        paths.resolve(address).await?;
        let known = behind(&node, &pod, pod.mac);
        becomes(&paths, &mut changes, address, known).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_pod_that_only_its_bridge_forgot_is_known_once_it_was_asked_for() -> Result {
    let node = Node::bridged().await?;
    let pod = node.add_pod(V4, None).await?;
    // Else it reports its groups and solicits routers when it likes.
    let silence = || fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    pod.ns.run(async move || silence()).await?;
    speak(&node, &pod).await?;
    let (paths, mut changes) = kernel(&node).await?;
    let (address, known) = (V4.into(), behind(&node, &pod, pod.mac));
    assert_eq!(paths.path(address).await?, known);

    forget(&node, &pod).await?;
    let forgotten = station(&pod, pod.mac, StationEvent::Forgotten);
    told(&mut changes, forgotten).await?;
    assert_eq!(paths.path(address).await?, Shown::Unresolved);

    paths.resolve(address).await?;
    let seen = station(&pod, pod.mac, StationEvent::Seen);
    told(&mut changes, seen).await?;
    assert_eq!(paths.path(address).await?, known);
    Ok(())
}

/// Takes a pod's link-layer address out of the bridge's table.
async fn forget(node: &Node, pod: &Pod) -> Result {
    let mut entry = NeighbourMessage::default();
    entry.header.family = AddressFamily::Bridge;
    entry.header.ifindex = pod.node_link;
    entry.header.flags = NeighbourFlags::Controller;
    entry.attributes = vec![NeighbourAttribute::LinkLayerAddress(pod.mac.to_vec())];
    node.ns
        .run(async move || Ok(netlink()?.neighbours().del(entry).execute().await?))
        .await
}

#[tokio::test]
async fn behind_a_bridge_the_next_owner_of_an_address_has_another_path() -> Result {
    let node = Node::bridged().await?;
    let pod = node.add_pod(V4, Some(V6)).await?;
    speak(&node, &pod).await?;
    let (paths, mut changes) = kernel(&node).await?;
    assert_eq!(paths.path(V4.into()).await?, behind(&node, &pod, pod.mac));

    node.unplug(&pod).await?;
    let forgotten = station(&pod, pod.mac, StationEvent::Forgotten);
    told(&mut changes, forgotten).await?;
    assert_eq!(paths.path(V4.into()).await?, Shown::Unresolved);

    let heir = node.add_pod(V4, Some(V6)).await?;
    speak(&node, &heir).await?;
    for address in [V4.into(), V6.into()] {
        told(&mut changes, neighbour(&node, address, Some(heir.mac))).await?;
        assert_eq!(paths.path(address).await?, behind(&node, &heir, heir.mac));
    }
    Ok(())
}

#[tokio::test]
async fn a_forged_address_that_nobody_was_told_of_completes_no_handshake() -> Result {
    for node in [Node::new().await?, Node::bridged().await?] {
        let (victim, forger) = dual_stack(&node).await?;
        let (paths, _) = kernel(&node).await?;
        if node.bridge.is_some() {
            speak(&node, &victim).await?;
            speak(&node, &forger).await?;
        }
        forger.forge(&victim, Forgery::Silent).await?;
        let before = paths.path(V4.into()).await?;
        let link = ingress(&node, &forger.ns, V4.into(), NODE_IPV4.into());
        assert!(timeout(MOMENT, link).await.is_err());
        assert_eq!(paths.path(V4.into()).await?, before);
    }
    Ok(())
}

#[tokio::test]
async fn an_announced_forgery_on_a_bridge_has_the_forgers_path() -> Result {
    let node = Node::bridged().await?;
    let (victim, forger) = dual_stack(&node).await?;
    speak(&node, &victim).await?;
    speak(&node, &forger).await?;
    let (paths, mut changes) = kernel(&node).await?;
    forger.forge(&victim, Forgery::Announced).await?;
    let doors = [BRIDGE_IPV4.0.into(), BRIDGE_IPV6.0.into()];
    for (address, door) in [V4.into(), V6.into()].into_iter().zip(doors) {
        let known = behind(&node, &victim, victim.mac);
        assert_eq!(paths.path(address).await?, known);
        let link = ingress(&node, &forger.ns, address, door).await?;
        assert_eq!(link, node.bridge);
        let moved = behind(&node, &forger, forger.mac);
        assert_eq!(paths.path(address).await?, moved);
        told(&mut changes, neighbour(&node, address, Some(forger.mac))).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_forgery_from_the_victims_link_layer_address_has_the_forgers_port() -> Result {
    let node = Node::bridged().await?;
    let (victim, forger) = dual_stack(&node).await?;
    speak(&node, &victim).await?;
    speak(&node, &forger).await?;
    let (paths, mut changes) = kernel(&node).await?;
    forger.forge(&victim, Forgery::From(victim.mac)).await?;
    let link = ingress(&node, &forger.ns, V4.into(), BRIDGE_IPV4.0.into()).await?;
    assert_eq!(link, node.bridge);
    let moved = behind(&node, &forger, victim.mac);
    becomes(&paths, &mut changes, V4.into(), moved).await?;

    // The victim takes its place back with its next packet, which is told too.
    speak(&node, &victim).await?;
    let seen = station(&victim, victim.mac, StationEvent::Seen);
    told(&mut changes, seen).await
}

/// A bridge sends what is for its own end of a veth pair out of that pair, and
/// does not learn where else such an address is.
#[tokio::test]
async fn a_forgery_from_the_nodes_end_of_the_forgers_link_completes_and_has_no_path() -> Result {
    let node = Node::bridged().await?;
    let (victim, forger) = dual_stack(&node).await?;
    speak(&node, &victim).await?;
    speak(&node, &forger).await?;
    let (paths, mut changes) = kernel(&node).await?;
    let forgery = Forgery::From(forger.node_mac);
    forger.forge(&victim, forgery).await?;
    let link = ingress(&node, &forger.ns, V4.into(), BRIDGE_IPV4.0.into()).await?;
    assert_eq!(link, node.bridge);
    let address = V4.into();
    told(
        &mut changes,
        neighbour(&node, address, Some(forger.node_mac)),
    )
    .await?;
    assert_eq!(paths.path(address).await?, Shown::Unresolved);
    Ok(())
}
