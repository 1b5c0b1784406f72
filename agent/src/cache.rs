//! Values that are fetched once for all who ask, refreshed ahead of need, and
//! outlive an outage of where they come from.
//!
//! One task, [`Scheduler::run`], starts every fetch, publishes its result and
//! times the next. Callers look at what is published, leave word that they want
//! more, and wait: a caller that goes away cancels nothing, and callers who
//! arrive together share one fetch.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use foldhash::HashMap;
use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::clock::{Clock, Moment};

mod entry;
mod scheduler;
#[cfg(test)]
mod tests;

use entry::{Answer, Begun, Demand, Entry};
pub use scheduler::Scheduler;

/// The longest that one fetch may take.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Where values come from, and how they age.
pub trait Fetch: Send + Sync + 'static {
    /// What is asked for.
    type Key: Clone + Eq + Hash + fmt::Display + Send + Sync + 'static;
    /// What is kept.
    type Value: Send + Sync + 'static;
    /// One failure reaches every waiter, hence `Clone`.
    type Error: Clone + fmt::Display + Send + Sync + 'static;

    /// Fetches once. The cache bounds its time and survives its panic.
    fn fetch(&self, key: Self::Key) -> BoxFuture<'static, Result<Self::Value, Self::Error>>;

    /// How the value, fetched just now, ages from `now` on.
    fn life(&self, value: &Self::Value, now: SystemTime) -> Life;

    /// Whether trying again soon can help.
    fn patience(&self, error: &Self::Error) -> Patience;
}

/// How a value ages, in wall time. `None` is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When to fetch again ahead of need; a second from now at the earliest.
    /// `None`: only when somebody asks, and the entry is forgotten with its
    /// value's last use.
    pub refresh_at: Option<SystemTime>,
    /// Until when it is as good as new. After that a caller gets it only while
    /// fetching fails or is late.
    pub fresh_until: Option<SystemTime>,
    /// From when on nobody gets it, whatever happens.
    pub usable_until: Option<SystemTime>,
}

/// How soon a failed fetch is tried again: after twice the time with each failure
/// in a row, up to a quarter earlier, so that nodes do not come in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// An outage, which may end any moment: from half a second up to half a minute.
    Soon,
    /// A refusal, which only an operator ends: from ten seconds up to a minute.
    Late,
    /// Nothing outside was asked, since what it takes to ask is missing. The next
    /// caller may bring it, so this is told to those who wait for that very fetch
    /// and to nobody later; without callers it is tried again as [`Self::Soon`].
    AtOnce,
    /// There is nothing to fetch, as is normal: told for about ten seconds, and
    /// then it is up to a caller to try again. What is usable still is fetched
    /// again as by [`Self::Late`].
    OnDemand,
}

/// Why there is no value.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error<E> {
    /// The last fetch failed; the next is under way or scheduled.
    #[error("{0}")]
    Fetch(E),
    /// The last fetch panicked, took longer than [`FETCH_TIMEOUT`], or brought
    /// what was past its use; the next is under way or scheduled.
    #[error("{0}")]
    Broken(&'static str),
    /// The first fetch goes on, but not within this caller's time.
    #[error("no answer in time; the fetch goes on")]
    Deadline,
}

/// What a cache tells about one of its entries, for metrics and people.
#[derive(Clone, Debug)]
pub struct Summary<K, V> {
    /// The entry's key.
    pub key: K,
    /// How it stands.
    pub state: State,
    /// The value that was fetched last, used up or not.
    pub value: Option<Arc<V>>,
    /// Until when the value may be used; `None` without a value or a limit.
    pub usable_until: Option<SystemTime>,
    /// When the value was fetched; `None` without one.
    pub fetched_at: Option<SystemTime>,
    /// When it is fetched next; `None` while a fetch waits or is under way, and
    /// where the next caller decides.
    pub next_at: Option<SystemTime>,
    /// The fetches that failed since the last that was well.
    pub failure: Option<Failing>,
}

/// Fetches that failed, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Why the last one did, for people.
    pub why: String,
    /// When that was.
    pub at: SystemTime,
    /// How many there were.
    pub in_a_row: u32,
    /// How soon the next one begins.
    pub patience: Patience,
}

/// How an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No usable value, and no failure: a fetch is due or under way.
    Pending,
    /// A usable value, and the last fetch was well.
    Fresh,
    /// A usable value, but the last fetch failed.
    Stale,
    /// No usable value; the last fetch failed.
    Failed,
}

/// The readers' side. Cheap to clone.
pub struct Cache<F: Fetch> {
    shared: Arc<Shared<F>>,
}

/// What readers and the scheduler share.
struct Shared<F: Fetch> {
    fetch: F,
    clock: Clock,
    entries: RwLock<Entries<F>>,
    /// Wakes the scheduler: an entry was queued.
    queued: Notify,
    changes: watch::Sender<u64>,
}

type Entries<F> = HashMap<<F as Fetch>::Key, Entry<F>>;

