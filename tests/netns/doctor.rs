//! `credlet doctor` on a node: each finding by a fault that is made on purpose.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use credlet_tests::doctor::{Report, command};
use credlet_tests::node::{Namespace, Node, netlink};
use rtnetlink::LinkVeth;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::cluster::Cluster;

mod aws;
mod imds;
mod network;

/// Looks from the node.
async fn look(ns: &Namespace, arguments: &str) -> Report {
    look_by(ns, command(&format!("--from node {arguments}"))).await
}

async fn look_by(ns: &Namespace, command: Command) -> Report {
    let child = ns.spawn(command).await.expect("the binary is there");
    Report::of(&child.wait_with_output().await.expect("it ends"))
}

/// Has `credlet netsetup` make what the agent would.
async fn set_up(ns: &Namespace, arguments: &str) {
    let mut command = Command::new(credlet_tests::process::binary());
    command
        .arg("netsetup")
        .args(arguments.split_whitespace())
        .stdout(std::process::Stdio::null())
        .env_clear();
    let mut child = ns.spawn(command).await.expect("the binary is there");
    let ended = child.wait().await.expect("it ends");
    assert!(ended.success());
}

#[tokio::test]
async fn an_agent_that_is_away_then_ready_then_cut_from_its_pods_is_told_apart() {
    let cluster = Cluster::on(Node::new().await.expect("a node")).await;
    let ns = &cluster.node.ns;
    let report = look(ns, "").await;
    report.has(
        "agent",
        "failure",
        "no agent answers at 169.254.170.23:2703",
    );
    assert_eq!(report.code, Some(1));

    let agent = cluster.ready(cluster.command()).await;
    let report = look(ns, "").await;
    report.has("agent", "ok", "the agent is ready");
    report.has("link", "ok", "169.254.170.23 is on ");
    report.has("ports", "ok", "the agent listens on all of its ports");
    agent.terminate().await;

    cluster.kube.down().await;
    let mut agent = cluster.start(cluster.command()).await;
    let probes: SocketAddr = credlet_tests::process::PROBES.parse().expect("an address");
    let from = Ipv4Addr::UNSPECIFIED.into();
    while ns
        .run(async move || credlet_tests::client::try_get(from, probes, "/readyz").await)
        .await
        .is_err()
    {
        tokio::task::yield_now().await;
    }
    let report = look(ns, "").await;
    report.has("agent", "failure", "the agent is not ready: closed: pods");
    agent.signal(nix::sys::signal::Signal::SIGKILL);
    agent.ended().await;
}

#[tokio::test]
async fn whoever_answers_in_the_agents_place_is_no_agent() {
    let node = Node::new().await.expect("a node");
    set_up(&node.ns, "").await;
    let bound = async || TcpListener::bind("169.254.170.23:2703").await;
    let listener = node.ns.run(bound).await.expect("the address is there");
    let serving = async move || {
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // What is not read would cut the answer off.
                let _ = stream.readable().await;
                let _ = stream.try_read(&mut [0; 1024]);
                let said = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhealthy";
                // Who hung up wants no answer.
                let _ = stream.try_write(said);
            }
        });
    };
    node.ns.run(serving).await;
    let report = look(&node.ns, "").await;
    report.has("agent", "failure", "is not credlet: status 200");
    report.has("ports", "failure", "listens on 169.254.170.23:2703");
}

#[tokio::test]
async fn other_agents_are_found_by_what_runs_on_the_node() {
    let node = Node::new().await.expect("a node");
    for (program, flags, verdict, words) in [
        (
            "eks-pod-identity-agent",
            "",
            "failure",
            "the EKS Pod Identity Agent is there",
        ),
        ("kiam", "", "warning", "kiam is there"),
        (
            "kube2iam",
            "--imds node",
            "failure",
            "both catch what pods ask",
        ),
    ] {
        let mut command = Command::new("sleep");
        command.arg0(format!("/usr/bin/{program}")).arg("1000");
        let mut child = node.ns.spawn(command).await.expect("a process");
        // What it runs is known once it has begun to.
        let words_of = format!("/proc/{}/cmdline", child.id().expect("it runs"));
        while !fs::read_to_string(&words_of)
            .expect("it runs")
            .contains(program)
        {
            tokio::task::yield_now().await;
        }
        let with_cluster = look(&node.ns, flags).await;
        with_cluster.has("other-agents", verdict, words);
        child.kill().await.expect("it ends");
    }
}

/// A link of any kind but dummy.
async fn add_veth(ns: &Namespace, name: &'static str) {
    ns.run(async move || {
        let handle = netlink()?;
        let pair = LinkVeth::new(name, "other-end").build();
        let add = handle.link().add(pair);
        add.execute().await.map_err(std::io::Error::other)
    })
    .await
    .expect("a link");
}
