//! What the watch makes of pods as a real API server tells of them.

use std::time::Duration;

use credlet::identity::watch::Reason;
use serde_json::json;
use tokio::time::timeout;

use crate::control_plane::ControlPlane;
use crate::follower::{Follower, PATIENCE, unknown};
use crate::place::Place;
use crate::wire::hurried;

async fn place() -> Place {
    Place::on(ControlPlane::shared().await).await
}

#[tokio::test]
async fn a_pod_is_known_by_its_addresses_from_the_kubelet_s_word_to_its_deletion() {
    let place = place().await;
    let follower = Follower::of(&place.node, place.agent().await).await;
    let uid = place.add_pod("cart-0").await;
    assert_eq!(follower.now("10.0.0.1").await, unknown("10.0.0.1"));

    place.runs_at("cart-0", &["10.0.0.1", "fd00::1"]).await;
    assert_eq!(follower.at("10.0.0.1").await, uid);
    assert_eq!(follower.at("fd00::1").await, uid);

    place.terminate("cart-0").await;
    // The watch tells of things in their order.
    let next = place.add_pod("cart-1").await;
    place.runs_at("cart-1", &["10.0.0.2"]).await;
    assert_eq!(follower.at("10.0.0.2").await, next);
    assert_eq!(follower.now("10.0.0.1").await, Ok(uid));

    place.remove("cart-0").await;
    follower.nobody_at("10.0.0.1").await;
    assert_eq!(follower.now("fd00::1").await, unknown("fd00::1"));
    assert_eq!(follower.now("10.0.0.2").await, Ok(next));
}

#[tokio::test]
async fn a_pod_that_has_succeeded_or_failed_has_no_address_though_it_says_so_still() {
    let place = place().await;
    let follower = Follower::of(&place.node, place.agent().await).await;
    for (name, address, phase) in [
        ("job-0", "10.0.0.1", "Succeeded"),
        ("job-1", "10.0.0.2", "Failed"),
    ] {
        let uid = place.add_pod(name).await;
        place.runs_at(name, &[address]).await;
        assert_eq!(follower.at(address).await, uid);
        place.ends(name, phase).await;
        follower.nobody_at(address).await;
        // Its address goes to the next pod while it still lies there.
        let heir = place.add_pod(&format!("{name}-heir")).await;
        place.runs_at(&format!("{name}-heir"), &[address]).await;
        assert_eq!(follower.at(address).await, heir);
    }
}

#[tokio::test]
async fn a_pod_of_the_same_name_is_another_pod() {
    let place = place().await;
    let first = place.add_pod("cart-0").await;
    place.runs_at("cart-0", &["10.0.0.1"]).await;
    let follower = Follower::of(&place.node, place.agent().await).await;
    assert_eq!(follower.now("10.0.0.1").await, Ok(first.clone()));

    place.remove("cart-0").await;
    let second = place.add_pod("cart-0").await;
    assert_ne!(first, second);
    follower.nobody_at("10.0.0.1").await;
    place.runs_at("cart-0", &["10.0.0.1"]).await;
    assert_eq!(follower.at("10.0.0.1").await, second);
}

#[tokio::test]
async fn pods_of_other_nodes_and_of_none_are_never_seen() {
    let place = place().await;
    place.add_pod_as("far-0", json!({"nodeName": "far"})).await;
    place.runs_at("far-0", &["10.0.0.1"]).await;
    let unbound = place.add_pod_as("later", json!({})).await;
    let follower = Follower::of(&place.node, place.agent().await).await;
    assert_eq!(follower.identity.pods(), Some(0));

    place.add_pod_as("far-1", json!({"nodeName": "far"})).await;
    place.runs_at("far-1", &["10.0.0.2"]).await;
    place.bind("later", &place.node).await;
    place.runs_at("later", &["10.0.0.3"]).await;
    assert_eq!(follower.at("10.0.0.3").await, unbound);
    assert_eq!(follower.identity.pods(), Some(1));
    for far in ["10.0.0.1", "10.0.0.2"] {
        assert_eq!(follower.now(far).await, unknown(far));
    }
}

#[tokio::test]
async fn a_bookmark_keeps_a_quiet_watch_young_and_is_where_it_resumes() {
    let place = place().await;
    let (client, mut opened) = hurried(place.agent().await);
    let follower = Follower::of(&place.node, client).await;
    let first = timeout(PATIENCE, opened.recv()).await.expect("a watch");
    // Another node's news move the bookmark on; this node hears nothing else.
    place.add_pod_as("far-0", json!({"nodeName": "far"})).await;
    let second = timeout(PATIENCE, opened.recv()).await.expect("a watch");
    assert_ne!(first, second);
    assert!(follower.identity.watch_age() < Some(Duration::from_secs(4)));
    for reason in [Reason::Ended, Reason::Expired, Reason::Unreachable] {
        assert_eq!(follower.lost(reason), 0, "{reason:?}");
    }
}
