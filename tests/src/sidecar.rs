//! A pod with a sidecar, as a cluster would run it: what it may, and what it knows.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use tempfile::TempDir;
use tokio::process::Command;

use crate::fake_aws::REGION;
use crate::fake_kube::{self, FakeKube};
use crate::node::{Node, Pod};
use crate::process::{Agent, binary};

/// The pod's role.
pub const ROLE: &str = "arn:aws:iam::111122223333:role/checkout";

/// The pod's addresses.
pub const POD_IPV4: Ipv4Addr = Ipv4Addr::new(10, 250, 1, 2);
/// The same over IPv6.
pub const POD_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, 2);

/// What a container may do beyond what any process may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Change the network.
    NetAdmin = 12,
}

/// A pod of `shop/checkout` on a node, without an agent and without a sidecar.
pub struct Lone {
    /// Its node, where the outside is.
    pub node: Node,
    /// Its network.
    pub pod: Pod,
    folder: TempDir,
}

impl Lone {
    /// With a token of an hour's in its file.
    ///
    /// # Panics
    /// If namespaces cannot be made.
    pub async fn start() -> Self {
        let node = Node::new().await.expect("a node");
        let pod = node.add_pod(POD_IPV4, Some(POD_IPV6)).await.expect("a pod");
        let kube = FakeKube::start().await;
        let object = fake_kube::Pod::new("shop", "checkout-1").account("checkout");
        kube.apply(object.clone());
        let token = kube.token(&object, "sts.amazonaws.com", Duration::from_hours(1));
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("token"), token).expect("writable");
        Self { node, pod, folder }
    }

    /// The file of its token.
    pub fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// Its home.
    pub fn home(&self) -> &Path {
        self.folder.path()
    }

    /// `credlet sidecar` as IRSA's webhook would set its environment, for an STS
    /// at this URL, with nothing that it could sign with.
    pub fn command(&self, aws_url: &str) -> Command {
        let mut command = Command::new(binary());
        command
            .arg("sidecar")
            .env_clear()
            .env("AWS_REGION", REGION)
            .env("AWS_ENDPOINT_URL", aws_url)
            .env("AWS_ROLE_ARN", ROLE)
            .env("AWS_WEB_IDENTITY_TOKEN_FILE", self.token_file());
        command
    }

    /// Runs the init container, and returns whether it ended well and what it printed.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn set_up(&self, keep: &[Capability]) -> (bool, String) {
        let mut command = Command::new(binary());
        command.args(["sidecar", "--setup"]).env_clear();
        command.stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        confine(&mut command, keep);
        let child = self.pod.ns.spawn(command).await.expect("it starts");
        let output = child.wait_with_output().await.expect("it ends");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.success(), text)
    }

    /// What the pod's sysctl `net.ipv4.ip_unprivileged_port_start: 80` does.
    ///
    /// # Panics
    /// If the kernel does not have it.
    pub async fn let_anybody_bind_port_80(&self) {
        let written = self.pod.ns.run(async || {
            let key = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
            fs::write(key, "80")
        });
        written.await.expect("a namespace's own sysctl");
    }

    /// Starts a sidecar without any capability, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not get ready.
    pub async fn serve(&self, mut command: Command) -> Agent {
        confine(&mut command, &[]);
        let sidecar = Agent::start_in(&self.pod.ns, command).await;
        let mut sidecar = sidecar.expect("it starts");
        let ready = sidecar.ready_in(&self.pod.ns).await;
        ready.unwrap_or_else(|error| panic!("{error}"));
        sidecar
    }
}

/// Takes every other capability from a program that this process, as root, is
/// to start, and any way to get one, as a container's runtime does.
pub fn confine(command: &mut Command, keep: &[Capability]) {
    let keep: Vec<i32> = keep.iter().map(|capability| *capability as i32).collect();
    let drop = move || {
        for capability in (0..64).filter(|capability| !keep.contains(capability)) {
            // SAFETY: a system call that takes numbers.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
                // The kernel has no more than these.
                break;
            }
        }
        nix::sys::prctl::set_no_new_privs().map_err(io::Error::from)
    };
    // SAFETY: prctl is async-signal-safe, and the closure allocates nothing.
    unsafe { command.pre_exec(drop) };
}
