//! `TokenReview`, for clusters whose keys the agent may not read.

use std::time::{Duration, SystemTime};

use credlet::identity::tokens::{Claims, Error, Flaw, Outcome, Way};
use credlet_tests::fake_kube::signer::{Algorithm, SigningKey};
use credlet_tests::fake_kube::{FakeKube, Fault, Verb, claims};
use futures::future::join_all;
use tokio::select;

use super::{AUDIENCE, BRIEFLY, HOUR, Rig, is_unavailable, later, pod, refused, says_the_pod};

async fn rig() -> Rig {
    let kube = FakeKube::start().await;
    kube.apply(pod());
    kube.forbid(Verb::Discovery);
    Rig::with(kube, None, SystemTime::now()).await
}

#[tokio::test]
async fn where_discovery_is_forbidden_the_api_server_is_asked_about_each_token() {
    for code in [401, 403, 404] {
        for verb in [Verb::Discovery, Verb::Keys] {
            let kube = FakeKube::start().await;
            kube.apply(pod());
            kube.fail_next(verb, Fault::Status(code));
            let rig = Rig::with(kube, None, SystemTime::now()).await;
            says_the_pod(&rig.verify(&rig.token()).await.unwrap());
            assert_eq!(rig.kube.count(Verb::Review), 1);
            assert_eq!(rig.counted(Way::Review, Outcome::Ok), 1);
        }
    }
}

