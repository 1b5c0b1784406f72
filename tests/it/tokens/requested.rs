//! Tokens that are requested for pods which have shown none.

use std::sync::Arc;
use std::time::Duration;

use credlet::config::TokenRequests;
use credlet::identity::Settings;
use credlet::identity::lending::{self, Error};
use credlet::identity::tokens::{NotRequested, RequestLabels, Requested};
use credlet::model::ServiceAccount;
use credlet_tests::callers::{self, Callers};
use credlet_tests::fake_kube::{Call, FakeKube, Fault, Pod, Verb};

use super::later;

const AWS: &str = "sts.amazonaws.com";

/// Of an account with one pod, `cart-1`, and another without a pod.
struct Rig {
    kube: FakeKube,
    callers: Callers,
}

impl Rig {
    async fn start(requests: TokenRequests) -> Self {
        let kube = FakeKube::start().await;
        kube.apply(pod("cart-1"));
        let settings = Settings {
            lending: lending::Settings {
                audiences: Vec::new(),
                requests,
            },
            ..callers::settings()
        };
        let callers = Callers::open(&kube, settings);
        callers.identity.synced().await;
        Self { kube, callers }
    }

    /// The pod whose token came, or what went wrong, which does not tell a token.
    async fn request(&self, account: &str) -> Result<String, Error> {
        let account = ServiceAccount::new("shop", account).unwrap();
        let audience = Arc::from(AWS);
        let requested = self.callers.identity.request(&account, None, &audience);
        Ok(requested.await?.pod.name.to_string())
    }

    async fn fails(&self, fault: Fault) -> Error {
        self.kube.fail_next(Verb::Token, fault);
        self.request("cart").await.expect_err("it was to fail")
    }

    fn counted(&self, outcome: Requested) -> u64 {
        let requests = &self.callers.metrics.tokens.requests;
        requests.get_or_create(&RequestLabels { outcome }).get()
    }
}

fn pod(name: &str) -> Pod {
    Pod::new("shop", name).account("cart")
}

fn unavailable(error: &Error) -> bool {
    matches!(error, Error::NotRequested(NotRequested::Unavailable(_)))
}

#[tokio::test]
async fn a_requested_token_is_bound_to_a_live_pod_and_held_from_then_on() {
    let rig = Rig::start(TokenRequests::On).await;
    let account = ServiceAccount::new("shop", "cart").unwrap();
    let held = || rig.callers.identity.held(&account, None, AWS);
    assert!(held().is_none());
    assert_eq!(rig.request("cart").await, Ok("cart-1".to_owned()));
    assert!(held().is_some_and(|held| &*held.pod.name == "cart-1"));
    let calls = rig.kube.calls();
    let of_token = |call: &&Call| call.verb == Verb::Token;
    let calls: Vec<_> = calls.iter().filter(of_token).collect();
    assert_eq!(calls.len(), 1);
    let path = "/api/v1/namespaces/shop/serviceaccounts/cart/token";
    assert_eq!(calls[0].path, path);
    assert_eq!(rig.counted(Requested::Ok), 1);
}

#[tokio::test]
async fn nothing_is_asked_unless_it_is_on_nor_for_an_account_without_pods() {
    let rig = Rig::start(TokenRequests::Off).await;
    assert_eq!(rig.request("cart").await, Err(Error::Off));
    let rig = Rig::start(TokenRequests::On).await;
    let answer = rig.request("other").await;
    assert!(matches!(answer, Err(Error::NoPod(_))), "{answer:?}");
    assert_eq!(rig.kube.count(Verb::Token), 0);
}

#[tokio::test]
async fn a_pod_that_is_gone_has_another_pod_of_the_account_asked_for() {
    let rig = Rig::start(TokenRequests::On).await;
    for code in [404, 409] {
        let error = rig.fails(Fault::Status(code)).await;
        assert_eq!(error, NotRequested::Gone.into());
    }
    rig.kube.apply(pod("cart-2"));
    let mut changes = rig.callers.identity.changes();
    while rig.callers.identity.pods() != Some(2) {
        changes.changed().await.expect("the watch goes on");
    }
    rig.kube.fail_next(Verb::Token, Fault::Status(404));
    rig.request("cart").await.expect("the other is there");
    assert_eq!(rig.counted(Requested::Gone), 3);
}

#[tokio::test]
async fn a_refusal_says_what_the_agent_s_account_lacks() {
    let rig = Rig::start(TokenRequests::On).await;
    let error = rig.fails(Fault::Status(403)).await;
    assert!(
        error.to_string().contains("serviceaccounts/token"),
        "{error}"
    );
    assert!(matches!(
        error,
        Error::NotRequested(NotRequested::Refused(_))
    ));
    assert_eq!(rig.counted(Requested::Refused), 1);
}

#[tokio::test]
async fn an_outage_is_told_from_a_refusal() {
    let rig = Rig::start(TokenRequests::On).await;
    for (fault, outcome) in [
        (Fault::Status(500), Requested::Failing),
        (Fault::Cut, Requested::Unreachable),
        (Fault::Garbage, Requested::Garbled),
    ] {
        let error = rig.fails(fault).await;
        assert!(unavailable(&error), "{error}");
        assert_eq!(rig.counted(outcome), 1, "{outcome:?}");
        // For a moment, nothing is asked.
        assert_eq!(rig.request("cart").await, Err(error));
        later(Duration::from_secs(1)).await;
    }
    let asked = rig.kube.count(Verb::Token);
    let time_passes = async {
        rig.kube.called(Verb::Token, asked + 1).await;
        // The exchange needs some of its ten seconds for itself.
        later(Duration::from_secs(4)).await;
    };
    let (error, ()) = tokio::join!(rig.fails(Fault::Stall), time_passes);
    assert!(unavailable(&error), "{error}");
    assert_eq!(rig.counted(Requested::Silent), 1);
}
