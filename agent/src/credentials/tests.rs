//! What pods get over hours and days, in milliseconds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::model::{AssumedRole, Grant, Secret};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const START: SystemTime = SystemTime::UNIX_EPOCH;

/// An STS that is well except when told otherwise, and writes down who asked.
struct FakeSts {
    clock: Clock,
    state: Mutex<FakeState>,
}

struct FakeState {
    session: Duration,
    latency: Duration,
    outage: Outage,
    calls: Vec<ServiceAccount>,
}

#[derive(Clone, Copy)]
enum Outage {
    Over,
    Unavailable,
    Denied,
    NotAssociated,
    Hangs,
}

impl FakeSts {
    fn set(&self, change: impl FnOnce(&mut FakeState)) {
        change(&mut self.state.lock().expect("no panics here"));
    }

    fn calls(&self) -> usize {
        self.state.lock().expect("no panics here").calls.len()
    }
}

impl Exchange for FakeSts {
    fn exchange(&self, key: Key) -> BoxFuture<'static, Result<Credentials, Refusal>> {
        let mut state = self.state.lock().expect("no panics here");
        state.calls.push(key.account.clone());
        let (session, latency, outage) = (state.session, state.latency, state.outage);
        let clock = self.clock;
        async move {
            sleep(latency).await;
            match outage {
                Outage::Over => Ok(Credentials::new(
                    "ASIA".to_owned(),
                    Secret::new(String::new()),
                    Secret::new(String::new()),
                    clock.now() + session,
                    AssumedRole::new(
                        "arn:aws:sts::123456789012:assumed-role/app/session",
                        "AROAEXAMPLE:session",
                    )
                    .unwrap(),
                )),
                Outage::Unavailable => Err(Refusal::Unavailable("connection refused".to_owned())),
                Outage::Denied => Err(Refusal::Denied("not authorized".to_owned())),
                Outage::NotAssociated => Err(Refusal::NotAssociated),
                Outage::Hangs => std::future::pending().await,
            }
        }
        .boxed()
    }
}

/// A vault, an STS with that much session, and what fills the one from the other
/// until it is dropped.
fn start(session: Duration) -> (Arc<FakeSts>, Vault, JoinSet<()>) {
    start_with(session, Clock::paused(START))
}

fn start_with(session: Duration, clock: Clock) -> (Arc<FakeSts>, Vault, JoinSet<()>) {
    let sts = Arc::new(FakeSts {
        clock,
        state: Mutex::new(FakeState {
            session,
            latency: Duration::from_millis(50),
            outage: Outage::Over,
            calls: Vec::new(),
        }),
    });
    let (vault, filling) = Vault::new(sts.clone(), clock);
    (sts, vault, JoinSet::from_iter([filling]))
}

fn key(number: usize) -> Key {
    let role = format!("arn:aws:iam::123456789012:role/app-{number}");
    Key {
        account: ServiceAccount::new("default", &format!("app-{number}")).expect("valid"),
        pod: None,
        association: Arc::new(Association::Role(Grant::of(role.parse().expect("valid")))),
    }
}

/// What is left of the credentials that a pod gets now, in time.
async fn ask(vault: &Vault, key: &Key) -> Result<Duration, Error> {
    let deadline = Instant::now() + Duration::from_millis(900);
    let credentials = vault.get(key, deadline).await?;
    Ok(credentials.left(vault.clock.now()))
}

#[tokio::test(start_paused = true)]
async fn a_day_of_refreshes_serves_nothing_with_less_than_15_minutes_left() {
    const ACCOUNTS: usize = 30;
    let (sts, vault, _filling) = start(HOUR);
    let keys: Vec<_> = (0..ACCOUNTS).map(key).collect();
    for key in &keys {
        vault.prefetch(key);
    }
    sleep(SECOND).await;
    let begin = Instant::now();
    while begin.elapsed() < 24 * HOUR {
        for pod in 0..110 {
            let asked = Instant::now();
            let left = ask(&vault, &keys[pod % ACCOUNTS])
                .await
                .expect("STS is well");
            assert!(left >= 15 * MINUTE, "{left:?} left");
            assert!(
                asked.elapsed().is_zero(),
                "a pod waited for {:?}",
                asked.elapsed()
            );
        }
        sleep(MINUTE).await;
    }
    // A session an account every 24 to 30 minutes, whatever the number of pods.
    let calls = sts.calls();
    assert!(
        (ACCOUNTS * 48..=ACCOUNTS * 61).contains(&calls),
        "{calls} calls"
    );
}

