//! `credlet webhook` as a real API server asks it: by a Service, over HTTPS, with
//! the certificates that it makes itself, under its own RBAC.

use std::time::Duration;

use credlet::cluster::webhook::{Farewell, Pace, Times, certificate};
use serde_json::json;
use tokio::time::{Instant, sleep};

pub(crate) mod rig;

use rig::{PATIENCE, Policy, Stage, plane};

const URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const ROLE: &str = "AWS_ROLE_ARN";
const IRSA: &str = "eks.amazonaws.com/role-arn";
const ARN: &str = "arn:aws:iam::111122223333:role/pods/cart";

#[tokio::test]
async fn pods_get_the_environment_of_what_their_account_has() {
    let stage = Stage::on(plane().await, Policy::Fail).await;
    stage.associate("cart").await;
    stage.place.annotate_account("default", IRSA, ARN).await;
    stage.place.add_account("plain").await;
    let replica = stage.replica("", Pace::default()).await;
    stage.serve_by(&[&replica]).await;
    replica.ready().await;

    let pod = stage.until_injected("cart").await;
    assert!(pod.has(URI) && !pod.has(ROLE), "{pod:?}");
    let pod = stage.pod("default").await.expect("a pod");
    assert!(pod.has(ROLE) && !pod.has(URI), "{pod:?}");
    let pod = stage.pod("plain").await.expect("a pod");
    assert!(!pod.has(ROLE) && !pod.has(URI), "{pod:?}");
    replica
        .metric("credlet_webhook_reviews_total{outcome=\"web_identity\"}")
        .await;
    replica.leave().await;
}

#[tokio::test]
async fn an_account_that_is_a_moment_old_is_known() {
    let stage = Stage::on(plane().await, Policy::Fail).await;
    stage.associate("cart").await;
    let replica = stage.replica("", Pace::default()).await;
    stage.serve_by(&[&replica]).await;
    replica.ready().await;
    stage.until_injected("cart").await;
    for number in 0..20 {
        let name = format!("new-{number}");
        stage.add_annotated(&name, IRSA, ARN).await;
        let pod = stage.pod(&name).await.expect("a pod");
        assert!(pod.has(ROLE), "{name}: {pod:?}");
    }
    replica.leave().await;
}

#[tokio::test]
async fn a_bundle_that_somebody_empties_is_filled_again() {
    let stage = Stage::on(plane().await, Policy::Fail).await;
    stage.associate("cart").await;
    let replica = stage.replica("", Pace::default()).await;
    stage.serve_by(&[&replica]).await;
    replica.ready().await;
    stage.until_injected("cart").await;
    let bundle = stage.bundle().await;
    stage.set_bundle("").await;
    let deadline = Instant::now() + PATIENCE;
    while stage.bundle().await != bundle {
        assert!(Instant::now() < deadline, "the bundle stays empty");
        sleep(Duration::from_millis(20)).await;
    }
    stage.until_injected("cart").await;
    replica.leave().await;
}

/// With one that takes four seconds from one certificate to the next.
#[tokio::test]
async fn no_pod_is_refused_while_certificates_change() {
    let stage = Stage::on(plane().await, Policy::Fail).await;
    stage.associate("cart").await;
    let times = Times {
        ahead: certificate::LIFE.saturating_sub(Duration::from_secs(4)),
        trust: Duration::from_millis(500),
        serve: Duration::from_millis(500),
        look: Duration::from_millis(100),
    };
    let pace = Pace {
        times,
        ..Pace::default()
    };
    let leader = stage.replica("", pace).await;
    stage.serve_by(&[&leader]).await;
    leader.ready().await;
    let other = stage.replica("", pace).await;
    other.ready().await;
    stage.serve_by(&[&leader, &other]).await;
    stage.until_injected("cart").await;
    let mut seen = vec![stage.served().await];
    let deadline = Instant::now() + 3 * PATIENCE;
    let mut pods = 0;
    while seen.len() < 4 {
        assert!(Instant::now() < deadline, "{} certificates", seen.len());
        let pod = stage.pod("cart").await.expect("no pod is refused");
        assert!(pod.has(URI), "{pod:?}");
        pods += 1;
        let served = stage.served().await;
        if seen.last() != Some(&served) {
            seen.push(served);
        }
    }
    assert!(pods > 20, "{pods} pods");
    for replica in [leader, other] {
        replica.leave().await;
    }
}

#[tokio::test]
async fn a_replica_that_leaves_costs_no_pod() {
    let stage = Stage::on(plane().await, Policy::Fail).await;
    stage.associate("cart").await;
    let pace = Pace {
        farewell: Farewell {
            linger: Duration::from_secs(2),
            ..Farewell::default()
        },
        ..Pace::default()
    };
    let mut replica = stage.replica("", pace).await;
    stage.serve_by(&[&replica]).await;
    replica.ready().await;
    stage.until_injected("cart").await;
    for _ in 0..3 {
        let next = stage.replica("", pace).await;
        next.ready().await;
        stage.serve_by(&[&replica, &next]).await;
        let pods = async {
            loop {
                let pod = stage.pod("cart").await.expect("no pod is refused");
                assert!(pod.has(URI), "{pod:?}");
            }
        };
        let leaves = async {
            let only = [&next];
            // As the controller of endpoints does when the probe fails.
            tokio::join!(replica.leave(), stage.serve_by(&only));
        };
        tokio::select! {
            () = pods => {}
            () = leaves => {}
        }
        replica = next;
    }
    replica.leave().await;
}

#[tokio::test]
async fn a_pod_made_while_no_webhook_answered_is_told_of_and_evicted_if_that_is_wanted() {
    let stage = Stage::on(plane().await, Policy::Ignore).await;
    stage.associate("cart").await;
    let owner = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart", "uid": "1",
        "controller": true,
    }]);
    stage.make("cart-0", "cart", &json!({})).await;
    stage
        .make("cart-1", "cart", &json!({"ownerReferences": owner}))
        .await;
    stage.make("plain-0", "default", &json!({})).await;

    let replica = stage.replica("", Pace::default()).await;
    replica.ready().await;
    let note = stage.told("cart-0").await;
    assert!(
        note.contains("/cart has a role") && note.contains("(it)"),
        "{note}"
    );
    replica
        .gauge("credlet_webhook_pods_missed", |missed| missed >= 2.0)
        .await;
    assert!(stage.is_there("cart-1").await);
    replica.leave().await;

    let replica = stage.replica("--evict-missed", Pace::default()).await;
    replica.ready().await;
    let deadline = Instant::now() + PATIENCE;
    while stage.is_there("cart-1").await {
        assert!(Instant::now() < deadline, "the pod stays");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(stage.is_there("cart-0").await, "nobody makes it anew");
    assert!(stage.is_there("plain-0").await);
    replica.leave().await;
}
