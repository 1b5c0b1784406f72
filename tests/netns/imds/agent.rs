//! The agent's own doors at these addresses, through its ends and its starts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use credlet_tests::client;
use credlet_tests::node::{IMDS, Namespace, Node, Pod, REAL, Upstream};
use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE};

/// How a pod lists its roles.
const LIST: &str = "/latest/meta-data/iam/security-credentials/";

struct Rig {
    cluster: Cluster,
    upstream: Upstream,
    pod: Pod,
}

impl Rig {
    /// A pod that has not asked for instance metadata.
    async fn on(node: Node) -> Self {
        let upstream = node.add_upstream().await.expect("a router");
        let cluster = Cluster::on(node).await;
        let pod = cluster.join("plain", 2).await;
        Self {
            cluster,
            upstream,
            pod,
        }
    }

    fn command(&self, others: &str) -> Command {
        let mut command = self.cluster.command();
        command.args(["--imds", "node", "--imds-others", others]);
        command
    }

    /// Who was answered by the real service, of the pod's addresses.
    fn fell_through(&self) -> Vec<IpAddr> {
        let own: [IpAddr; 2] = [
            self.pod.ipv4.into(),
            self.pod.ipv6.expect("it is dual-stack").into(),
        ];
        let mut heard = self.upstream.heard();
        heard.retain(|peer| own.contains(peer));
        heard
    }
}

/// The status and the text of an answer, if there is one soon.
async fn ask(ns: &Namespace, at: IpAddr) -> Option<(u16, String)> {
    let from: IpAddr = match at {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let to = SocketAddr::from((at, 80));
    let asked = ns.run(async move || client::try_get(from, to, LIST).await);
    let answer = timeout(Duration::from_millis(500), asked)
        .await
        .ok()?
        .ok()?;
    Some((answer.status.as_u16(), answer.text()))
}

async fn becomes(ns: &Namespace, at: IpAddr, wanted: impl Fn(u16, &str) -> bool) {
    let asked = async {
        loop {
            if ask(ns, at)
                .await
                .is_some_and(|(status, text)| wanted(status, &text))
            {
                return;
            }
        }
    };
    let came = timeout(PATIENCE, asked).await;
    assert!(came.is_ok(), "{at}: {:?}", ask(ns, at).await);
}

#[tokio::test]
async fn a_blocked_pod_never_meets_the_real_service_though_agents_are_killed_and_start() {
    for node in [Node::new().await, Node::bridged().await] {
        let rig = Rig::on(node.expect("a node")).await;
        let agent = rig.cluster.ready(rig.command("block")).await;
        for at in IMDS {
            becomes(&rig.pod.ns, at, |status, _| status == 403).await;
            let of_the_node = ask(&rig.cluster.node.ns, at).await;
            assert!(
                of_the_node.is_some_and(|(_, text)| text.starts_with(REAL)),
                "{at}"
            );
        }
        let asking = async {
            loop {
                for at in IMDS {
                    let met = ask(&rig.pod.ns, at).await;
                    let is_real = met.is_some_and(|(_, text)| text.starts_with(REAL));
                    assert!(!is_real, "{at}");
                }
            }
        };
        let restarts = async {
            let mut agent = agent;
            for _ in 0..2 {
                agent.signal(Signal::SIGKILL);
                agent.ended().await;
                agent = rig.cluster.ready(rig.command("block")).await;
                assert_eq!(agent.terminate().await, Some(0));
                agent = rig.cluster.ready(rig.command("block")).await;
            }
            agent
        };
        let agent = tokio::select! {
            agent = restarts => agent,
            () = asking => panic!("it goes on"),
        };
        for at in IMDS {
            becomes(&rig.pod.ns, at, |status, _| status == 403).await;
        }
        assert_eq!(rig.fell_through(), [] as [IpAddr; 0]);
        assert_eq!(agent.terminate().await, Some(0));
        let (said, code) = rig.cluster.run(&["netsetup", "--remove"]).await;
        assert_eq!(code, Some(0), "{said}");
        becomes(&rig.pod.ns, IMDS[0], |_, text| text.starts_with(REAL)).await;
    }
}

#[tokio::test]
async fn where_others_are_let_go_a_pod_that_asks_for_it_is_captured_and_others_are_not() {
    for node in [Node::new().await, Node::bridged().await] {
        let rig = Rig::on(node.expect("a node")).await;
        let _agent = rig.cluster.ready(rig.command("real")).await;
        for at in IMDS {
            becomes(&rig.pod.ns, at, |_, text| text.starts_with(REAL)).await;
        }
        let unknown = rig.cluster.plug(9).await;
        for at in IMDS {
            let met = ask(&unknown.ns, at).await;
            let is_real = met.is_some_and(|(_, text)| text.starts_with(REAL));
            assert!(!is_real, "{at}");
        }
    }
}
