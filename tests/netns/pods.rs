//! Pods on a simulated node, served by the real binary.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use credlet_tests::client;
use credlet_tests::fake_aws::{self, Api};
use credlet_tests::node::NODE_IPV4;
use credlet_tests::process::DOOR;
use hyper::StatusCode;
use nix::sys::signal::Signal;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use crate::cluster::{
    DOOR_V6, PATIENCE, ROLE, Shop, ask, ask_on, connect, owner, reported, try_ask,
};

#[tokio::test]
async fn each_pod_is_known_by_its_address_over_ipv4_and_over_ipv6() {
    let cluster = Shop::new().await;
    let agent = cluster.ready(cluster.command()).await;
    for door in [DOOR, DOOR_V6] {
        assert_eq!(owner(&ask(&cluster.checkout, door).await), "shop/checkout");
        assert_eq!(owner(&ask(&cluster.reports, door).await), "shop/reports");
    }
    assert_eq!(cluster.aws.count(Api::AssumeRole), 2);
    assert_eq!(agent.terminate().await, Some(0));
}

#[tokio::test]
async fn a_process_on_the_host_network_is_refused() {
    let cluster = Shop::new().await;
    let _agent = cluster.ready(cluster.command()).await;
    let door: SocketAddr = DOOR.parse().expect("an address");
    let answer = cluster
        .node
        .ns
        .run(move || client::get(Ipv4Addr::UNSPECIFIED.into(), door, "/v1/credentials"));
    let answer = answer.await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.field("code"), "NodeAddress");
}

