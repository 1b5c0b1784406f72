//! What there is normally nothing of, such as what was never declared.

use super::*;

fn nothing() -> Script {
    let script = Script::new(HOUR);
    script.told().patience = Patience::OnDemand;
    script.does("a", Does::Refuse);
    script
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_is_tried_for_once_and_no_more() {
    let script = nothing();
    let cache = start(&script);
    for _ in 0..60 {
        cache.prefetch(&"a");
        sleep(MINUTE).await;
    }
    assert_eq!(script.calls("a").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_are_told_so_for_seconds_and_then_cost_one_attempt() {
    let script = nothing();
    let cache = start(&script);
    for _ in 0..60 {
        assert!(ask(&cache).await.is_err());
        sleep(Duration::from_secs(1)).await;
    }
    let calls = script.calls("a").len();
    assert!((6..=8).contains(&calls), "{calls} in a minute");
    script.does("a", Does::Answer);
    sleep(Duration::from_secs(10)).await;
    assert!(ask(&cache).await.is_ok(), "it is there now");
}

#[tokio::test(start_paused = true)]
async fn what_is_usable_is_served_and_fetched_again_until_it_is_used_up() {
    let script = Script::new(HOUR);
    script.told().patience = Patience::OnDemand;
    let cache = start(&script);
    ask(&cache).await.expect("a value");
    script.does("a", Does::Refuse);
    sleep(59 * MINUTE).await;
    ask(&cache).await.expect("it is usable still");
    let calls = script.calls("a").len();
    assert!(calls > 2, "{calls} calls");
    sleep(2 * MINUTE).await;
    let calls = script.calls("a").len();
    sleep(HOUR.usable.expect("it ends")).await;
    assert_eq!(script.calls("a").len(), calls, "nobody asked");
}
