//! The real process on a simulated node: how soon it is ready, and what it costs when nobody asks.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use credlet_tests::client;
use credlet_tests::fake_aws::{Api, Entry, FakeAws};
use credlet_tests::fake_kube::{FakeKube, Pod as PodObject};
use credlet_tests::node::{Node, Pod};
use credlet_tests::process::{Agent, DOOR, command};
use credlet_tests::sidecar::Lone;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{ACCOUNTS, PODS_ON_NODE, load, pod};

const REQUEST: &[u8] = b"GET /v1/credentials HTTP/1.1\r\nHost: 169.254.170.23\r\n\r\n";
const STARTS: usize = 7;
/// What the start left behind has come to rest.
const REST: Duration = Duration::from_secs(2);
const WATCHED: Duration = Duration::from_secs(10);
/// Pods that connect, and the connections of each.
const CALLERS: u8 = 8;
const CONNECTIONS: usize = 250;

/// What was seen.
pub(crate) struct Figures {
    /// From the start of the process to the first 200 of `/readyz`.
    pub(crate) ready: Duration,
    /// Resident, in bytes, and the part of it that is not the binary's.
    pub(crate) resident: (usize, usize),
    /// Time on a core in a second.
    pub(crate) idle: Duration,
    /// Bytes for a connection that has not asked yet.
    pub(crate) silent: usize,
    /// Bytes for a connection that has asked once.
    pub(crate) kept: usize,
    /// Resident of a sidecar that has served its pod, in bytes.
    pub(crate) sidecar: usize,
}

/// A node with pods, and stand-ins for all that the agent talks to.
struct Site {
    // They end before the node that they listen in.
    aws: FakeAws,
    kube: FakeKube,
    callers: Vec<Pod>,
    node: Node,
}

/// Starts the agent a few times and watches the last one.
pub(crate) async fn measure() -> Figures {
    let site = Site::new().await;
    let mut ready = Vec::new();
    for _ in 1..STARTS {
        let (agent, took) = site.start().await;
        ready.push(took);
        agent.terminate().await;
    }
    let sessions = site.aws.count(Api::AssumeRole);
    let (agent, took) = site.start().await;
    ready.push(took);
    let all = sessions + usize::from(ACCOUNTS);
    site.aws.wait_for(Api::AssumeRole, all).await;
    tokio::time::sleep(REST).await;

    let seen = Seen::of(&agent);
    let resident = (seen.memory("VmRSS"), seen.memory("RssAnon"));
    let before = seen.on_core();
    tokio::time::sleep(WATCHED).await;
    let idle =
        seen.on_core().saturating_sub(before) / u32::try_from(WATCHED.as_secs()).expect("short");

    let connections = usize::from(CALLERS) * CONNECTIONS;
    let mut streams = site.connect().await;
    tokio::time::sleep(REST).await;
    let silent = seen.memory("VmRSS").saturating_sub(resident.0) / connections;
    for stream in &mut streams {
        ask(stream, REQUEST).await;
    }
    let kept = seen.memory("VmRSS").saturating_sub(resident.0) / connections;
    Figures {
        ready: load::percentile(ready, 50),
        resident,
        idle,
        silent,
        kept,
        sidecar: sidecar().await,
    }
}

/// The memory of a sidecar, which its pod has asked.
async fn sidecar() -> usize {
    let lone = Lone::start().await;
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let aws = FakeAws::serve(lone.pod.ns.run(free).await.expect("a port"));
    let door = SocketAddr::from((Ipv4Addr::LOCALHOST, 8181));
    let mut command = lone.command(aws.url());
    command.args(["--bind", &door.to_string()]);
    let sidecar = lone.serve(command).await;
    let asked = lone.pod.ns.run(async move || {
        let mut stream = TcpStream::connect(door).await.expect("it listens");
        let request = format!("GET /v1/credentials HTTP/1.1\r\nHost: {door}\r\n\r\n");
        ask(&mut stream, request.as_bytes()).await;
    });
    asked.await;
    tokio::time::sleep(REST).await;
    Seen::of(&sidecar).memory("VmRSS")
}

impl Site {
    async fn new() -> Self {
        let node = Node::new().await.expect("root, or `unshare -rn`");
        let free = || async { TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await };
        let kube = FakeKube::on(node.ns.run(free).await.expect("a port"));
        let aws = FakeAws::serve(node.ns.run(free).await.expect("a port"));
        for account in 0..ACCOUNTS {
            let role = format!("arn:aws:iam::111122223333:role/bench-{account}");
            aws.associate("bench", &format!("account-{account}"), Entry::of(&role));
        }
        for index in 1..=PODS_ON_NODE {
            let account = format!("account-{}", index % ACCOUNTS);
            let object = PodObject::new("bench", &format!("pod-{index}")).account(&account);
            kube.apply(object.addresses([pod(index).to_string().as_str()]));
        }
        let mut callers = Vec::new();
        for index in 1..=CALLERS {
            callers.push(node.add_pod(pod(index), None).await.expect("a veth pair"));
        }
        Self {
            aws,
            kube,
            callers,
            node,
        }
    }

    /// Returns the process once it is ready, and how long that took.
    async fn start(&self) -> (Agent, Duration) {
        let begun = Instant::now();
        let command = command(self.aws.url());
        let agent = Agent::start(&self.node, &self.kube, command).await;
        let mut agent = agent.expect("it starts");
        if let Err(why) = agent.ready(&self.node).await {
            panic!("{why}");
        }
        (agent, begun.elapsed())
    }

    async fn connect(&self) -> Vec<TcpStream> {
        let door: SocketAddr = DOOR.parse().expect("an address");
        let mut streams = Vec::new();
        for caller in &self.callers {
            let from = IpAddr::V4(caller.ipv4);
            let open = async move || {
                let mut streams = Vec::new();
                for _ in 0..CONNECTIONS {
                    streams.push(client::connect(from, door).await.expect("a connection"));
                }
                streams
            };
            streams.extend(caller.ns.run(open).await);
        }
        streams
    }
}

async fn ask(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).await.expect("it is read");
    let mut buffer = [0; 8192];
    let read = stream.read(&mut buffer).await.expect("an answer");
    assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "refused");
}

/// A process as the kernel sees it.
struct Seen(PathBuf);

impl Seen {
    fn of(agent: &Agent) -> Self {
        Self(format!("/proc/{}", agent.pid()).into())
    }

    /// In bytes.
    fn memory(&self, field: &str) -> usize {
        let status = fs::read_to_string(self.0.join("status")).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(field));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.and_then(|kib| kib.parse::<usize>().ok())
            .expect("proc(5)")
            * 1024
    }

    /// Time that its threads have spent on a core.
    fn on_core(&self) -> Duration {
        let tasks = fs::read_dir(self.0.join("task")).expect("it runs");
        tasks
            .map(|task| load::on_core(&task.expect("it runs").path()))
            .sum()
    }
}
