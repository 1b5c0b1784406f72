//! The sidecar in its pod's namespace: what it needs, whom it answers, and what
//! its addresses on `lo` do to nothing else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use credlet_tests::client::{self, Answer};
use credlet_tests::fake_aws::{Api, FakeAws, issued_to};
use credlet_tests::node::{NODE_IPV4, Namespace, netlink};
use credlet_tests::process::Agent;
use credlet_tests::sidecar::{Capability, Lone, POD_IPV4, POD_IPV6, ROLE, confine};
use futures::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::RouteScope;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

/// A pod, and an STS outside it.
struct Shop {
    lone: Lone,
    aws: FakeAws,
}

impl Shop {
    async fn open() -> Self {
        let lone = Lone::start().await;
        let listener = lone.node.ns.run(|| TcpListener::bind((NODE_IPV4, 0)));
        let aws = FakeAws::serve(listener.await.expect("a free port"));
        Self { lone, aws }
    }

    /// A sidecar without capabilities, after a set-up with one.
    async fn served(&self) -> Agent {
        self.lone.set_up(&[Capability::NetAdmin]).await;
        self.lone.let_anybody_bind_port_80().await;
        self.lone.serve(self.lone.command(self.aws.url())).await
    }
}

async fn ask(ns: &Namespace, door: &str) -> Answer {
    let door: SocketAddr = door.parse().expect("an address");
    let from = match door {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    };
    let answer = ns.run(move || client::get(from, door, "/v1/credentials"));
    timeout(PATIENCE, answer).await.expect("an answer in time")
}

fn owner(answer: &Answer) -> Option<String> {
    issued_to(&answer.field("AccessKeyId"))
}

#[tokio::test]
async fn a_set_up_with_net_admin_alone_lets_a_sidecar_without_any_capability_serve() {
    let shop = Shop::open().await;
    let (went_well, said) = shop.lone.set_up(&[Capability::NetAdmin]).await;
    assert!(went_well, "{said}");
    assert!(said.contains("add 169.254.169.254 to lo"), "{said}");
    let again = shop.lone.set_up(&[Capability::NetAdmin]).await;
    assert_eq!(again, (true, "nothing to do\n".to_owned()));

    let _sidecar = shop.served().await;
    for door in [
        "169.254.170.23:80",
        "169.254.169.254:80",
        "[fd00:ec2::23]:80",
    ] {
        let answer = ask(&shop.lone.pod.ns, door).await;
        assert_eq!(owner(&answer).as_deref(), Some("shop/checkout"), "{door}");
    }
    assert_eq!(shop.aws.count(Api::WebIdentity), 1);
}

#[tokio::test]
async fn the_addresses_are_the_source_of_nothing_that_the_pod_sends_elsewhere() {
    let shop = Shop::open().await;
    let (went_well, said) = shop.lone.set_up(&[Capability::NetAdmin]).await;
    assert!(went_well, "{said}");
    let everywhere = |text: &str| text.parse::<SocketAddr>().expect("an address");
    for (at, to, from) in [
        ("0.0.0.0:8080", "10.250.0.1:8080", IpAddr::V4(POD_IPV4)),
        ("[::]:8081", "[fd00:250::1]:8081", IpAddr::V6(POD_IPV6)),
    ] {
        let (at, to) = (everywhere(at), everywhere(to));
        if from.is_ipv6() {
            // The node has none of its own to be asked at.
            let added = shop.lone.node.ns.run(async move || {
                let handle = netlink()?;
                let index = link(&handle, "eth0").await?;
                let add = handle.address().add(index, to.ip(), 128).execute();
                add.await.map_err(std::io::Error::other)
            });
            added.await.expect("an address");
        }
        let listener = shop.lone.node.ns.run(move || TcpListener::bind(at));
        let listener = listener.await.expect("a free port");
        let connect = shop.lone.pod.ns.run(move || TcpStream::connect(to));
        let _client = timeout(PATIENCE, connect).await.expect("in time");
        let (_, peer) = listener.accept().await.expect("a connection");
        assert_eq!(peer.ip(), from);
    }
}

async fn link(handle: &rtnetlink::Handle, name: &str) -> std::io::Result<u32> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await.map_err(std::io::Error::other)?;
    Ok(link.expect("it is there").header.index)
}

#[tokio::test]
async fn a_set_up_that_may_not_says_in_one_line_what_it_takes() {
    let shop = Shop::open().await;
    let (went_well, said) = shop.lone.set_up(&[]).await;
    assert!(!went_well);
    assert!(said.contains("CAP_NET_ADMIN"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test]
async fn a_sidecar_whose_pod_was_not_set_up_says_in_one_line_what_to_do() {
    let shop = Shop::open().await;
    let mut command = shop.lone.command(shop.aws.url());
    confine(&mut command, &[]);
    let sidecar = Agent::start_in(&shop.lone.pod.ns, command).await;
    let mut sidecar = sidecar.expect("it starts");
    assert_eq!(sidecar.ended().await, Some(1));
    let log = sidecar.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("--setup"), "{log}");
}

#[tokio::test]
async fn a_neighbour_that_gets_through_to_the_pods_lo_is_a_stranger() {
    let shop = Shop::open().await;
    let _sidecar = shop.served().await;
    let into_pod = shop.lone.pod.node_link;
    let routed = shop.lone.node.ns.run(async move || {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix([169, 254, 170, 23].into(), 32)
            .output_interface(into_pod)
            .scope(RouteScope::Link);
        netlink()?
            .route()
            .add(route.build())
            .execute()
            .await
            .map_err(std::io::Error::other)
    });
    routed.await.expect("a route");
    let answer = ask(&shop.lone.node.ns, "169.254.170.23:80").await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.field("Code"), "Stranger", "{}", answer.text());
}