#[tokio::test]
async fn a_node_without_ipv6_is_served_over_ipv4_and_says_so_once() {
    let cluster = Shop::new().await;
    cluster
        .node
        .ns
        .run(async || std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"))
        .await
        .expect("a sysctl of the node's");
    let agent = cluster.ready(cluster.command()).await;
    assert_eq!(owner(&ask(&cluster.checkout, DOOR).await), "shop/checkout");
    assert_eq!(
        agent
            .log()
            .matches("cannot have these IPv6 addresses")
            .count(),
        1,
        "{}",
        agent.log()
    );
}

#[tokio::test]
async fn ipv6_that_is_turned_off_is_not_listened_on() {
    let cluster = Shop::new().await;
    let mut command = cluster.command();
    command.arg("--disable-ipv6");
    let agent = cluster.ready(command).await;
    assert_eq!(owner(&ask(&cluster.checkout, DOOR).await), "shop/checkout");
    assert!(try_ask(&cluster.checkout, DOOR_V6).await.is_err());
    assert!(!agent.log().contains("IPv6 addresses"), "{}", agent.log());
}

#[tokio::test]
async fn an_address_that_is_taken_away_comes_back_and_is_answered_on() {
    let cluster = Shop::new().await;
    let _agent = cluster.ready(cluster.command()).await;
    assert_eq!(owner(&ask(&cluster.checkout, DOOR).await), "shop/checkout");

    let (said, code) = cluster.run(&["netsetup", "--remove"]).await;
    assert_eq!(code, Some(0), "{said}");
    let back = async {
        // Refused by the node, or unanswered, until the address is back.
        while !matches!(
            timeout(Duration::from_millis(200), try_ask(&cluster.checkout, DOOR)).await,
            Ok(Ok(_))
        ) {}
    };
    timeout(PATIENCE, back)
        .await
        .expect("the address comes back");
    assert_eq!(owner(&ask(&cluster.checkout, DOOR).await), "shop/checkout");
    let counted = async {
        while cluster
            .metrics()
            .await
            .contains("credlet_network_repairs_total 0\n")
        {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, counted)
        .await
        .expect("the repair is counted");
}

#[tokio::test]
async fn netsetup_makes_and_removes_the_same_and_says_what_it_did() {
    let cluster = Shop::new().await;
    let (made, code) = cluster.run(&["netsetup"]).await;
    assert_eq!(code, Some(0), "{made}");
    assert!(
        made.contains("169.254.170.23") && made.contains("fd00:ec2::23"),
        "{made}"
    );
    assert_eq!(
        cluster.run(&["netsetup"]).await,
        ("nothing to do\n".to_owned(), Some(0))
    );
    let (removed, code) = cluster.run(&["netsetup", "--remove"]).await;
    assert_eq!(code, Some(0), "{removed}");
    assert!(
        removed.contains("169.254.170.23") && removed.contains("fd00:ec2::23"),
        "{removed}"
    );
    assert_eq!(
        cluster.run(&["netsetup", "--remove"]).await,
        ("nothing to do\n".to_owned(), Some(0))
    );
}

#[tokio::test]
async fn a_killed_agent_leaves_its_addresses_to_the_next() {
    let cluster = Shop::new().await;
    let mut killed = cluster.ready(cluster.command()).await;
    killed.signal(Signal::SIGKILL);
    assert_eq!(killed.ended().await, None);
    let (said, _) = cluster.run(&["netsetup"]).await;
    assert_eq!(said, "nothing to do\n");
    let _next = cluster.ready(cluster.command()).await;
    assert_eq!(owner(&ask(&cluster.checkout, DOOR).await), "shop/checkout");
}

#[tokio::test]
async fn a_request_that_waits_for_aws_is_answered_though_the_agent_was_told_to_leave() {
    let cluster = Shop::new().await;
    let slow = fake_aws::Answer::After(Duration::from_millis(600));
    cluster
        .aws
        .script_for(Api::AssumeRole, &format!("{ROLE}checkout"), slow);
    let agent = cluster.ready(cluster.command()).await;
    let leaves = async {
        cluster.aws.wait_for(Api::AssumeRole, 1).await;
        agent.terminate().await
    };
    let (answer, code) = tokio::join!(ask(&cluster.checkout, DOOR), leaves);
    assert_eq!(owner(&answer), "shop/checkout");
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn an_agent_that_cannot_listen_ends_with_one_line_that_says_what_to_do() {
    let cluster = Shop::new().await;
    let taken = SocketAddr::from((NODE_IPV4, 8080));
    let _other = cluster
        .node
        .ns
        .run(move || TcpListener::bind(taken))
        .await
        .expect("a free port");
    let mut command = cluster.command();
    command.args([
        "--no-setup-network",
        "--bind-hosts",
        &NODE_IPV4.to_string(),
        "--port",
        "8080",
    ]);
    let mut agent = cluster.start(command).await;
    assert_eq!(agent.ended().await, Some(1));
    let last = agent.log().lines().last().unwrap_or_default().to_owned();
    assert!(
        last.starts_with("credlet: ") && last.contains("10.250.0.1:8080") && last.contains("taken"),
        "{last}"
    );
}

#[tokio::test]
async fn an_impossible_configuration_ends_with_exit_code_2_and_one_line() {
    let cluster = Shop::new().await;
    let sources = ["run", "--association-sources", "eks"];
    let (said, code) = cluster.run(&sources).await;
    assert_eq!(code, Some(2));
    assert_eq!(
        said,
        "credlet: --cluster-name is required by the source `eks`\n"
    );
}

#[tokio::test]
async fn the_log_has_no_secret_at_any_level_and_no_line_for_a_cached_request() {
    let cluster = Shop::new().await;
    let mut command = cluster.command();
    command.args(["--log-level", "trace"]);
    let loud = cluster.ready(command).await;
    let pod = reported("checkout", 2);
    let [token, foreign] = ["pods.eks.amazonaws.com", "vault"]
        .map(|audience| cluster.kube.token(&pod, audience, Duration::from_hours(1)));
    let mut kept = connect(&cluster.checkout, DOOR).await.expect("accepted");
    let refused = ask_on(&mut kept, Some(&foreign)).await.expect("an answer");
    assert_eq!(refused.field("code"), "BadToken");
    let answer = ask_on(&mut kept, Some(&token)).await.expect("an answer");
    let mut secrets = ["SecretAccessKey", "Token"]
        .map(|name| answer.field(name))
        .to_vec();
    for token in [&token, &foreign] {
        secrets.extend(token.split('.').map(str::to_owned));
    }
    assert!(
        secrets.iter().all(|secret| !secret.is_empty()),
        "{}",
        answer.text()
    );
    loud.signal(Signal::SIGTERM);
    let log = loud.log();
    assert!(log.lines().count() > 3, "{log}");
    for secret in secrets.iter().map(String::as_str).chain(["of-the-node"]) {
        assert!(!log.contains(secret), "{log}");
    }

    let usual = cluster.ready(cluster.command()).await;
    assert_eq!(owner(&ask(&cluster.reports, DOOR).await), "shop/reports");
    // The last of what a start has to say.
    let started = async {
        while !usual.log().contains("tokens are verified") {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, started).await.expect("keys are fetched");
    let before = usual.log();
    for _ in 0..20 {
        ask(&cluster.reports, DOOR).await;
    }
    assert_eq!(usual.log(), before);
    for line in before.lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok(),
            "{line}"
        );
    }
}
