//! The link, addresses and routes.

use std::io;
use std::net::{IpAddr, SocketAddr};

use credlet_tests::node::{NODE_IPV4, Node, Pod};
use tokio::net::{TcpListener, TcpStream};

/// The source address that a listener at `address` on the node sees when the pod connects.
async fn source_seen(node: &Node, pod: &Pod, address: SocketAddr) -> io::Result<IpAddr> {
    let listener = node
        .ns
        .run(async move || TcpListener::bind(address).await)
        .await?;
    let _client = pod
        .ns
        .run(async move || TcpStream::connect(address).await)
        .await?;
    Ok(listener.accept().await?.1.ip())
}

#[tokio::test]
async fn pods_reach_the_node_from_their_own_addresses() -> io::Result<()> {
    let node = Node::new().await?;
    let first = node.add_pod([10, 250, 1, 2].into(), None).await?;
    let second = node
        .add_pod([10, 250, 1, 3].into(), "fd00:250::3".parse().ok())
        .await?;
    let address = (NODE_IPV4, 80).into();
    assert_eq!(source_seen(&node, &first, address).await?, first.ipv4);
    assert_eq!(source_seen(&node, &second, address).await?, second.ipv4);
    assert_ne!(first.node_link, second.node_link);

    let spare = node.add_pod(first.ipv4, None).await?;
    node.remove_pod(first).await?;
    assert_eq!(source_seen(&node, &spare, address).await?, spare.ipv4);
    Ok(())
}
