//! Whether each node has its agent, and nothing keeps pods off it.

use serde_json::Value;

use super::api::{Answer, Api, Lack, items, text};
use super::finding::{Check, Finding};

/// What selects the agents' pods in their namespace.
const AGENTS: &str = "app.kubernetes.io/name=credlet";

/// A node, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    /// `KEY=VALUE:EFFECT`.
    pub(super) taints: Vec<String>,
    pub(super) agent: Agent,
}

/// How a node's agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Agent {
    Ready,
    /// There, and this is its phase or why it waits.
    Waiting(String),
    Missing,
}

pub(super) async fn observe(api: &Api, namespace: &str) -> Answer<Vec<Node>> {
    let nodes = api.list("/api/v1/nodes", None, None).await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let pods = api.list(&path, None, Some(AGENTS)).await?;
    let runs_agents = |node: &&Value| {
        let labels = &node["metadata"]["labels"];
        labels["kubernetes.io/os"] != "windows"
            && labels["eks.amazonaws.com/compute-type"] != "fargate"
    };
    let nodes = nodes.items.iter().filter(runs_agents);
    Ok(nodes.map(|node| of(node, &pods.items)).collect())
}

fn of(node: &Value, pods: &[Value]) -> Node {
    let name = text(node, "/metadata/name");
    let taints = items(node, "/spec/taints").iter().map(|taint| {
        let [key, value, effect] = ["/key", "/value", "/effect"].map(|field| text(taint, field));
        match value {
            "" => format!("{key}:{effect}"),
            value => format!("{key}={value}:{effect}"),
        }
    });
    let own = pods.iter().filter(|pod| is_for(pod, name));
    let mut agent = Agent::Missing;
    for pod in own {
        match waits(pod) {
            None => {
                agent = Agent::Ready;
                break;
            }
            Some(why) => agent = Agent::Waiting(why),
        }
    }
    Node {
        name: name.to_owned(),
        taints: taints.collect(),
        agent,
    }
}

/// Whether it runs there, or waits to: a `DaemonSet`'s pod names its node by its
/// affinity before the scheduler binds it.
fn is_for(pod: &Value, node: &str) -> bool {
    let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let bound = text(pod, "/spec/nodeName");
    let fields = items(pod, terms)
        .iter()
        .flat_map(|term| items(term, "/matchFields"));
    bound == node
        || bound.is_empty()
            && fields
                .flat_map(|field| items(field, "/values"))
                .any(|value| value == node)
}

/// Why a pod is not ready; `None`: it is.
fn waits(pod: &Value) -> Option<String> {
    let condition = |kind: &str| {
        let all = items(pod, "/status/conditions").iter();
        all.clone().find(|it| it["type"] == kind)
    };
    if condition("Ready").is_some_and(|it| it["status"] == "True") {
        return None;
    }
    let container = items(pod, "/status/containerStatuses").iter();
    let reason = container
        .map(|it| text(it, "/state/waiting/reason"))
        .find(|reason| !reason.is_empty());
    let unscheduled = condition("PodScheduled").map(|it| text(it, "/message"));
    let phase = text(pod, "/status/phase");
    let why = reason.or(unscheduled.filter(|it| !it.is_empty()));
    Some(why.unwrap_or(phase).to_owned())
}

pub(super) fn judge(nodes: &Answer<Vec<Node>>, startup_taint: Option<&str>) -> Vec<Finding> {
    let nodes = match nodes {
        Ok(nodes) => nodes,
        Err(lack) => return vec![unseen(lack)],
    };
    let mut all = Vec::new();
    for Node {
        name,
        taints,
        agent,
    } in nodes
    {
        let tainted = if taints.is_empty() {
            String::new()
        } else {
            format!(" (its taints: {})", taints.join(", "))
        };
        match agent {
            Agent::Missing => {
                let says = format!("the node {name} has no agent{tainted}");
                let remedy = "have the DaemonSet's tolerations and node selector fit every Linux node, \
                    and see its events: `kubectl -n credlet describe daemonset credlet`";
                all.push(Finding::failure(Check::Nodes, says, remedy));
            }
            Agent::Waiting(why) => {
                let says = format!("the agent of the node {name} is not ready{tainted}: {why}");
                let remedy = "look at its events and log: `kubectl -n credlet describe pods`, `kubectl \
                    -n credlet logs`; run `credlet doctor` in it";
                all.push(Finding::failure(Check::Nodes, says, remedy));
            }
            Agent::Ready => all.extend(left(name, taints, startup_taint)),
        }
    }
    if all.is_empty() {
        let says = format!("each of {} nodes has an agent that is ready", nodes.len());
        all.push(Finding::ok(Check::Nodes, says));
    }
    all
}

/// The start-up taint that a ready agent has left where it was.
fn left(name: &str, taints: &[String], startup_taint: Option<&str>) -> Option<Finding> {
    let key = startup_taint?;
    let is_it = |taint: &&String| taint.split([':', '=']).next() == Some(key);
    let taint = taints.iter().find(is_it)?;
    let says =
        format!("the node {name} has its start-up taint {taint} still, and its agent is ready");
    let remedy = "give the agent --startup-taint with this key, and the component startup-taint, \
        which lets it patch its node; until then no pod without a toleration starts there";
    Some(Finding::failure(Check::Nodes, says, remedy))
}

fn unseen(lack: &Lack) -> Finding {
    let says = format!("nodes and agents were not looked through: {}", lack.why());
    let remedy = "run this as somebody who may list nodes, and pods in credlet's namespace";
    Finding::skipped(Check::Nodes, says, remedy)
}
