//! Whom a request is of, by all that is known: no I/O, no waiting.
//!
//! An address names the pod that owns it if the connection came by that pod's
//! path. A token names the pod that it is bound to, and must not disagree with
//! the address; where it is not sure whose the address is, the token settles it.
//! On the node's own addresses only a token names anybody.

use std::net::IpAddr;
use std::time::Duration;

use super::paths::{Port, Proof, Shown};
use super::pods::{Caller, Flaw, Network, Owner, Pod, PodIndex, Resident};
use super::tokens::Claims;
use super::{Error, Known, Origin};
use crate::config::IdentityMode;

#[cfg(test)]
mod tests;

/// What a caller must show.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) node: String,
    pub(super) mode: IdentityMode,
    pub(super) max_pod_staleness: Duration,
}

/// What follows from what is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is this pod.
    Is(Caller),
    /// It is nobody, and nothing that may become known soon can change that.
    Refuse(Error),
    /// It depends on what the kernel shows for this connection.
    Look,
    /// It may be known soon; this is the answer if it is not.
    Wait(Error),
    /// The owner of the address may have another path now: the API server is to say.
    Confirm,
}

/// Whose the peer's address is, as far as this connection shows.
enum Spot<'a> {
    Nobody,
    Node,
    Pod(&'a Caller, Proof),
    Several,
    Unusable(Flaw),
}

pub(super) fn judge(
    known: &Known,
    origin: &Origin,
    claims: Option<&Claims>,
    rules: &Rules,
) -> Verdict {
    let Some(pods) = &known.pods else {
        return Verdict::Wait(Error::NotSynced);
    };
    let spot = spot(known, pods, origin);
    match (claims, rules.mode) {
        (Some(claims), _) => by_token(known, pods, origin, &spot, claims, rules),
        (None, IdentityMode::Token | IdentityMode::Both) => Verdict::Refuse(Error::NoToken),
        (None, IdentityMode::Address) => by_address(known, origin, &spot, rules),
    }
}

fn spot<'a>(known: &Known, pods: &'a PodIndex, origin: &Origin) -> Spot<'a> {
    if origin.peer() == origin.local() {
        return Spot::Node;
    }
    match pods.owner(origin.peer()) {
        Owner::Nobody => Spot::Nobody,
        Owner::Node => Spot::Node,
        Owner::Pod(_, caller) => Spot::Pod(caller, known.paths.proof(origin, caller.pod())),
        Owner::Several => Spot::Several,
        Owner::Unusable(flaw) => Spot::Unusable(flaw),
    }
}

fn by_address(known: &Known, origin: &Origin, spot: &Spot<'_>, rules: &Rules) -> Verdict {
    let peer = origin.peer();
    match spot {
        Spot::Nobody => Verdict::Wait(Error::Unknown(peer)),
        Spot::Node => Verdict::Refuse(Error::Node(peer)),
        // One of them may have gone, and the watch be about to say so.
        Spot::Several => Verdict::Wait(Error::Ambiguous(peer)),
        Spot::Unusable(flaw) => Verdict::Refuse(Error::Unusable(peer, flaw.to_string())),
        Spot::Pod(caller, Proof::Path) => Verdict::Is((*caller).clone()),
        Spot::Pod(caller, Proof::Address) => match known.age() {
            Some(age) if age > rules.max_pod_staleness => Verdict::Wait(Error::Outdated(age)),
            Some(_) | None => Verdict::Is((*caller).clone()),
        },
        Spot::Pod(_, Proof::Look) => Verdict::Look,
        Spot::Pod(_, Proof::None) => Verdict::Confirm,
    }
}

