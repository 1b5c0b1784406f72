//! Which rules and routes have pods reach this node at others' addresses.
//!
//! The kernel looks into the table `local` first, where these addresses are not:
//! the node's own processes are to reach those whose addresses they are. Then
//! come, for each family and its address A:
//!
//! ```text
//! 3: not to A goto 8              so that all other traffic meets one rule and no more
//! 4: to A iif lo goto 8           what the node itself sends
//! 5: from POD to A iif LINK goto 8    one for each exempted address
//! 6: to A lookup 2703             where A is local
//! 7: to A unreachable             if that table was emptied
//! 8: nop                          what is let go meets the other rules as ever
//! ```
//!
//! They are before any that a CNI has: those of the VPC CNI begin at 10 (pods
//! with security groups), of Cilium at 9, but for one at 1 that is for its
//! tunnel's own packets. Behind them, the CNI's would send a pod's packet to A
//! out of the pod's interface. All go on to one that does nothing, and not to
//! the table `main`, so that the CNI's rules hold for what is let go.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Admin, Observed, Origin};
use crate::rule::{Action, Family, Rule, To};
use crate::spec::{Captured, Exempt, Ipv6State, Others};
use crate::step::{Place, Step};

#[cfg(test)]
mod tests;

const ELSEWHERE: u32 = 3;
const NODE: u32 = 4;
const EXEMPT: u32 = 5;
const CAPTURE: u32 = 6;
const DENY: u32 = 7;
pub(crate) const END: u32 = 8;

/// Has nothing but the captured addresses. The number is that of credlet's probes.
pub(crate) const TABLE: u32 = 2703;

/// A route to an address of this node's, in [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) address: IpAddr,
    pub(crate) origin: Origin,
}

/// Whether a rule there can concern what is captured.
pub(crate) fn is_near(preference: u32) -> bool {
    (ELSEWHERE..=END).contains(&preference)
}

/// What makes the rules and routes those wanted. What lets go is there before
/// what captures, and goes after it: the node's own never reach the wrong one.
pub(crate) fn steps(captured: Option<&Captured>, observed: &Observed) -> Vec<Step> {
    let mut wanted = Vec::new();
    let mut steps = Vec::new();
    if let Some(captured) = captured {
        if observed.lo.admin == Admin::Down {
            steps.push(Step::SetUp(Place::Lo));
        }
        for family in families(observed) {
            let address = captured.of(family);
            wanted.extend(rules(address));
            let has_route = observed.routes.iter().any(|at| at.address == address);
            if !has_route && can_be_local(family, observed) {
                steps.push(Step::AddRoute(address));
            }
        }
    }
    let missing = wanted.iter().filter(|rule| !observed.has_rule(rule));
    steps.extend(missing.cloned().map(Step::AddRule));

    let lets_others_go = captured.is_some_and(|captured| captured.others == Others::Pass);
    let is_kept =
        |rule: &Rule| wanted.contains(rule) || (lets_others_go && rule.preference == EXEMPT);
    steps.extend(removal(observed, is_kept));
    let stale = observed.routes.iter().filter(|route| {
        let is_wanted =
            captured.is_some_and(|it| it.of(Family::of(route.address)) == route.address);
        route.origin == Origin::Ours && !is_wanted
    });
    steps.extend(stale.map(|route| Step::RemoveRoute(route.address)));
    steps
}

/// What makes the exempted addresses those wanted, once what captures is there.
pub(crate) fn exemptions(
    captured: &Captured,
    wanted: &BTreeSet<Exempt>,
    observed: &Observed,
) -> Vec<Step> {
    let rule = |exempt: &Exempt| {
        let link = match exempt.link {
            // A link that has gone since.
            Some(index) => Some(observed.names.get(&index)?.clone()),
            None => None,
        };
        let to = captured.of(Family::of(exempt.address));
        let goto = goto(EXEMPT, To::Only(to), link);
        Some(Rule {
            from: Some(exempt.address),
            ..goto
        })
    };
    let wanted: BTreeSet<Rule> = wanted.iter().filter_map(rule).collect();
    let is_kept = |rule: &Rule| rule.preference != EXEMPT || wanted.contains(rule);
    let missing = wanted.iter().filter(|rule| !observed.has_rule(rule));
    let added = missing.cloned().map(Step::AddRule);
    removal(observed, is_kept).chain(added).collect()
}

/// What of ours is not kept, that which captures first.
fn removal(observed: &Observed, is_kept: impl Fn(&Rule) -> bool) -> impl Iterator<Item = Step> {
    let stale = |(rule, origin): &&(Rule, Origin)| *origin == Origin::Ours && !is_kept(rule);
    let mut stale: Vec<_> = observed.rules.iter().filter(stale).collect();
    stale.sort_by_key(|(rule, _)| match rule.action {
        Action::Lookup(_) | Action::Unreachable => 0,
        Action::Goto(_) => 1,
        Action::Nop => 2,
    });
    let steps: Vec<_> = stale
        .into_iter()
        .map(|(rule, _)| Step::RemoveRule(rule.clone()))
        .collect();
    steps.into_iter()
}

/// Those that hold whoever is exempted, in the order in which they are to be made.
fn rules(address: IpAddr) -> [Rule; 5] {
    let for_it = |preference, action| Rule {
        action,
        ..goto(preference, To::Only(address), None)
    };
    let end = Rule {
        to: To::All,
        ..for_it(END, Action::Nop)
    };
    [
        end,
        goto(ELSEWHERE, To::AllBut(address), None),
        goto(NODE, To::Only(address), Some("lo".to_owned())),
        for_it(DENY, Action::Unreachable),
        for_it(CAPTURE, Action::Lookup(TABLE)),
    ]
}

/// A rule that lets go.
fn goto(preference: u32, to: To, link: Option<String>) -> Rule {
    let family = match to {
        To::Only(address) | To::AllBut(address) => Family::of(address),
        To::All => Family::V4,
    };
    Rule {
        family,
        preference,
        from: None,
        to,
        link,
        action: Action::Goto(END),
    }
}

/// Those that the kernel has. Where IPv6 is only disabled on `lo`, pods may have
/// it, and are to reach nobody.
fn families(observed: &Observed) -> impl Iterator<Item = Family> {
    let has_ipv6 = observed.lo.ipv6 != Ipv6State::NoKernelSupport;
    Family::ALL
        .into_iter()
        .filter(move |family| *family == Family::V4 || has_ipv6)
}

/// Whether `lo` takes a route of the family.
fn can_be_local(family: Family, observed: &Observed) -> bool {
    match family {
        Family::V4 => true,
        Family::V6 => observed.lo.ipv6 == Ipv6State::Available,
    }
}

impl Observed {
    fn has_rule(&self, wanted: &Rule) -> bool {
        self.rules.iter().any(|(rule, _)| rule == wanted)
    }
}
