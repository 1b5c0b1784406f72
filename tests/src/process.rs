//! The real binary on a simulated node.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::client;
use crate::fake_aws::{CLUSTER, REGION};
use crate::fake_kube::{FakeKube, NODE};
use crate::node::{Namespace, Node};

/// Where pods ask over IPv4.
pub const DOOR: &str = "169.254.170.23:80";

/// Where kubelets ask.
pub const PROBES: &str = "169.254.170.23:2703";

/// Where a sidecar is asked from inside its pod.
const SIDECARS_PROBES: &str = "127.0.0.1:2703";

/// How long a process may take to get ready or to end, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// `credlet run`, killed when dropped.
pub struct Agent {
    child: Child,
    folder: TempDir,
}

/// How an agent did not get ready: its log.
#[derive(Debug)]
pub struct NotReady(pub String);

impl std::fmt::Display for NotReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the agent is not ready; its log:\n{}", self.0)
    }
}

impl std::error::Error for NotReady {}

/// `credlet run` of the binary that was built beside this program, with
/// [`settings`] for the stand-ins.
pub fn command(aws_url: &str) -> Command {
    settings(Command::new(binary()), aws_url)
}

/// Makes a command that is to be given `credlet`'s arguments `credlet run` for
/// the stand-ins, which listen in the node's namespace: the cluster [`CLUSTER`],
/// with credentials of the node's own, and nothing else in its environment.
pub fn settings(credlet: Command, aws_url: &str) -> Command {
    settings_on(NODE, credlet, aws_url)
}

/// The same for another node than the stand-ins'.
pub fn settings_on(node: &str, mut credlet: Command, aws_url: &str) -> Command {
    credlet
        .args(["run", "--node-name", node, "--cluster-name", CLUSTER])
        .env_clear()
        .env("AWS_REGION", REGION)
        .env("AWS_ENDPOINT_URL", aws_url)
        .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "of-the-node");
    credlet
}

/// The `credlet` that was built beside this program.
pub fn binary() -> PathBuf {
    let me = std::env::current_exe().expect("a program has a path");
    let beside = me
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("credlet"));
    let mut there = beside.filter(|path| path.is_file());
    there
        .next()
        .expect("no `credlet` beside this program: run `cargo build --workspace`, or `make test`")
}

impl Agent {
    /// Starts the command in the node's namespace, with a kubeconfig for the
    /// stand-in and a file for its log. Does not wait.
    pub async fn start(node: &Node, kube: &FakeKube, command: Command) -> io::Result<Self> {
        Self::start_by(node, &kube.kubeconfig(), command).await
    }

    /// The same with the text of any kubeconfig file.
    pub async fn start_by(node: &Node, kubeconfig: &str, mut command: Command) -> io::Result<Self> {
        let text = kubeconfig;
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, text)?;
        command.env("CREDLET_KUBECONFIG", &kubeconfig);
        Self::start_with(&node.ns, command, folder).await
    }

    /// Starts what needs no API server in a namespace, a pod's sidecar, with a
    /// file for its log. Does not wait.
    pub async fn start_in(ns: &Namespace, command: Command) -> io::Result<Self> {
        Self::start_with(ns, command, tempfile::tempdir()?).await
    }

    async fn start_with(ns: &Namespace, mut command: Command, folder: TempDir) -> io::Result<Self> {
        command
            .stdin(Stdio::null())
            .stderr(File::create(folder.path().join("log"))?);
        let child = ns.spawn(command).await?;
        Ok(Self { child, folder })
    }

    /// Waits until it says so, at `/readyz` and in its log: while two agents
    /// share a node, the other may be the one that answers.
    pub async fn ready(&mut self, node: &Node) -> Result<(), NotReady> {
        self.ready_at(&node.ns, PROBES, "credlet is ready").await
    }

    /// The same for a pod's sidecar, which shares its pod's network with no other.
    pub async fn ready_in(&mut self, ns: &Namespace) -> Result<(), NotReady> {
        self.ready_at(ns, SIDECARS_PROBES, "").await
    }

    async fn ready_at(&mut self, ns: &Namespace, probes: &str, word: &str) -> Result<(), NotReady> {
        let probes: SocketAddr = probes.parse().expect("an address");
        let from = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let probe = ns.run(move || client::try_get(from, probes, "/readyz"));
            let is_ready = probe.await.is_ok_and(|answer| answer.status == 200);
            if is_ready && self.log().contains(word) {
                return Ok(());
            }
            if Instant::now() > deadline || self.child.try_wait().is_ok_and(|end| end.is_some()) {
                return Err(NotReady(self.log()));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks it to leave, and waits for that. Returns its exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Waits until it has ended, for as long as it goes on.
    pub async fn gone(&mut self) {
        let ended = self.child.wait().await;
        ended.expect("a child can be waited for");
    }

    /// Waits until it has ended. Returns its exit code, if it has one.
    ///
    /// # Panics
    /// If it goes on.
    pub async fn ended(&mut self) -> Option<i32> {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("the agent goes on:\n{}", self.log()));
        status.expect("a child can be waited for").code()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("Linux has no larger ones");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}
