//! Link, addresses, IPv6, ports and rules, each with its faults.

use std::io;
use std::net::{IpAddr, SocketAddr};

use credlet_tests::node::{Namespace, Node, netlink};
use futures::TryStreamExt;
use rtnetlink::packet_route::rule::RuleAction;
use tokio::net::TcpListener;

use super::{add_veth, look, set_up};

/// Takes an address from whichever link has it.
async fn take_away(ns: &Namespace, address: IpAddr) {
    ns.run(async move || {
        let handle = netlink()?;
        let mut held = Box::pin(handle.address().get().set_address_filter(address).execute());
        let message = held.try_next().await.map_err(io::Error::other)?;
        let message = message.ok_or(io::ErrorKind::NotFound)?;
        let del = handle.address().del(message).execute();
        del.await.map_err(io::Error::other)
    })
    .await
    .expect("it was there");
}

async fn set_sysctl(ns: &Namespace, key: &'static str, value: &'static str) {
    let path = format!("/proc/sys/net/{key}");
    ns.run(async move || std::fs::write(path, value))
        .await
        .expect("a setting");
}

#[tokio::test]
async fn the_link_and_each_address_are_missed_until_they_are_there() {
    let node = Node::new().await.expect("a node");
    let report = look(&node.ns, "").await;
    let both = "169.254.170.23 and fd00:ec2::23, which this node does not have";
    report.has("link", "failure", both);
    set_up(&node.ns, "").await;
    look(&node.ns, "")
        .await
        .has("link", "ok", "fd00:ec2::23 is on ");
    take_away(&node.ns, [169, 254, 170, 23].into()).await;
    let report = look(&node.ns, "").await;
    report.has("link", "failure", "pods ask at 169.254.170.23, which");
}

#[tokio::test]
async fn a_link_of_the_same_name_and_another_kind_is_told() {
    let node = Node::new().await.expect("a node");
    add_veth(&node.ns, "credlet0").await;
    let report = look(&node.ns, "").await;
    report.has("link", "failure", "the link credlet0 exists and is a veth");
}

#[tokio::test]
async fn a_node_without_ipv6_is_told_unless_nobody_wants_it() {
    let node = Node::new().await.expect("a node");
    look(&node.ns, "").await.has("ipv6", "ok", "has IPv6");
    set_sysctl(&node.ns, "ipv6/conf/all/disable_ipv6", "1").await;
    set_up(&node.ns, "").await;
    let report = look(&node.ns, "").await;
    report.has("ipv6", "warning", "disable_ipv6 is set");
    report.has("link", "ok", "169.254.170.23 is on ");
    let report = look(&node.ns, "--disable-ipv6").await;
    report.has("ipv6", "ok", "not asked for");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_who_has_it() {
    let node = Node::new().await.expect("a node");
    set_up(&node.ns, "").await;
    let report = look(&node.ns, "").await;
    report.has("ports", "ok", "nobody listens on the agent's ports");
    for (at, words) in [
        ("169.254.170.23:80", "listens on 169.254.170.23:80"),
        (
            "0.0.0.0:80",
            "listens on 0.0.0.0:80, and so on 169.254.170.23:80",
        ),
        ("[fd00:ec2::23]:2703", "listens on [fd00:ec2::23]:2703"),
        ("127.0.0.1:2705", "listens on 127.0.0.1:2705"),
    ] {
        let at: SocketAddr = at.parse().expect("an address");
        let listener = node.ns.run(async move || TcpListener::bind(at).await);
        let listener = listener.await.expect("the address is there");
        let report = look(&node.ns, "").await;
        report.has("ports", "failure", words);
        let me = format!("(process {})", std::process::id());
        report.has("ports", "failure", &me);
        drop(listener);
    }
}

#[tokio::test]
async fn rules_that_are_missing_left_over_or_others_are_told() {
    let node = Node::new().await.expect("a node");
    set_up(&node.ns, "").await;
    let report = look(&node.ns, "").await;
    report.has("rules", "ok", "no rule is needed");
    let report = look(&node.ns, "--imds node").await;
    report.has(
        "rules",
        "failure",
        "add the rule 3: not from all to 169.254.169.254 goto 8",
    );
    set_up(&node.ns, "--imds node").await;
    let report = look(&node.ns, "--imds node").await;
    report.has("rules", "ok", "comes to the agent");
    report.has_no("link", "failure");
    let report = look(&node.ns, "").await;
    report.has(
        "rules",
        "warning",
        "of an earlier run with --imds node are left",
    );

    node.ns
        .run(async || {
            let handle = netlink()?;
            let add = handle.rule().add().v4().priority(2).table_id(100);
            let add = add.action(RuleAction::ToTable).execute();
            add.await.map_err(io::Error::other)
        })
        .await
        .expect("a rule");
    let report = look(&node.ns, "--imds node").await;
    report.has("rules", "warning", "2: from all lookup 100");
}
