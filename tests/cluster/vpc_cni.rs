//! A node whose pods' network is made by a pod that itself needs credentials:
//! `aws-node`, on the host network, before there is any network for pods.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use credlet_tests::fake_aws::{Api, CLUSTER, Entry, FakeAws, REGION};
use credlet_tests::moto::{Moto, installed};
use credlet_tests::node::{NODE_IPV4, Namespace, Node};
use credlet_tests::process::{self, Agent};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::control_plane::{ControlPlane, Settings};
use crate::manifests;
use crate::place::Place;
use crate::relay::Relay;

const ENDPOINT: &str = "http://169.254.170.23/v1/credentials";
const EKS: &str = "pods.eks.amazonaws.com";
const STS: &str = "sts.amazonaws.com";
const ROLE: &str = "arn:aws:iam::111122223333:role/";
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/";

const POD_IPV4: Ipv4Addr = Ipv4Addr::new(10, 250, 1, 2);
const POD_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, 2);

/// The slowest machine's start of the AWS CLI.
const PATIENCE: Duration = Duration::from_mins(1);

/// Who says whose the credentials are.
#[derive(Clone, Copy)]
enum Judge<'a> {
    /// moto's STS, which issued them.
    Moto,
    /// The stand-in for EKS Auth, which did.
    StandIn(&'a FakeAws),
}

/// A node that has joined its cluster and runs `aws-node`, and no pod that has
/// a network of its own.
struct Fixture {
    node: Node,
    /// `kube-system`.
    system: Place,
    /// Where other pods are.
    shop: Place,
    moto: Moto,
    /// The node's way to the API server.
    _way: Relay,
    kubeconfig: String,
    folder: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let cluster = Arc::new(ControlPlane::start(Settings::default()).await);
        let shop = Place::on(Arc::clone(&cluster)).await;
        let system = shop.beside("kube-system");
        system.add_account("aws-node").await;
        let spec = json!({
            "nodeName": system.node,
            "hostNetwork": true,
            "serviceAccountName": "aws-node",
        });
        system.add_pod_as("aws-node-0", spec).await;
        system
            .runs_at("aws-node-0", &[&NODE_IPV4.to_string()])
            .await;

