//! Whether a node's pods can be listed and watched, as the agent does it.

use super::api::{Api, Lack};
use super::finding::{Check, Finding};

const PATH: &str = "/api/v1/pods";

/// What came of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// So many pods, and a watch that opened and ended when it should.
    Both(usize),
    NoList(Lack),
    NoWatch(Lack),
}

pub(super) async fn observe(api: &Api, node: &str) -> Seen {
    let fields = format!("spec.nodeName={node}");
    let list = match api.list(PATH, Some(&fields), None).await {
        Ok(list) => list,
        Err(lack) => return Seen::NoList(lack),
    };
    match api.watch(PATH, &fields, &list.version).await {
        Ok(()) => Seen::Both(list.items.len()),
        Err(lack) => Seen::NoWatch(lack),
    }
}

pub(super) fn judge(node: &str, seen: &Seen) -> Finding {
    let (word, lack) = match seen {
        Seen::Both(0) => {
            return Finding::warning(
                Check::PodWatch,
                format!("the API server knows no pod on a node {node}"),
                "give the node's name as `kubectl get nodes` has it by --node-name, to the agent, too",
            );
        }
        Seen::Both(count) => {
            let says = format!("the {count} pods of {node} can be listed and watched");
            return Finding::ok(Check::PodWatch, says);
        }
        Seen::NoList(lack) => ("listed", lack),
        Seen::NoWatch(lack) => ("watched", lack),
    };
    let says = format!("the pods of {node} cannot be {word}: {}", lack.why());
    let remedy = match lack {
        Lack::Forbidden(_) | Lack::Unknown(_) => {
            "see what `permissions` says; the agent needs get, list and watch of pods"
        }
        Lack::Silent => {
            "something between here and the API server holds back what it says piece by piece: \
             have a proxy or load balancer not buffer, or go around it"
        }
        Lack::Unasked | Lack::Unreachable(_) | Lack::Absent | Lack::Failing(..) | Lack::Garbled => {
            "see what `api-server` says, and whether something on the way ends long connections"
        }
    };
    Finding::failure(Check::PodWatch, says, remedy)
}
