//! The node's link, addresses and rules, as this agent wants them.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use netsetup::{Captured, Error, Exempt, Others, Outcome, Spec};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::{
    IMDS_IPV4, IMDS_IPV6, ImdsOthers, ImdsPods, LinkKind, NetsetupAction, Network,
};
use crate::identity::paths::Way;
use crate::identity::{Identity, OptIn, Seat};

/// How long a start waits for the paths of pods once it knows the pods: a neighbour
/// takes that long to answer.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

/// Sets the network up. The future keeps it so, counts each repair, and ends
/// only by failing.
pub async fn start(
    network: &Network,
    repairs: Counter,
) -> Result<impl Future<Output = Error> + Send + use<>, Error> {
    let spec = spec(network);
    let outcome = netsetup::ensure(&spec).await?;
    log("the network is set up", &outcome);
    Ok(async move {
        let report = |outcome: &Outcome| {
            if !outcome.steps.is_empty() {
                repairs.inc();
            }
            log("the network has changed", outcome);
        };
        netsetup::keep(&spec, outcome, report).await
    })
}

/// Has those pods reach the node's own instance metadata that this agent's is not
/// for, as far as they are known. Ends only by failing; `None` where there are
/// no such pods.
pub(super) fn exempt(
    network: &Network,
    identity: Identity,
    pods: ImdsPods,
) -> Option<impl Future<Output = Error> + Send + use<>> {
    let spec = spec(network);
    let captured = spec.captured.clone();
    let captured = captured.filter(|captured| captured.others == Others::Pass)?;
    let (wishes, wanted) = watch::channel(None);
    Some(async move {
        tokio::select! {
            error = netsetup::exempt(&spec, &captured, wanted) => error,
            never = follow(identity, pods, wishes) => match never {},
        }
    })
}

/// Says whom to exempt as the pods change, from when they are known on.
async fn follow(
    identity: Identity,
    pods: ImdsPods,
    wishes: watch::Sender<Option<BTreeSet<Exempt>>>,
) -> Infallible {
    let mut changes = identity.changes();
    identity.synced().await;
    // Until then what another agent exempted stays so: its pods would be captured
    // for a moment, and one that runs beside this one would exempt them again.
    let settles = settle(&identity, pods, &mut changes);
    if timeout(SETTLES_WITHIN, settles).await.is_err() {
        tracing::warn!("some pods' paths are not known: their instance metadata is captured");
    }
    loop {
        let exempted = exempted(&identity.seats(), pods);
        wishes.send_if_modified(|wish| {
            let is_new = wish.as_ref() != Some(&exempted);
            *wish = Some(exempted);
            is_new
        });
        if changes.changed().await.is_err() {
            // The watch has gone, and so has the process, all but.
            return std::future::pending().await;
        }
    }
}

/// Until no pod is left that is to be exempted once its path is known.
async fn settle(identity: &Identity, pods: ImdsPods, changes: &mut watch::Receiver<u64>) {
    let is_open = |seat: &Seat| is_other(seat, pods) && seat.way == Way::Unsure;
    while identity.seats().iter().any(is_open) && changes.changed().await.is_ok() {}
}

/// Whoever is not sure to be another is captured.
fn exempted(seats: &[Seat], pods: ImdsPods) -> BTreeSet<Exempt> {
    let exempt = |seat: &Seat| {
        let link = match seat.way {
            Way::Unsure => return None,
            Way::Link(link) => Some(link),
            Way::Hidden => None,
        };
        Some(Exempt {
            address: seat.address,
            link,
        })
    };
    let others = seats.iter().filter(|seat| is_other(seat, pods));
    others.filter_map(exempt).collect()
}

/// Whether this agent's instance metadata is not for the pod.
fn is_other(seat: &Seat, pods: ImdsPods) -> bool {
    match (pods, seat.imds) {
        (ImdsPods::OptedIn, OptIn::Out) => true,
        (ImdsPods::OptedIn, OptIn::In) | (ImdsPods::All, OptIn::In | OptIn::Out) => false,
    }
}

/// Sets the network up or takes it away, and tells what was done.
pub async fn once(network: &Network, action: NetsetupAction) -> Result<String, Error> {
    let spec = spec(network);
    let steps = match action {
        NetsetupAction::Ensure => netsetup::ensure(&spec).await?.steps,
        NetsetupAction::Remove => netsetup::remove(&spec).await?,
    };
    if steps.is_empty() {
        return Ok("nothing to do".to_owned());
    }
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    Ok(steps.join("\n"))
}

/// What the agent makes of the node's network.
pub(crate) fn spec(network: &Network) -> Spec {
    let kind = match network.link_kind {
        LinkKind::Auto => netsetup::LinkKind::Auto,
        LinkKind::Dummy => netsetup::LinkKind::Dummy,
        LinkKind::Lo => netsetup::LinkKind::Lo,
    };
    let captured = network.imds.as_ref().map(|capture| Captured {
        v4: IMDS_IPV4,
        v6: IMDS_IPV6,
        others: match capture.others {
            ImdsOthers::Block => Others::Block,
            ImdsOthers::Real => Others::Pass,
        },
    });
    Spec {
        kind,
        captured,
        ..Spec::new(network.addresses.clone())
    }
}

fn log(what: &str, outcome: &Outcome) {
    let Outcome {
        link,
        addresses,
        ipv6,
        steps,
    } = outcome;
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    tracing::info!(?link, ?addresses, ?ipv6, ?steps, "{what}");
}
