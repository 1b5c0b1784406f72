//! Pods that ask before the agent can know them, and agents that start after their pods.

use credlet_tests::fake_kube::Verb;
use credlet_tests::process::DOOR;
use tokio::time::{Duration, Instant, sleep};

use super::nodes;
use crate::cluster::{DOOR_V6, Shop, ask, ask_on, connect, owner, reported, unaddressed};

#[tokio::test]
async fn a_pod_that_starts_after_the_agent_is_served_on_its_first_request() {
    for node in nodes().await {
        let shop = Shop::on(node).await;
        let _agent = shop.ready(shop.command()).await;
        for (account, seat, doors) in [
            ("first", 4, [DOOR, DOOR_V6]),
            ("second", 5, [DOOR_V6, DOOR]),
        ] {
            let pod = shop.join(account, seat).await;
            for door in doors {
                let answer = ask(&pod, door).await;
                assert_eq!(owner(&answer), format!("shop/{account}"), "{door}");
            }
        }
    }
}

#[tokio::test]
async fn a_pod_whose_address_is_published_late_is_served_on_the_request_that_waits() {
    const LATE: Duration = Duration::from_millis(300);
    for node in nodes().await {
        let shop = Shop::on(node).await;
        shop.associate("late");
        let _agent = shop.ready(shop.command()).await;
        shop.kube.apply(unaddressed("late").phase("Pending"));
        shop.aws
            .wait_for(credlet_tests::fake_aws::Api::AssumeRole, 3)
            .await;
        let pod = shop.plug(4).await;
        let mut kept = connect(&pod, DOOR).await.expect("a connection");
        let asked = Instant::now();
        let published = async {
            sleep(LATE).await;
            shop.kube.apply(reported("late", 4));
        };
        let answered = async {
            let answer = ask_on(&mut kept, None).await;
            (answer, asked.elapsed())
        };
        let ((answer, took), ()) = tokio::join!(answered, published);
        assert_eq!(owner(&answer.expect("an answer")), "shop/late");
        assert!(took >= LATE);
        eprintln!("published after {LATE:?}, answered after {took:?}");
    }
}

#[tokio::test]
async fn pods_that_were_there_before_the_agent_cost_no_read() {
    for node in nodes().await {
        let shop = Shop::on(node).await;
        let first = shop.ready(shop.command()).await;
        assert_eq!(owner(&ask(&shop.checkout, DOOR).await), "shop/checkout");
        assert_eq!(first.terminate().await, Some(0));
        let _second = shop.ready(shop.command()).await;
        for door in [DOOR, DOOR_V6] {
            assert_eq!(owner(&ask(&shop.checkout, door).await), "shop/checkout");
            assert_eq!(owner(&ask(&shop.reports, door).await), "shop/reports");
        }
        assert_eq!(shop.kube.count(Verb::Get), 0);
    }
}
