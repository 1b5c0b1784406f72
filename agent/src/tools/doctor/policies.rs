//! Network policies that keep pods from the agent's address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use super::api::{Answer, Api, Lack, items, text};
use super::finding::{Check, Finding};
use crate::associations::crd::declaration::Selector;

/// What SDKs take for a container's credentials.
const ENVIRONMENT: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";

const PODS: &str = "/api/v1/pods";
const PLAIN: &str = "/apis/networking.k8s.io/v1/networkpolicies";
const CILIUM: [&str; 2] = [
    "/apis/cilium.io/v2/ciliumnetworkpolicies",
    "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies",
];

/// Pods that are named of each namespace.
const NAMED: usize = 3;

/// What pods ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Door {
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

/// A pod that asks the agent and may not, as the policies read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) namespace: String,
    pub(super) pod: String,
    /// The policies that select it, with their kinds.
    pub(super) by: BTreeSet<String>,
}

/// What was looked through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) cut: Vec<Cut>,
    /// Pods that have the environment and a network of their own.
    pub(super) asking: usize,
    pub(super) policies: usize,
}

pub(super) async fn observe(api: &Api, door: Door) -> Answer<Seen> {
    let plain = api.list(PLAIN, None, None).await?.items;
    let mut cilium = Vec::new();
    for path in CILIUM {
        match api.list(path, None, None).await {
            Ok(list) => cilium.extend(list.items),
            Err(Lack::Absent) => {}
            Err(lack) => return Err(lack),
        }
    }
    let pods = api.list(PODS, None, None).await?.items;
    Ok(look(&pods, &plain, &cilium, door))
}

fn look(pods: &[Value], plain: &[Value], cilium: &[Value], door: Door) -> Seen {
    let asking: Vec<&Value> = pods.iter().filter(|pod| asks(pod)).collect();
    let cut = asking.iter().filter_map(|pod| {
        let by = [cut_by_plain(pod, plain, door), cut_by_cilium(pod, cilium)].concat();
        (!by.is_empty()).then(|| Cut {
            namespace: text(pod, "/metadata/namespace").to_owned(),
            pod: text(pod, "/metadata/name").to_owned(),
            by: by.into_iter().collect(),
        })
    });
    Seen {
        cut: cut.collect(),
        asking: asking.len(),
        policies: plain.len() + cilium.len(),
    }
}

/// Whether it will ask the agent, by a network of its own.
fn asks(pod: &Value) -> bool {
    let has_it = |container: &Value| {
        let all = items(container, "/env");
        all.iter().any(|variable| variable["name"] == ENVIRONMENT)
    };
    let lists = ["/spec/containers", "/spec/initContainers"];
    let containers = lists.iter().flat_map(|list| items(pod, list));
    let phase = text(pod, "/status/phase");
    let is_live = phase != "Succeeded" && phase != "Failed";
    is_live && pod["spec"]["hostNetwork"] != true && containers.into_iter().any(has_it)
}

/// The policies that select the pod for what it sends, if none of them allows the
/// door; none if no policy selects it: then all is allowed.
fn cut_by_plain(pod: &Value, policies: &[Value], door: Door) -> Vec<String> {
    let of_pod = policies.iter().filter(|policy| {
        let namespace = "/metadata/namespace";
        text(policy, namespace) == text(pod, namespace)
            && is_of_egress(policy)
            && selects(&policy["spec"]["podSelector"], pod)
    });
    let of_pod: Vec<&Value> = of_pod.collect();
    let allows = |policy: &&Value| {
        let rules = items(policy, "/spec/egress");
        rules.iter().any(|rule| allows(rule, door))
    };
    if of_pod.iter().any(allows) {
        return Vec::new();
    }
    let name = |policy: &&Value| format!("NetworkPolicy {}", text(policy, "/metadata/name"));
    of_pod.iter().map(name).collect()
}

/// Without `policyTypes` it is if it has rules of egress.
fn is_of_egress(policy: &Value) -> bool {
    match policy["spec"]["policyTypes"].as_array() {
        Some(types) => types.iter().any(|kind| kind == "Egress"),
        None => !items(policy, "/spec/egress").is_empty(),
    }
}

fn selects(selector: &Value, pod: &Value) -> bool {
    let selector = serde_json::from_value::<Selector>(selector.clone());
    selector.is_ok_and(|selector| selector.matches(&labels(pod)))
}

fn labels(pod: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(pod["metadata"]["labels"].clone()).unwrap_or_default()
}

/// Nobody's pod has the address, so that a selector of pods never allows it, and a
/// port's name names nothing there.
fn allows(rule: &Value, door: Door) -> bool {
    let ports = items(rule, "/ports");
    let is_port = |it: &Value| {
        let is_tcp = matches!(text(it, "/protocol"), "" | "TCP");
        let number = |name: &str| it[name].as_u64();
        let wanted = u64::from(door.port);
        let fits = match (number("port"), number("endPort")) {
            (Some(first), Some(last)) => (first..=last).contains(&wanted),
            (Some(only), None) => only == wanted,
            (None, _) => it["port"].is_null(),
        };
        is_tcp && fits
    };
    let peers = items(rule, "/to");
    let is_peer = |peer: &Value| {
        let has_it = |network: &str| contains(network, door.address);
        let excepted = items(peer, "/ipBlock/except");
        has_it(text(peer, "/ipBlock/cidr"))
            && !excepted.iter().filter_map(Value::as_str).any(has_it)
    };
    (ports.is_empty() || ports.iter().any(is_port))
        && (peers.is_empty() || peers.iter().any(is_peer))
}

