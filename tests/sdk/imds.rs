//! Every SDK in a pod of a node whose agent answers instance metadata.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use credlet_tests::client::{self, Answer};
use credlet_tests::fake_kube::{self, FakeKube};
use credlet_tests::moto::Moto;
use credlet_tests::node::{IMDS, Namespace, Node, Pod, Upstream};
use credlet_tests::process::{self, Agent, DOOR};
use futures::future::join_all;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::cluster::{ASSOCIATIONS, SESSION};
use crate::programs::{PATIENCE, Program, run};

/// Where credentials are by version 1.
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// Two pods of an account that has a role, one of which has asked for instance
/// metadata, and moto for STS. The real service is beyond the node.
struct Shop {
    asking: Pod,
    plain: Pod,
    agent: Agent,
    sts: Moto,
    folder: TempDir,
    upstream: Upstream,
    _kube: FakeKube,
    _node: Node,
}

impl Shop {
    /// Returns when the agent is ready.
    async fn open(flags: &[&str]) -> Self {
        let node = Node::new().await.expect("a node");
        let upstream = node.add_upstream().await.expect("a router");
        let listener = node.ns.run(async || TcpListener::bind("127.0.0.1:0").await);
        let kube = FakeKube::on(listener.await.expect("a free port"));
        let asking = join(&node, &kube, 2, fake_kube::Pod::opted_in).await;
        let plain = join(&node, &kube, 3, |object| object).await;

        let folder = TempDir::new().expect("a folder");
        let associations = folder.path().join("associations.yaml");
        std::fs::write(&associations, ASSOCIATIONS).expect("writable");
        // In this order: the agent asks STS as soon as it knows the pods.
        let sts = Moto::start(&node).await;
        let mut command = process::command(&sts.url());
        command
            .args(["--imds", "node"])
            .args(["--association-sources", "file", "--association-file"])
            .arg(&associations)
            .args(flags);
        let agent = Agent::start(&node, &kube, command).await;
        let mut agent = agent.expect("the binary is there");
        agent
            .ready(&node)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let shop = Self {
            asking,
            plain,
            agent,
            sts,
            folder,
            upstream,
            _kube: kube,
            _node: node,
        };
        shop.credentials_are_there().await;
        shop
    }

    /// SDKs ask instance metadata once and wait a second, and moto's first answer
    /// may take longer.
    async fn credentials_are_there(&self) {
        let there = self.asking.ns.run(async || {
            let from = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            let to = DOOR.parse().expect("an address");
            while client::get(from, to, "/v1/credentials").await.status != 200 {}
        });
        let came = timeout(PATIENCE, there).await;
        assert!(came.is_ok(), "{}", self.agent.log());
    }

    async fn run(
        &self,
        program: Program,
        ns: &Namespace,
        environment: &[(&str, &str)],
    ) -> (String, bool) {
        let (home, sts) = (self.folder.path(), self.sts.url());
        run(program.command(), ns, home, &sts, environment).await
    }

    /// Each of these finds the role in the pod that has asked for it.
    async fn each_gets_the_role(&self, programs: &[Program], environment: &[(&str, &str)]) {
        let ns = &self.asking.ns;
        // One by one: together, on few cores, they starve each other.
        for program in programs {
            let (output, ended_well) = self.run(*program, ns, environment).await;
            let named = output.lines().any(|line| line == SESSION);
            assert!(
                ended_well && named,
                "{program:?} with {environment:?} printed:\n{output}\n\n{}",
                self.agent.log()
            );
        }
    }

    fn nobody_met_the_real_service(&self) {
        assert_eq!(self.upstream.heard(), [] as [IpAddr; 0]);
    }
}

/// Adds a pod of the account.
async fn join(
    node: &Node,
    kube: &FakeKube,
    seat: u8,
    labelled: impl FnOnce(fake_kube::Pod) -> fake_kube::Pod,
) -> Pod {
    let ipv4 = Ipv4Addr::new(10, 250, 1, seat);
    let ipv6 = Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, seat.into());
    let pod = node.add_pod(ipv4, Some(ipv6)).await.expect("a pod");
    let object = fake_kube::Pod::new("shop", &format!("checkout-{seat}")).account("checkout");
    let addresses = [ipv4.to_string(), ipv6.to_string()];
    let object = object.addresses(addresses.iter().map(String::as_str));
    kube.apply(labelled(object));
    pod
}

/// Has a service in the namespace that knows of no sessions, and asks the agent by
/// version 1. Returns its URL.
async fn only_v1(ns: &Namespace) -> String {
    let serving = ns.run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(relay(stream));
            }
        });
        address
    });
    format!("http://{}/", serving.await)
}

async fn relay(stream: TcpStream) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut header = String::from("more");
    while !header.trim_end().is_empty() {
        header.clear();
        stream.read_line(&mut header).await.ok()?;
    }
    let mut words = line.split(' ');
    let (status, body) = match (words.next()?, words.next()?) {
        ("GET", path) => {
            let answer = get(path).await;
            (answer.status.as_u16(), answer.body)
        }
        _ => (403, "no sessions".into()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} Said\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(&body).await.ok()
}

/// Asks from this namespace, with a header that names the host and no more.
async fn get(path: &str) -> Answer {
    let from = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    client::get(from, SocketAddr::from((IMDS[0], 80)), path).await
}

#[tokio::test]
async fn each_sdk_finds_its_pods_role_by_version_2_with_nothing_configured() {
    let shop = Shop::open(&["--imds-require-v2"]).await;
    shop.each_gets_the_role(&Program::ALL, &[]).await;
    let ipv6 = ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6");
    shop.each_gets_the_role(&Program::ALL, &[ipv6]).await;
    shop.nobody_met_the_real_service();
}

#[tokio::test]
async fn sdks_that_know_version_1_find_their_pods_role_by_it() {
    // The SDK for Rust knows version 2 alone.
    const KNOW_IT: [Program; 3] = [Program::Boto3, Program::AwsCli, Program::JavaScript];
    let shop = Shop::open(&[]).await;
    let endpoint = only_v1(&shop.asking.ns).await;
    let environment = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*endpoint)];
    shop.each_gets_the_role(&KNOW_IT, &environment).await;

    let answer = shop.asking.ns.run(async || {
        let role = get(ROLES).await.text();
        get(&format!("{ROLES}{role}")).await
    });
    let answer = answer.await;
    let [id, secret, token] =
        ["AccessKeyId", "SecretAccessKey", "Token"].map(|name| answer.field(name));
    let environment = [
        ("AWS_ACCESS_KEY_ID", &*id),
        ("AWS_SECRET_ACCESS_KEY", &*secret),
        ("AWS_SESSION_TOKEN", &*token),
    ];
    shop.each_gets_the_role(&[Program::Rust], &environment)
        .await;
    shop.nobody_met_the_real_service();
}

#[tokio::test]
async fn no_sdk_finds_credentials_in_a_pod_that_has_not_asked_for_instance_metadata() {
    let shop = Shop::open(&[]).await;
    let endpoint = only_v1(&shop.plain.ns).await;
    let v1 = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*endpoint)];
    for environment in [&[][..], &v1] {
        let asked = Program::ALL.map(async |program| {
            let ns = &shop.plain.ns;
            let (output, ended_well) = shop.run(program, ns, environment).await;
            assert!(
                !ended_well && !output.contains(SESSION),
                "{program:?} printed:\n{output}"
            );
        });
        join_all(asked).await;
    }
    shop.nobody_met_the_real_service();
}
