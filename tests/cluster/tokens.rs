//! Tokens that a real API server signed, and whom they name.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use credlet::clock::Clock;
use credlet::identity::Error;
use credlet::identity::tokens::{self, Flaw};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::control_plane::{ControlPlane, Key, Settings};
use crate::follower::{Follower, PATIENCE};
use crate::manifests;
use crate::place::Place;

/// An address of the agent's own, as pods on the host network have it.
const NODE: &str = "169.254.170.23";

async fn place() -> (Place, Follower) {
    let place = Place::on(ControlPlane::shared().await).await;
    let follower = Follower::of(&place.node, place.agent().await).await;
    (place, follower)
}

fn refused(flaw: Flaw) -> Result<String, Error> {
    Err(Error::Token(tokens::Error::Refused(flaw)))
}

#[tokio::test]
async fn a_token_names_its_pod_at_the_pod_s_address_and_before_that_is_known() {
    let (place, follower) = place().await;
    let uid = place.add_pod("cart-0").await;
    let token = place.token("cart-0").await;
    assert_eq!(follower.shown(&token, "10.0.0.1").await, Ok(uid.clone()));
    place.runs_at("cart-0", &["10.0.0.1"]).await;
    assert_eq!(follower.at("10.0.0.1").await, uid);
    assert_eq!(follower.shown(&token, "10.0.0.1").await, Ok(uid));
}

#[tokio::test]
async fn a_token_of_another_pod_than_the_one_that_calls_is_refused() {
    let (place, follower) = place().await;
    follower.moved_to("10.0.0.1", 7);
    let neighbour = place.add_pod("cart-0").await;
    place.runs_at("cart-0", &["10.0.0.1"]).await;
    let answer = follower.by_link(7, "10.0.0.1", PATIENCE).await;
    assert_eq!(answer, Ok(neighbour));
    place.add_pod("cart-1").await;
    place.runs_at("cart-1", &["10.0.0.2"]).await;
    let token = place.token("cart-1").await;
    let answer = follower
        .uid_by(Some(7), "10.0.0.1", Some(&token), PATIENCE)
        .await;
    assert_eq!(answer, Err(elsewhere("10.0.0.1")));
}

#[tokio::test]
async fn a_token_of_another_node_s_pod_is_refused() {
    let (place, follower) = place().await;
    let far = format!("{}-far", place.node);
    place.add_node(&far).await;
    place.add_pod_as("far-0", json!({"nodeName": far})).await;
    place.runs_at("far-0", &["10.0.0.1"]).await;
    let token = place.token("far-0").await;
    let answer = follower.shown(&token, "10.0.0.1").await;
    assert_eq!(answer, Err(elsewhere("10.0.0.1")));
}

/// The API server then leaves the node's UID out of the token.
#[tokio::test]
async fn a_node_that_is_no_object_of_the_cluster_is_known_by_its_name() {
    let place = Place::on(ControlPlane::shared().await).await;
    let uid = place
        .add_pod_as("cart-0", json!({"nodeName": "nowhere"}))
        .await;
    let token = place.token("cart-0").await;
    let there = Follower::of("nowhere", place.agent().await).await;
    assert_eq!(there.shown(&token, "10.0.0.1").await, Ok(uid));
    let here = Follower::of(&place.node, place.agent().await).await;
    let answer = here.shown(&token, "10.0.0.1").await;
    assert_eq!(answer, Err(elsewhere("10.0.0.1")));
}

#[tokio::test]
async fn a_pod_on_the_host_network_is_known_by_its_token_alone() {
    let (place, follower) = place().await;
    let spec = json!({"nodeName": place.node, "hostNetwork": true});
    let uid = place.add_pod_as("aws-node", spec).await;
    let token = place.token("aws-node").await;
    assert_eq!(follower.shown(&token, NODE).await, Ok(uid));
    let pod = place.add_pod("cart-0").await;
    place.runs_at("cart-0", &["10.0.0.1"]).await;
    assert_eq!(follower.at("10.0.0.1").await, pod);
    let answer = follower.shown(&token, "10.0.0.1").await;
    assert_eq!(answer, Err(elsewhere("10.0.0.1")));
    let token = place.token("cart-0").await;
    assert_eq!(follower.shown(&token, NODE).await, Err(elsewhere(NODE)));
}

#[tokio::test]
async fn a_token_for_another_audience_or_of_no_pod_is_refused_with_its_reason() {
    let (place, follower) = place().await;
    let uid = place.add_pod("cart-0").await;
    place.runs_at("cart-0", &["10.0.0.1"]).await;
    assert_eq!(follower.at("10.0.0.1").await, uid);
    let token = place.token_for("sts.amazonaws.com", Some("cart-0")).await;
    let answer = follower.shown(&token, "10.0.0.1").await;
    assert_eq!(answer, refused(Flaw::Audience));
    let token = place.token_for("pods.eks.amazonaws.com", None).await;
    let answer = follower.shown(&token, "10.0.0.1").await;
    assert_eq!(answer, refused(Flaw::Unbound));
}

#[tokio::test]
async fn a_token_that_has_expired_is_refused() {
    let (place, follower) = place().await;
    let uid = place.add_pod("cart-0").await;
    let token = place.token("cart-0").await;
    assert_eq!(follower.shown(&token, "10.0.0.1").await, Ok(uid));
    let later = Clock::paused(SystemTime::now() + Duration::from_mins(11));
    let follower = Follower::by(&place.node, place.agent().await, later).await;
    let answer = follower.shown(&token, "10.0.0.1").await;
    assert_eq!(answer, refused(Flaw::Expired));
}

