//! One entry of a cache: what is known under a key, and what comes next.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::Id;
use tokio::time::Instant;

use super::{Error, Failing, Fetch, Life, Patience, State, Summary};
use crate::clock::{Clock, Moment};

/// What a caller is told.
pub(super) type Answer<F> = Result<Arc<<F as Fetch>::Value>, Error<<F as Fetch>::Error>>;

/// Tells everybody who waits for a fetch. Dropped unused, it tells them that
/// the entry was forgotten.
type End<F> = watch::Sender<Option<Answer<F>>>;

/// How a fetch ended.
pub(super) type Outcome<F> = Result<Kept<<F as Fetch>::Value>, Failed<<F as Fetch>::Error>>;

/// A value, and how it ages.
pub(super) struct Kept<V> {
    pub(super) value: Arc<V>,
    pub(super) life: Life,
    pub(super) fetched_at: SystemTime,
    pub(super) since: Instant,
}

impl<V> Kept<V> {
    /// The moment in its life: by wall time, which goes on while the machine is
    /// suspended, or by the time that has passed, which nobody can set back.
    fn now(&self, now: Moment) -> SystemTime {
        let passed = now.at.saturating_duration_since(self.since);
        now.wall.max(self.fetched_at + passed)
    }
}

/// A failure, and how soon to try again.
pub(super) struct Failed<E> {
    pub(super) error: Error<E>,
    pub(super) patience: Patience,
}

/// What a caller gets who asked for a fetch.
pub(super) enum Demand<F: Fetch> {
    Answered(Answer<F>),
    Awaits(watch::Receiver<Option<Answer<F>>>, Begun),
}

/// When the fetch that a caller waits for began.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// Before the caller asked.
    Before,
    /// Not yet.
    After,
}

/// What is to be done about an entry at rest.
#[derive(Clone, Copy)]
pub(super) enum Due {
    Fetch,
    Forget,
}

pub(super) struct Entry<F: Fetch> {
    kept: Option<Kept<F::Value>>,
    /// The last fetch's failure; none once a fetch was well.
    failure: Option<Failure<F::Error>>,
    work: Work<F>,
    /// What was said of it last, so that only changes are logged.
    reported: State,
}

struct Failure<E> {
    error: Error<E>,
    patience: Patience,
    in_a_row: u32,
    at: SystemTime,
    retry_at: Instant,
}

impl<E: Clone> Failure<E> {
    /// What it is to those who did not wait for the fetch.
    fn told_later(&self, now: Instant) -> Option<Error<E>> {
        let is_told = match self.patience {
            Patience::Soon | Patience::Late => true,
            Patience::AtOnce => false,
            Patience::OnDemand => now < self.retry_at,
        };
        is_told.then(|| self.error.clone())
    }
}

enum Work<F: Fetch> {
    /// The failure or else the value's life says when to fetch next.
    Resting,
    /// Waits for its turn, since then.
    Queued(Instant, End<F>),
    /// The task that fetches.
    Running(Id, End<F>),
}

impl<F: Fetch> Default for Entry<F> {
    fn default() -> Self {
        Self {
            kept: None,
            failure: None,
            work: Work::Resting,
            reported: State::Pending,
        }
    }
}

impl<F: Fetch> Entry<F> {
    /// The value if it may be used at all.
    pub(super) fn usable(&self, now: Moment) -> Option<&Arc<F::Value>> {
        let kept = self.kept.as_ref()?;
        is_before(kept.now(now), kept.life.usable_until).then_some(&kept.value)
    }

    /// What is told without waiting; `None` if a fetch must be awaited.
    pub(super) fn answer(&self, now: Moment) -> Option<Answer<F>> {
        if let Some(kept) = &self.kept {
            let (moment, life) = (kept.now(now), kept.life);
            let is_good = self.failure.is_some() || is_before(moment, life.fresh_until);
            if is_good && is_before(moment, life.usable_until) {
                return Some(Ok(kept.value.clone()));
            }
        }
        match (&self.work, &self.failure) {
            (Work::Resting, Some(failure)) => failure.told_later(now.at).map(Err),
            (Work::Resting, None) | (Work::Queued(..) | Work::Running(..), _) => None,
        }
    }

