//! Tokens that pods have shown, kept for exchanges.

use std::time::Duration;

use credlet::config::TokenRequests;
use credlet::identity::Settings;
use credlet::identity::lending;
use credlet::model::{PodUid, ServiceAccount};
use credlet_tests::callers::{self, Callers};
use credlet_tests::fake_kube::{FakeKube, Pod};
use tokio::time::timeout;

use super::{AUDIENCE, HOUR, PATIENCE};

const AWS: &str = "sts.amazonaws.com";
const SHORTLY: Duration = Duration::from_mins(5);

/// Where tokens for [`AUDIENCE`] and [`AWS`] are accepted, and those kept that
/// are for one of these.
async fn identity(kube: &FakeKube, kept: &[&str]) -> Callers {
    let mut settings = Settings {
        lending: lending::Settings {
            audiences: kept.iter().map(|it| (*it).into()).collect(),
            requests: TokenRequests::Off,
        },
        ..callers::settings()
    };
    settings.tokens.audiences.push(AWS.to_owned());
    let callers = Callers::open(kube, settings);
    callers.identity.synced().await;
    callers
}

fn pod(number: u8) -> Pod {
    let address = format!("10.0.0.{number}");
    let pod = Pod::new("shop", &format!("cart-{number}"));
    pod.account("cart").addresses([address.as_str()])
}

fn cart() -> ServiceAccount {
    ServiceAccount::new("shop", "cart").unwrap()
}

/// The pod shows the token at its address, and is known by it.
async fn shows(callers: &Callers, number: u8, token: &str) {
    let address = format!("10.0.0.{number}");
    let shown = callers.uid_by(None, &address, Some(token), PATIENCE);
    assert_eq!(shown.await.unwrap(), format!("uid-of-shop-cart-{number}"));
}

fn held(callers: &Callers, audience: &str) -> Option<String> {
    let held = callers.identity.held(&cart(), None, audience)?;
    Some(held.token.expose().to_owned())
}

#[tokio::test]
async fn a_token_that_made_its_pod_known_is_kept_for_the_audience_that_an_exchange_uses() {
    let kube = FakeKube::start().await;
    kube.apply(pod(1));
    let callers = identity(&kube, &[AWS]).await;
    let token = kube.token(&pod(1), AUDIENCE, HOUR);
    shows(&callers, 1, &token).await;
    assert_eq!(held(&callers, AUDIENCE), None);
    let token = kube.token(&pod(1), AWS, HOUR);
    shows(&callers, 1, &token).await;
    assert_eq!(held(&callers, AWS), Some(token));
    let other = ServiceAccount::new("shop", "other").unwrap();
    assert!(callers.identity.held(&other, None, AWS).is_none());
    let stranger = PodUid::new("uid-of-shop-cart-2").unwrap();
    let of_stranger = callers.identity.held(&cart(), Some(&stranger), AWS);
    assert!(of_stranger.is_none());
}

#[tokio::test]
async fn without_an_exchange_that_uses_tokens_none_is_kept() {
    let kube = FakeKube::start().await;
    kube.apply(pod(1));
    let callers = identity(&kube, &[]).await;
    let token = kube.token(&pod(1), AWS, HOUR);
    shows(&callers, 1, &token).await;
    assert_eq!(held(&callers, AWS), None);
}

#[tokio::test]
async fn a_token_whose_pod_is_not_the_one_that_calls_is_not_kept() {
    let kube = FakeKube::start().await;
    kube.apply(pod(1));
    kube.apply(pod(2));
    let callers = identity(&kube, &[AWS]).await;
    let token = kube.token(&pod(1), AWS, HOUR);
    let shown = callers.uid_by(None, "10.0.0.2", Some(&token), Duration::ZERO);
    shown.await.expect_err("it is another pod's");
    assert_eq!(held(&callers, AWS), None);
}

#[tokio::test]
async fn a_token_goes_with_its_pod_and_another_pod_of_the_account_serves_instead() {
    let kube = FakeKube::start().await;
    kube.apply(pod(1));
    kube.apply(pod(2));
    let callers = identity(&kube, &[AWS]).await;
    let lasting = kube.token(&pod(1), AWS, HOUR);
    let short = kube.token(&pod(2), AWS, SHORTLY);
    shows(&callers, 1, &lasting).await;
    shows(&callers, 2, &short).await;
    assert_eq!(held(&callers, AWS), Some(lasting));
    let mut changes = callers.identity.changes();
    kube.delete("shop", "cart-1");
    let gone = async {
        while callers.identity.pods() == Some(2) {
            changes.changed().await.expect("the watch goes on");
        }
    };
    timeout(PATIENCE, gone).await.expect("the watch tells");
    assert_eq!(held(&callers, AWS), Some(short));
}