impl<F: Fetch> Shared<F> {
    fn read(&self) -> RwLockReadGuard<'_, Entries<F>> {
        self.entries.read().expect("nothing panics under the lock")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries<F>> {
        self.entries.write().expect("nothing panics under the lock")
    }

    fn now(&self) -> Moment {
        self.clock.moment(Instant::now())
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl<F: Fetch> Cache<F> {
    /// An empty cache, and the scheduler without which it never fills.
    pub fn new(fetch: F, clock: Clock) -> (Self, Scheduler<F>) {
        let shared = Arc::new(Shared {
            fetch,
            clock,
            entries: RwLock::default(),
            queued: Notify::new(),
            changes: watch::Sender::new(0),
        });
        let scheduler = Scheduler::new(shared.clone());
        (Self { shared }, scheduler)
    }

    /// The value, from the cache if it is fresh, else as soon as a fetch ends.
    ///
    /// A failed fetch is answered with what is usable still, else with the
    /// failure, and so is everybody who asks before the next one starts, unless
    /// the failure is one of [`Patience::AtOnce`]: then it is their turn to try,
    /// and no such failure of a fetch that began before they asked reaches them.
    /// At `deadline` the answer is what is usable still, else the last failure,
    /// else [`Error::Deadline`].
    pub async fn get(
        &self,
        key: &F::Key,
        deadline: Instant,
    ) -> Result<Arc<F::Value>, Error<F::Error>> {
        let mut has_waited = false;
        loop {
            if let Some(answer) = self.ready(key) {
                return answer;
            }
            let (mut end, begun) = match self.demand(key) {
                Demand::Answered(answer) => return answer,
                Demand::Awaits(end, begun) => (end, begun),
            };
            match timeout_at(deadline, end.wait_for(Option::is_some)).await {
                Ok(Ok(answer)) => {
                    let answer = answer.clone().expect("it was waited for");
                    let is_older = !has_waited && begun == Begun::Before;
                    if !(is_older && self.is_for_nobody_later(&answer)) {
                        return answer;
                    }
                    has_waited = true;
                }
                // The entry was forgotten, and its fetch with it.
                Ok(Err(_)) => {}
                Err(_) => return self.last_resort(key),
            }
        }
    }

    /// The value that [`Self::get`] gives without waiting `now`, if it does.
    pub fn at_once(&self, key: &F::Key, now: Moment) -> Option<Arc<F::Value>> {
        self.shared.read().get(key)?.answer(now)?.ok()
    }

    /// The value if there is a usable one. Fetches nothing.
    pub fn peek(&self, key: &F::Key) -> Option<Arc<F::Value>> {
        let now = self.shared.now();
        self.shared.read().get(key)?.usable(now).cloned()
    }

    /// Fetches the value unless it is there, on its way, or failed and due for
    /// another attempt, or for none but a caller's. Does not wait.
    pub fn prefetch(&self, key: &F::Key) {
        let now = self.shared.now();
        let is_there = |entry: &Entry<F>| entry.answer(now).is_some() || entry.is_scheduled();
        if !self.shared.read().get(key).is_some_and(is_there) {
            self.demand(key);
        }
    }

    /// Forgets every entry whose key is not in `keep`. What a fetch under way for
    /// one still brings, nobody learns.
    pub fn retain(&self, keep: &HashSet<F::Key>) {
        let gone: Vec<_> = self
            .shared
            .write()
            .extract_if(|key, _| !keep.contains(key))
            .collect();
        if !gone.is_empty() {
            self.shared.changed();
        }
    }

    /// Changes whenever a value was published or has gone.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Every entry as it stands now, in no order.
    pub fn summaries(&self) -> Vec<Summary<F::Key, F::Value>> {
        let now = self.shared.now();
        let clock = self.shared.clock;
        let entries = self.shared.read();
        entries
            .iter()
            .map(|(key, entry)| entry.summary(key, now, clock))
            .collect()
    }

    fn ready(&self, key: &F::Key) -> Option<Answer<F>> {
        let now = self.shared.now();
        self.shared.read().get(key)?.answer(now)
    }

    fn demand(&self, key: &F::Key) -> Demand<F> {
        let now = self.shared.now();
        let demand = self
            .shared
            .write()
            .entry(key.clone())
            .or_default()
            .demand(now);
        self.shared.queued.notify_one();
        demand
    }

    fn is_for_nobody_later(&self, answer: &Answer<F>) -> bool {
        match answer {
            Err(Error::Fetch(error)) => self.shared.fetch.patience(error) == Patience::AtOnce,
            Ok(_) | Err(Error::Broken(_) | Error::Deadline) => false,
        }
    }

    fn last_resort(&self, key: &F::Key) -> Answer<F> {
        let now = self.shared.now();
        match self.shared.read().get(key) {
            Some(entry) => entry.last_resort(now),
            None => Err(Error::Deadline),
        }
    }
}

impl<F: Fetch> Clone for Cache<F> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}
