//! Leader election: of several candidates the one that holds a Lease does the work.
//!
//! Nobody's wall clock counts. A follower takes a lease that it has seen unchanged
//! for as long as its holder says that it lives; the holder stops by itself
//! before that, counted from before it asked for the last renewal. So there is
//! never more than one leader, unless a clock runs half as fast as another.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::clock::Clock;

pub mod election;
pub mod store;
#[cfg(test)]
mod tests;

use election::{Election, Step};
use store::{Failure, Store};

/// How long a lease is held, and how often asked for.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long a follower waits for a holder that does not renew.
    pub life: Duration,
    /// How long a holder leads after its last renewal; less than `life`.
    pub lead: Duration,
    /// How often a holder renews, and a follower looks.
    pub every: Duration,
    /// How long one answer of the API server's may take.
    pub answer: Duration,
}

/// As the controllers of Kubernetes have it (`LeaderElectionConfiguration`).
impl Default for Terms {
    fn default() -> Self {
        Self {
            life: Duration::from_secs(15),
            lead: Duration::from_secs(10),
            every: Duration::from_secs(2),
            answer: Duration::from_secs(4),
        }
    }
}

/// What a candidate is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// It has not been able to look yet.
    Unknown,
    /// Another leads, or nobody.
    Follows,
    /// It leads until then, if not longer.
    Leads(Instant),
}

/// Whether this process leads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lead(watch::Receiver<Place>);

impl Lead {
    /// Whether it does, at this moment.
    pub fn leads(&self) -> bool {
        match *self.0.borrow() {
            Place::Unknown | Place::Follows => false,
            Place::Leads(until) => Instant::now() < until,
        }
    }

    /// Whether it knows who does: the API server has answered once.
    pub fn has_looked(&self) -> bool {
        match *self.0.borrow() {
            Place::Unknown => false,
            Place::Follows | Place::Leads(_) => true,
        }
    }

    /// Resolves when it leads.
    pub async fn won(&mut self) {
        while !self.leads() {
            if self.0.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Resolves when it does not lead, or no longer.
    pub async fn lost(&mut self) {
        loop {
            let until = match *self.0.borrow_and_update() {
                Place::Leads(until) if Instant::now() < until => until,
                Place::Leads(_) | Place::Unknown | Place::Follows => return,
            };
            tokio::select! {
                () = sleep_until(until) => {}
                changed = self.0.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }

    /// Works while it leads: the work is dropped the moment that it does not.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.lost() => None,
            done = work => Some(done),
        }
    }
}

/// Stands for one lease.
pub struct Candidate<S> {
    store: S,
    election: Election,
    terms: Terms,
    clock: Clock,
    place: watch::Sender<Place>,
    /// Whose lease it was last, and whether that could be seen.
    told: Told,
}

/// What the log says already.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Leads,
    Follows(Arc<str>),
    Fails,
}

impl<S: Store> Candidate<S> {
    /// A candidate by the name `me`, which no other may ever have had.
    pub fn new(store: S, me: &str, terms: Terms, clock: Clock) -> (Self, Lead) {
        let (place, seen) = watch::channel(Place::Unknown);
        let candidate = Self {
            store,
            election: Election::new(me, terms),
            terms,
            clock,
            place,
            told: Told::Nothing,
        };
        (candidate, Lead(seen))
    }

    /// Stands until `stop`, and then lets go of the lease, so that another need
    /// not wait for its end.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        loop {
            // Not in step with other candidates.
            let pause = self.terms.every.mul_f64(0.9 + 0.2 * fastrand::f64());
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = async { self.stand().await; sleep(pause).await; } => {}
            }
        }
        self.place.send_replace(Place::Follows);
        if let Err(why) = self.release().await {
            warn!(%why, "the lease could not be let go of: it ends by itself");
        }
    }

    /// One look, and what follows from it.
    async fn stand(&mut self) {
        let (told, outcome) = match self.try_once().await {
            Ok(told) => (told, Ok(())),
            Err(why) => (Told::Fails, Err(why)),
        };
        let place = match self.election.leads_until(Instant::now()) {
            Some(until) => Place::Leads(until),
            None if told == Told::Fails && !self.has_looked() => Place::Unknown,
            None => Place::Follows,
        };
        let leads = matches!(place, Place::Leads(_));
        self.place.send_replace(place);
        if told == self.told {
            return;
        }
        match (&told, outcome) {
            (Told::Leads, _) => info!("this process leads"),
            (Told::Follows(holder), _) => info!(%holder, "another leads"),
            (Told::Fails, Err(why)) => warn!(%why, leads, "the lease could not be asked for"),
            (Told::Nothing | Told::Fails, _) => {}
        }
        self.told = told;
    }

    fn has_looked(&self) -> bool {
        *self.place.borrow() != Place::Unknown
    }

    async fn try_once(&mut self) -> Result<Told, Failure> {
        let found = self.in_time(self.store.read()).await?;
        let now = self.micros();
        let asked = Instant::now();
        let wanted = match self.election.look(found, asked, &now) {
            Step::Wait(holder) => return Ok(Told::Follows(holder)),
            Step::Write(wanted) => wanted,
        };
        let written = self.in_time(self.store.write(&wanted)).await;
        match written {
            Ok(()) => {
                self.election.won(asked);
                Ok(Told::Leads)
            }
            // Who was faster is seen by the next look.
            Err(Failure::Conflict) => Ok(self.told.clone()),
            Err(failure) => Err(failure),
        }
    }

    async fn release(&mut self) -> Result<(), Failure> {
        let found = self.in_time(self.store.read()).await?;
        let Some(released) = self.election.released(found, &self.micros()) else {
            return Ok(());
        };
        match self.in_time(self.store.write(&released)).await {
            Err(Failure::Conflict) => Ok(()),
            other => other,
        }
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let limit = self.terms.answer;
        let late = |_| Failure::Other(format!("no answer for {limit:?}"));
        timeout(limit, answer).await.map_err(late)?
    }

    /// For people, as Kubernetes writes a `MicroTime`.
    fn micros(&self) -> String {
        let now = Timestamp::try_from(self.clock.now()).unwrap_or(Timestamp::MAX);
        now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
    }
}
