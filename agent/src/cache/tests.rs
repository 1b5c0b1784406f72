//! How the cache treats callers and failures, whatever it keeps.

use std::collections::HashMap;
use std::sync::Mutex;

use futures::future::{FutureExt, join_all};
use tokio::time::{advance, sleep, timeout};

use super::*;

mod aging;
mod at_once;
mod on_demand;

/// What the next fetches of a key do.
#[derive(Clone, Copy)]
enum Does {
    Answer,
    /// Answers after that long.
    AnswerAfter(Duration),
    Refuse,
    /// Refuses after that long.
    RefuseAfter(Duration),
    Panic,
    Hang,
}

/// A fetch that does as told and writes down when it was asked for what. The
/// value is how many fetches came before it.
#[derive(Clone)]
struct Script(Arc<Mutex<Told>>);

struct Told {
    does: HashMap<&'static str, Does>,
    calls: Vec<(&'static str, Instant)>,
    life: Ages,
    patience: Patience,
    at_once: usize,
    most_at_once: usize,
}

/// A [`Life`], in time from the fetch on.
#[derive(Clone, Copy)]
struct Ages {
    refresh: Option<Duration>,
    fresh: Option<Duration>,
    usable: Option<Duration>,
}

const MINUTE: Duration = Duration::from_mins(1);

/// Refreshed after half an hour, fresh for 45 minutes, usable for an hour.
const HOUR: Ages = Ages {
    refresh: Some(Duration::from_mins(30)),
    fresh: Some(Duration::from_mins(45)),
    usable: Some(Duration::from_hours(1)),
};

impl Script {
    fn new(life: Ages) -> Self {
        Self(Arc::new(Mutex::new(Told {
            does: HashMap::new(),
            calls: Vec::new(),
            life,
            patience: Patience::Soon,
            at_once: 0,
            most_at_once: 0,
        })))
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().expect("scripted panics happen outside")
    }

    fn does(&self, key: &'static str, does: Does) {
        self.told().does.insert(key, does);
    }

