//! Looks at the node's network and changes nothing.

use std::net::IpAddr;

use crate::error::Error;
use crate::netlink;
use crate::plan::{self, Dummies, Origin};
use crate::rule::Rule;
use crate::spec::{Ipv6State, Spec};
use crate::step::Step;

/// How a node is, beside what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The wanted addresses that the node has, each with the name of its link.
    pub held: Vec<(IpAddr, String)>,
    /// What [`ensure`](crate::ensure) would do to the link, or first, and to rules and
    /// routes; nothing where all is as wanted. An address of IPv6 that cannot be had
    /// is not in it.
    pub missing: Vec<Step>,
    /// Whether IPv6 addresses can be had.
    pub ipv6: Ipv6State,
    /// Rules of others among those that capture, or before them.
    pub strangers: Vec<Rule>,
}

/// Says how the node is. Takes no privilege; fails where [`ensure`](crate::ensure)
/// would fail for a reason that shows without trying.
pub async fn inspect(spec: &Spec) -> Result<Inspection, Error> {
    netlink::connected(async |handle| {
        let observed = netlink::observe(handle, spec, Dummies::Untried).await?;
        let plan = plan::plan(spec, &observed)?;
        // Where the link is missing, it comes first in the plan, and alone.
        let mut missing = plan.steps;
        for step in plan::capture::steps(spec.captured.as_ref(), &observed) {
            if !missing.contains(&step) {
                missing.push(step);
            }
        }
        let is_wanted = |address: &IpAddr| spec.addresses.contains(address);
        let held = observed.addresses.iter();
        let held = held.filter(|held| is_wanted(&held.address)).map(|held| {
            let name = observed.names.get(&held.link).cloned();
            (held.address, name.unwrap_or_default())
        });
        let strangers = observed.rules.iter().filter(|(rule, origin)| {
            *origin == Origin::Foreign && (1..=plan::capture::END).contains(&rule.preference)
        });
        Ok(Inspection {
            held: held.collect(),
            missing,
            ipv6: plan.ipv6,
            strangers: strangers.map(|(rule, _)| rule.clone()).collect(),
        })
    })
    .await
}
