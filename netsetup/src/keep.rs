//! Holds the node to a spec: repairs what others remove, as it happens.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::netlink::{self, Changes};
use crate::plan::Dummies;
use crate::settle;
use crate::spec::{Link, LoReason, Outcome, Spec};

/// The interval between repairs that do not last: it doubles from `FIRST` to `LONGEST`.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// A repair has lasted when the next is needed this much later, at the earliest.
const LASTED: Duration = Duration::from_secs(10);

/// Holds the node to the spec, from the outcome of [`ensure`](crate::ensure)
/// on: waits for the kernel's notifications and repairs what is missing at
/// once. Each repair is reported, and each change of the link or of IPv6.
/// Repairs that do not last are made at growing intervals, up to 30 s.
///
/// Ends only by failing.
pub async fn keep(spec: &Spec, ensured: Outcome, report: impl FnMut(&Outcome)) -> Error {
    // Listens before it looks, so that no change falls between the two.
    let (notifications, changes) = match netlink::subscribe() {
        Ok(subscription) => subscription,
        Err(error) => return error,
    };
    tokio::select! {
        error = repair(spec, ensured, changes, report) => error,
        () = notifications => netlink::closed(),
    }
}

async fn repair(
    spec: &Spec,
    mut last: Outcome,
    mut changes: Changes,
    mut report: impl FnMut(&Outcome),
) -> Error {
    let mut pace = Pace::default();
    let endless = netlink::connected(async |handle| -> Result<Infallible, Error> {
        loop {
            match settle(handle, spec, dummies(&last)).await {
                Ok((outcome, observed)) => {
                    if !outcome.steps.is_empty() {
                        pace.note_repair(Instant::now());
                    }
                    if !outcome.steps.is_empty() || !outcome.is_like(&last) {
                        report(&outcome);
                    }
                    last = outcome;
                    changes.next(spec, &observed).await?;
                }
                Err(Error::Contested(_)) => pace.note_repair(Instant::now()),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pace.pause(Instant::now())).await;
        }
    });
    match endless.await {
        Err(error) => error,
    }
}

/// The kernel does not learn of dummy links between two observations.
fn dummies(last: &Outcome) -> Dummies {
    match last.link {
        Link::Lo(LoReason::NoDummy) => Dummies::Unsupported,
        Link::Dummy | Link::Lo(LoReason::Asked | LoReason::FoundThere) => Dummies::Untried,
    }
}

/// How long to let others have their way.
#[derive(Default)]
struct Pace {
    repaired: Option<Instant>,
    /// Zero until a repair has not lasted.
    interval: Duration,
}

impl Pace {
    fn note_repair(&mut self, now: Instant) {
        let lasted = self
            .repaired
            .is_none_or(|before| now - before >= LASTED.max(2 * self.interval));
        self.interval = if lasted {
            Duration::ZERO
        } else {
            (2 * self.interval).clamp(FIRST, LONGEST)
        };
        self.repaired = Some(now);
    }

    /// What is left of the interval that the next repair has to wait.
    fn pause(&self, now: Instant) -> Duration {
        self.repaired.map_or(Duration::ZERO, |before| {
            (before + self.interval).saturating_duration_since(now)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_that_does_not_last_waits_longer_each_time_and_one_that_lasted_not_at_all() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pace.note_repair(now);
            pauses.push(pace.pause(now));
            now += pace.pause(now);
        }
        assert_eq!(pauses[..4], [0, 100, 200, 400].map(Duration::from_millis));
        assert_eq!(pauses[11], LONGEST);
        pace.note_repair(now + 3 * LONGEST);
        assert_eq!(pace.pause(now + 3 * LONGEST), Duration::ZERO);
    }
}
