//! Tokens that the agent requests of a real API server.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use credlet::clock::Clock;
use credlet::config::TokenRequests;
use credlet::identity;
use credlet::identity::lending::{self, Error};
use credlet::identity::tokens::{self, Flaw, Held, NotRequested};
use credlet::model::ServiceAccount;
use tokio::time::{sleep, timeout};

use crate::control_plane::{ControlPlane, Settings};
use crate::follower::{Follower, PATIENCE};
use crate::manifests;
use crate::place::Place;

const AWS: &str = "sts.amazonaws.com";
/// What the follower takes of its callers.
const OURS: &str = "pods.eks.amazonaws.com";

/// A follower that requests tokens.
pub(crate) async fn requester(place: &Place) -> Follower {
    let lending = lending::Settings {
        audiences: Vec::new(),
        requests: TokenRequests::On,
    };
    let client = place.agent().await;
    Follower::with(&place.node, client, Clock::system(), lending).await
}

/// A token of `cart`.
pub(crate) async fn request(
    follower: &Follower,
    place: &Place,
    audience: &str,
) -> Result<Held, Error> {
    let account = ServiceAccount::new(&place.namespace, "cart").expect("legal");
    let identity = &follower.identity;
    identity.request(&account, None, &audience.into()).await
}

#[tokio::test]
async fn the_component_and_nothing_else_lets_the_agent_request_tokens_of_live_pods() {
    let cluster = Arc::new(ControlPlane::start(Settings::default()).await);
    let place = Place::on(cluster).await;
    let uid = place.add_pod("cart-0").await;
    let refused = request(&requester(&place).await, &place, AWS).await;
    assert!(
        matches!(refused, Err(Error::NotRequested(NotRequested::Refused(_)))),
        "{:?}",
        refused.err()
    );

    manifests::apply(&place.admin, manifests::REQUEST_TOKENS).await;
    let granted = async {
        loop {
            // Who was refused does not ask again for a while.
            let follower = requester(&place).await;
            if request(&follower, &place, AWS).await.is_ok() {
                return follower;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let follower = timeout(PATIENCE, granted).await.expect("it is allowed now");

    let held = request(&follower, &place, OURS).await.expect("a token");
    assert_eq!(held.pod.uid.to_string(), uid);
    let left = held.expires.duration_since(SystemTime::now());
    let left = left.expect("it is good").as_secs();
    assert!((540..=600).contains(&left), "{left}");
    let answer = follower.shown(held.token.expose(), "10.0.0.1").await;
    assert_eq!(answer, Ok(uid));
    let held = request(&follower, &place, AWS).await.expect("a token");
    let answer = follower.shown(held.token.expose(), "10.0.0.1").await;
    let wrong = tokens::Error::Refused(Flaw::Audience);
    assert_eq!(answer, Err(identity::Error::Token(wrong)));

    place.remove("cart-0").await;
    let none = request(&follower, &place, AWS).await;
    let is_gone = matches!(
        none,
        Err(Error::NoPod(_) | Error::NotRequested(NotRequested::Gone))
    );
    assert!(is_gone, "{:?}", none.err());
}

/// What tells the agent that a pod is gone before its watch does.
#[tokio::test]
async fn a_token_for_a_pod_that_is_gone_is_404_and_for_its_namesake_409() {
    let place = Place::on(ControlPlane::shared().await).await;
    let uid = place.add_pod("cart-0").await;
    assert_eq!(place.token_refusal("cart-0", &uid).await, None);
    place.remove("cart-0").await;
    assert_eq!(place.token_refusal("cart-0", &uid).await, Some(404));
    place.add_pod("cart-0").await;
    assert_eq!(place.token_refusal("cart-0", &uid).await, Some(409));
}
