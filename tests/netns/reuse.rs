//! Addresses that go from one pod to the next before the API server says so.

mod forged;
mod host;
mod stale;
mod starting;

use std::time::Duration;

use credlet_tests::client::Answer;
use credlet_tests::fake_kube::Verb;
use credlet_tests::node::{Node, Pod};
use credlet_tests::process::DOOR;
use futures::future::join_all;
use hyper::StatusCode;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{DOOR_V6, PATIENCE, Shop, ask, ask_on, connect, owner, reported, try_ask};

/// Long enough for a request to reach the agent, and shorter than it may wait.
const MOMENT: Duration = Duration::from_millis(200);

/// What a refusal is, in short.
fn code(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.field("code"))
}

fn unconfirmed() -> (u16, String) {
    (503, "UnconfirmedAddress".to_owned())
}

async fn nodes() -> [Node; 2] {
    [
        Node::new().await.expect("a node"),
        Node::bridged().await.expect("a node"),
    ]
}

/// What a pod is answered that asks for two seconds, over IPv4 and IPv6, on new
/// connections and on kept ones.
async fn answers(pod: &Pod) -> Vec<Answer> {
    let kept = |door| async move {
        let mut kept = connect(pod, door).await.expect("a connection");
        let mut answers = Vec::new();
        for _ in 0..2 {
            answers.push(ask_on(&mut kept, None).await.expect("an answer"));
        }
        answers
    };
    let new = |door, number| async move {
        sleep(Duration::from_millis(100) * number).await;
        vec![ask(pod, door).await]
    };
    let kept = join_all([DOOR, DOOR_V6].map(kept));
    let new = (0..10).flat_map(|number| [DOOR, DOOR_V6].map(|door| new(door, number)));
    let (kept, new) = tokio::join!(kept, join_all(new));
    kept.into_iter().chain(new).flatten().collect()
}

/// The API server says that the pod of `checkout` has gone, and that one of
/// `heir` has its addresses.
fn tell(shop: &Shop) {
    shop.kube.delete("shop", "checkout-1");
    shop.kube.apply(reported("heir", 2));
}

/// The pod's next request waits, and is answered when the API server has spoken.
async fn gets_its_own_once_told(shop: &Shop, heir: &Pod) {
    let mut kept = connect(heir, DOOR).await.expect("a connection");
    let asked = Instant::now();
    let speaks = async {
        sleep(MOMENT).await;
        tell(shop);
    };
    let (answer, ()) = tokio::join!(ask_on(&mut kept, None), speaks);
    assert_eq!(owner(&answer.expect("an answer")), "shop/heir");
    assert!(asked.elapsed() >= MOMENT);
    for door in [DOOR, DOOR_V6] {
        assert_eq!(owner(&ask(heir, door).await), "shop/heir");
    }
}

#[tokio::test]
async fn the_next_pod_of_an_address_gets_nothing_while_the_api_server_is_silent() {
    for node in nodes().await {
        let shop = Shop::on(node).await;
        shop.associate("heir");
        let _agent = shop.ready(shop.command()).await;
        for door in [DOOR, DOOR_V6] {
            assert_eq!(owner(&ask(&shop.checkout, door).await), "shop/checkout");
        }
        shop.node
            .unplug(&shop.checkout)
            .await
            .expect("it was there");
        let heir = shop.plug(2).await;
        for answer in answers(&heir).await {
            assert_eq!(code(&answer), unconfirmed());
        }
        gets_its_own_once_told(&shop, &heir).await;
        assert_eq!(owner(&ask(&shop.reports, DOOR).await), "shop/reports");
    }
}

#[tokio::test]
async fn the_next_pod_of_an_address_gets_nothing_while_the_api_server_is_cut_off() {
    for node in nodes().await {
        let shop = Shop::on(node).await;
        shop.associate("heir");
        let _agent = shop.ready(shop.command()).await;
        shop.settle().await;
        shop.kube.down().await;
        shop.node
            .unplug(&shop.checkout)
            .await
            .expect("it was there");
        let heir = shop.plug(2).await;
        for answer in answers(&heir).await {
            assert_eq!(code(&answer), unconfirmed());
        }
        tell(&shop);
        shop.kube_up().await;
        let served = async {
            loop {
                let answer = ask(&heir, DOOR).await;
                if answer.status == StatusCode::OK {
                    break owner(&answer);
                }
                // Known at the end of its time, it may have none left for its role.
                assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            }
        };
        let served = timeout(PATIENCE, served).await;
        assert_eq!(served.expect("it is served"), "shop/heir");
        assert_eq!(owner(&ask(&heir, DOOR_V6).await), "shop/heir");
    }
}

