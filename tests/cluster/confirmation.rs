//! An address whose path has changed: a fresh read from a real API server says whose it is.

use std::time::Duration;

use credlet::identity::Error;
use credlet::identity::paths::Change;

use crate::control_plane::ControlPlane;
use crate::follower::{Follower, PATIENCE};
use crate::place::Place;
use crate::wire::deaf;

const ADDRESS: &str = "10.0.0.1";

/// Longer than a read takes.
const A_WHILE: Duration = Duration::from_secs(2);

fn unconfirmed() -> Result<String, Error> {
    Err(Error::Unconfirmed(ADDRESS.parse().expect("an address")))
}

#[tokio::test]
async fn a_new_path_is_the_pod_s_if_a_fresh_read_has_it_at_its_address_and_not_terminating() {
    let place = Place::on(ControlPlane::shared().await).await;
    let follower = Follower::of(&place.node, place.agent().await).await;
    let uid = place.add_pod("cart-0").await;
    place.runs_at("cart-0", &[ADDRESS]).await;
    assert_eq!(follower.at(ADDRESS).await, uid);
    for link in [7, 8] {
        follower.moved_to(ADDRESS, link);
        let answer = follower.by_link(link, ADDRESS, PATIENCE).await;
        assert_eq!(answer, Ok(uid.clone()));
        follower.kernel.tell(Change::Gone(link));
    }
    place.terminate("cart-0").await;
    follower.moved_to(ADDRESS, 9);
    assert_eq!(follower.by_link(9, ADDRESS, A_WHILE).await, unconfirmed());
}

#[tokio::test]
async fn a_pod_that_takes_over_an_address_while_the_watch_is_silent_is_not_its_owner_of_before() {
    let place = Place::on(ControlPlane::shared().await).await;
    let first = place.add_pod("cart-0").await;
    place.runs_at("cart-0", &[ADDRESS]).await;
    let (client, hear) = deaf(place.agent().await);
    let follower = Follower::of(&place.node, client).await;
    follower.moved_to(ADDRESS, 7);
    assert_eq!(
        follower.by_link(7, ADDRESS, PATIENCE).await,
        Ok(first.clone())
    );

    place.remove("cart-0").await;
    follower.kernel.tell(Change::Gone(7));
    let second = place.add_pod("cart-1").await;
    place.runs_at("cart-1", &[ADDRESS]).await;
    follower.moved_to(ADDRESS, 8);
    assert_eq!(follower.by_link(8, ADDRESS, A_WHILE).await, unconfirmed());
    hear.send_replace(true);
    assert_eq!(follower.by_link(8, ADDRESS, PATIENCE).await, Ok(second));
}
