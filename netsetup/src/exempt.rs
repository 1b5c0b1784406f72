//! Holds the exemptions from what is captured to those wanted.

use std::collections::BTreeSet;
use std::convert::Infallible;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::Error;
use crate::netlink::{self, Changes, Handle};
use crate::pace::Pace;
use crate::plan::{Dummies, capture};
use crate::spec::{Captured, Exempt, Spec};
use crate::{Tried, try_step};

/// Whose packets are not to be captured; `None` while nobody knows.
type Wanted = watch::Receiver<Option<BTreeSet<Exempt>>>;

/// Lets the packets go that come from the addresses wanted, and no others, from
/// an [`ensure`](crate::ensure) with [`Others::Pass`](crate::Others::Pass) on:
/// each change of what is wanted, and of the rules, is acted on at once. While
/// nothing is known (`None`), what an earlier run exempted stays so.
///
/// An address whose link has gone is exempted no more. Ends only by failing; the
/// exemptions stay.
pub async fn exempt(
    spec: &Spec,
    captured: &Captured,
    mut wanted: watch::Receiver<Option<BTreeSet<Exempt>>>,
) -> Error {
    let (notifications, mut changes) = match netlink::subscribe() {
        Ok(subscription) => subscription,
        Err(error) => return error,
    };
    let endless = netlink::connected(async |handle| {
        hold(handle, spec, captured, &mut wanted, &mut changes).await
    });
    tokio::select! {
        ended = endless => match ended { Err(error) => error },
        () = notifications => netlink::closed(),
    }
}

/// What there is to act on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Something else is wanted.
    Wish,
    /// Something changed on the node.
    Node,
}

async fn hold(
    handle: &Handle,
    spec: &Spec,
    captured: &Captured,
    wanted: &mut Wanted,
    changes: &mut Changes,
) -> Result<Infallible, Error> {
    let mut pace = Pace::default();
    let mut cause = Cause::Wish;
    loop {
        let known = wanted.borrow_and_update().clone();
        let observed = netlink::observe(handle, spec, Dummies::Untried).await?;
        let steps = known.map(|known| capture::exemptions(captured, &known, &observed));
        let steps = steps.unwrap_or_default();
        if cause == Cause::Node && !steps.is_empty() {
            pace.note_repair(Instant::now());
        }
        for step in &steps {
            match try_step(handle, spec, &observed, step).await? {
                Tried::Done | Tried::Overtaken | Tried::NoDummies => {}
            }
        }
        let disturbed = async {
            changes.next_of_rules(&observed).await?;
            tokio::time::sleep(pace.pause(Instant::now())).await;
            Ok(Cause::Node)
        };
        cause = tokio::select! {
            () = wished(wanted) => Cause::Wish,
            cause = disturbed => cause?,
        };
    }
}

/// Until something else is wanted. Who has gone wants nothing else.
async fn wished(wanted: &mut Wanted) {
    if wanted.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
