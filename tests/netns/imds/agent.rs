//! The agent's own doors at these addresses, as pods and the node meet them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use credlet_tests::client::{Answer, Error, Kept};
use credlet_tests::fake_kube;
use credlet_tests::node::{IMDS, Namespace, Node, Pod, REAL, Upstream};
use hyper::Request;
use tokio::process::Command;
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE, reported};

mod answers;
mod handover;
mod labels;

/// How a pod lists its roles.
const LIST: &str = "/latest/meta-data/iam/security-credentials/";

/// What a node's own processes, and its host-network pods, send from.
const NODES: [&str; 2] = ["10.251.0.1", "fd00:251::1"];

/// The seats of pods.
const PLAIN: u8 = 2;
const OPTED: u8 = 3;

/// Who answered a pod that listed its roles.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Met {
    /// The service beyond the node.
    Real,
    /// The agent, with the name of a role.
    Role(String),
    /// The agent, with this status.
    Refused(u16),
    /// There was no answer soon.
    Nobody,
}

/// How a session is had, or that none is.
#[derive(Clone, Copy, Debug)]
enum Version {
    V1,
    V2,
}

struct Rig {
    cluster: Cluster,
    upstream: Upstream,
    /// Has not asked for instance metadata.
    plain: Pod,
    /// Has.
    opted: Pod,
}

impl Rig {
    /// With a host-network pod that has asked for instance metadata, too: it is
    /// in the node's namespace.
    async fn on(node: Node) -> Self {
        let upstream = node.add_upstream().await.expect("a router");
        let cluster = Cluster::on(node).await;
        let plain = cluster.join("plain", PLAIN).await;
        let opted = cluster.plug(OPTED).await;
        cluster.associate("opted");
        cluster.kube.apply(reported("opted", OPTED).opted_in());
        let host = fake_kube::Pod::new("shop", "host-1").account("host");
        let host = host.host_network().opted_in().addresses(NODES);
        cluster.kube.apply(host);
        cluster.associate("host");
        Self {
            cluster,
            upstream,
            plain,
            opted,
        }
    }

    /// Both ways in which pods are joined.
    async fn both() -> [Self; 2] {
        let nodes = [Node::new().await, Node::bridged().await];
        let [ptp, bridge] = nodes.map(|node| node.expect("a node"));
        [Self::on(ptp).await, Self::on(bridge).await]
    }

    fn command(&self, others: &str) -> Command {
        let mut command = self.cluster.command();
        command.args(["--imds", "node", "--imds-others", others]);
        command
    }

    fn node(&self) -> &Namespace {
        &self.cluster.node.ns
    }

    /// Which of a pod's requests the real service has answered, by its own log.
    fn fell_through(&self, pod: &Pod) -> Vec<IpAddr> {
        let own: [IpAddr; 2] = [pod.ipv4.into(), pod.ipv6.expect("it is dual-stack").into()];
        let mut heard = self.upstream.heard();
        heard.retain(|peer| own.contains(peer));
        heard
    }

    /// Who answers, as the one that asks and the real service's log both say, while
    /// nobody else asks.
    async fn meets(&self, ns: &Namespace, at: IpAddr) -> Met {
        let before = self.upstream.heard().len();
        let met = meets(ns, at).await;
        let heard = self.upstream.heard().len() - before;
        assert_eq!(heard, usize::from(met == Met::Real), "{met:?} at {at}");
        met
    }

    /// Asks again until it is so: the agent hears of pods a moment after the test. A
    /// request that is under way then may be heard by one and answered by none.
    async fn comes_to_meet(&self, ns: &Namespace, at: IpAddr, wanted: &Met) {
        let asked = async { while meets(ns, at).await != *wanted {} };
        // Who is met instead is told below.
        let _ = timeout(PATIENCE, asked).await;
        assert_eq!(self.meets(ns, at).await, *wanted, "{at}");
    }

    /// Whom the node meets, and so does a pod on its network, whatever its labels.
    async fn assert_the_node_meets_the_real_service(&self) {
        for at in IMDS {
            assert_eq!(self.meets(self.node(), at).await, Met::Real, "{at}");
        }
        let heard = self.upstream.heard();
        for own in NODES {
            let own: IpAddr = own.parse().expect("an address");
            assert!(heard.contains(&own), "{own}");
        }
    }
}

fn role(name: &str) -> Met {
    Met::Role(name.to_owned())
}

async fn meets(ns: &Namespace, at: IpAddr) -> Met {
    let answer = send(ns, at, || Request::get(LIST)).await;
    let Ok(answer) = answer else {
        return Met::Nobody;
    };
    let text = answer.text();
    match answer.status.as_u16() {
        200 if text.starts_with(REAL) => Met::Real,
        200 => Met::Role(text),
        status => Met::Refused(status),
    }
}

/// What a client of this version gets for this path, or why nothing.
async fn fetch(ns: &Namespace, at: IpAddr, version: Version, path: &str) -> Result<Answer, Error> {
    let token = match version {
        Version::V1 => None,
        Version::V2 => {
            let ask = || {
                let life = "x-aws-ec2-metadata-token-ttl-seconds";
                Request::put("/latest/api/token").header(life, "21600")
            };
            Some(send(ns, at, ask).await?.text())
        }
    };
    let path = path.to_owned();
    let ask = move || {
        let get = Request::get(path);
        match token {
            Some(token) => get.header("x-aws-ec2-metadata-token", token),
            None => get,
        }
    };
    send(ns, at, ask).await
}

/// One request on a connection of its own, answered soon.
async fn send(
    ns: &Namespace,
    at: IpAddr,
    request: impl FnOnce() -> hyper::http::request::Builder + Send + 'static,
) -> Result<Answer, Error> {
    let from: IpAddr = match at {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let to = SocketAddr::from((at, 80));
    let asked = ns.run(async move || Kept::open(from, to).await?.send(request()).await);
    timeout(Duration::from_millis(500), asked).await?
}