#[tokio::test]
async fn a_sidecar_at_the_pods_own_address_answers_the_pod_and_nobody_else() {
    let shop = Shop::open().await;
    let mut command = shop.lone.command(shop.aws.url());
    command.args(["--bind", "10.250.1.2:8080", "--bind", "[fd00:250::2]:8080"]);
    let _sidecar = shop.lone.serve(command).await;
    for door in ["10.250.1.2:8080", "[fd00:250::2]:8080"] {
        let answer = ask(&shop.lone.pod.ns, door).await;
        assert_eq!(owner(&answer).as_deref(), Some("shop/checkout"), "{door}");
    }
    let answer = ask(&shop.lone.node.ns, "10.250.1.2:8080").await;
    assert_eq!(answer.field("Code"), "Stranger", "{}", answer.text());
}

#[tokio::test]
async fn on_loopback_a_pod_needs_no_set_up_and_no_sysctl() {
    let shop = Shop::open().await;
    let mut command = shop.lone.command(shop.aws.url());
    command.args(["--bind", "127.0.0.1:8181"]);
    let _sidecar = shop.lone.serve(command).await;
    let answer = ask(&shop.lone.pod.ns, "127.0.0.1:8181").await;
    assert_eq!(owner(&answer).as_deref(), Some("shop/checkout"));
}

#[tokio::test]
async fn the_pods_own_credentials_assume_the_role_if_asked() {
    let shop = Shop::open().await;
    let mut command = shop.lone.command(shop.aws.url());
    command
        .args(["--bind", "127.0.0.1:8181", "--exchange", "assume-role"])
        .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "of-the-pod");
    let _sidecar = shop.lone.serve(command).await;
    let answer = ask(&shop.lone.pod.ns, "127.0.0.1:8181").await;
    assert_eq!(
        shop.aws.role_of(&answer.field("AccessKeyId")).as_deref(),
        Some(ROLE)
    );
    let [call] = &shop.aws.assume_roles()[..] else {
        panic!("one call: {:?}", shop.aws.calls());
    };
    assert_eq!(call.signer, "AKIAEXAMPLE");
    assert!(call.tags.is_empty(), "the pod could claim any: {call:?}");
}

#[tokio::test]
async fn a_sidecar_that_its_own_environment_names_does_not_wait_for_itself() {
    let shop = Shop::open().await;
    let mut command = shop.lone.command(shop.aws.url());
    command
        .args(["--bind", "127.0.0.1:8181", "--exchange", "assume-role"])
        .args(["--service-account", "shop/checkout"])
        .env_remove("AWS_WEB_IDENTITY_TOKEN_FILE")
        .env(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "http://127.0.0.1:8181/v1/credentials",
        )
        .env(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "http://127.0.0.1:8181/",
        );
    confine(&mut command, &[]);
    let sidecar = Agent::start_in(&shop.lone.pod.ns, command).await;
    let sidecar = sidecar.expect("it starts");
    let door: SocketAddr = "127.0.0.1:8181".parse().expect("an address");
    let told = async {
        loop {
            let from = Ipv4Addr::LOCALHOST.into();
            let asked =
                (shop.lone.pod.ns).run(move || client::try_get(from, door, "/v1/credentials"));
            match asked.await {
                Ok(answer) => return answer,
                // It does not listen yet.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let answer = timeout(PATIENCE, told).await.expect("an answer in time");
    // Late, if it waited for itself.
    assert_eq!(answer.field("Code"), "Unavailable", "{}", sidecar.log());
    assert_eq!(answer.status, 503);
    assert_eq!(shop.aws.calls(), []);
}

#[tokio::test]
async fn a_client_that_knows_only_the_first_version_of_instance_metadata_gets_the_same() {
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let shop = Shop::open().await;
    let _sidecar = shop.served().await;
    let door: SocketAddr = "169.254.169.254:80".parse().expect("an address");
    let get = async |path: String| {
        let from = Ipv4Addr::UNSPECIFIED.into();
        let got = (shop.lone.pod.ns).run(async move || client::get(from, door, &path).await);
        timeout(PATIENCE, got).await.expect("an answer in time")
    };
    let name = get(ROLES.to_owned()).await.text();
    assert_eq!(name, "checkout");
    let answer = get(format!("{ROLES}{name}")).await;
    assert_eq!(answer.field("Code"), "Success", "{}", answer.text());
    let same = ask(&shop.lone.pod.ns, "169.254.170.23:80").await;
    for field in ["AccessKeyId", "SecretAccessKey", "Token", "Expiration"] {
        assert_eq!(answer.field(field), same.field(field), "{field}");
    }
}
