//! The cluster's keys: fetched, rotated, out of reach.

use std::time::{Duration, SystemTime};

use credlet::identity::tokens::{Error, FetchLabels, Fetched, Flaw, Outcome, Way};
use credlet_tests::fake_kube::signer::{Algorithm, SigningKey};
use credlet_tests::fake_kube::{FakeKube, Fault, Verb, claims};
use futures::future::join_all;

use super::{AUDIENCE, BRIEFLY, HOUR, Rig, is_unavailable, later, pod, refused, says_the_pod};

/// As long as no second fetch is due for an unknown key.
const SPACING: Duration = Duration::from_secs(10);

#[tokio::test]
async fn callers_wait_for_the_first_keys() {
    let kube = FakeKube::start().await;
    kube.fail_next(Verb::Discovery, Fault::Slow(BRIEFLY));
    kube.fail_next(Verb::Keys, Fault::Slow(BRIEFLY));
    let rig = Rig::with(kube, None, SystemTime::now()).await;
    assert_eq!(rig.tokens.keys_age(), None);
    let tokens: Vec<String> = (1..10)
        .map(|hours| rig.kube.token(&pod(), AUDIENCE, HOUR * hours))
        .collect();
    for result in join_all(tokens.iter().map(|token| rig.verify(token))).await {
        says_the_pod(&result.unwrap());
    }
    assert_eq!(rig.kube.count(Verb::Keys), 1);
    assert_eq!(rig.counted(Way::Keys, Outcome::Ok), 9);
    assert!(rig.tokens.keys_age().unwrap() < SPACING);
}

#[tokio::test]
async fn without_keys_a_token_cannot_be_verified_until_there_are_some() {
    let kube = FakeKube::start().await;
    kube.down().await;
    let rig = Rig::with(kube, None, SystemTime::now()).await;
    let token = rig.token();
    assert!(is_unavailable(&rig.verify_within(&token, BRIEFLY).await));
    rig.kube.up().await;
    says_the_pod(&rig.verify(&token).await.unwrap());
}