    /// What is told to a caller who can wait no longer.
    pub(super) fn last_resort(&self, now: Moment) -> Answer<F> {
        match (self.usable(now), &self.failure) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(failure)) => Err(failure.told_later(now.at).unwrap_or(Error::Deadline)),
            (None, None) => Err(Error::Deadline),
        }
    }

    /// Whether a fetch comes or goes on without anybody who asks, or is for those
    /// who ask alone.
    pub(super) fn is_scheduled(&self) -> bool {
        match self.work {
            Work::Resting => self.failure.is_some(),
            Work::Queued(..) | Work::Running(..) => true,
        }
    }

    /// Queues a fetch unless there is an answer or a fetch to wait for.
    pub(super) fn demand(&mut self, now: Moment) -> Demand<F> {
        if let Some(answer) = self.answer(now) {
            return Demand::Answered(answer);
        }
        let begun = match self.work {
            Work::Running(..) => Begun::Before,
            Work::Resting | Work::Queued(..) => Begun::After,
        };
        Demand::Awaits(self.queue().subscribe(), begun)
    }

    /// When something is to be done about it, if nothing is being done. What is
    /// due by wall time is due at `now`, the moment that the caller compares with.
    pub(super) fn due(&self, now: Instant, clock: Clock) -> Option<(Instant, Due)> {
        match self.work {
            Work::Resting => {}
            Work::Queued(..) | Work::Running(..) => return None,
        }
        if let Some(failure) = &self.failure {
            let is_for_callers =
                failure.patience == Patience::OnDemand && self.usable(clock.moment(now)).is_none();
            return (!is_for_callers).then_some((failure.retry_at, Due::Fetch));
        }
        let kept = self.kept.as_ref()?;
        let moment = kept.now(clock.moment(now));
        let at = |wall: SystemTime| now + wall.duration_since(moment).unwrap_or_default();
        match (kept.life.refresh_at, kept.life.usable_until) {
            (Some(refresh), _) => Some((at(refresh), Due::Fetch)),
            (None, Some(end)) => Some((at(end), Due::Forget)),
            (None, None) => None,
        }
    }

    /// Lets it wait for a fetch, if it does not already.
    pub(super) fn queue(&mut self) -> &End<F> {
        if let Work::Resting = self.work {
            self.work = Work::Queued(Instant::now(), End::<F>::new(None));
        }
        match &self.work {
            Work::Queued(_, end) | Work::Running(_, end) => end,
            Work::Resting => unreachable!("it was queued just now"),
        }
    }

    /// Since when it waits for its turn.
    pub(super) fn queued_since(&self) -> Option<Instant> {
        match self.work {
            Work::Queued(since, _) => Some(since),
            Work::Resting | Work::Running(..) => None,
        }
    }

    /// Its turn has come.
    pub(super) fn run(&mut self, task: Id) {
        self.work = match mem::replace(&mut self.work, Work::Resting) {
            Work::Queued(_, end) => Work::Running(task, end),
            Work::Resting | Work::Running(..) => unreachable!("only a queued entry gets its turn"),
        };
    }

    /// Whether that task fetches for this very entry, and not for one of the
    /// same key that was forgotten.
    pub(super) fn is_run_by(&self, task: Id) -> bool {
        match &self.work {
            Work::Running(running, _) => *running == task,
            Work::Resting | Work::Queued(..) => false,
        }
    }

    /// Takes a fetch's outcome and tells it to all who wait. Returns how the
    /// entry stood when this was said last, and how it stands now.
    pub(super) fn settle(&mut self, outcome: Outcome<F>, now: Moment) -> (State, State) {
        let work = mem::replace(&mut self.work, Work::Resting);
        let failed = match outcome {
            Ok(kept) => {
                self.kept = Some(kept);
                self.failure = None;
                None
            }
            Err(Failed { error, patience }) => {
                let in_a_row = self.failure.as_ref().map_or(0, |last| last.in_a_row);
                self.failure = Some(Failure {
                    error: error.clone(),
                    patience,
                    in_a_row: in_a_row.saturating_add(1),
                    at: now.wall,
                    retry_at: Instant::now() + patience.after(in_a_row),
                });
                Some(error)
            }
        };
        let answer = match (self.usable(now), failed) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::Deadline),
        };
        match work {
            Work::Running(_, end) => {
                end.send_replace(Some(answer));
            }
            Work::Resting | Work::Queued(..) => unreachable!("only a running fetch ends"),
        }
        let state = self.state(now);
        (mem::replace(&mut self.reported, state), state)
    }

    pub(super) fn summary(
        &self,
        key: &F::Key,
        now: Moment,
        clock: Clock,
    ) -> Summary<F::Key, F::Value> {
        let kept = self.kept.as_ref();
        let failing = |failure: &Failure<F::Error>| Failing {
            why: failure.error.to_string(),
            at: failure.at,
            in_a_row: failure.in_a_row,
            patience: failure.patience,
        };
        let next_at = self.due(now.at, clock).and_then(|(at, due)| match due {
            Due::Fetch => Some(now.wall_at(at)),
            Due::Forget => None,
        });
        Summary {
            key: key.clone(),
            state: self.state(now),
            value: kept.map(|kept| Arc::clone(&kept.value)),
            usable_until: kept.and_then(|kept| kept.life.usable_until),
            fetched_at: kept.map(|kept| kept.fetched_at),
            next_at,
            failure: self.failure.as_ref().map(failing),
        }
    }

    fn state(&self, now: Moment) -> State {
        match (self.usable(now), &self.failure) {
            (Some(_), None) => State::Fresh,
            (Some(_), Some(_)) => State::Stale,
            (None, Some(_)) => State::Failed,
            (None, None) => State::Pending,
        }
    }
}

fn is_before(now: SystemTime, end: Option<SystemTime>) -> bool {
    end.is_none_or(|end| now < end)
}

impl Patience {
    /// How long to wait after a failure that followed that many in a row.
    fn after(self, earlier: u32) -> Duration {
        let (first, longest) = match self {
            Self::Soon | Self::AtOnce => (Duration::from_millis(500), Duration::from_secs(30)),
            Self::OnDemand => (Duration::from_secs(10), Duration::from_secs(10)),
            Self::Late => (Duration::from_secs(10), Duration::from_mins(1)),
        };
        let doubled = first.saturating_mul(2_u32.saturating_pow(earlier));
        doubled.min(longest).mul_f64(1.0 - fastrand::f64() / 4.0)
    }
}
