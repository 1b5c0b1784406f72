//! Processes on the node's own network, and what tokens settle.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use credlet_tests::client::{Answer, Kept};
use credlet_tests::fake_kube::{self, FakeKube};
use credlet_tests::node::{NODE_IPV4, Node, Pod};
use credlet_tests::process::{Agent, DOOR};
use serde_json::json;

use super::{code, unconfirmed};
use crate::cluster::{Cluster, DOOR_V6, Shop, ask, ask_on, connect, owner, reported, unaddressed};

const AUDIENCE: &str = "pods.eks.amazonaws.com";
const LIFETIME: Duration = Duration::from_hours(1);

/// A pod of the account on the host network.
fn of_the_node(account: &str) -> fake_kube::Pod {
    let address = NODE_IPV4.to_string();
    let pod = unaddressed(account).host_network();
    pod.addresses([address.as_str()])
        .edit(|pod| pod["status"]["hostIPs"] = json!([{"ip": address}]))
}

fn token(kube: &FakeKube, pod: &fake_kube::Pod) -> String {
    kube.token(pod, AUDIENCE, LIFETIME)
}

async fn with(cluster: &Cluster, arguments: &[&str]) -> Agent {
    let mut command = cluster.command();
    command.args(arguments);
    cluster.ready(command).await
}

/// Asks from the node's own namespace.
async fn ask_from(cluster: &Cluster, from: IpAddr, door: &str, token: Option<&str>) -> Answer {
    let door: SocketAddr = door.parse().expect("an address");
    let opened = cluster.node.ns.run(move || Kept::open(from, door));
    let mut kept = opened.await.expect("a connection");
    ask_on(&mut kept, token).await.expect("an answer")
}

async fn ask_on_host(cluster: &Cluster, token: Option<&str>) -> Answer {
    ask_from(cluster, Ipv4Addr::UNSPECIFIED.into(), DOOR, token).await
}

async fn ask_with(pod: &Pod, door: &str, token: &str) -> Answer {
    let mut kept = connect(pod, door).await.expect("a connection");
    ask_on(&mut kept, Some(token)).await.expect("an answer")
}

#[tokio::test]
async fn a_host_network_pod_is_known_by_its_token_before_there_is_a_pod_network() {
    let cluster = Cluster::on(Node::new().await.expect("a node")).await;
    let pod = of_the_node("aws-node");
    cluster.associate("aws-node");
    cluster.kube.apply(pod.clone());
    let token = token(&cluster.kube, &pod);
    for mode in ["address", "token"] {
        let agent = with(&cluster, &["--identity", mode]).await;
        let sources: [(IpAddr, &str); 3] = [
            (Ipv4Addr::UNSPECIFIED.into(), DOOR),
            (NODE_IPV4.into(), DOOR),
            (IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), DOOR_V6),
        ];
        for (from, door) in sources {
            let answer = ask_from(&cluster, from, door, Some(&token)).await;
            assert_eq!(owner(&answer), "shop/aws-node", "{mode}, {from}");
        }
        assert_eq!(agent.terminate().await, Some(0));
    }
}

#[tokio::test]
async fn a_host_network_process_without_a_token_is_told_to_mount_one() {
    let shop = Shop::new().await;
    for (mode, wanted) in [
        ("address", "NodeAddress"),
        ("token", "NoToken"),
        ("both", "NoToken"),
    ] {
        let agent = with(&shop, &["--identity", mode]).await;
        let answer = ask_on_host(&shop, None).await;
        assert_eq!(code(&answer), (403, wanted.to_owned()));
        let advice = "mount a projected service account token";
        assert!(
            answer.field("message").contains(advice),
            "{}",
            answer.text()
        );
        assert_eq!(agent.terminate().await, Some(0));
    }
}

