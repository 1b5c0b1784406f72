//! Holds the node to a spec: repairs what others remove, as it happens.

use std::convert::Infallible;

use tokio::time::Instant;

use crate::error::Error;
use crate::netlink::{self, Changes};
use crate::pace::Pace;
use crate::plan::Dummies;
use crate::settle;
use crate::spec::{Link, LoReason, Outcome, Spec};

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
