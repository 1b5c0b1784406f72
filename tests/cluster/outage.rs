//! A real API server that dies, comes back, and has forgotten.

use std::sync::Arc;

use bytes::Bytes;
use credlet::identity::watch::Reason;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use crate::control_plane::{ControlPlane, Settings};
use crate::follower::Follower;
use crate::place::Place;
use crate::relay::Relay;

#[tokio::test]
async fn an_api_server_that_was_killed_or_stopped_is_followed_again_when_it_is_back() {
    let cluster = Arc::new(ControlPlane::start(Settings::default()).await);
    let place = Place::on(cluster).await;
    let follower = Follower::of(&place.node, place.agent().await).await;
    let first = place.add_pod("cart-0").await;
    place.runs_at("cart-0", &["10.0.0.1"]).await;
    assert_eq!(follower.at("10.0.0.1").await, first);

    place.cluster.kill_api_server();
    assert_eq!(follower.now("10.0.0.1").await, Ok(first.clone()));
    place.cluster.start_api_server(Settings::default()).await;
    assert_eq!(follower.now("10.0.0.1").await, Ok(first.clone()));
    assert!(follower.lost(Reason::Unreachable) > 0);
    place.remove("cart-0").await;
    follower.nobody_at("10.0.0.1").await;

    place.cluster.stop_api_server().await;
    place.cluster.start_api_server(Settings::default()).await;
    let second = place.add_pod("cart-1").await;
    place.runs_at("cart-1", &["10.0.0.1"]).await;
    assert_eq!(follower.at("10.0.0.1").await, second);
    // But refused it may be for a moment: a server answers 401 and 403 until it
    // has read its own tokens and roles.
    assert_eq!(follower.lost(Reason::Garbled), 0);
}

/// With the cache of pods off, the API server's watches are etcd's own, and so
/// is what it says of a version that has been compacted.
#[tokio::test]
async fn what_was_compacted_while_the_node_was_cut_off_is_made_good_by_a_list() {
    let settings = Settings {
        flags: &["--watch-cache-sizes=pods#0"],
        ..Settings::default()
    };
    let cluster = Arc::new(ControlPlane::start(settings).await);
    let relay = Relay::to(cluster.api_server_at()).await;
    let place = Place::on(Arc::clone(&cluster)).await;
    let follower = Follower::of(&place.node, cluster.agent_by(relay.address()).await).await;
    for (name, address) in [("cart-0", "10.0.0.1"), ("cart-1", "10.0.0.2")] {
        let uid = place.add_pod(name).await;
        place.runs_at(name, &[address]).await;
        assert_eq!(follower.at(address).await, uid);
    }

    relay.cut().await;
    place.remove("cart-0").await;
    let heir = place.add_pod("cart-2").await;
    place.runs_at("cart-2", &["10.0.0.1"]).await;
    compact(&place).await;
    assert_ne!(follower.now("10.0.0.1").await, Ok(heir.clone()));
    relay.mend().await;
    follower.until("10.0.0.1", Ok(heir)).await;
    assert_eq!(follower.lost(Reason::Expired), 1);
    assert!(follower.now("10.0.0.2").await.is_ok());
}

/// Makes etcd forget everything but what is now, through its JSON gateway.
async fn compact(place: &Place) {
    let etcd = place.cluster.etcd_at();
    let order = json!({"revision": place.version().await, "physical": true}).to_string();
    let request = Request::post("/v3/kv/compaction").header("host", etcd.to_string());
    let request = request
        .body(Full::new(Bytes::from(order)))
        .expect("a request");
    let stream = TcpStream::connect(etcd).await.expect("etcd listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    let exchange = async move { sender.send_request(request).await };
    let (answer, _) = tokio::join!(exchange, connection);
    assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
}
