//! A node with one pod, the real agent on it, and moto for STS.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use credlet_tests::fake_kube::{self, FakeKube};
use credlet_tests::moto::Moto;
use credlet_tests::node::{Node, Pod};
use credlet_tests::process::{self, Agent};
use tempfile::TempDir;

use crate::programs::{Program, run};

/// What pods are told to ask.
pub(crate) const ENDPOINTS: [&str; 2] = [
    "http://169.254.170.23/v1/credentials",
    "http://[fd00:ec2::23]/v1/credentials",
];

/// Whom the pod's credentials must belong to.
pub(crate) const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/checkout/shop.checkout";

/// What the file of associations says.
pub(crate) const ASSOCIATIONS: &str = "
associations:
  - namespace: shop
    serviceAccount: checkout
    roleArn: arn:aws:iam::111122223333:role/checkout
";

/// The file of the pod's token.
const TOKEN: &str = "token";

const POD_IPV4: Ipv4Addr = Ipv4Addr::new(10, 250, 1, 2);
const POD_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, 2);

/// What the agent asks STS for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exchange {
    /// `AssumeRole`, as itself.
    AssumeRole,
    /// `AssumeRoleWithWebIdentity`, with the pod's token and nothing of its own.
    WebIdentity,
}

/// Everything that runs. Ends when dropped.
pub(crate) struct Cluster {
    _node: Node,
    pod: Pod,
    _kube: FakeKube,
    agent: Agent,
    sts: Moto,
    folder: TempDir,
}

impl Cluster {
    /// Returns when the agent is ready.
    pub(crate) async fn start(exchange: Exchange) -> Self {
        let node = Node::new().await.expect("a node");
        let pod = node.add_pod(POD_IPV4, Some(POD_IPV6)).await.expect("a pod");
        let listener = node
            .ns
            .run(async || tokio::net::TcpListener::bind("127.0.0.1:0").await);
        let kube = FakeKube::on(listener.await.expect("a free port"));
        let addresses = [POD_IPV4.to_string(), POD_IPV6.to_string()];
        let object = fake_kube::Pod::new("shop", "checkout-1").account("checkout");
        let object = object.addresses(addresses.iter().map(String::as_str));
        kube.apply(object.clone());

        let folder = TempDir::new().expect("a folder");
        let audience = match exchange {
            Exchange::AssumeRole => "pods.eks.amazonaws.com",
            Exchange::WebIdentity => "sts.amazonaws.com",
        };
        let token = kube.token(&object, audience, Duration::from_hours(1));
        fs::write(folder.path().join(TOKEN), token).expect("writable");
        let associations = folder.path().join("associations.yaml");
        fs::write(&associations, ASSOCIATIONS).expect("writable");
        // In this order: the agent asks STS as soon as it knows the pod.
        let sts = Moto::start(&node).await;
        let mut command = process::command(&sts.url());
        command
            .args(["--association-sources", "file", "--association-file"])
            .arg(&associations)
            // What an SDK does not send, or not as it is, the agent misses.
            .args(["--identity", "both"]);
        match exchange {
            Exchange::AssumeRole => {}
            Exchange::WebIdentity => {
                command
                    .args(["--exchange", "web-identity"])
                    .env_remove("AWS_ACCESS_KEY_ID")
                    .env_remove("AWS_SECRET_ACCESS_KEY")
                    .env("AWS_EC2_METADATA_DISABLED", "true");
            }
        }
        let agent = Agent::start(&node, &kube, command).await;
        let mut agent = agent.expect("the binary is there");
        agent
            .ready(&node)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            _node: node,
            pod,
            _kube: kube,
            agent,
            sts,
            folder,
        }
    }

    /// Runs a program that knows the agent's address, the pod's token and STS's
    /// address, and nothing else.
    /// Returns what it printed, and whether it ended well.
    pub(crate) async fn run_in_pod(&self, program: Program, endpoint: &str) -> (String, bool) {
        let token = self.folder.path().join(TOKEN);
        let environment = [
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint),
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                token.to_str().expect("a temporary folder's path is text"),
            ),
        ];
        let (command, home) = (program.command(), self.folder.path());
        run(command, &self.pod.ns, home, &self.sts.url(), &environment).await
    }

    /// What the agent has logged.
    pub(crate) fn log(&self) -> String {
        self.agent.log()
    }
}
