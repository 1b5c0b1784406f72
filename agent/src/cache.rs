//! Values that are fetched once for all who ask, refreshed ahead of need, and
//! outlive an outage of where they come from.
//!
//! One scheduler ([`Scheduler::run`]) owns every fetch and every timer. Callers
//! only look at what it has published and wait for it to publish more, so a
//! caller that goes away cancels nothing, and callers who arrive together share
//! one fetch.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;

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

    /// How long the value, fetched just now, may be used.
    fn life(&self, value: &Self::Value, now: SystemTime) -> Life;

    /// Whether trying again soon can help.
    fn patience(&self, error: &Self::Error) -> Patience;
}

/// How a value ages, in wall time. `None` is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When to fetch again ahead of need. `None`: only when somebody asks again.
    pub refresh_at: Option<SystemTime>,
    /// Until when it is as good as new. After that a caller gets it only while
    /// fetching fails or is late.
    pub fresh_until: Option<SystemTime>,
    /// From when on nobody gets it, whatever happens.
    pub usable_until: Option<SystemTime>,
}

/// How soon a failed fetch is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// An outage, which may end any moment: from half a second up to half a minute.
    Soon,
    /// A refusal, which only an operator ends: from ten seconds up to a minute.
    Late,
}

/// Why there is no value.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error<E> {
    /// The last fetch failed; the next one is under way or scheduled.
    #[error("{0}")]
    Fetch(E),
    /// The last fetch panicked or took too long.
    #[error("{0}")]
    Broken(&'static str),
    /// The fetch goes on, but not within this caller's time.
    #[error("no answer in time; the fetch goes on")]
    Deadline,
}

/// What a cache tells about one of its entries, for metrics and people.
#[derive(Clone, Debug)]
pub struct Summary<K> {
    /// The entry's key.
    pub key: K,
    /// How it stands.
    pub state: State,
    /// Until when the value may be used; `None` without a value or a limit.
    pub usable_until: Option<SystemTime>,
    /// When the value was fetched; `None` without one.
    pub fetched_at: Option<SystemTime>,
}

/// How an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No value yet, and no failure.
    Pending,
    /// A value, and the last fetch was well.
    Fresh,
    /// A value, but the last fetch failed.
    Stale,
    /// No usable value; the last fetch failed.
    Failed,
}

/// The readers' side. Cheap to clone.
pub struct Cache<F: Fetch> {
    clock: Clock,
    fetch: Arc<F>,
}

/// The one task that fetches, refreshes, retries and forgets.
pub struct Scheduler<F: Fetch> {
    cache: Cache<F>,
}

impl<F: Fetch> Cache<F> {
    /// An empty cache, and the scheduler without which it never fills.
    pub fn new(fetch: F, clock: Clock) -> (Self, Scheduler<F>) {
        todo!()
    }

    /// The value, from the cache if it is fresh, else as soon as a fetch ends.
    ///
    /// At `deadline` a value that is no longer fresh but usable is better than
    /// none; without one the answer is [`Error::Deadline`]. A failure is
    /// answered at once until the next attempt, which the scheduler times.
    pub async fn get(
        &self,
        key: &F::Key,
        deadline: Instant,
    ) -> Result<Arc<F::Value>, Error<F::Error>> {
        todo!()
    }

    /// The value if there is a usable one. Fetches nothing.
    pub fn peek(&self, key: &F::Key) -> Option<Arc<F::Value>> {
        todo!()
    }

    /// Fetches the value unless it is there or on its way. Does not wait.
    pub fn prefetch(&self, key: &F::Key) {
        todo!()
    }

    /// Forgets every entry whose key is not in `keep`, fetches under way included.
    pub fn retain(&self, keep: &HashSet<F::Key>) {
        todo!()
    }

    /// Forgets one entry.
    pub fn forget(&self, key: &F::Key) {
        todo!()
    }

    /// Changes whenever a value was published or has gone.
    pub fn changes(&self) -> watch::Receiver<u64> {
        todo!()
    }

    /// Every entry, in no order.
    pub fn summaries(&self) -> Vec<Summary<F::Key>> {
        todo!()
    }
}

impl<F: Fetch> Clone for Cache<F> {
    fn clone(&self) -> Self {
        todo!()
    }
}

impl<F: Fetch> Scheduler<F> {
    /// Runs until dropped; every cache handle must be dropped for it to return.
    pub async fn run(self) {
        todo!()
    }
}

/// The longest that one fetch may take.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
