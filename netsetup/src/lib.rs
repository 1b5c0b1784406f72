//! The node's link and addresses: made, repaired and taken away over netlink.
//!
//! [`ensure`] brings the node to a [`Spec`] and says how it got there, [`keep()`]
//! holds it there, [`remove`] takes away what they made, and [`exempt()`] says whom
//! [`Captured`] addresses are not captured for; [`inspect()`] only looks. All act on the network
//! namespace of the calling thread. Several agents may do so at once.
//!
//! Who has an address, the kernel knows first: [`Paths`] says how it reaches an
//! address and what changes, [`ingress()`] by which link a connection came in.

mod error;
mod exempt;
mod hops;
mod ingress;
mod inspect;
mod keep;
mod netlink;
mod pace;
mod paths;
mod plan;
mod rule;
mod spec;
mod step;

use netlink::Handle;
use plan::{Dummies, Observed};

pub use error::Error;
pub use exempt::exempt;
pub use hops::take_with_hops;
pub use ingress::ingress;
pub use inspect::{Inspection, inspect};
pub use keep::keep;
pub use paths::{Backlog, Change, Changes, LinkEvent, Mac, Path, Paths, Port, Shown, StationEvent};
pub use rule::{Family, Rule};
pub use spec::{Captured, Exempt, Ipv6State, Link, LinkKind, LoReason, Others, Outcome, Spec};
pub use step::{Place, Step};

/// How often the node is observed and changed before it is called contested.
/// Three do undisturbed: a try at a dummy link, `lo` instead, and the proof.
const ROUNDS: usize = 6;

/// Brings the node to the spec, which costs nothing when it is there already.
/// An address that the node has on any link counts as there. That IPv6 cannot
/// be had is part of the outcome and no error.
pub async fn ensure(spec: &Spec) -> Result<Outcome, Error> {
    let settled = netlink::connected(async |handle| settle(handle, spec, Dummies::Untried).await);
    settled.await.map(|(outcome, _)| outcome)
}

/// Takes away what [`ensure`] made, whichever link it chose, and returns the
/// steps taken; none when nothing is left. Addresses on `lo` are known as ours
/// by a mark that Linux keeps since 5.18; older kernels keep the addresses.
pub async fn remove(spec: &Spec) -> Result<Vec<Step>, Error> {
    netlink::connected(async |handle| {
        let observed = netlink::observe(handle, spec, Dummies::Untried).await?;
        let mut taken = Vec::new();
        for step in plan::plan_removal(spec, &observed) {
            match try_step(handle, spec, &observed, &step).await? {
                Tried::Done => taken.push(step),
                Tried::Overtaken | Tried::NoDummies => {}
            }
        }
        Ok(taken)
    })
    .await
}

/// Observes and acts until nothing is left to do.
async fn settle(
    handle: &Handle,
    spec: &Spec,
    mut dummies: Dummies,
) -> Result<(Outcome, Observed), Error> {
    let mut taken = Vec::new();
    let mut undone = Vec::new();
    for _ in 0..ROUNDS {
        let observed = netlink::observe(handle, spec, dummies).await?;
        let plan = plan::plan(spec, &observed)?;
        if plan.steps.is_empty() {
            let outcome = Outcome {
                link: plan.link,
                addresses: observed.present(spec),
                ipv6: plan.ipv6,
                steps: taken,
            };
            return Ok((outcome, observed));
        }
        undone.clone_from(&plan.steps);
        for step in plan.steps {
            match try_step(handle, spec, &observed, &step).await? {
                Tried::Done => taken.push(step),
                Tried::Overtaken => {}
                Tried::NoDummies => dummies = Dummies::Unsupported,
            }
        }
    }
    Err(Error::Contested(undone))
}

/// What came of a step that did not fail.
enum Tried {
    Done,
    /// The node changed since it was observed: look again.
    Overtaken,
    NoDummies,
}

async fn try_step(
    handle: &Handle,
    spec: &Spec,
    observed: &Observed,
    step: &Step,
) -> Result<Tried, Error> {
    let Err(source) = netlink::apply(handle, spec, observed, step).await else {
        return Ok(Tried::Done);
    };
    match (source.raw_os_error(), step) {
        (Some(libc::EPERM), _) => Err(Error::Privilege(step.clone())),
        (Some(libc::EOPNOTSUPP), Step::CreateDummy) => Ok(Tried::NoDummies),
        // Another agent was faster, or the link has gone.
        (Some(libc::EEXIST | libc::ENODEV | libc::EADDRNOTAVAIL), _)
        | (Some(libc::ENOENT), Step::RemoveRule(_))
        | (Some(libc::ESRCH), Step::RemoveRoute(_))
        // The link was set down in between, or IPv6 disabled on it.
        | (Some(libc::EACCES | libc::ENETDOWN), Step::AddRoute(_)) => Ok(Tried::Overtaken),
        (Some(libc::EACCES), Step::AddAddress(_, address)) if address.is_ipv6() => {
            Ok(Tried::Overtaken)
        }
        _ => Err(Error::Refused {
            step: step.clone(),
            source,
        }),
    }
}