#[tokio::test]
async fn a_failing_server_is_asked_again() {
    let kube = FakeKube::start().await;
    kube.fail_next(Verb::Discovery, Fault::Status(500));
    kube.fail_next(Verb::Discovery, Fault::Garbage);
    kube.fail_next(Verb::Keys, Fault::Cut);
    kube.fail_next(Verb::Keys, Fault::Garbage);
    let rig = Rig::with(kube, None, SystemTime::now()).await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    for (outcome, times) in [
        (Fetched::Failing, 1),
        (Fetched::Garbled, 2),
        (Fetched::Unreachable, 1),
        (Fetched::Ok, 1),
    ] {
        let labels = FetchLabels { outcome };
        let counted = rig.metrics.fetches.get_or_create(&labels).get();
        assert_eq!(counted, times, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_token_of_a_new_key_costs_one_fetch() {
    let rig = Rig::start().await;
    let old = rig.token();
    says_the_pod(&rig.verify(&old).await.unwrap());
    rig.kube.rotate_keys();
    later(SPACING).await;
    let new: Vec<String> = (1..10)
        .map(|hours| rig.kube.token(&pod(), AUDIENCE, HOUR * hours))
        .collect();
    for result in join_all(new.iter().map(|token| rig.verify(token))).await {
        says_the_pod(&result.unwrap());
    }
    says_the_pod(&rig.verify(&old).await.unwrap());
    assert_eq!(rig.kube.count(Verb::Keys), 2);
}

#[tokio::test]
async fn tokens_of_unknown_keys_cost_at_most_one_fetch_in_ten_seconds() {
    let rig = Rig::start().await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    let unknown = SigningKey::generate(Algorithm::Es256);
    let tokens: Vec<String> = (1..50)
        .map(|hours| claims(&pod(), &[AUDIENCE], HOUR * hours))
        .map(|claims| unknown.sign(&unknown.header(), &claims))
        .collect();
    for most in 1..4 {
        let asked = tokens.iter().map(|token| rig.verify_within(token, BRIEFLY));
        for result in join_all(asked).await {
            let is_refused = result == refused(Flaw::UnknownKey);
            assert!(is_refused || is_unavailable(&result), "{result:?}");
        }
        assert!(rig.kube.count(Verb::Keys) <= most);
        later(SPACING).await;
    }
}

#[tokio::test]
async fn a_key_is_unknown_for_good_only_to_a_fetch_that_began_after_the_token_came() {
    let rig = Rig::start().await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    let unknown = SigningKey::generate(Algorithm::Es256);
    let token = unknown.sign(&unknown.header(), &claims(&pod(), &[AUDIENCE], HOUR));
    // The API server may have taken up the key since the fetch just now.
    assert!(is_unavailable(&rig.verify_within(&token, BRIEFLY).await));
    let (result, ()) = tokio::join!(rig.verify_within(&token, HOUR), later(SPACING));
    assert_eq!(result, refused(Flaw::UnknownKey));
    assert_eq!(rig.kube.count(Verb::Keys), 2);
}

#[tokio::test]
async fn a_token_of_no_use_does_not_make_a_fetch_whatever_its_key() {
    let rig = Rig::start().await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    later(SPACING).await;
    let unknown = SigningKey::generate(Algorithm::Es256);
    let token = unknown.sign(&unknown.header(), &claims(&pod(), &["vault"], HOUR));
    assert_eq!(rig.verify(&token).await, refused(Flaw::Audience));
    assert_eq!(rig.kube.count(Verb::Keys), 1);
}

#[tokio::test]
async fn a_new_key_that_cannot_be_fetched_in_time_is_not_a_refusal() {
    let rig = Rig::start().await;
    let old = rig.token();
    says_the_pod(&rig.verify(&old).await.unwrap());
    rig.kube.rotate_keys();
    let new = rig.token();
    later(SPACING).await;
    rig.kube.fail_next(Verb::Keys, Fault::Stall);
    assert!(is_unavailable(&rig.verify_within(&new, BRIEFLY).await));
    // What was known before is known still.
    says_the_pod(&rig.verify(&old).await.unwrap());
    // The stalled fetch is given up, and the next one succeeds.
    rig.kube.called(Verb::Keys, 2).await;
    later(Duration::from_secs(10)).await;
    says_the_pod(&rig.verify(&new).await.unwrap());
}

#[tokio::test]
async fn a_key_that_is_rotated_out_takes_its_remembered_tokens_with_it() {
    let rig = Rig::start().await;
    let old = rig.token();
    says_the_pod(&rig.verify(&old).await.unwrap());
    rig.kube.rotate_keys();
    rig.kube.retire_keys();
    later(SPACING).await;
    says_the_pod(&rig.verify(&old).await.unwrap());
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    let (result, ()) = tokio::join!(rig.verify_within(&old, HOUR), later(SPACING));
    assert_eq!(result, refused(Flaw::UnknownKey));
}

#[tokio::test]
async fn another_key_under_the_same_id_takes_remembered_tokens_with_it() {
    let rig = Rig::start().await;
    let old = rig.token();
    says_the_pod(&rig.verify(&old).await.unwrap());
    let key = SigningKey::generate(Algorithm::Es256).named(rig.kube.signing_key().kid());
    rig.kube.sign_with(key);
    rig.kube.retire_keys();
    later(HOUR + HOUR / 6).await;
    rig.kube.called(Verb::Keys, 2).await;
    let new = rig.kube.token(&pod(), AUDIENCE, 3 * HOUR);
    super::until("the new key is used", || {
        rig.tokens.keys_age().unwrap() < HOUR
    })
    .await;
    says_the_pod(&rig.verify(&new).await.unwrap());
    assert!(rig.verify(&old).await.is_err());
}

#[tokio::test]
async fn keys_are_refreshed_about_every_hour() {
    let rig = Rig::start().await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    later(HOUR * 53 / 60).await;
    assert_eq!(rig.kube.count(Verb::Keys), 1);
    later(HOUR * 14 / 60).await;
    rig.kube.called(Verb::Keys, 2).await;
}

#[tokio::test]
async fn keys_that_could_not_be_refreshed_for_a_day_are_not_believed() {
    let rig = Rig::start().await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    rig.kube.down().await;
    later(23 * HOUR).await;
    let token = rig.kube.token(&pod(), AUDIENCE, 48 * HOUR);
    says_the_pod(&rig.verify_within(&token, BRIEFLY).await.unwrap());
    later(2 * HOUR).await;
    let token = rig.kube.token(&pod(), AUDIENCE, 49 * HOUR);
    let result = rig.verify_within(&token, BRIEFLY).await;
    let Err(Error::Unavailable(why)) = &result else {
        panic!("{result:?}");
    };
    assert!(why.contains("cannot be reached"), "{why}");
    rig.kube.up().await;
    later(HOUR / 60).await;
    says_the_pod(&rig.verify(&token).await.unwrap());
}

#[tokio::test]
async fn keys_outlive_the_refusals_of_a_server_that_has_just_started_and_no_others() {
    let rig = Rig::start().await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    rig.kube.forbid(Verb::Keys);
    later(HOUR * 67 / 60).await;
    rig.kube.called(Verb::Keys, 3).await;
    let token = rig.kube.token(&pod(), AUDIENCE, 2 * HOUR);
    says_the_pod(&rig.verify(&token).await.unwrap());
    assert_eq!(rig.kube.count(Verb::Review), 0);
    later(SPACING).await;
    super::until("the refusal is believed", || {
        rig.tokens.keys_age().is_none()
    })
    .await;
    says_the_pod(&rig.verify(&token).await.unwrap());
    assert_eq!(rig.kube.count(Verb::Review), 1);
}

#[tokio::test]
async fn a_server_that_refuses_its_keys_as_it_starts_is_asked_again_at_once() {
    let kube = FakeKube::start().await;
    kube.apply(pod());
    kube.fail_next(Verb::Keys, Fault::Status(403));
    let rig = Rig::with(kube, None, SystemTime::now()).await;
    super::until("the keys are fetched", || rig.tokens.keys_age().is_some()).await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    assert_eq!(rig.counted(Way::Keys, Outcome::Ok), 1);
}