    fn calls(&self, key: &str) -> Vec<Instant> {
        let told = self.told();
        let of_key = told.calls.iter().filter(|call| call.0 == key);
        of_key.map(|call| call.1).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused")]
struct Refused;

impl Fetch for Script {
    type Key = &'static str;
    type Value = usize;
    type Error = Refused;

    fn fetch(&self, key: Self::Key) -> BoxFuture<'static, Result<usize, Refused>> {
        let script = self.clone();
        async move {
            let (number, does) = {
                let mut told = script.told();
                told.calls.push((key, Instant::now()));
                told.at_once += 1;
                told.most_at_once = told.most_at_once.max(told.at_once);
                let does = told.does.get(key).copied().unwrap_or(Does::Answer);
                (told.calls.len() - 1, does)
            };
            let result = match does {
                Does::Answer => Ok(number),
                Does::AnswerAfter(time) => {
                    sleep(time).await;
                    Ok(number)
                }
                Does::Refuse => Err(Refused),
                Does::RefuseAfter(time) => {
                    sleep(time).await;
                    Err(Refused)
                }
                Does::Panic => panic!("as the script says"),
                Does::Hang => std::future::pending().await,
            };
            script.told().at_once -= 1;
            result
        }
        .boxed()
    }

    fn life(&self, _: &usize, now: SystemTime) -> Life {
        let ages = self.told().life;
        Life {
            refresh_at: ages.refresh.map(|after| now + after),
            fresh_until: ages.fresh.map(|after| now + after),
            usable_until: ages.usable.map(|after| now + after),
        }
    }

    fn patience(&self, _: &Refused) -> Patience {
        self.told().patience
    }
}

/// A cache whose scheduler runs until the test ends.
fn start(script: &Script) -> Cache<Script> {
    start_with(script, Clock::paused(SystemTime::UNIX_EPOCH))
}

fn start_with(script: &Script, clock: Clock) -> Cache<Script> {
    let (cache, scheduler) = Cache::new(script.clone(), clock);
    tokio::spawn(scheduler.run());
    cache
}

/// As long as a request may take.
fn soon() -> Instant {
    Instant::now() + Duration::from_millis(900)
}

fn keys(count: usize) -> Vec<&'static str> {
    let name = |number| &*format!("key {number}").leak();
    (0..count).map(name).collect()
}

async fn ask(cache: &Cache<Script>) -> Result<usize, Error<Refused>> {
    cache.get(&"a", soon()).await.map(|value| *value)
}

#[tokio::test(start_paused = true)]
async fn callers_arriving_together_cost_one_fetch_and_get_its_value() {
    let script = Script::new(HOUR);
    script.does("a", Does::AnswerAfter(Duration::from_millis(100)));
    let cache = start(&script);
    let answers = join_all((0..100).map(|_| ask(&cache))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(0))));
    assert_eq!(script.calls("a").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_arriving_together_get_the_one_failure() {
    let script = Script::new(HOUR);
    script.does("a", Does::Refuse);
    let cache = start(&script);
    let answers = join_all((0..100).map(|_| ask(&cache))).await;
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Err(Error::Fetch(Refused))))
    );
    assert_eq!(script.calls("a").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_goes_on_when_all_its_callers_hang_up() {
    let script = Script::new(HOUR);
    script.does("a", Does::AnswerAfter(Duration::from_millis(200)));
    let cache = start(&script);
    let mut changes = cache.changes();
    let callers = join_all((0..10).map(|_| ask(&cache)));
    timeout(Duration::from_millis(10), callers)
        .await
        .expect_err("too early for a value");
    changes.changed().await.expect("the cache lives");
    assert_eq!(cache.peek(&"a").as_deref(), Some(&0));
    assert!(matches!(ask(&cache).await, Ok(0)));
}

#[tokio::test(start_paused = true)]
async fn a_caller_leaves_at_its_deadline_and_the_next_gets_the_value() {
    let script = Script::new(HOUR);
    script.does("a", Does::AnswerAfter(Duration::from_millis(1200)));
    let cache = start(&script);
    let asked = Instant::now();
    assert!(matches!(ask(&cache).await, Err(Error::Deadline)));
    assert_eq!(asked.elapsed(), Duration::from_millis(900));
    assert!(matches!(ask(&cache).await, Ok(0)));
    assert!(asked.elapsed() <= Duration::from_millis(1205));
    assert_eq!(script.calls("a").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_that_is_tried_again() {
    let script = Script::new(HOUR);
    script.does("a", Does::Panic);
    let cache = start(&script);
    assert!(matches!(ask(&cache).await, Err(Error::Broken(_))));
    script.does("a", Does::Answer);
    sleep(Duration::from_millis(510)).await;
    assert!(matches!(ask(&cache).await, Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_hangs_ends_and_slows_no_other_key() {
    let script = Script::new(HOUR);
    script.does("a", Does::Hang);
    script.does("b", Does::Refuse);
    let cache = start(&script);
    cache.prefetch(&"a");
    cache.prefetch(&"b");
    let asked = Instant::now();
    cache
        .get(&"c", soon())
        .await
        .expect("the others do not matter");
    assert!(asked.elapsed() < Duration::from_millis(5));

    sleep(FETCH_TIMEOUT).await;
    assert!(matches!(ask(&cache).await, Err(Error::Broken(_))));
}

#[tokio::test(start_paused = true)]
async fn failures_are_answered_at_once_and_retried_ever_more_slowly_until_one_is_well() {
    let script = Script::new(HOUR);
    script.does("a", Does::Refuse);
    let cache = start(&script);
    let end = Instant::now() + 10 * MINUTE;
    while Instant::now() < end {
        let asked = Instant::now();
        ask(&cache).await.expect_err("it refuses");
        assert!(asked.elapsed() < Duration::from_millis(5));
        sleep(Duration::from_millis(50)).await;
    }
    let calls = script.calls("a");
    let mut longest = Duration::from_millis(500);
    for pair in calls.windows(2) {
        let pause = pair[1] - pair[0];
        let least = longest.mul_f64(0.75);
        let most = longest + Duration::from_millis(5);
        assert!(
            (least..=most).contains(&pause),
            "{pause:?} is not up to {longest:?}"
        );
        longest = (longest * 2).min(Duration::from_secs(30));
    }
    assert!(calls.len() >= 6 + 19, "only {} calls", calls.len());

    script.does("a", Does::Answer);
    sleep(Duration::from_secs(31)).await;
    ask(&cache).await.expect("it answers again");
    script.does("a", Does::Refuse);
    let before = script.calls("a").len();
    sleep(30 * MINUTE + Duration::from_secs(1)).await;
    assert!(
        script.calls("a").len() >= before + 2,
        "it starts again with short pauses"
    );
}

#[tokio::test(start_paused = true)]
async fn a_late_result_of_a_forgotten_entry_reaches_nobody() {
    let script = Script::new(HOUR);
    script.does("a", Does::AnswerAfter(Duration::from_millis(100)));
    let cache = start(&script);
    cache.prefetch(&"a");
    sleep(Duration::from_millis(50)).await;
    let waiting = ask(&cache);
    let forgetting = async {
        sleep(Duration::from_millis(10)).await;
        cache.retain(&HashSet::new());
        script.does("a", Does::AnswerAfter(Duration::from_millis(300)));
    };
    let (answer, ()) = tokio::join!(waiting, forgetting);
    assert!(
        matches!(answer, Ok(1)),
        "who waits gets the next fetch's value: {answer:?}"
    );
    assert_eq!(script.calls("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_kept_is_refreshed() {
    let script = Script::new(HOUR);
    let cache = start(&script);
    cache.prefetch(&"a");
    cache.prefetch(&"b");
    sleep(MINUTE).await;
    let mut changes = cache.changes();
    cache.retain(&HashSet::from(["b"]));
    assert!(changes.has_changed().expect("the cache lives"));
    assert!(cache.peek(&"a").is_none());
    changes.mark_unchanged();
    cache.retain(&HashSet::from(["b"]));
    assert!(
        !changes.has_changed().expect("the cache lives"),
        "nothing has gone"
    );
    sleep(60 * MINUTE).await;
    assert_eq!(script.calls("a").len(), 1);
    assert!(script.calls("b").len() > 1);
}

#[tokio::test(start_paused = true)]
async fn fetches_are_bounded_and_all_get_their_turn() {
    let script = Script::new(HOUR);
    let cache = start(&script);
    let keys = keys(100);
    for key in &keys {
        script.does(key, Does::AnswerAfter(Duration::from_millis(100)));
        cache.prefetch(key);
        advance(Duration::from_micros(1)).await;
    }
    sleep(Duration::from_millis(750)).await;
    assert!(keys.iter().all(|key| cache.peek(key).is_some()));
    assert_eq!(script.told().most_at_once, 16);
    let order: Vec<_> = script.told().calls.iter().map(|call| call.0).collect();
    assert_eq!(order, keys, "in the order in which they were asked for");
}

#[tokio::test(start_paused = true)]
async fn fetches_that_hang_delay_no_other_key_beyond_a_request_however_many_they_are() {
    let script = Script::new(HOUR);
    let cache = start(&script);
    for key in keys(109) {
        script.does(key, Does::Hang);
        cache.prefetch(&key);
    }
    for later in ["b", "c", "d"] {
        cache.get(&later, soon()).await.expect("its turn comes");
        sleep(Duration::from_secs(17)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_summary_tells_how_an_entry_stands() {
    let script = Script::new(HOUR);
    script.does("a", Does::AnswerAfter(Duration::from_millis(1)));
    let cache = start(&script);
    let stands = || cache.summaries()[0].state;
    let next = || {
        let now = cache.shared.now().wall;
        let next = cache.summaries()[0].next_at;
        next.map(|at| at.duration_since(now).expect("it is to come"))
    };
    cache.prefetch(&"a");
    assert_eq!((stands(), next()), (State::Pending, None));
    sleep(MINUTE).await;
    assert_eq!(stands(), State::Fresh);
    assert!(next().is_some_and(|left| left > 28 * MINUTE && left < 30 * MINUTE));
    script.does("a", Does::Refuse);
    sleep(30 * MINUTE).await;
    assert_eq!(stands(), State::Stale);
    let failing = cache.summaries().remove(0).failure.expect("it failed");
    assert_eq!(failing.why, "refused");
    assert!((2..=9).contains(&failing.in_a_row), "{failing:?}");
    assert!(next().is_some_and(|left| left <= Duration::from_secs(30)));
    sleep(30 * MINUTE).await;
    assert_eq!(stands(), State::Failed);
    script.does("a", Does::Answer);
    sleep(MINUTE).await;
    assert_eq!(stands(), State::Fresh);
    assert_eq!(cache.summaries()[0].failure, None);
}