/// The agent hears of connections and of the kernel's changes in any order: it
/// sleeps while an address goes on, and finds both when it wakes.
async fn give_on_while_the_agent_sleeps(next: impl AsyncFn(&Shop, &Pod) -> Pod) {
    const HEIRS: usize = 10;
    let shop = Shop::new().await;
    let agent = shop.ready(shop.command()).await;
    shop.settle().await;
    let (mut account, mut sandbox) = ("checkout".to_owned(), None);
    for number in 0..HEIRS {
        let before = std::mem::replace(&mut account, format!("heir{number}"));
        shop.associate(&account);
        agent.signal(Signal::SIGSTOP);
        let old = sandbox.as_ref().unwrap_or(&shop.checkout);
        shop.node.unplug(old).await.expect("it was there");
        let heir = next(&shop, old).await;
        let mut connections = join_all([DOOR; 4].map(|door| connect(&heir, door))).await;
        let asked = connections.iter_mut().map(|kept| {
            let kept = kept.as_mut().expect("the kernel connects, not the agent");
            ask_on(kept, None)
        });
        let wakes = async {
            sleep(Duration::from_millis(10)).await;
            agent.signal(Signal::SIGCONT);
            sleep(MOMENT).await;
            shop.kube.delete("shop", &format!("{before}-1"));
            shop.kube.apply(reported(&account, 2));
        };
        let (answers, ()) = tokio::join!(join_all(asked), wakes);
        for answer in answers {
            let answer = answer.expect("an answer");
            assert_eq!(owner(&answer), format!("shop/{account}"));
        }
        sandbox = Some(heir);
    }
}

#[tokio::test]
async fn a_connection_that_comes_before_the_kernels_change_is_not_the_old_pods() {
    give_on_while_the_agent_sleeps(async |shop, _| shop.plug(2).await).await;
}

/// As where a plugin makes a pod's link inside the pod and moves one end out.
#[tokio::test]
async fn a_link_with_the_index_of_the_old_pods_is_not_the_old_pods() {
    give_on_while_the_agent_sleeps(async |shop, old| {
        let heir = shop.node.add_pod_instead(old).await.expect("a pod");
        assert_eq!(heir.node_link, old.node_link);
        heir
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_was_deleted_while_its_sandbox_lives_on_gets_nothing_at_once() {
    for node in nodes().await {
        let shop = Shop::on(node).await;
        shop.associate("heir");
        let _agent = shop.ready(shop.command()).await;
        let mut kept = connect(&shop.checkout, DOOR).await.expect("a connection");
        let answer = ask_on(&mut kept, None).await.expect("an answer");
        assert_eq!(owner(&answer), "shop/checkout");

        shop.kube.delete("shop", "checkout-1");
        shop.shows("credlet_pods 1").await;
        let answer = ask_on(&mut kept, None).await.expect("an answer");
        assert_eq!(code(&answer), (503, "UnknownAddress".to_owned()));
        for answer in answers(&shop.checkout).await {
            assert_eq!(code(&answer), (503, "UnknownAddress".to_owned()));
        }

        // The cluster's address management may take the address back for another.
        shop.kube.apply(reported("heir", 2));
        for answer in answers(&shop.checkout).await {
            assert_eq!(code(&answer), unconfirmed());
        }
        shop.node
            .unplug(&shop.checkout)
            .await
            .expect("it was there");
        let heir = shop.plug(2).await;
        let served = async {
            while owner(&ask(&heir, DOOR).await) != "shop/heir" {
                shop.kube.apply(reported("heir", 2));
            }
        };
        timeout(PATIENCE, served).await.expect("it is served");
    }
}

#[tokio::test]
async fn a_pod_whose_sandbox_was_made_anew_is_served_once_its_report_says_so() {
    for node in nodes().await {
        let shop = Shop::on(node).await;
        let _agent = shop.ready(shop.command()).await;
        shop.settle().await;
        shop.node
            .unplug(&shop.checkout)
            .await
            .expect("it was there");
        let anew = shop.plug(2).await;
        assert_eq!(code(&ask(&anew, DOOR).await), unconfirmed());
        // Its containers start, and again if they have to.
        let served = async {
            while owner(&ask(&anew, DOOR).await) != "shop/checkout" {
                shop.kube.apply(reported("checkout", 2));
            }
        };
        timeout(PATIENCE, served).await.expect("it is served");
        assert_eq!(owner(&ask(&anew, DOOR_V6).await), "shop/checkout");
        assert!(shop.kube.count(Verb::Get) > 0);
    }
}

#[tokio::test]
async fn metrics_say_how_addresses_stand_and_what_came_of_the_reads() {
    let shop = Shop::new().await;
    // No link leads to it.
    shop.kube.apply(reported("ghost", 9));
    let _agent = shop.ready(shop.command()).await;
    let states = async |known, hidden, unconfirmed| {
        for (state, count) in [
            ("Known", known),
            ("Hidden", hidden),
            ("Unconfirmed", unconfirmed),
        ] {
            let line = format!("credlet_pod_addresses{{state=\"{state}\"}} {count}");
            shop.shows(&line).await;
        }
    };
    states(4, 2, 0).await;
    shop.node
        .unplug(&shop.checkout)
        .await
        .expect("it was there");
    let heir = shop.plug(2).await;
    assert!(try_ask(&heir, DOOR).await.is_ok());
    states(2, 2, 2).await;
    let refuted = "credlet_pod_confirmations_total{outcome=\"Refuted\"} 1";
    shop.shows(refuted).await;
    shop.associate("heir");
    tell(&shop);
    states(4, 2, 0).await;
}
