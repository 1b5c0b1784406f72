//! moto, a third party's STS and IAM: who credentials are of, it alone decides.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::node::{NODE_IPV4, Node};

const PORT: u16 = 5000;

/// The slowest machine's start of Python.
const PATIENCE: Duration = Duration::from_mins(1);

/// A moto on a node, at the node's own address. Ends when dropped.
pub struct Moto {
    _process: Child,
    /// Held open, so that it can go on writing.
    _log: Lines<BufReader<ChildStderr>>,
}

impl Moto {
    /// Returns when it accepts connections.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(node: &Node) -> Self {
        let mut command = Command::new(installed("venv/bin/moto_server"));
        command
            .args(["--host", &Ipv4Addr::to_string(&NODE_IPV4)])
            .args(["--port", &PORT.to_string()])
            .env("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
            .stderr(Stdio::piped());
        let mut process = node.ns.spawn(command).await.expect("moto starts");
        let mut log = BufReader::new(process.stderr.take().expect("piped")).lines();
        let running = async {
            while let Some(line) = log.next_line().await.expect("readable") {
                if line.contains("Running on") {
                    return;
                }
            }
            panic!("moto ended");
        };
        let running = timeout(PATIENCE, running).await;
        running.expect("moto starts in time");
        Self {
            _process: process,
            _log: log,
        }
    }

    /// Where it is asked.
    pub fn url(&self) -> String {
        format!("http://{}", SocketAddr::from((NODE_IPV4, PORT)))
    }
}

/// The path of something that `scripts/sdk-tools` installs.
///
/// # Panics
/// If it is not there.
pub fn installed(name: &str) -> String {
    let path = format!("{}/../target/sdk/{name}", env!("CARGO_MANIFEST_DIR"));
    assert!(
        Path::new(&path).exists(),
        "{path} is missing: run scripts/sdk-tools, or make test"
    );
    path
}