#[tokio::test]
async fn no_other_token_is_good_on_the_host_network() {
    let shop = Shop::new().await;
    let live = of_the_node("aws-node");
    let gone = of_the_node("proxy");
    shop.associate("aws-node");
    shop.associate("proxy");
    shop.kube.apply(live.clone());
    shop.kube.apply(gone.clone());
    let agent = with(&shop, &[]).await;
    let of_the_live = token(&shop.kube, &live);
    let of_the_gone = token(&shop.kube, &gone);
    for (token, account) in [
        (&of_the_live, "shop/aws-node"),
        (&of_the_gone, "shop/proxy"),
    ] {
        assert_eq!(owner(&ask_on_host(&shop, Some(token)).await), account);
    }
    shop.kube.delete("shop", "proxy-1");
    shop.shows("credlet_pods 3").await;
    let elsewhere = of_the_node("aws-node").node("node-2").uid("another");
    let unknown = of_the_node("aws-node").uid("another");
    let on_the_pod_network = reported("checkout", 2);
    for (token, wanted) in [
        (of_the_gone, (403, "GonePod")),
        (token(&shop.kube, &elsewhere), (403, "OtherPod")),
        (token(&shop.kube, &unknown), (503, "UnknownPod")),
        (token(&shop.kube, &on_the_pod_network), (403, "OtherPod")),
    ] {
        let answer = ask_on_host(&shop, Some(&token)).await;
        assert_eq!(code(&answer), (wanted.0, wanted.1.to_owned()));
    }
    // From a pod's address a host network pod's is none either.
    let answer = ask_with(&shop.checkout, DOOR, &of_the_live).await;
    assert_eq!(code(&answer), (403, "OtherPod".to_owned()));
    assert_eq!(agent.terminate().await, Some(0));

    let _both = with(&shop, &["--identity", "both"]).await;
    let answer = ask_on_host(&shop, Some(&of_the_live)).await;
    assert_eq!(code(&answer), (403, "NodeAddress".to_owned()));
}

#[tokio::test]
async fn a_token_from_another_pods_address_is_refused() {
    for mode in ["address", "token", "both"] {
        let shop = Shop::new().await;
        let _agent = with(&shop, &["--identity", mode]).await;
        let of_checkout = token(&shop.kube, &reported("checkout", 2));
        for door in [DOOR, DOOR_V6] {
            let answer = ask_with(&shop.checkout, door, &of_checkout).await;
            assert_eq!(owner(&answer), "shop/checkout");
            let answer = ask_with(&shop.reports, door, &of_checkout).await;
            assert_eq!(code(&answer), (403, "OtherPod".to_owned()));
        }
        let answer = ask(&shop.checkout, DOOR).await;
        match mode {
            "address" => assert_eq!(owner(&answer), "shop/checkout"),
            _ => assert_eq!(code(&answer), (403, "NoToken".to_owned())),
        }
    }
}

#[tokio::test]
async fn a_token_settles_at_once_whose_a_reused_address_is() {
    for mode in ["address", "token"] {
        for node in super::nodes().await {
            let shop = Shop::on(node).await;
            shop.associate("heir");
            let _agent = with(&shop, &["--identity", mode]).await;
            let token = token(&shop.kube, &unaddressed("heir"));
            if mode == "address" {
                shop.settle().await;
            }
            // The API server has said that it is to run here, and no more.
            shop.kube.apply(unaddressed("heir").phase("Pending"));
            shop.node
                .unplug(&shop.checkout)
                .await
                .expect("it was there");
            let heir = shop.plug(2).await;
            for door in [DOOR, DOOR_V6] {
                assert_eq!(owner(&ask_with(&heir, door, &token).await), "shop/heir");
            }
            if mode == "address" {
                assert_eq!(code(&ask(&heir, DOOR).await), unconfirmed());
            }
        }
    }
}

/// Not before the API server says that it has the address.
#[tokio::test]
async fn a_token_does_not_settle_it_where_the_address_is_asked_for_too() {
    let shop = Shop::new().await;
    shop.associate("heir");
    let _agent = with(&shop, &["--identity", "both"]).await;
    let token = token(&shop.kube, &unaddressed("heir"));
    shop.kube.apply(unaddressed("heir").phase("Pending"));
    shop.node
        .unplug(&shop.checkout)
        .await
        .expect("it was there");
    let heir = shop.plug(2).await;
    assert_eq!(code(&ask_with(&heir, DOOR, &token).await), unconfirmed());
    shop.kube.delete("shop", "checkout-1");
    shop.kube.apply(reported("heir", 2));
    assert_eq!(owner(&ask_with(&heir, DOOR, &token).await), "shop/heir");
}