        let node = Node::new().await.expect("a node");
        let at = cluster.api_server_at();
        let here = node.ns.run(move || TcpListener::bind(at)).await;
        let way = Relay::on(here.expect("the node's own loopback"), at);
        let token = manifests::agent_token(&shop.admin).await;
        Self {
            moto: Moto::start(&node).await,
            node,
            system,
            shop,
            _way: way,
            kubeconfig: cluster.kubeconfig(&token, at),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// Starts the agent, and waits until it is ready.
    async fn serve(&self, flags: &[&str], eks_auth: Option<&FakeAws>) -> Agent {
        let credlet = Command::new(process::binary());
        let mut command = process::settings_on(&self.system.node, credlet, &self.moto.url());
        command.args(flags);
        if let Some(aws) = eks_auth {
            command.env("AWS_ENDPOINT_URL_EKS_AUTH", aws.url());
        }
        let agent = Agent::start_by(&self.node, &self.kubeconfig, command).await;
        let mut agent = agent.expect("the binary is there");
        let ready = agent.ready(&self.node).await;
        ready.unwrap_or_else(|error| panic!("{error}"));
        agent
    }

    /// The associations of both accounts, as a file.
    fn associations(&self, exchange: &str) -> String {
        let path = self.folder.path().join("associations.yaml");
        let shop = &self.shop.namespace;
        let text = json!({"associations": [
            {
                "namespace": "kube-system",
                "serviceAccount": "aws-node",
                "roleArn": format!("{ROLE}aws-node"),
                "exchange": exchange,
            },
            {
                "namespace": shop,
                "serviceAccount": "cart",
                "roleArn": format!("{ROLE}cart"),
                "exchange": exchange,
            },
        ]});
        fs::write(&path, text.to_string()).expect("writable");
        path.to_string_lossy().into_owned()
    }

    /// What the AWS CLI says whose credentials it finds in a container, with
    /// nothing in its environment but what the EKS webhook puts there.
    async fn whoami(&self, ns: &Namespace, token: Option<&str>, judge: Judge<'_>) -> String {
        let sts = match judge {
            Judge::Moto => self.moto.url(),
            Judge::StandIn(aws) => aws.url().to_owned(),
        };
        let mut command = Command::new(installed("venv/bin/aws"));
        command
            .args(["sts", "get-caller-identity"])
            .args(["--query", "Arn", "--output", "text"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL_STS", sts)
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", ENDPOINT)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(token) = token {
            let path = self.folder.path().join("token");
            fs::write(&path, token).expect("writable");
            command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path);
        }
        let child = ns.spawn(command).await.expect("the CLI starts");
        let output = timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.expect("it ends").expect("readable");
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    /// That of `aws-node`, as the kubelet mounts it.
    async fn token(&self, audience: &str) -> String {
        let pod = Some("aws-node-0");
        self.system.token_of("aws-node", audience, pod).await
    }

    /// `aws-node` gets its own role's credentials, and after it a pod whose
    /// interface it makes. Tokens are for this audience.
    async fn proves(&self, agent: &Agent, audience: &str, judge: Judge<'_>) {
        let token = self.token(audience).await;
        let answer = self.whoami(&self.node.ns, Some(&token), judge).await;
        let own = answer.starts_with(&format!("{SESSION}aws-node/"));
        assert!(own, "{answer}\n{}", agent.log());
        // The node's address alone names no pod.
        let answer = self.whoami(&self.node.ns, None, judge).await;
        assert!(!answer.contains(SESSION), "{answer}");

        let pod = self.node.add_pod(POD_IPV4, Some(POD_IPV6)).await;
        let pod = pod.expect("a pod");
        self.shop.add_pod("cart-0").await;
        let addresses = [POD_IPV4.to_string(), POD_IPV6.to_string()];
        let addresses = addresses.each_ref().map(String::as_str);
        self.shop.runs_at("cart-0", &addresses).await;
        let token = self.shop.token_for(audience, Some("cart-0")).await;
        // The second time by its address alone.
        for token in [Some(&*token), None] {
            let answer = self.whoami(&pod.ns, token, judge).await;
            let own = answer.starts_with(&format!("{SESSION}cart/"));
            assert!(own, "{answer}\n{}", agent.log());
        }
        self.shop.remove("cart-0").await;
        self.node.remove_pod(pod).await.expect("it was there");
    }
}

#[tokio::test]
async fn the_vpc_cni_and_then_its_pods_get_their_roles_by_each_exchange() {
    let fixture = Fixture::new().await;
    for (exchange, audience) in [("assume-role", EKS), ("web-identity", STS)] {
        let associations = fixture.associations(exchange);
        let flags = [
            "--association-sources",
            "file",
            "--association-file",
            &associations,
        ];
        let agent = fixture.serve(&flags, None).await;
        fixture.proves(&agent, audience, Judge::Moto).await;
        assert_eq!(agent.terminate().await, Some(0), "{exchange}");
    }

    // As for IRSA: nothing is declared but what the account is annotated with.
    let key = "eks.amazonaws.com/role-arn";
    for (place, account) in [(&fixture.system, "aws-node"), (&fixture.shop, "cart")] {
        let role = format!("{ROLE}{account}");
        place.annotate_account(account, key, &role).await;
    }
    let flags = ["--association-sources", "annotation"];
    let agent = fixture.serve(&flags, None).await;
    fixture.proves(&agent, STS, Judge::Moto).await;
    assert_eq!(agent.terminate().await, Some(0));

    let free = || TcpListener::bind((NODE_IPV4, 0));
    let listener = fixture.node.ns.run(free).await;
    let aws = FakeAws::serve(listener.expect("a free port"));
    let shop = &fixture.shop.namespace;
    for (namespace, account) in [("kube-system", "aws-node"), (shop, "cart")] {
        aws.associate(namespace, account, Entry::of(&format!("{ROLE}{account}")));
    }
    let flags = ["--exchange", "eks-auth", "--association-sources", "eks"];
    let agent = fixture.serve(&flags, Some(&aws)).await;
    fixture.proves(&agent, EKS, Judge::StandIn(&aws)).await;
    let calls = aws.count(Api::PodIdentity);
    assert_eq!(calls, 2, "one for each account of {CLUSTER}");
    assert_eq!(aws.count(Api::List) + aws.count(Api::Describe), 0);
}