fn by_token(
    known: &Known,
    pods: &PodIndex,
    origin: &Origin,
    spot: &Spot<'_>,
    claims: &Claims,
    rules: &Rules,
) -> Verdict {
    let of_here = |node: &String| *node == rules.node;
    if !claims.node.as_ref().is_none_or(of_here) {
        return Verdict::Refuse(Error::Elsewhere(origin.peer()));
    }
    let (pod, caller) = match pods.resident(&claims.pod) {
        Resident::Live(pod, caller) => (pod, caller),
        Resident::Gone => return Verdict::Refuse(Error::GonePod(claims.pod.clone())),
        Resident::Unknown => return Verdict::Wait(Error::UnknownPod(claims.pod.clone())),
    };
    if *caller.account() != claims.account || caller.name() != claims.pod_name {
        return Verdict::Refuse(Error::Elsewhere(origin.peer()));
    }
    match pod.network() {
        Network::Node => on_the_node(origin, spot, caller, rules),
        Network::Pod | Network::Unclear => {
            at_its_address(known, origin, spot, (pod, caller), rules)
        }
    }
}

/// A token of a pod on the host network is good from the node's own addresses.
/// The kernel drops what comes in by any link from such an address, so it was a
/// process of the node that called.
fn on_the_node(origin: &Origin, spot: &Spot<'_>, caller: &Caller, rules: &Rules) -> Verdict {
    let peer = origin.peer();
    match (spot, rules.mode) {
        (Spot::Node, IdentityMode::Address | IdentityMode::Token) => Verdict::Is(caller.clone()),
        (Spot::Node, IdentityMode::Both) => Verdict::Refuse(Error::Node(peer)),
        (Spot::Nobody | Spot::Pod(..) | Spot::Several | Spot::Unusable(_), _) => {
            Verdict::Refuse(Error::Elsewhere(peer))
        }
    }
}

fn at_its_address(
    known: &Known,
    origin: &Origin,
    spot: &Spot<'_>,
    (pod, caller): (&Pod, &Caller),
    rules: &Rules,
) -> Verdict {
    let peer = origin.peer();
    let is_owner = |owner: &Caller| owner.pod() == caller.pod();
    match spot {
        Spot::Several => Verdict::Wait(Error::Ambiguous(peer)),
        Spot::Unusable(flaw) => Verdict::Refuse(Error::Unusable(peer, flaw.to_string())),
        Spot::Pod(owner, Proof::Path | Proof::Address) if is_owner(owner) => {
            Verdict::Is(caller.clone())
        }
        Spot::Node | Spot::Pod(_, Proof::Path) => Verdict::Refuse(Error::Elsewhere(peer)),
        // The watch may not have told yet that the address went to the caller.
        Spot::Pod(_, Proof::Address) => Verdict::Wait(Error::Elsewhere(peer)),
        Spot::Pod(_, Proof::Look) => Verdict::Look,
        Spot::Nobody | Spot::Pod(_, Proof::None) => match rules.mode {
            IdentityMode::Both => match spot {
                Spot::Pod(..) => Verdict::Confirm,
                Spot::Nobody | Spot::Node | Spot::Several | Spot::Unusable(_) => {
                    Verdict::Wait(Error::Unknown(peer))
                }
            },
            IdentityMode::Address | IdentityMode::Token => {
                settle(known, origin, spot, (pod, caller))
            }
        },
    }
}

/// Whether the token is enough, where it is not known who has the address: its
/// pod must have no other one, and nobody else the link.
fn settle(
    known: &Known,
    origin: &Origin,
    spot: &Spot<'_>,
    (pod, caller): (&Pod, &Caller),
) -> Verdict {
    let peer = origin.peer();
    let is_family = |other: &IpAddr| other.is_ipv4() == peer.is_ipv4();
    let is_owner = matches!(spot, Spot::Pod(owner, _) if owner.pod() == caller.pod());
    if !is_owner && pod.addresses().iter().any(is_family) {
        return Verdict::Refuse(Error::Elsewhere(peer));
    }
    let Some(shown) = origin.shown() else {
        return Verdict::Look;
    };
    let link = match shown {
        Shown::Path(path) if Some(path.link) == origin.link() => match path.port {
            Port::Own => Some(path.link),
            Port::Bridged { port, .. } => Some(port),
        },
        Shown::Path(_) | Shown::Hidden | Shown::Unresolved => origin.link(),
    };
    let holder = link.and_then(|link| known.paths.holder(link));
    match holder {
        Some(holder) if holder != caller.pod() => Verdict::Refuse(Error::Elsewhere(peer)),
        Some(_) | None => Verdict::Is(caller.clone()),
    }
}
