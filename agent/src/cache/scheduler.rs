//! The one task of a cache that fetches, refreshes, retries and forgets.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::entry::{Due, Failed, Kept, Outcome};
use super::{Error, FETCH_TIMEOUT, Fetch, Patience, Shared, State};
use crate::clock::Moment;

/// How many fetches may be young; others wait in the order in which they were
/// asked for. Each of them is some 50 KiB, buffers of its connection included.
const YOUNG_AT_ONCE: usize = 16;

/// How long a fetch is young. One that takes longer holds up nobody, so that a
/// hundred that hang let the next one start within a request's time.
const YOUNG: Duration = Duration::from_millis(100);

/// How often wall time is looked at when nothing else happens: a machine that
/// was suspended, or whose clock was set, is behind by this at most.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// The shortest time between a fetch that was well and its refresh, whatever
/// the value's life says.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// The one task that fetches, refreshes, retries and forgets.
pub struct Scheduler<F: Fetch> {
    shared: Arc<Shared<F>>,
    fetches: JoinSet<Outcome<F>>,
    /// What each fetch is for, and when it began.
    begun: HashMap<Id, (F::Key, Instant)>,
}

impl<F: Fetch> Scheduler<F> {
    pub(super) fn new(shared: Arc<Shared<F>>) -> Self {
        Self {
            shared,
            fetches: JoinSet::new(),
            begun: HashMap::new(),
        }
    }

    /// Runs until it is dropped, which aborts the fetches that are under way.
    pub async fn run(mut self) {
        loop {
            let next = self.sweep();
            tokio::select! {
                () = self.shared.queued.notified() => {}
                () = sleep_until(next) => {}
                Some(end) = self.fetches.join_next_with_id() => self.settle(end),
            }
        }
    }

    /// Does what is due for every entry. Returns when to look again; a look at
    /// all costs less than timers for each: they are as many as a node's pods.
    fn sweep(&mut self) -> Instant {
        let now = Instant::now();
        let mut next = now + LONGEST_SLEEP;
        let mut entries = self.shared.write();
        let before = entries.len();
        entries.retain(|_, entry| match entry.due(now, self.shared.clock) {
            None => true,
            Some((at, _)) if at > now => {
                next = next.min(at);
                true
            }
            Some((_, Due::Fetch)) => {
                entry.queue();
                true
            }
            Some((_, Due::Forget)) => false,
        });
        let forgotten = before - entries.len();

        let mut queue: Vec<_> = entries
            .iter_mut()
            .filter_map(|(key, entry)| Some((entry.queued_since()?, key, entry)))
            .collect();
        queue.sort_by_key(|(since, ..)| *since);
        let grown_up = self.begun.values().map(|(_, begun)| *begun + YOUNG);
        let young: Vec<_> = grown_up.filter(|at| *at > now).collect();
        let free = YOUNG_AT_ONCE.saturating_sub(young.len());
        if queue.len() > free {
            next = young.into_iter().fold(next.min(now + YOUNG), Instant::min);
        }
        for (_, key, entry) in queue.into_iter().take(free) {
            let attempt = attempt(self.shared.clone(), key.clone());
            let task = self.fetches.spawn(attempt).id();
            self.begun.insert(task, (key.clone(), now));
            entry.run(task);
        }
        drop(entries);
        if forgotten > 0 {
            self.shared.changed();
        }
        next
    }

    /// Publishes what a fetch brought, unless its entry is gone.
    fn settle(&mut self, end: Result<(Id, Outcome<F>), JoinError>) {
        let (task, outcome) =
            end.unwrap_or_else(|error| (error.id(), broken("the fetch panicked")));
        let (key, _) = self
            .begun
            .remove(&task)
            .expect("entered when it was spawned");
        let failed = outcome.as_ref().err();
        let failed = failed.map(|failed| (failed.error.clone(), failed.patience));

        let now = self.shared.now();
        let mut entries = self.shared.write();
        let Some(entry) = entries.get_mut(&key).filter(|entry| entry.is_run_by(task)) else {
            return;
        };
        let (before, after) = entry.settle(outcome, now);
        drop(entries);

        if let Some((error, patience)) = failed {
            report_failure(&key, &error, patience, (before, after));
        } else {
            self.shared.changed();
            report_success(&key, before);
        }
    }
}

/// One fetch, and what it means.
async fn attempt<F: Fetch>(shared: Arc<Shared<F>>, key: F::Key) -> Outcome<F> {
    let Ok(fetched) = timeout(FETCH_TIMEOUT, shared.fetch.fetch(key)).await else {
        return broken("the fetch took longer than ten seconds");
    };
    let value = fetched.map_err(|error| Failed {
        patience: shared.fetch.patience(&error),
        error: Error::Fetch(error),
    })?;
    let Moment {
        wall: now,
        at: since,
    } = shared.now();
    let mut life = shared.fetch.life(&value, now);
    if life.usable_until.is_some_and(|end| end <= now) {
        return broken("what was fetched is past its use");
    }
    life.refresh_at = life.refresh_at.map(|at| at.max(now + SHORTEST_LIFE));
    Ok(Kept {
        value: Arc::new(value),
        life,
        fetched_at: now,
        since,
    })
}

fn broken<V, E>(why: &'static str) -> Result<Kept<V>, Failed<E>> {
    Err(Failed {
        error: Error::Broken(why),
        patience: Patience::Soon,
    })
}

fn report_failure<K, E>(
    key: &K,
    error: &Error<E>,
    patience: Patience,
    (before, after): (State, State),
) where
    K: fmt::Display,
    E: fmt::Display,
{
    match (before, after) {
        (State::Pending | State::Fresh, State::Stale) => {
            tracing::warn!(%key, %error, "refresh failed; what is there is served while it lasts");
        }
        // Ahead of the first caller that is how it begins, or stays.
        (State::Pending, State::Failed)
            if patience == Patience::AtOnce || patience == Patience::OnDemand =>
        {
            tracing::debug!(%key, %error, "not fetched yet");
        }
        (State::Pending | State::Fresh, State::Failed) => {
            tracing::warn!(%key, %error, "fetch failed");
        }
        (State::Stale, State::Failed) => {
            tracing::error!(%key, %error, "fetching still fails, and what was there is used up");
        }
        (State::Stale, State::Stale)
        | (State::Failed, State::Stale | State::Failed)
        | (_, State::Pending | State::Fresh) => tracing::debug!(%key, %error, "fetch failed again"),
    }
}

fn report_success<K: fmt::Display>(key: &K, before: State) {
    match before {
        State::Pending | State::Fresh => tracing::debug!(%key, "fetched"),
        State::Stale | State::Failed => tracing::info!(%key, "fetching works again"),
    }
}