#[tokio::test(start_paused = true)]
async fn sessions_of_any_length_that_may_be_configured_stay_above_15_minutes() {
    for minutes in [30, 31, 45, 60, 180, 720] {
        let (_sts, vault, _filling) = start(minutes * MINUTE);
        for _ in 0..3 * minutes {
            let left = ask(&vault, &key(0)).await.expect("STS is well");
            assert!(left >= 15 * MINUTE, "{left:?} left of {minutes} minutes");
            sleep(MINUTE + SECOND).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_notices_an_outage_of_25_minutes_at_any_moment() {
    for outage in [Outage::Unavailable, Outage::Hangs, Outage::Denied] {
        for start_minute in 0..60 {
            let (sts, vault, _filling) = start(HOUR);
            ask(&vault, &key(0)).await.expect("STS is well");
            sleep(start_minute * MINUTE).await;
            sts.set(|state| state.outage = outage);
            // Pods of the account come and go all the time.
            for second in (0..25 * 60).step_by(10) {
                let asked = Instant::now();
                let left = ask(&vault, &key(0)).await.unwrap_or_else(|error| {
                    panic!("{error} {second} s into an outage from minute {start_minute} on")
                });
                assert!(left > MINUTE, "{left:?} left");
                assert!(
                    asked.elapsed().is_zero(),
                    "a pod waited for {:?}",
                    asked.elapsed()
                );
                sleep(10 * SECOND).await;
            }
            sts.set(|state| state.outage = Outage::Over);
            sleep(71 * SECOND).await;
            let left = ask(&vault, &key(0)).await.expect("STS is well again");
            assert!(
                left >= 15 * MINUTE,
                "{left:?} left a backoff after the outage"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_credentials_is_an_error_then_over_within_one_backoff() {
    let (sts, vault, _filling) = start(HOUR);
    ask(&vault, &key(0)).await.expect("STS is well");
    sts.set(|state| state.outage = Outage::Unavailable);
    sleep(58 * MINUTE + 59 * SECOND).await;
    ask(&vault, &key(0)).await.expect("the last second");
    sleep(2 * SECOND).await;
    for _ in 0..60 {
        let asked = Instant::now();
        let error = ask(&vault, &key(0)).await.expect_err("nothing is left");
        assert!(
            matches!(error, Error::Fetch(Refusal::Unavailable(_))),
            "{error}"
        );
        assert!(asked.elapsed() < Duration::from_millis(100), "told at once");
        sleep(7 * SECOND).await;
    }
    sts.set(|state| state.outage = Outage::Over);
    sleep(30 * SECOND + Duration::from_millis(100)).await;
    ask(&vault, &key(0)).await.expect("one backoff has passed");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_wakes_with_14_minutes_left_hands_out_new_credentials() {
    static AHEAD: AtomicU64 = AtomicU64::new(0);
    let (_sts, vault, _filling) = start_with(HOUR, Clock::stepped(START, &AHEAD));
    ask(&vault, &key(0)).await.expect("STS is well");
    AHEAD.store(46 * 60, Ordering::Relaxed);
    let left = ask(&vault, &key(0)).await.expect("STS is well");
    assert!(left > 59 * MINUTE, "{left:?} left");
}

#[tokio::test(start_paused = true)]
async fn accounts_that_came_together_are_not_refreshed_together() {
    let (sts, vault, _filling) = start(HOUR);
    for number in 0..30 {
        vault.prefetch(&key(number));
    }
    sleep(27 * MINUTE).await;
    let refreshed = sts.calls() - 30;
    assert!((1..30).contains(&refreshed), "{refreshed} after 27 minutes");
}

#[tokio::test(start_paused = true)]
async fn two_accounts_of_one_role_have_sessions_of_their_own() {
    let (sts, vault, _filling) = start(HOUR);
    let one = key(0);
    let other = Key {
        account: key(1).account,
        pod: None,
        association: one.association.clone(),
    };
    for key in [&one, &other] {
        ask(&vault, key).await.expect("STS is well");
    }
    assert_eq!(sts.calls(), 2);
    assert_eq!(vault.standing().fresh, 2);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_pods_of_one_account_cost_one_exchange() {
    let (sts, vault, _filling) = start(HOUR);
    let key = key(0);
    let asked = Instant::now();
    let answers = futures::future::join_all((0..100).map(|_| ask(&vault, &key))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(asked.elapsed() < Duration::from_millis(55));
    assert_eq!(sts.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_tried_again_less_often_than_an_outage() {
    let mut calls = Vec::new();
    for outage in [Outage::Unavailable, Outage::Denied] {
        let (sts, vault, _filling) = start(HOUR);
        sts.set(|state| state.outage = outage);
        vault.prefetch(&key(0));
        sleep(10 * MINUTE).await;
        calls.push(sts.calls());
    }
    // 0.5 s doubling to 30 s, and 10 s doubling to 60 s, up to a quarter earlier.
    assert!((24..=34).contains(&calls[0]), "{calls:?}");
    assert!((12..=16).contains(&calls[1]), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn an_account_that_eks_associates_with_nothing_costs_a_call_and_then_one_when_a_pod_asks() {
    let (sts, vault, _filling) = start(HOUR);
    sts.set(|state| state.outage = Outage::NotAssociated);
    for _ in 0..24 {
        vault.prefetch(&key(0));
        sleep(HOUR).await;
    }
    assert_eq!(sts.calls(), 1);
    for _ in 0..2 {
        ask(&vault, &key(0)).await.expect_err("there is none");
    }
    assert_eq!(sts.calls(), 2);
    sts.set(|state| state.outage = Outage::Over);
    sleep(10 * SECOND).await;
    ask(&vault, &key(0)).await.expect("it was associated");
}

#[tokio::test(start_paused = true)]
async fn a_changed_association_gets_credentials_of_its_own() {
    let (sts, vault, _filling) = start(HOUR);
    let old = key(0);
    ask(&vault, &old).await.expect("STS is well");
    let new = Key {
        account: old.account.clone(),
        pod: None,
        association: key(1).association,
    };
    vault.retain(&HashSet::from([new.clone()]));
    ask(&vault, &new).await.expect("STS is well");
    assert_eq!(sts.calls(), 2);
    assert_eq!(vault.standing().fresh, 1, "the old role's are dropped");
}

#[tokio::test(start_paused = true)]
async fn sessions_of_implausible_length_are_refused_and_the_short_are_made_the_best_of() {
    for session in [Duration::ZERO, 4 * MINUTE, 14 * HOUR] {
        let (_sts, vault, _filling) = start(session);
        let error = ask(&vault, &key(0)).await.expect_err("implausible");
        assert!(
            matches!(error, Error::Fetch(Refusal::Malformed(_))),
            "{error}"
        );
    }
    for minutes in [5, 10, 15, 20, 29] {
        let (sts, vault, _filling) = start(minutes * MINUTE);
        for _ in 0..60 {
            let left = ask(&vault, &key(0)).await.expect("STS is well");
            assert!(
                left >= minutes * MINUTE / 2,
                "{left:?} left of {minutes} minutes"
            );
            sleep(MINUTE).await;
        }
        let calls = u32::try_from(sts.calls()).expect("few");
        let most = 1 + 3600 / (minutes * 60 * 3 / 10);
        assert!(
            calls <= most,
            "{calls} calls for sessions of {minutes} minutes"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn standing_counts_entries_by_state_and_finds_the_shortest_session() {
    let (sts, vault, _filling) = start(HOUR);
    assert_eq!(vault.standing(), Standing::default());
    ask(&vault, &key(0)).await.expect("STS is well");
    sts.set(|state| state.outage = Outage::Unavailable);
    sleep(40 * MINUTE).await;
    ask(&vault, &key(1)).await.expect_err("STS is down");
    sts.set(|state| state.outage = Outage::Over);
    ask(&vault, &key(2)).await.expect("STS is well");
    vault.prefetch(&key(3));
    let standing = vault.standing();
    let Standing {
        pending,
        fresh,
        stale,
        failed,
        shortest,
    } = standing;
    assert_eq!((pending, fresh, stale, failed), (1, 1, 1, 1));
    let shortest = shortest.expect("two are served");
    assert!(shortest.abs_diff(20 * MINUTE) < SECOND, "{shortest:?}");
}
