//! What can go wrong, and what to do about it.

use std::io;

use crate::step::Step;

/// Why the node could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket, or it was closed.
    #[error("no netlink connection to the kernel: {0}")]
    Connection(#[source] io::Error),
    /// More links came and went than the kernel had room to tell of.
    #[error("changes of the node's links were missed: start again")]
    Missed,
    /// The kernel did not say how things are.
    #[error("cannot read the node's links and addresses: {0}")]
    Observe(#[source] io::Error),
    /// A link of the wanted name exists and is of another kind.
    #[error("the link {name} exists and is a {kind}, not a dummy: remove or rename it")]
    NameTaken {
        /// The wanted name.
        name: String,
        /// What has it, as `ip -details link` calls it.
        kind: String,
    },
    /// A dummy link was asked for and the kernel has none.
    #[error("this kernel has no dummy links: load the module `dummy`, or use the link kind `lo`")]
    NoDummy,
    /// The process may not change the network.
    #[error("not permitted to {0}: grant CAP_NET_ADMIN, or set up the network beforehand")]
    Privilege(Step),
    /// The kernel refused for another reason.
    #[error("cannot {step}: {source}")]
    Refused {
        /// What was tried.
        step: Step,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What is done is undone at once, so something else is at work.
    #[error("something keeps undoing: {}", list(.0))]
    Contested(Vec<Step>),
}

fn list(steps: &[Step]) -> String {
    let steps: Vec<_> = steps.iter().map(ToString::to_string).collect();
    steps.join(", ")
}
