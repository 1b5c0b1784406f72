//! Other programs that give pods credentials, or catch what they ask.

use serde_json::Value;

use super::api::{Lack, items, text};
use super::finding::{Check, Finding};
use super::procfs::Process;
use crate::config::Network;

/// Programs that are known to be in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Other {
    /// The EKS Pod Identity Agent.
    EksAgent,
    Kiam,
    Kube2iam,
}

impl Other {
    const ALL: [Self; 3] = [Self::EksAgent, Self::Kiam, Self::Kube2iam];

    /// What its image and its process are called.
    fn program(self) -> &'static str {
        match self {
            Self::EksAgent => "eks-pod-identity-agent",
            Self::Kiam => "kiam",
            Self::Kube2iam => "kube2iam",
        }
    }
}

/// One of them, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) other: Other,
    pub(super) place: String,
}

/// By the last part of an image's name, without its tag.
pub(super) fn of_daemon_sets(sets: &[Value]) -> Vec<Found> {
    let mut all = Vec::new();
    for set in sets {
        let images = items(set, "/spec/template/spec/containers").iter();
        let programs: Vec<&str> = images.map(|it| program(text(it, "/image"))).collect();
        for other in Other::ALL {
            if programs.contains(&other.program()) {
                let (namespace, name) = (
                    text(set, "/metadata/namespace"),
                    text(set, "/metadata/name"),
                );
                let place = format!("the DaemonSet {namespace}/{name}");
                all.push(Found { other, place });
            }
        }
    }
    all
}

fn program(image: &str) -> &str {
    let bare = image.split('@').next().unwrap_or(image);
    let last = bare.rsplit('/').next().unwrap_or(bare);
    last.split(':').next().unwrap_or(last)
}

/// By the name of the file that a process of the node's network runs.
pub(super) fn of_processes(processes: &[Process]) -> Vec<Found> {
    let mut all = Vec::new();
    for process in processes.iter().filter(|process| process.is_here) {
        let file = process.command.split(' ').next().unwrap_or_default();
        let file = file.rsplit('/').next().unwrap_or_default();
        let is_it = |other: &Other| file == other.program();
        all.extend(Other::ALL.into_iter().filter(is_it).map(|other| Found {
            other,
            place: format!("process {} of this node", process.pid),
        }));
    }
    all
}

/// What was looked through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) on_node: Vec<Found>,
    pub(super) in_cluster: Result<Vec<Found>, Lack>,
}

pub(super) fn judge(network: &Network, seen: &Seen) -> Vec<Finding> {
    let in_cluster = seen.in_cluster.as_ref().map(Vec::as_slice);
    let found = seen.on_node.iter().chain(in_cluster.unwrap_or_default());
    let mut all: Vec<Finding> = found.map(|found| finding(network, found)).collect();
    match &seen.in_cluster {
        Err(lack) => {
            let says = format!(
                "the cluster's DaemonSets were not looked through: {}",
                lack.why()
            );
            let remedy = "run this as somebody who may list DaemonSets in all namespaces";
            all.push(Finding::skipped(Check::OtherAgents, says, remedy));
        }
        Ok(_) if all.is_empty() => all.push(Finding::ok(
            Check::OtherAgents,
            "neither the EKS agent nor kiam nor kube2iam is there",
        )),
        Ok(_) => {}
    }
    all
}

fn finding(network: &Network, found: &Found) -> Finding {
    let Found { other, place } = found;
    match (other, &network.imds) {
        (Other::EksAgent, _) => Finding::failure(
            Check::OtherAgents,
            format!(
                "the EKS Pod Identity Agent is there, {place}: it has the agent's address and port"
            ),
            "remove it: `aws eks delete-addon --addon-name eks-pod-identity-agent --cluster-name \
             CLUSTER`, or keep it off credlet's nodes by a node selector",
        ),
        (Other::Kiam | Other::Kube2iam, Some(_)) => Finding::failure(
            Check::OtherAgents,
            format!(
                "{} is there, {place}: with --imds node both catch what pods ask of instance metadata",
                other.program()
            ),
            "move its pods to credlet and remove it with its iptables rules (a PREROUTING rule of \
             the table nat for 169.254.169.254), or run the agent with --imds off until then",
        ),
        (Other::Kiam | Other::Kube2iam, None) => Finding::warning(
            Check::OtherAgents,
            format!(
                "{} is there, {place}: pods without credlet's environment get its roles",
                other.program()
            ),
            "move its pods to credlet, and then remove it with its iptables rules (a PREROUTING \
             rule of the table nat for 169.254.169.254)",
        ),
    }
}
