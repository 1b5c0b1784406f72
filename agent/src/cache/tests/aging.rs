//! How values age: refreshed ahead, kept through outages, never served expired.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_value_is_refreshed_ahead_of_need_without_callers() {
    let script = Script::new(HOUR);
    let cache = start(&script);
    let began = Instant::now();
    cache.prefetch(&"a");
    sleep(95 * MINUTE).await;
    let minutes: Vec<_> = script
        .calls("a")
        .iter()
        .map(|at| (*at - began).as_secs() / 60)
        .collect();
    assert_eq!(minutes, [0, 30, 60, 90]);
}

#[tokio::test(start_paused = true)]
async fn a_life_that_is_over_at_birth_does_not_make_the_scheduler_spin() {
    let over = Some(Duration::ZERO);
    let script = Script::new(Ages {
        refresh: over,
        fresh: over,
        usable: None,
    });
    let cache = start(&script);
    assert!(matches!(ask(&cache).await, Ok(0)), "who waited gets it");
    sleep(Duration::from_secs(10)).await;
    assert!((9..=11).contains(&script.calls("a").len()));

    let script = Script::new(Ages {
        refresh: over,
        fresh: over,
        usable: over,
    });
    let cache = start(&script);
    assert!(matches!(ask(&cache).await, Err(Error::Broken(_))));
    assert_eq!(script.calls("a").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_value_outlives_an_outage_until_its_last_use_and_no_longer() {
    let script = Script::new(HOUR);
    let cache = start(&script);
    let began = Instant::now();
    ask(&cache).await.expect("it answers");
    script.does("a", Does::Hang);
    while began.elapsed() < 59 * MINUTE + Duration::from_secs(59) {
        let asked = Instant::now();
        assert!(matches!(ask(&cache).await, Ok(0)));
        assert!(
            asked.elapsed() < Duration::from_millis(5),
            "no caller pays for the outage"
        );
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(2)).await;
    assert!(matches!(ask(&cache).await, Err(Error::Broken(_))));
    assert!(cache.peek(&"a").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_suspended_serves_what_is_fresh_then_and_nothing_expired() {
    static AHEAD: AtomicU64 = AtomicU64::new(0);
    let script = Script::new(HOUR);
    let clock = Clock::stepped(SystemTime::UNIX_EPOCH, &AHEAD);
    let cache = start_with(&script, clock);
    ask(&cache).await.expect("it answers");

    AHEAD.store(46 * 60, Ordering::Relaxed);
    assert!(
        matches!(ask(&cache).await, Ok(1)),
        "past freshness a fetch is awaited"
    );
    script.does("a", Does::Hang);
    AHEAD.store(2 * 46 * 60, Ordering::Relaxed);
    assert!(
        matches!(ask(&cache).await, Ok(1)),
        "at the deadline the usable value is served"
    );
    AHEAD.store(4 * 46 * 60, Ordering::Relaxed);
    assert!(cache.peek(&"a").is_none());
    assert!(matches!(ask(&cache).await, Err(Error::Deadline)));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_makes_nothing_old_look_new() {
    static AHEAD: AtomicU64 = AtomicU64::new(24 * 3600);
    let script = Script::new(HOUR);
    let cache = start_with(&script, Clock::stepped(SystemTime::UNIX_EPOCH, &AHEAD));
    ask(&cache).await.expect("it answers");
    AHEAD.store(0, Ordering::Relaxed);
    sleep(29 * MINUTE).await;
    assert!(matches!(ask(&cache).await, Ok(0)));
    script.does("a", Does::Refuse);
    sleep(2 * MINUTE).await;
    assert!(script.calls("a").len() > 1, "refreshed as if nothing was");
    assert!(matches!(ask(&cache).await, Ok(0)));
    sleep(29 * MINUTE).await;
    ask(&cache)
        .await
        .expect_err("its last use was an hour after it came");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_refresh_that_fails_gets_what_is_usable() {
    static AHEAD: AtomicU64 = AtomicU64::new(0);
    let script = Script::new(HOUR);
    let cache = start_with(&script, Clock::stepped(SystemTime::UNIX_EPOCH, &AHEAD));
    ask(&cache).await.expect("it answers");
    script.does("a", Does::Refuse);
    AHEAD.store(46 * 60, Ordering::Relaxed);
    assert!(matches!(ask(&cache).await, Ok(0)));
    assert_eq!(script.calls("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_machine_catches_up_within_a_minute_without_callers() {
    static AHEAD: AtomicU64 = AtomicU64::new(0);
    let script = Script::new(HOUR);
    let cache = start_with(&script, Clock::stepped(SystemTime::UNIX_EPOCH, &AHEAD));
    ask(&cache).await.expect("it answers");
    AHEAD.store(31 * 60, Ordering::Relaxed);
    sleep(MINUTE + Duration::from_millis(5)).await;
    assert_eq!(script.calls("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_refreshed_is_forgotten_after_its_use() {
    let ten = Some(Duration::from_secs(10));
    let script = Script::new(Ages {
        refresh: None,
        fresh: ten,
        usable: ten,
    });
    let cache = start(&script);
    ask(&cache).await.expect("it answers");
    let mut changes = cache.changes();
    changes.changed().await.expect("the cache lives");
    assert!(cache.summaries().is_empty());
    assert_eq!(script.calls("a").len(), 1);
    assert!(matches!(ask(&cache).await, Ok(1)));
}
