//! The rules and routes alone, with a listener that says whom it sees.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use credlet_tests::client;
use credlet_tests::node::{IMDS, Namespace, Node, Pod, REAL, Upstream, netlink};
use futures::TryStreamExt;
use netsetup::{Captured, Others, Outcome, Spec, Step};
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::packet_route::route::{RouteProtocol, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};
use rtnetlink::{IpVersion, RouteMessageBuilder};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

mod exempt;

use exempt::{exempting, meets, unlinked};

/// For what the kernel does within milliseconds.
const SOON: Duration = Duration::from_secs(10);

/// What is told of who does not answer.
const NOBODY: &str = "nobody in time";

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A node with the real service beyond it, and two pods.
struct Rig {
    node: Node,
    upstream: Upstream,
    pods: [Pod; 2],
}

impl Rig {
    async fn on(node: Node) -> Result<Self> {
        let upstream = node.add_upstream().await?;
        let pods = [
            node.add_pod([10, 250, 1, 2].into(), "fd00:250::2".parse().ok())
                .await?,
            node.add_pod([10, 250, 1, 3].into(), "fd00:250::3".parse().ok())
                .await?,
        ];
        Ok(Self {
            node,
            upstream,
            pods,
        })
    }

    /// Both ways in which pods are joined.
    async fn both() -> Result<[Self; 2]> {
        Ok([
            Self::on(Node::new().await?).await?,
            Self::on(Node::bridged().await?).await?,
        ])
    }

    async fn ensure(&self, spec: Spec) -> Result<Outcome> {
        Ok(self
            .node
            .ns
            .run(async move || netsetup::ensure(&spec).await)
            .await?)
    }

    /// Listens as the agent does; whoever asks is told its own address.
    async fn listen(&self) -> Result {
        for address in IMDS {
            let bound = self.node.ns.run(async move || transparent(address));
            let listener = bound.await?;
            let serving = async || {
                tokio::task::spawn_local(tell(listener));
            };
            self.node.ns.run(serving).await;
        }
        Ok(())
    }

    /// Who answers the pod at this address.
    async fn pod_meets(&self, pod: usize, at: IpAddr) -> String {
        somebody(&self.pods[pod].ns, at).await
    }

    /// The pods reach the node with their own addresses, and the node the real service.
    async fn assert_captured(&self) {
        for at in IMDS {
            for (number, pod) in self.pods.iter().enumerate() {
                let met = self.pod_meets(number, at).await;
                assert_eq!(met, format!("the node {}", own(pod, at)), "{at}");
            }
            let met = who(&self.node.ns, at).await;
            assert!(met.starts_with(REAL), "{met}, {at}");
        }
    }
}

fn own(pod: &Pod, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => pod.ipv4.into(),
        IpAddr::V6(_) => pod.ipv6.expect("it is dual-stack").into(),
    }
}

fn transparent(address: IpAddr) -> io::Result<TcpListener> {
    let to = SocketAddr::from((address, 80));
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None)?;
    // Of an IPv6 socket, too.
    socket.set_ip_transparent_v4(true)?;
    match address {
        IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    socket.set_reuse_address(true)?;
    socket.bind(&to.into())?;
    socket.listen(16)?;
    TcpListener::from_std(socket.into())
}

async fn tell(listener: TcpListener) {
    while let Ok((stream, peer)) = listener.accept().await {
        // One may stay silent: it was let go in the middle of its request.
        tokio::task::spawn_local(answer(stream, peer.ip()));
    }
}

async fn answer(mut stream: TcpStream, peer: IpAddr) {
    let mut request = [0; 512];
    // What cannot be told is seen by who asked.
    let _ = stream.read(&mut request).await;
    let body = format!("the node {peer}");
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
    let whole = format!("{head} {}\r\n\r\n{body}", body.len());
    let _ = stream.write_all(whole.as_bytes()).await;
}

