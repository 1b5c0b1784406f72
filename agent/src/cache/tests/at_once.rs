//! Failures for which nothing outside was asked: the next caller may bring what is missing.

use super::*;

const MOMENT: Duration = Duration::from_millis(5);

/// Whose refusals are for want of what a caller may bring.
fn wanting(does: Does) -> Script {
    let script = Script::new(HOUR);
    script.told().patience = Patience::AtOnce;
    script.does("a", does);
    script
}

#[tokio::test(start_paused = true)]
async fn each_caller_tries_at_once_and_the_one_that_brings_what_was_missing_succeeds() {
    let script = wanting(Does::Refuse);
    let cache = start(&script);
    for number in 1..=20 {
        let asked = Instant::now();
        assert!(matches!(ask(&cache).await, Err(Error::Fetch(Refused))));
        assert!(asked.elapsed() < MOMENT);
        assert_eq!(script.calls("a").len(), number, "its own attempt failed");
    }
    script.does("a", Does::Answer);
    let asked = Instant::now();
    assert!(ask(&cache).await.is_ok());
    assert!(asked.elapsed() < MOMENT);
}

#[tokio::test(start_paused = true)]
async fn a_failed_prefetch_takes_nothing_from_the_first_caller() {
    let script = wanting(Does::Refuse);
    let cache = start(&script);
    cache.prefetch(&"a");
    sleep(MOMENT).await;
    assert_eq!(cache.summaries()[0].state, State::Failed);
    script.does("a", Does::Answer);
    assert!(matches!(ask(&cache).await, Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_began_before_the_caller_came_does_not_fail_for_it() {
    let script = wanting(Does::RefuseAfter(Duration::from_millis(100)));
    let cache = start(&script);
    cache.prefetch(&"a");
    sleep(Duration::from_millis(50)).await;
    script.does("a", Does::Answer);
    assert!(matches!(ask(&cache).await, Ok(1)));
    assert_eq!(script.calls("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_very_fetch_is_told_and_shares_it() {
    let script = wanting(Does::RefuseAfter(Duration::from_millis(100)));
    let cache = start(&script);
    let answers = join_all((0..100).map(|_| ask(&cache))).await;
    let are_told = |answer: &Result<_, _>| matches!(answer, Err(Error::Fetch(Refused)));
    assert!(answers.iter().all(are_told));
    assert_eq!(script.calls("a").len(), 1);

    let early = ask(&cache);
    let late = async {
        sleep(Duration::from_millis(50)).await;
        join_all((0..100).map(|_| ask(&cache))).await
    };
    let (early, late) = tokio::join!(early, late);
    assert!(are_told(&early) && late.iter().all(are_told));
    assert_eq!(script.calls("a").len(), 3, "all who were late share one");
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_time_ends_is_not_told_of_an_earlier_caller_s_lack() {
    let script = wanting(Does::Refuse);
    let cache = start(&script);
    ask(&cache).await.expect_err("it refuses");
    script.does("a", Does::Hang);
    assert!(matches!(ask(&cache).await, Err(Error::Deadline)));
}

#[tokio::test(start_paused = true)]
async fn what_is_usable_is_served_and_fetched_again_as_after_an_outage() {
    let script = wanting(Does::Answer);
    let cache = start(&script);
    ask(&cache).await.expect("it answers");
    script.does("a", Does::Refuse);
    sleep(30 * MINUTE + MOMENT).await;
    for _ in 0..100 {
        let asked = Instant::now();
        assert!(matches!(ask(&cache).await, Ok(0)));
        assert!(asked.elapsed() < MOMENT);
    }
    assert_eq!(script.calls("a").len(), 2, "callers cost none");
    sleep(10 * MINUTE).await;
    let calls = script.calls("a");
    let pauses: Vec<_> = calls[1..].windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses[0] < Duration::from_millis(510));
    let longest = pauses.iter().max().expect("some");
    assert!(*longest <= Duration::from_secs(30) + MOMENT, "{longest:?}");
    script.does("a", Does::Answer);
    sleep(Duration::from_secs(31)).await;
    assert_eq!(cache.summaries()[0].state, State::Fresh);
}

#[tokio::test(start_paused = true)]
async fn a_prefetch_does_not_hasten_an_attempt_that_is_due_later() {
    let script = wanting(Does::Refuse);
    let cache = start(&script);
    cache.prefetch(&"a");
    sleep(MOMENT).await;
    for _ in 0..100 {
        cache.prefetch(&"a");
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(script.calls("a").len(), 1);
}
