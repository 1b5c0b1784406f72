//! Pods that call from an address of their neighbour's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use credlet_tests::client::{Answer, Kept};
use credlet_tests::node::{Forgery, Node, Pod};
use credlet_tests::process::DOOR;
use tokio::time::timeout;

use super::{code, unconfirmed};
use crate::cluster::{DOOR_V6, Shop, ask, ask_on, owner, reported, try_ask};

/// For a handshake that must not come about: one that does takes less.
const MOMENT: Duration = Duration::from_millis(500);
/// Longer than a kernel takes to ask for a neighbour that answers no more.
const RECOVERY: Duration = Duration::from_secs(30);

/// What a pod is answered that asks from an address of its victim's, if the
/// handshake comes about.
async fn ask_as(forger: &Pod, victim: &Pod, door: &str) -> Option<Answer> {
    let to: SocketAddr = door.parse().expect("an address");
    let from = match to {
        SocketAddr::V4(_) => IpAddr::V4(victim.ipv4),
        SocketAddr::V6(_) => IpAddr::V6(victim.ipv6.expect("it is dual-stack")),
    };
    let opened = forger.ns.run(move || Kept::open(from, to));
    let mut kept = timeout(MOMENT, opened).await.ok()?.ok()?;
    ask_on(&mut kept, None).await.ok()
}

/// Asks as the victim for some seconds and returns how often it was answered.
async fn besiege(shop: &Shop) -> usize {
    let mut answered = 0;
    for door in [DOOR, DOOR_V6, DOOR, DOOR_V6] {
        if let Some(answer) = ask_as(&shop.reports, &shop.checkout, door).await {
            assert_eq!(code(&answer), unconfirmed());
            answered += 1;
        }
    }
    answered
}

async fn is_served_again(shop: &Shop) {
    let served = async {
        loop {
            match timeout(MOMENT * 4, try_ask(&shop.checkout, DOOR)).await {
                Ok(Ok(answer)) if answer.status == 200 => break owner(&answer),
                Ok(Ok(answer)) => assert_eq!(code(&answer), unconfirmed()),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    };
    let served = timeout(RECOVERY, served).await;
    assert_eq!(served.expect("it is served again"), "shop/checkout");
}

#[tokio::test]
async fn a_forger_with_a_link_of_its_own_completes_no_handshake_and_harms_nobody() {
    let shop = Shop::new().await;
    let _agent = shop.ready(shop.command()).await;
    shop.reports
        .forge(&shop.checkout, Forgery::Silent)
        .await
        .expect("it has the capability");
    assert_eq!(besiege(&shop).await, 0);
    for door in [DOOR, DOOR_V6] {
        assert_eq!(owner(&ask(&shop.checkout, door).await), "shop/checkout");
        assert_eq!(owner(&ask(&shop.reports, door).await), "shop/reports");
    }
}

async fn forgery_on_a_bridge_gets_nothing(forgery: impl Fn(&Shop) -> Forgery) {
    let shop = Shop::on(Node::bridged().await.expect("a node")).await;
    let _agent = shop.ready(shop.command()).await;
    for door in [DOOR, DOOR_V6] {
        assert_eq!(owner(&ask(&shop.checkout, door).await), "shop/checkout");
        assert_eq!(owner(&ask(&shop.reports, door).await), "shop/reports");
    }
    let forged = shop.reports.forge(&shop.checkout, forgery(&shop)).await;
    forged.expect("it has the capability");
    let answered = besiege(&shop).await;
    assert!(answered > 0, "no forged handshake came about");

    shop.node.unplug(&shop.reports).await.expect("it was there");
    shop.checkout
        .announce()
        .await
        .expect("it has the capability");
    is_served_again(&shop).await;
}

#[tokio::test]
async fn an_announced_forgery_on_a_bridge_gets_nothing_and_ends_with_the_forger() {
    forgery_on_a_bridge_gets_nothing(|_| Forgery::Announced).await;
}

#[tokio::test]
async fn a_forgery_from_the_victims_link_layer_address_gets_nothing() {
    forgery_on_a_bridge_gets_nothing(|shop| Forgery::From(shop.checkout.mac)).await;
}

#[tokio::test]
async fn a_forgery_from_the_nodes_end_of_the_forgers_link_gets_nothing() {
    forgery_on_a_bridge_gets_nothing(|shop| Forgery::From(shop.reports.node_mac)).await;
}

/// A forger that was there first is not taken for the pod that comes.
#[tokio::test]
async fn an_address_that_a_neighbour_announced_before_its_pod_came_is_not_the_neighbours() {
    let shop = Shop::on(Node::bridged().await.expect("a node")).await;
    shop.associate("late");
    let _agent = shop.ready(shop.command()).await;
    assert_eq!(owner(&ask(&shop.reports, DOOR).await), "shop/reports");
    let late = shop.plug(4).await;
    shop.reports
        .forge(&late, Forgery::Announced)
        .await
        .expect("it has the capability");
    // The handshake comes about, and nobody is known by the address.
    let first = ask_as(&shop.reports, &late, DOOR).await;
    assert_eq!(
        first.map(|answer| answer.field("code")).as_deref(),
        Some("UnknownAddress")
    );
    shop.kube.apply(reported("late", 4));
    for _ in 0..4 {
        if let Some(answer) = ask_as(&shop.reports, &late, DOOR).await {
            assert_eq!(code(&answer), unconfirmed());
        }
    }
    shop.node.unplug(&shop.reports).await.expect("it was there");
    late.announce().await.expect("it has the capability");
    let served = async {
        while !matches!(
            timeout(MOMENT * 4, try_ask(&late, DOOR)).await,
            Ok(Ok(answer)) if owner(&answer) == "shop/late"
        ) {
            shop.kube.apply(reported("late", 4));
        }
    };
    timeout(RECOVERY, served).await.expect("it is served");
}