/// Whether a network in the notation ADDRESS/LENGTH has the address.
fn contains(network: &str, address: IpAddr) -> bool {
    let Some((base, length)) = network.split_once('/') else {
        return false;
    };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(base), IpAddr::V6(address)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => false,
    }
}

/// As above, of Cilium's. To it the agent's address is the node's own, which the
/// entities `host` and `all` name; a rule that names networks may, by its settings.
fn cut_by_cilium(pod: &Value, policies: &[Value]) -> Vec<String> {
    let namespace = text(pod, "/metadata/namespace");
    let mut of_pod = Vec::new();
    for policy in policies {
        let own = text(policy, "/metadata/namespace");
        if !own.is_empty() && own != namespace {
            continue;
        }
        let specs = std::iter::once(&policy["spec"]).chain(items(policy, "/specs"));
        for spec in specs.filter(|spec| !items(spec, "/egress").is_empty()) {
            if !is_cilium_selected(&spec["endpointSelector"], pod, namespace) {
                continue;
            }
            if items(spec, "/egress").iter().any(cilium_allows) {
                return Vec::new();
            }
            let (kind, name) = (text(policy, "/kind"), text(policy, "/metadata/name"));
            let kind = if kind.is_empty() {
                "Cilium's policy"
            } else {
                kind
            };
            of_pod.push(format!("{kind} {name}"));
        }
    }
    of_pod
}

/// Its labels name their source, Kubernetes mostly, and the namespace is one.
fn is_cilium_selected(selector: &Value, pod: &Value, namespace: &str) -> bool {
    let bare = |text: &str| {
        let rest = text.strip_prefix("k8s:").or(text.strip_prefix("any:"));
        rest.unwrap_or(text).to_owned()
    };
    let mut selector = selector.clone();
    if let Some(wanted) = selector["matchLabels"].as_object() {
        let wanted = wanted.iter().map(|(key, value)| (bare(key), value.clone()));
        selector["matchLabels"] = Value::Object(wanted.collect());
    }
    let requirements = selector.get_mut("matchExpressions");
    let requirements = requirements.and_then(Value::as_array_mut);
    for requirement in requirements.into_iter().flatten() {
        requirement["key"] = Value::from(bare(text(requirement, "/key")));
    }
    let mut labels = labels(pod);
    labels.insert("io.kubernetes.pod.namespace".into(), namespace.into());
    let selector = if selector.is_null() {
        Ok(Selector::default())
    } else {
        serde_json::from_value::<Selector>(selector)
    };
    selector.is_ok_and(|selector| selector.matches(&labels))
}

fn cilium_allows(rule: &Value) -> bool {
    let names_nobody = rule.as_object().is_some_and(|fields| {
        let peers = fields.keys().filter(|key| key.starts_with("to"));
        peers.filter(|key| *key != "toPorts").count() == 0
    });
    let entities = items(rule, "/toEntities");
    let is_host = entities.iter().any(|it| it == "host" || it == "all");
    let names_networks = !rule["toCIDR"].is_null() || !rule["toCIDRSet"].is_null();
    names_nobody || is_host || names_networks
}

pub(super) fn judge(seen: &Answer<Seen>, door: Door) -> Vec<Finding> {
    let check = Check::NetworkPolicies;
    let seen = match seen {
        Ok(seen) => seen,
        Err(lack) => {
            let says = format!("network policies were not looked through: {}", lack.why());
            let remedy =
                "run this as somebody who may list pods and network policies in all namespaces";
            return vec![Finding::skipped(check, says, remedy)];
        }
    };
    let mut namespaces: BTreeMap<&str, Vec<&Cut>> = BTreeMap::new();
    for cut in &seen.cut {
        namespaces.entry(&cut.namespace).or_default().push(cut);
    }
    let Door { address, port } = door;
    let mut all = Vec::new();
    for (namespace, cut) in namespaces {
        let names: Vec<&str> = cut.iter().take(NAMED).map(|it| &*it.pod).collect();
        let more = cut.len().saturating_sub(NAMED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let policies: BTreeSet<&str> = cut
            .iter()
            .flat_map(|it| &it.by)
            .map(String::as_str)
            .collect();
        let policies: Vec<&str> = policies.into_iter().collect();
        let says = format!(
            "pods of {namespace} ask the agent and may not reach it: {}{more}, by {}",
            names.join(", "),
            policies.join(", ")
        );
        let length = if address.is_ipv4() { 32 } else { 128 };
        let remedy = format!(
            "allow egress to {address}/{length}, TCP port {port} (Cilium: to the entity `host`); some \
             CNIs hold policies for the node's own addresses, as that of the VPC CNI, and some do not"
        );
        all.push(Finding::failure(check, says, remedy));
    }
    if all.is_empty() {
        let says = format!(
            "{} policies keep none of {} pods that ask the agent from it",
            seen.policies, seen.asking
        );
        all.push(Finding::ok(check, says));
    }
    all
}

#[cfg(test)]
mod tests;