/// Who answers at an address, or why nobody does.
async fn who(ns: &Namespace, at: IpAddr) -> String {
    let from: IpAddr = match at {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let asked = ns.run(async move || client::try_get(from, (at, 80).into(), "/").await);
    match timeout(Duration::from_secs(3), asked).await {
        Ok(Ok(answer)) => answer.text(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => NOBODY.into(),
    }
}

/// The same, asked again while there is no answer at all.
async fn somebody(ns: &Namespace, at: IpAddr) -> String {
    let asked = async {
        loop {
            let met = who(ns, at).await;
            if met != NOBODY {
                return met;
            }
        }
    };
    timeout(SOON, asked).await.unwrap_or_else(|_| NOBODY.into())
}

fn captured(others: Others) -> Captured {
    let [IpAddr::V4(v4), IpAddr::V6(v6)] = IMDS else {
        panic!("one of each family")
    };
    Captured { v4, v6, others }
}

fn spec() -> Spec {
    Spec {
        captured: Some(captured(Others::Pass)),
        ..Spec::new(Vec::new())
    }
}

/// All rules of the node, as the kernel tells them.
async fn rules(ns: &Namespace) -> Result<Vec<RuleMessage>> {
    ns.run(async || {
        let handle = netlink()?;
        let mut all = Vec::new();
        for version in [IpVersion::V4, IpVersion::V6] {
            let some: Vec<_> = handle.rule().get(version).execute().try_collect().await?;
            all.extend(some);
        }
        Ok(all)
    })
    .await
}

async fn delete(ns: &Namespace, rule: RuleMessage) -> Result {
    ns.run(async move || Ok(netlink()?.rule().del(rule).execute().await?))
        .await
}

#[tokio::test]
async fn pods_reach_the_node_from_their_own_addresses_and_the_node_the_real_service() -> Result {
    for rig in Rig::both().await? {
        for at in IMDS {
            assert!(rig.pod_meets(0, at).await.starts_with(REAL));
        }
        rig.ensure(spec()).await?;
        rig.listen().await?;
        rig.assert_captured().await;
        assert_eq!(rig.ensure(spec()).await?.steps, []);
    }
    Ok(())
}

#[tokio::test]
async fn while_nobody_listens_nobody_answers_the_pods() -> Result {
    for rig in Rig::both().await? {
        rig.ensure(spec()).await?;
        for at in IMDS {
            // The kernel refuses over IPv6 alone: over IPv4 it does not speak from
            // an address that is not its own.
            let wanted = match at {
                IpAddr::V4(_) => NOBODY,
                IpAddr::V6(_) => "Connection refused (os error 111)",
            };
            assert_eq!(who(&rig.pods[0].ns, at).await, wanted);
        }
        assert_eq!(rig.upstream.heard(), [] as [IpAddr; 0]);
        assert!(who(&rig.node.ns, IMDS[0]).await.starts_with(REAL));
    }
    Ok(())
}

#[tokio::test]
async fn a_link_that_a_connection_came_in_by_is_the_pods() -> Result {
    for rig in Rig::both().await? {
        rig.ensure(spec()).await?;
        let link = rig.node.bridge.unwrap_or(rig.pods[0].node_link);
        for at in IMDS {
            let bound = rig.node.ns.run(async move || transparent(at));
            let listener = bound.await?;
            let connect = async move || TcpStream::connect((at, 80)).await;
            let _client = rig.pods[0].ns.run(connect).await?;
            let (accepted, peer) = listener.accept().await?;
            assert_eq!(netsetup::ingress(accepted.as_fd(), peer.ip()), Some(link));
        }
    }
    Ok(())
}

#[tokio::test]
async fn with_the_table_emptied_pods_reach_nobody_until_it_is_repaired() -> Result {
    let rig = Rig::on(Node::new().await?).await?;
    rig.ensure(spec()).await?;
    rig.listen().await?;
    let route = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(IMDS[0], 32)?
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .protocol(RouteProtocol::Unspec)
        .table_id(2703)
        .build();
    let delete = async move || -> Result { Ok(netlink()?.route().del(route).execute().await?) };
    rig.node.ns.run(delete).await?;
    let met = rig.pod_meets(0, IMDS[0]).await;
    assert!(met.contains("unreachable"), "{met}");
    let steps = rig.ensure(spec()).await?.steps;
    assert_eq!(steps, [Step::AddRoute(IMDS[0])]);
    rig.assert_captured().await;
    Ok(())
}

#[tokio::test]
async fn rules_and_routes_that_are_removed_come_back() -> Result {
    let rig = Rig::on(Node::new().await?).await?;
    let ensured = rig.ensure(spec()).await?;
    rig.listen().await?;
    let before = rules(&rig.node.ns).await?;
    let outdated = Outcome {
        addresses: vec![IMDS[0]],
        ..ensured
    };
    let (reports, mut reported) = mpsc::unbounded_channel();
    let kept = rig.node.ns.run(async move || {
        let report = |outcome: &Outcome| drop(reports.send(outcome.steps.clone()));
        netsetup::keep(&spec(), outdated, report).await
    });
    let disturbed = async {
        // A first look that differs from the outdated one is reported.
        timeout(SOON, reported.recv()).await?.ok_or("keep ended")?;
        let mut missing = 0;
        for rule in before.iter().filter(|rule| is_ours(rule)) {
            delete(&rig.node.ns, rule.clone()).await?;
            missing += 1;
        }
        assert_eq!(missing, 10);
        while missing > 0 {
            let steps = timeout(SOON, reported.recv()).await?.ok_or("keep ended")?;
            missing -= steps.len();
        }
        Result::Ok(())
    };
    tokio::select! {
        error = kept => return Err(error.into()),
        outcome = disturbed => outcome?,
    }
    rig.assert_captured().await;
    Ok(())
}

fn is_ours(rule: &RuleMessage) -> bool {
    let preference = rule
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Priority(preference) => Some(*preference),
            _ => None,
        });
    preference.is_some_and(|preference| (3..=8).contains(&preference))
}

#[tokio::test]
async fn removal_takes_all_of_it_away_and_can_be_repeated() -> Result {
    for rig in Rig::both().await? {
        let before = rules(&rig.node.ns).await?;
        rig.ensure(spec()).await?;
        exempting(&rig, Some(unlinked(&rig.pods[0])), async |_| {
            for at in IMDS {
                meets(&rig, 0, at, REAL).await;
            }
            Ok(())
        })
        .await?;
        // Whatever is captured, or nothing any more.
        let nothing = Spec::new(Vec::new());
        let remove = async move || netsetup::remove(&nothing).await;
        let taken = rig.node.ns.run(remove.clone()).await?;
        assert_eq!(taken.len(), 14, "{taken:?}");
        assert_eq!(rules(&rig.node.ns).await?, before);
        for at in IMDS {
            assert!(rig.pod_meets(1, at).await.starts_with(REAL));
        }
        assert_eq!(rig.node.ns.run(remove).await?, []);
    }
    Ok(())
}

#[tokio::test]
async fn where_nothing_is_to_be_captured_any_more_pods_are_let_go() -> Result {
    let rig = Rig::on(Node::new().await?).await?;
    let before = rules(&rig.node.ns).await?;
    rig.ensure(spec()).await?;
    let steps = rig.ensure(Spec::new(Vec::new())).await?.steps;
    assert_eq!(steps.len(), 12, "{steps:?}");
    assert_eq!(rules(&rig.node.ns).await?, before);
    Ok(())
}
