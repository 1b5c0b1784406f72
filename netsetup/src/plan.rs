//! From what is and what is wanted to what must be done: pure, so that kernels
//! that are not at hand can be tested as data.
//!
//! An address of the node's own takes no route. It brings one in the table `local`,
//! the kernel restores it when the link comes up again, and a packet for it is
//! delivered from whichever link it arrives by. Pods reach it through their
//! default route. Addresses that are others' take more: see [`capture`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::error::Error;
use crate::rule::Rule;
use crate::spec::{Ipv6State, Link, LinkKind, LoReason, Spec};
use crate::step::{Place, Step};

pub(crate) mod capture;
#[cfg(test)]
mod tests;

use capture::Local;

/// The node's network, as far as it matters for a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) lo: LinkState,
    pub(crate) named: Named,
    pub(crate) dummies: Dummies,
    /// Every address of the node, on whichever link.
    pub(crate) addresses: Vec<Held>,
    /// The rules that may be for captured addresses.
    pub(crate) rules: Vec<(Rule, Origin)>,
    /// What is behind them.
    pub(crate) routes: Vec<Local>,
    /// The links by index.
    pub(crate) names: BTreeMap<u32, String>,
}

/// What has the spec's link name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Nothing,
    Dummy(LinkState),
    Other { kind: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkState {
    pub(crate) index: u32,
    pub(crate) admin: Admin,
    pub(crate) ipv6: Ipv6State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admin {
    Up,
    Down,
}

/// Whether the kernel has dummy links. Only trying to create one tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dummies {
    Untried,
    Unsupported,
}

/// An address and the link that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) link: u32,
    pub(crate) address: IpAddr,
    pub(crate) origin: Origin,
}

/// Who made an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Ours,
    Foreign,
}

/// What is to be done next, and the picture it was drawn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) link: Link,
    pub(crate) ipv6: Ipv6State,
    /// When there are steps, the node must be observed again after them: a new
    /// link starts with settings of its own.
    pub(crate) steps: Vec<Step>,
}

/// What brings the node nearer to the spec; no steps when it is there.
pub(crate) fn plan(spec: &Spec, observed: &Observed) -> Result<Plan, Error> {
    let link = choose(spec, observed)?;
    let (place, state) = match (link, &observed.named) {
        (Link::Lo(_), _) => (Place::Lo, observed.lo),
        (Link::Dummy, Named::Dummy(state)) => (Place::Dummy, *state),
        (Link::Dummy, Named::Nothing | Named::Other { .. }) => {
            return Ok(Plan {
                link,
                ipv6: observed.lo.ipv6,
                steps: vec![Step::CreateDummy],
            });
        }
    };
    let ipv6 = state.ipv6;
    let up = match state.admin {
        Admin::Up => None,
        Admin::Down => Some(Step::SetUp(place)),
    };
    let missing = spec.wanted(ipv6).filter(|&address| !observed.has(address));
    let steps = up
        .into_iter()
        .chain(missing.map(|address| Step::AddAddress(place, address)))
        .chain(capture::steps(spec.captured.as_ref(), observed));
    let mut steps: Vec<_> = steps.collect();
    // Both parts may want `lo` up.
    steps.dedup();
    Ok(Plan { link, ipv6, steps })
}

/// What takes away what an earlier [`plan`] made, on either link and whatever
/// was captured. Addresses on `lo` that others put there stay.
pub(crate) fn plan_removal(spec: &Spec, observed: &Observed) -> Vec<Step> {
    let dummy = match observed.named {
        Named::Dummy(_) => Some(Step::DeleteDummy),
        Named::Nothing | Named::Other { .. } => None,
    };
    let ours = |held: &&Held| {
        held.link == observed.lo.index
            && held.origin == Origin::Ours
            && spec.own_addresses().any(|own| own == held.address)
    };
    let addresses = observed.addresses.iter().filter(ours);
    capture::steps(None, observed)
        .into_iter()
        .chain(addresses.map(|held| Step::RemoveAddress(Place::Lo, held.address)))
        .chain(dummy)
        .collect()
}

fn choose(spec: &Spec, observed: &Observed) -> Result<Link, Error> {
    if spec.kind == LinkKind::Lo {
        return Ok(Link::Lo(LoReason::Asked));
    }
    match &observed.named {
        Named::Dummy(_) => return Ok(Link::Dummy),
        Named::Other { kind } => {
            return Err(Error::NameTaken {
                name: spec.name.clone(),
                kind: kind.clone(),
            });
        }
        Named::Nothing => {}
    }
    let found_on_lo = || {
        spec.own_addresses().any(|own| {
            let on_lo = |held: &Held| held.address == own && held.link == observed.lo.index;
            observed.addresses.iter().any(on_lo)
        })
    };
    match (spec.kind, observed.dummies) {
        (LinkKind::Dummy, Dummies::Unsupported) => Err(Error::NoDummy),
        (LinkKind::Auto, Dummies::Unsupported) => Ok(Link::Lo(LoReason::NoDummy)),
        (LinkKind::Auto, Dummies::Untried) if found_on_lo() => Ok(Link::Lo(LoReason::FoundThere)),
        (LinkKind::Auto | LinkKind::Dummy | LinkKind::Lo, _) => Ok(Link::Dummy),
    }
}

impl Observed {
    /// The wanted addresses that the node has, in the order of the spec.
    pub(crate) fn present(&self, spec: &Spec) -> Vec<IpAddr> {
        let addresses = spec.addresses.iter().copied();
        addresses.filter(|&address| self.has(address)).collect()
    }

    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|held| held.address == address)
    }

    /// The index of a link, if it exists.
    pub(crate) fn index(&self, place: Place) -> Option<u32> {
        match (place, &self.named) {
            (Place::Lo, _) => Some(self.lo.index),
            (Place::Dummy, Named::Dummy(state)) => Some(state.index),
            (Place::Dummy, Named::Nothing | Named::Other { .. }) => None,
        }
    }
}
