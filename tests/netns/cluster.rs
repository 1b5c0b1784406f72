//! A simulated node with its agent, and what the agent talks to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::process::Stdio;
use std::time::Duration;

use credlet_tests::client::{self, Answer, Kept};
use credlet_tests::fake_aws::{Entry, FakeAws, issued_to};
use credlet_tests::fake_kube::{self, FakeKube};
use credlet_tests::node::{Node, Pod};
use credlet_tests::process::{self, Agent, DOOR};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

pub(crate) const DOOR_V6: &str = "[fd00:ec2::23]:80";

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const ROLE: &str = "arn:aws:iam::111122223333:role/pods/";

/// A node and what its agent talks to.
pub(crate) struct Cluster {
    pub(crate) node: Node,
    pub(crate) kube: FakeKube,
    pub(crate) aws: FakeAws,
}

/// The same with the pods of two accounts.
pub(crate) struct Shop {
    cluster: Cluster,
    pub(crate) checkout: Pod,
    pub(crate) reports: Pod,
}

impl Deref for Shop {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Shop {
    /// Each pod has a link of its own.
    pub(crate) async fn new() -> Self {
        Self::on(Node::new().await.expect("a node")).await
    }

    pub(crate) async fn on(node: Node) -> Self {
        let cluster = Cluster::on(node).await;
        let checkout = cluster.join("checkout", 2).await;
        let reports = cluster.join("reports", 3).await;
        Self {
            cluster,
            checkout,
            reports,
        }
    }
}

impl Shop {
    /// Has the agent know the paths of all addresses.
    pub(crate) async fn settle(&self) {
        for (pod, account) in [(&self.checkout, "checkout"), (&self.reports, "reports")] {
            for door in [DOOR, DOOR_V6] {
                let answer = owner(&ask(pod, door).await);
                assert_eq!(answer, format!("shop/{account}"), "{door}");
            }
        }
    }
}

impl Cluster {
    pub(crate) async fn on(node: Node) -> Self {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let kube = FakeKube::on(node.ns.run(free).await.expect("a free port"));
        let aws = FakeAws::serve(node.ns.run(free).await.expect("a free port"));
        Self { node, kube, aws }
    }

    pub(crate) fn command(&self) -> Command {
        process::command(self.aws.url())
    }

    pub(crate) async fn start(&self, command: Command) -> Agent {
        let agent = Agent::start(&self.node, &self.kube, command).await;
        agent.expect("the binary is there")
    }

    pub(crate) async fn ready(&self, command: Command) -> Agent {
        let mut agent = self.start(command).await;
        agent
            .ready(&self.node)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        agent
    }

    pub(crate) async fn metrics(&self) -> String {
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 2705));
        let answer = self.node.ns.run(move || client::get(from, to, "/metrics"));
        answer.await.text()
    }

    /// Waits until the metrics have this line.
    pub(crate) async fn shows(&self, line: &str) {
        let line = format!("{line}\n");
        let mut metrics = String::new();
        let shown = async {
            while !metrics.contains(&line) {
                metrics = self.metrics().await;
            }
        };
        let came = timeout(PATIENCE, shown).await;
        assert!(came.is_ok(), "{line} is not in {metrics}");
    }

    /// Runs `credlet` on the node to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let mut command = Command::new(process::binary());
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = self
            .node
            .ns
            .spawn(command)
            .await
            .expect("the binary is there");
        let output = child.wait_with_output().await.expect("it ends");
        let said = [output.stdout, output.stderr].concat();
        (
            String::from_utf8_lossy(&said).into_owned(),
            output.status.code(),
        )
    }

    /// Has the API server back that was down.
    pub(crate) async fn kube_up(&self) {
        let address = self.kube.address();
        let listener = self.node.ns.run(move || TcpListener::bind(address));
        self.kube
            .up_on(listener.await.expect("nobody took the port"));
    }

    /// A pod on the node, dual-stack, of which the API server knows nothing.
    pub(crate) async fn plug(&self, seat: u8) -> Pod {
        let (ipv4, ipv6) = addresses(seat);
        self.node.add_pod(ipv4, Some(ipv6)).await.expect("a pod")
    }

    /// Gives an account of the namespace `shop` a role.
    pub(crate) fn associate(&self, account: &str) {
        let entry = Entry::of(&format!("{ROLE}{account}"));
        self.aws.associate("shop", account, entry);
    }

    /// A pod of this account, which has a role; the API server knows it.
    pub(crate) async fn join(&self, account: &str, seat: u8) -> Pod {
        let pod = self.plug(seat).await;
        self.kube.apply(reported(account, seat));
        self.associate(account);
        pod
    }
}

/// The addresses of a pod.
pub(crate) fn addresses(seat: u8) -> (Ipv4Addr, Ipv6Addr) {
    let ipv6 = Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, seat.into());
    (Ipv4Addr::new(10, 250, 1, seat), ipv6)
}

/// A pod of an account of the namespace `shop` before it has addresses.
pub(crate) fn unaddressed(account: &str) -> fake_kube::Pod {
    fake_kube::Pod::new("shop", &format!("{account}-1")).account(account)
}

/// The same, with its addresses, as a kubelet reports it that has made its
/// sandbox just now.
pub(crate) fn reported(account: &str, seat: u8) -> fake_kube::Pod {
    let (ipv4, ipv6) = addresses(seat);
    let addresses = [ipv4.to_string(), ipv6.to_string()];
    unaddressed(account).addresses(addresses.iter().map(String::as_str))
}

/// Opens a connection from the pod's own address.
pub(crate) async fn connect(pod: &Pod, door: &str) -> Result<Kept, String> {
    let to: SocketAddr = door.parse().expect("an address");
    let from = match to {
        SocketAddr::V4(_) => IpAddr::V4(pod.ipv4),
        SocketAddr::V6(_) => IpAddr::V6(pod.ipv6.expect("it is dual-stack")),
    };
    let opened = pod.ns.run(move || Kept::open(from, to));
    let opened = timeout(PATIENCE, opened).await;
    let opened = opened.map_err(|_| "no connection in time".to_owned())?;
    opened.map_err(|error| error.to_string())
}

/// Asks on a connection that is there.
pub(crate) async fn ask_on(kept: &mut Kept, token: Option<&str>) -> Result<Answer, String> {
    let answer = timeout(PATIENCE, kept.get("/v1/credentials", token)).await;
    let answer = answer.map_err(|_| "no answer in time".to_owned())?;
    answer.map_err(|error| error.to_string())
}

pub(crate) async fn try_ask(pod: &Pod, door: &str) -> Result<Answer, String> {
    ask_on(&mut connect(pod, door).await?, None).await
}

pub(crate) async fn ask(pod: &Pod, door: &str) -> Answer {
    try_ask(pod, door).await.expect("an answer")
}

/// The account that a pod's answer is for, or what the answer is instead.
pub(crate) fn owner(answer: &Answer) -> String {
    issued_to(&answer.field("AccessKeyId")).unwrap_or_else(|| answer.text())
}