#[tokio::test]
async fn a_review_is_remembered_for_a_minute() {
    let rig = rig().await;
    let token = rig.token();
    for reviews in 1..3 {
        says_the_pod(&rig.verify(&token).await.unwrap());
        later(Duration::from_secs(55)).await;
        says_the_pod(&rig.verify(&token).await.unwrap());
        assert_eq!(rig.kube.count(Verb::Review), reviews);
        later(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn a_review_is_not_remembered_for_longer_than_its_token_lives() {
    let rig = rig().await;
    let token = rig.kube.token(&pod(), AUDIENCE, Duration::from_secs(30));
    says_the_pod(&rig.verify(&token).await.unwrap());
    later(Duration::from_secs(41)).await;
    assert_eq!(rig.verify(&token).await, refused(Flaw::Expired));
    assert_eq!(rig.kube.count(Verb::Review), 1);
}

#[tokio::test]
async fn a_token_that_the_api_server_rejects_is_refused() {
    let rig = rig().await;
    let unknown = SigningKey::generate(Algorithm::Es256);
    let token = unknown.sign(&unknown.header(), &claims(&pod(), &[AUDIENCE], HOUR));
    assert_eq!(rig.verify(&token).await, refused(Flaw::Rejected));
    let token = rig.token();
    rig.kube.delete("shop", "cart-0");
    assert_eq!(rig.verify(&token).await, refused(Flaw::Rejected));
    assert_eq!(
        rig.counted(Way::Review, Outcome::Refused(Flaw::Rejected)),
        2
    );
}

#[tokio::test]
async fn a_token_of_no_use_costs_no_review() {
    let rig = rig().await;
    let sign = |claims| rig.kube.sign(&claims);
    let mut unbound = claims(&pod(), &[AUDIENCE], HOUR);
    unbound["kubernetes.io"]["pod"].take();
    let mut expired = claims(&pod(), &[AUDIENCE], HOUR);
    expired["exp"] = 7.into();
    for (token, flaw) in [
        (sign(claims(&pod(), &["vault"], HOUR)), Flaw::Audience),
        (sign(unbound), Flaw::Unbound),
        (sign(expired), Flaw::Expired),
        ("a.b.c".to_owned(), Flaw::Malformed),
    ] {
        assert_eq!(rig.verify(&token).await, refused(flaw));
    }
    assert_eq!(rig.kube.count(Verb::Review), 0);
}

#[tokio::test]
async fn a_review_that_fails_is_no_refusal_and_is_not_remembered() {
    for fault in [
        Fault::Status(500),
        Fault::Status(429),
        Fault::Cut,
        Fault::Garbage,
    ] {
        let rig = rig().await;
        rig.kube.fail_next(Verb::Review, fault);
        let token = rig.token();
        assert!(is_unavailable(&rig.verify(&token).await), "{fault:?}");
        says_the_pod(&rig.verify(&token).await.unwrap());
        assert_eq!(rig.counted(Way::Review, Outcome::Unavailable), 1);
    }
}

#[tokio::test]
async fn a_review_that_is_forbidden_too_says_which_permission_is_missing() {
    let rig = rig().await;
    rig.kube.forbid(Verb::Review);
    let token = rig.token();
    let result = rig.verify(&token).await;
    let Err(Error::Unavailable(why)) = &result else {
        panic!("{result:?}");
    };
    assert!(
        why.contains("`create` on `tokenreviews.authentication.k8s.io`"),
        "{why}"
    );
    rig.kube.permit(Verb::Review);
    says_the_pod(&rig.verify(&token).await.unwrap());
}

#[tokio::test]
async fn callers_with_one_token_share_a_review() {
    let rig = rig().await;
    rig.kube.fail_next(Verb::Review, Fault::Slow(BRIEFLY));
    let token = rig.token();
    for result in join_all((0..50).map(|_| rig.verify(&token))).await {
        says_the_pod(&result.unwrap());
    }
    assert_eq!(rig.kube.count(Verb::Review), 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_no_review() {
    let rig = rig().await;
    rig.kube.fail_next(Verb::Review, Fault::Slow(BRIEFLY));
    let token = rig.token();
    select! {
        result = rig.verify(&token) => panic!("{result:?}"),
        () = rig.kube.called(Verb::Review, 1) => {}
    }
    says_the_pod(&rig.verify(&token).await.unwrap());
    assert_eq!(rig.kube.count(Verb::Review), 1);
}

#[tokio::test]
async fn a_caller_waits_no_longer_than_its_deadline() {
    let rig = rig().await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    rig.kube.fail_next(Verb::Review, Fault::Stall);
    let token = rig.kube.token(&pod(), AUDIENCE, 2 * HOUR);
    assert!(is_unavailable(&rig.verify_within(&token, BRIEFLY).await));
    // The stalled one is given up some time, and the next is a new one.
    rig.kube.called(Verb::Review, 2).await;
    later(Duration::from_secs(10)).await;
    says_the_pod(&eventually(&rig, &token).await);
}

/// The answer of the first review that does not fail.
async fn eventually(rig: &Rig, token: &str) -> Claims {
    loop {
        if let Ok(claims) = rig.verify(token).await {
            return claims;
        }
    }
}

#[tokio::test]
async fn reviews_are_few_at_a_time_and_so_are_those_that_wait() {
    let rig = rig().await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    for _ in 0..8 {
        rig.kube.fail_next(Verb::Review, Fault::Stall);
    }
    let token = |hours| rig.kube.token(&pod(), AUDIENCE, HOUR * hours);
    let tokens: Vec<String> = (2..=74).map(token).collect();
    let (stalled, queued) = tokio::join!(verify_all(&rig, &tokens[..8]), async {
        rig.kube.called(Verb::Review, 9).await;
        let one_too_many = async {
            let refused = rig.verify(&tokens[72]).await;
            let Err(Error::Unavailable(why)) = &refused else {
                panic!("{refused:?}");
            };
            assert!(why.contains("too many"), "{why}");
            assert_eq!(rig.kube.count(Verb::Review), 9);
            later(Duration::from_secs(10)).await;
        };
        // In this order, so that the queue is full for the one.
        let (queued, ()) = tokio::join!(verify_all(&rig, &tokens[8..72]), one_too_many);
        queued
    });
    assert!(stalled.iter().all(is_unavailable));
    for result in queued {
        says_the_pod(&result.unwrap());
    }
    assert_eq!(rig.kube.count(Verb::Review), 73);
}

/// All at once, with more patience than there is for a review.
async fn verify_all(rig: &Rig, tokens: &[String]) -> Vec<Result<Claims, Error>> {
    join_all(tokens.iter().map(|token| rig.verify_within(token, HOUR))).await
}

#[tokio::test]
async fn keys_are_used_again_once_they_are_permitted() {
    let rig = rig().await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    rig.kube.permit(Verb::Discovery);
    later(Duration::from_mins(6)).await;
    super::until("the keys are fetched", || rig.tokens.keys_age().is_some()).await;
    let token = rig.kube.token(&pod(), AUDIENCE, 2 * HOUR);
    says_the_pod(&rig.verify(&token).await.unwrap());
    assert_eq!(rig.kube.count(Verb::Review), 1);
    assert_eq!(rig.counted(Way::Keys, Outcome::Ok), 1);
}

#[tokio::test]
async fn tokens_of_a_key_that_is_known_but_not_understood_are_reviewed() {
    let rig = Rig::start().await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    rig.kube.sign_with(SigningKey::generate(Algorithm::Es512));
    later(Duration::from_secs(10)).await;
    let token = rig.token();
    says_the_pod(&rig.verify(&token).await.unwrap());
    assert_eq!(rig.counted(Way::Review, Outcome::Ok), 1);
    let mut issued_elsewhere = claims(&pod(), &[AUDIENCE], HOUR);
    issued_elsewhere["iss"] = "https://elsewhere".into();
    let token = rig.kube.sign(&issued_elsewhere);
    assert_eq!(rig.verify(&token).await, refused(Flaw::Issuer));
    assert_eq!(rig.kube.count(Verb::Review), 1);
}
