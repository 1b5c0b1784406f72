//! Reports of a pod that reach the agent when another has the address already.

use std::time::{Duration, SystemTime};

use credlet_tests::fake_kube;
use credlet_tests::process::DOOR;
use serde_json::json;
use tokio::time::sleep;

use super::{answers, code, nodes, tell, unconfirmed};
use crate::cluster::{Shop, ask, owner, reported};

/// What the API has of a moment.
fn seconds(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).expect("a time of today");
    time.strftime("%FT%TZ").to_string()
}

/// A report whose only date is that.
fn as_of(pod: fake_kube::Pod, time: SystemTime) -> fake_kube::Pod {
    let date = seconds(time);
    pod.edit(|pod| pod["status"]["conditions"][0]["lastTransitionTime"] = date.into())
}

/// Waits until a whole second has begun: times in the API have no parts of one.
async fn next_second() {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let part = since.expect("the clock is past 1970").subsec_millis();
    sleep(Duration::from_millis(1005 - u64::from(part))).await;
}

#[tokio::test]
async fn a_report_that_is_older_than_the_link_teaches_nothing() {
    for node in nodes().await {
        let shop = Shop::on(node).await;
        shop.associate("heir");
        let _agent = shop.ready(shop.command()).await;
        shop.node
            .unplug(&shop.checkout)
            .await
            .expect("it was there");
        shop.kube.delete("shop", "checkout-1");
        let heir = shop.plug(2).await;
        let old = SystemTime::now() - Duration::from_secs(5);
        shop.kube.apply(as_of(reported("checkout", 2), old));
        for answer in answers(&heir).await {
            assert_eq!(code(&answer), unconfirmed());
        }
        tell(&shop);
        assert_eq!(owner(&ask(&heir, DOOR).await), "shop/heir");
    }
}

/// A kubelet keeps a pod's last address when its sandbox has gone.
#[tokio::test]
async fn a_report_that_the_sandbox_has_gone_confirms_nothing() {
    for node in nodes().await {
        let shop = Shop::on(node).await;
        shop.associate("heir");
        let _agent = shop.ready(shop.command()).await;
        shop.settle().await;
        shop.node
            .unplug(&shop.checkout)
            .await
            .expect("it was there");
        let heir = shop.plug(2).await;
        next_second().await;
        let later = seconds(SystemTime::now());
        let gone = reported("checkout", 2).edit(|pod| {
            let conditions = ["PodReadyToStartContainers", "ContainersReady"];
            let not = |kind| json!({"type": kind, "status": "False", "lastTransitionTime": later});
            pod["status"]["conditions"] = conditions.map(not).into_iter().collect();
        });
        shop.kube.apply(gone);
        for answer in answers(&heir).await {
            assert_eq!(code(&answer), unconfirmed());
        }
        tell(&shop);
        assert_eq!(owner(&ask(&heir, DOOR).await), "shop/heir");
    }
}

/// Two pods one after the other within the second that both reports name.
#[tokio::test]
async fn a_report_of_the_second_in_which_the_address_went_on_teaches_nothing() {
    for node in nodes().await {
        let shop = Shop::on(node).await;
        shop.associate("brief");
        shop.associate("heir");
        let _agent = shop.ready(shop.command()).await;
        shop.kube.down().await;
        next_second().await;
        let brief = shop.plug(4).await;
        shop.kube.apply(reported("brief", 4));
        shop.node.unplug(&brief).await.expect("it was there");
        let heir = shop.plug(4).await;
        shop.kube_up().await;
        shop.shows("credlet_pods 3").await;
        for answer in answers(&heir).await {
            assert_eq!(code(&answer), unconfirmed());
        }
        shop.kube.delete("shop", "brief-1");
        shop.kube.apply(reported("heir", 4));
        assert_eq!(owner(&ask(&heir, DOOR).await), "shop/heir");
    }
}
