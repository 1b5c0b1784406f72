//! What is beyond a node: a router with the instance metadata of the node's own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use rtnetlink::RouteMessageBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::links::{
    End, add_address, add_default_route, link_index, own, running, set_up, speak_at_once, veth_into,
};
use super::{ETH0, Namespace, Node, netlink};

/// Where instance metadata is, over IPv4 and IPv6.
pub const IMDS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// What the stand-in answers to every request, before the address that asked.
pub const REAL: &str = "the real service";

const UPLINK: &str = "uplink";
const UPLINK_MAC: [u8; 6] = [0x0a, 0x58, 0, 2, 0, 1];
const ROUTER_MAC: [u8; 6] = [0x0a, 0x58, 0, 2, 0, 2];
const NODE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 251, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x251, 0, 0, 0, 0, 0, 1)),
];
const ROUTER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 251, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x251, 0, 0, 0, 0, 0, 2)),
];
/// Those of pods, as the other tests give them.
const PODS: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::new(10, 250, 0, 0)), 16),
    (
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, 0)),
        64,
    ),
];

/// A router that is the default gateway of its node and has [`IMDS`].
pub struct Upstream {
    _ns: Namespace,
    heard: Arc<Mutex<Vec<IpAddr>>>,
    manner: Arc<Mutex<Manner>>,
}

/// How [`IMDS`] is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Every request alike.
    Plain,
    /// As by EC2: with a session token alone, if it is required, and the answer to
    /// the request for one goes so many hops.
    Ec2 {
        /// The hop limit.
        hops: u32,
        /// Whether a token is required.
        tokens: Tokens,
    },
}

/// Whether session tokens are required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// They are.
    Required,
    /// They are not.
    Optional,
}

impl Upstream {
    /// Who was answered so far, in this order.
    pub fn heard(&self) -> Vec<IpAddr> {
        let heard = self.heard.lock();
        heard.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers so from now on.
    pub fn answers(&self, manner: Manner) {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }
}

impl Node {
    /// Joins a router, and through it the real instance metadata, which pods and
    /// the node's own processes reach by their default routes.
    ///
    /// # Errors
    /// `PermissionDenied` names what is missing.
    pub async fn add_upstream(&self) -> io::Result<Upstream> {
        let ns = Namespace::new()?;
        ns.run(async || speak_at_once()).await?;
        let file = ns.file().await?;
        let plugged = self.ns.run(async move || {
            let handle = netlink()?;
            let end = End {
                mac: UPLINK_MAC,
                bridge: None,
                index: None,
            };
            let add = handle.link().add(veth_into(&file, UPLINK, end, ROUTER_MAC));
            add.execute().await.map_err(io::Error::other)
        });
        plugged.await?;
        ns.run(route).await?;
        self.ns
            .run(async || {
                let handle = netlink()?;
                let uplink = set_up(&handle, UPLINK).await?;
                for (own, gateway) in NODE.into_iter().zip(ROUTER) {
                    add_address(&handle, uplink, own, length(own)).await?;
                    add_default_route(&handle, uplink, gateway).await?;
                }
                running(&handle, UPLINK).await?;
                own(&handle, NODE[1]).await
            })
            .await?;
        let heard = Arc::default();
        let manner = Arc::new(Mutex::new(Manner::Plain));
        for address in IMDS {
            let to = SocketAddr::from((address, 80));
            let listener = ns.run(async move || TcpListener::bind(to).await).await?;
            let (heard, manner) = (Arc::clone(&heard), Arc::clone(&manner));
            let serving = async || {
                tokio::task::spawn_local(serve(listener, heard, manner));
            };
            ns.run(serving).await;
        }
        Ok(Upstream {
            _ns: ns,
            heard,
            manner,
        })
    }
}

/// The router's side.
async fn route() -> io::Result<()> {
    let handle = netlink()?;
    let link = set_up(&handle, ETH0).await?;
    let lo = link_index(&handle, "lo").await?;
    for address in ROUTER {
        add_address(&handle, link, address, length(address)).await?;
    }
    for address in IMDS {
        add_address(&handle, lo, address, super::host_prefix(address)).await?;
        own(&handle, address).await?;
    }
    for ((network, prefix), gateway) in PODS.into_iter().zip(NODE) {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(network, prefix)
            .and_then(|route| route.gateway(gateway))
            .map_err(io::Error::other)?;
        let add = handle.route().add(route.build());
        add.execute().await.map_err(io::Error::other)?;
    }
    own(&handle, ROUTER[1]).await
}

fn length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 24,
        IpAddr::V6(_) => 64,
    }
}

async fn serve(listener: TcpListener, heard: Arc<Mutex<Vec<IpAddr>>>, manner: Arc<Mutex<Manner>>) {
    while let Ok((stream, peer)) = listener.accept().await {
        let heard = Arc::clone(&heard);
        let manner = *manner.lock().unwrap_or_else(PoisonError::into_inner);
        tokio::task::spawn_local(answer(stream, peer.ip(), heard, manner));
    }
}

/// One request a connection.
async fn answer(
    mut stream: TcpStream,
    peer: IpAddr,
    asked: Arc<Mutex<Vec<IpAddr>>>,
    manner: Manner,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(peer);
    let body = format!("{REAL} {peer}");
    let text = String::from_utf8_lossy(&head).to_lowercase();
    let status = match manner {
        Manner::Plain => "200 OK",
        Manner::Ec2 { hops, .. } if text.starts_with("put ") => {
            if peer.is_ipv4() && stream.set_ttl(hops).is_err() {
                return;
            }
            "200 OK"
        }
        Manner::Ec2 { tokens, .. } => {
            let is_let_in =
                tokens == Tokens::Optional || text.contains("x-aws-ec2-metadata-token:");
            if is_let_in {
                "200 OK"
            } else {
                "401 Unauthorized"
            }
        }
    };
    let head = "connection: close\r\ncontent-length:";
    let whole = format!("HTTP/1.1 {status}\r\n{head} {}\r\n\r\n{body}", body.len());
    // Who hung up wants no answer.
    let _ = stream.write_all(whole.as_bytes()).await;
}
