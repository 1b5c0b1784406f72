//! The node's link, addresses, rules and routes, beside what the agent wants of them.

use std::net::IpAddr;

use netsetup::{Error, Inspection, Ipv6State, Step};

use super::finding::{Check, Finding};
use crate::config::Network;

/// What to do where the agent would do it itself.
const MAKE: &str = "the agent makes and repairs it, unless --no-setup-network leaves that to \
    somebody else: look at its log, or run `credlet netsetup` on the node";

pub(super) fn judge(network: &Network, seen: Result<&Inspection, &Error>) -> Vec<Finding> {
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => {
            let remedy = match error {
                Error::NameTaken { .. } => "remove or rename that link, or give --link-kind lo",
                Error::NoDummy => "give --link-kind auto or lo",
                Error::Connection(_)
                | Error::Missed
                | Error::Observe(_)
                | Error::Privilege(_)
                | Error::Refused { .. }
                | Error::Contested(_) => "run this on the node, in its own network namespace",
            };
            return vec![Finding::failure(Check::Link, error.to_string(), remedy)];
        }
    };
    vec![
        link(network, seen),
        ipv6(network, seen),
        rules(network, seen),
    ]
}

/// Whether a step is about rules and routes, and not about link and addresses.
fn is_of_rules(step: &Step) -> bool {
    match step {
        Step::AddRule(_) | Step::RemoveRule(_) | Step::AddRoute(_) | Step::RemoveRoute(_) => true,
        Step::CreateDummy
        | Step::SetUp(_)
        | Step::AddAddress(..)
        | Step::RemoveAddress(..)
        | Step::DeleteDummy => false,
    }
}

fn list(steps: &[&Step]) -> String {
    let steps = steps.iter().map(ToString::to_string);
    steps.collect::<Vec<_>>().join(", ")
}

fn link(network: &Network, seen: &Inspection) -> Finding {
    let missing: Vec<&Step> = seen.missing.iter().filter(|it| !is_of_rules(it)).collect();
    let is_missing = |address: &IpAddr| {
        let can_be = address.is_ipv4() || seen.ipv6 == Ipv6State::Available;
        let needs_link = !address.is_loopback();
        can_be && needs_link && seen.held.iter().all(|(held, _)| held != address)
    };
    let lost: Vec<String> = network
        .addresses
        .iter()
        .filter(|it| is_missing(it))
        .map(ToString::to_string)
        .collect();
    if !lost.is_empty() {
        let says = format!(
            "pods ask at {}, which this node does not have",
            lost.join(" and ")
        );
        return Finding::failure(Check::Link, says, MAKE);
    }
    if !missing.is_empty() {
        let says = format!("the node's link is not as it should be: {}", list(&missing));
        return Finding::failure(Check::Link, says, MAKE);
    }
    let held = seen.held.iter();
    let held: Vec<String> = held
        .map(|(address, link)| format!("{address} is on {link}"))
        .collect();
    Finding::ok(Check::Link, held.join(", "))
}

fn ipv6(network: &Network, seen: &Inspection) -> Finding {
    if network.addresses.iter().all(IpAddr::is_ipv4) {
        return Finding::ok(Check::Ipv6, "IPv6 is not asked for");
    }
    let (why, how) = match seen.ipv6 {
        Ipv6State::Available => return Finding::ok(Check::Ipv6, "the node's link has IPv6"),
        Ipv6State::DisabledBySysctl => (
            "net.ipv6.conf.*.disable_ipv6 is set for the link",
            "set it to 0 for the link and for `all`",
        ),
        Ipv6State::NoKernelSupport => (
            "the kernel was built or booted without IPv6",
            "boot it with IPv6",
        ),
    };
    let says = format!("{why}: pods cannot ask over IPv6");
    let remedy = format!("{how} if pods of this cluster use IPv6; else give --disable-ipv6");
    Finding::warning(Check::Ipv6, says, remedy)
}

fn rules(network: &Network, seen: &Inspection) -> Finding {
    let missing: Vec<&Step> = seen.missing.iter().filter(|it| is_of_rules(it)).collect();
    match (&network.imds, missing.is_empty()) {
        (Some(_), false) => {
            let says = format!(
                "pods' instance metadata is not captured as --imds node wants it; missing: {}",
                list(&missing)
            );
            Finding::failure(Check::Rules, says, MAKE)
        }
        (None, false) => {
            let says = format!(
                "rules and routes of an earlier run with --imds node are left: {}",
                list(&missing)
            );
            let remedy = "run `credlet netsetup --remove` and then `credlet netsetup`, or start \
                the agent without --no-setup-network";
            Finding::warning(Check::Rules, says, remedy)
        }
        (_, true) if !seen.strangers.is_empty() => {
            let rules = seen.strangers.iter().map(ToString::to_string);
            let says = format!(
                "rules that are not credlet's have its preferences or are before them: {}",
                rules.collect::<Vec<_>>().join(", ")
            );
            let remedy = "give them preferences above 8, unless their owner means them to hold \
                for what pods ask of credlet, too";
            Finding::warning(Check::Rules, says, remedy)
        }
        (Some(_), true) => Finding::ok(
            Check::Rules,
            "what pods ask of instance metadata comes to the agent",
        ),
        (None, true) => Finding::ok(Check::Rules, "no rule is needed, and none is in the way"),
    }
}