#[tokio::test]
async fn a_token_of_a_pod_that_was_deleted_is_refused_however_long_it_lives() {
    let (place, follower) = place().await;
    let uid = place.add_pod("cart-0").await;
    place.runs_at("cart-0", &["10.0.0.1"]).await;
    let token = place.token("cart-0").await;
    assert_eq!(follower.shown(&token, "10.0.0.1").await, Ok(uid));
    place.remove("cart-0").await;
    follower.nobody_at("10.0.0.1").await;
    let answer = follower.shown(&token, "10.0.0.1").await;
    assert!(matches!(answer, Err(Error::GonePod(_))), "{answer:?}");
    // A new pod of the name does not inherit it.
    let heir = place.add_pod("cart-0").await;
    place.runs_at("cart-0", &["10.0.0.1"]).await;
    assert_eq!(follower.at("10.0.0.1").await, heir);
    let answer = follower.shown(&token, "10.0.0.1").await;
    assert!(matches!(answer, Err(Error::GonePod(_))), "{answer:?}");
}

#[tokio::test]
async fn where_discovery_is_forbidden_each_token_is_reviewed_if_that_is_allowed() {
    let cluster = Arc::new(ControlPlane::start(Settings::default()).await);
    let place = Place::on(Arc::clone(&cluster)).await;
    manifests::forbid_discovery(&place.admin).await;
    let uid = place.add_pod("cart-0").await;
    let token = place.token("cart-0").await;
    let follower = Follower::of(&place.node, place.agent().await).await;
    let answer = follower.shown(&token, "10.0.0.1").await;
    let unavailable = matches!(&answer, Err(Error::Token(tokens::Error::Unavailable(_))));
    assert!(unavailable, "{answer:?}");

    manifests::apply(&place.admin, manifests::TOKEN_REVIEW).await;
    let allowed = async {
        while follower.shown(&token, "10.0.0.1").await == answer {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, allowed)
        .await
        .expect("the grant is noticed");
    assert_eq!(follower.shown(&token, "10.0.0.1").await, Ok(uid));
    let token = place.token_for("sts.amazonaws.com", Some("cart-0")).await;
    let answer = follower.shown(&token, "10.0.0.1").await;
    assert_eq!(answer, refused(Flaw::Audience));
    let token = place.token_for("pods.eks.amazonaws.com", None).await;
    let answer = follower.shown(&token, "10.0.0.1").await;
    assert_eq!(answer, refused(Flaw::Unbound));

    let token = place.token("cart-0").await;
    place.remove("cart-0").await;
    let next = place.add_pod("cart-1").await;
    place.runs_at("cart-1", &["10.0.0.1"]).await;
    assert_eq!(follower.at("10.0.0.1").await, next);
    // The API server itself goes on to vouch for it for some seconds.
    let answer = follower.shown(&token, "10.0.0.1").await;
    let refused = matches!(
        answer,
        Err(Error::GonePod(_) | Error::Token(tokens::Error::Refused(Flaw::Rejected)))
    );
    assert!(refused, "{answer:?}");
}

#[tokio::test]
async fn a_rotated_signing_key_is_learnt_and_a_withdrawn_one_is_believed_no_more() {
    let cluster = Arc::new(ControlPlane::start(Settings::default()).await);
    let place = Place::on(Arc::clone(&cluster)).await;
    // Its own token must outlive its signing key, as one that the kubelet renews.
    let follower = Follower::of(&place.node, cluster.lasting_agent().await).await;
    let uid = place.add_pod("cart-0").await;
    let old = place.token("cart-0").await;
    assert_eq!(follower.shown(&old, "10.0.0.1").await, Ok(uid.clone()));

    restart(&cluster, &[Key::Ec, Key::Rsa]).await;
    assert_eq!(follower.shown(&old, "10.0.0.1").await, Ok(uid.clone()));
    let new = place.token("cart-0").await;
    learns(&follower, &new).await;
    assert_eq!(follower.shown(&old, "10.0.0.1").await, Ok(uid.clone()));

    restart(&cluster, &[Key::Next, Key::Ec]).await;
    let newest = place.token("cart-0").await;
    learns(&follower, &newest).await;
    let answer = follower.shown(&old, "10.0.0.1").await;
    assert_eq!(answer, refused(Flaw::UnknownKey));
    assert_eq!(follower.shown(&new, "10.0.0.1").await, Ok(uid));
}

async fn restart(cluster: &ControlPlane, keys: &'static [Key]) {
    cluster.kill_api_server();
    let settings = Settings {
        keys,
        ..Settings::default()
    };
    cluster.start_api_server(settings).await;
}

/// Asks until the key of a token is known: keys are not fetched again at once.
async fn learns(follower: &Follower, token: &str) {
    let comes = async {
        while follower.shown(token, "10.0.0.1").await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, comes)
        .await
        .expect("the new key is fetched");
    let answer = follower.shown(token, "10.0.0.1").await;
    assert!(answer.is_ok(), "{answer:?}");
}

fn elsewhere(address: &str) -> Error {
    Error::Elsewhere(address.parse().expect("an address"))
}
