//! The pure index: address -> [`Caller`].

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::Error;
use crate::model::{Invalid, PodUid, ServiceAccount};

#[cfg(test)]
mod tests;

/// Proof of a finished look-up: built by the index alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    pod: PodUid,
    account: ServiceAccount,
}

impl Caller {
    /// The calling pod.
    pub fn pod(&self) -> &PodUid {
        &self.pod
    }

    /// Its service account.
    pub fn account(&self) -> &ServiceAccount {
        &self.account
    }
}

/// A pod as the API server reports it: nothing in it is believed yet. A text
/// that is missing, or none, is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.serviceAccountName`, or `default` where there is none.
    pub account: String,
    /// `spec.hostNetwork`.
    pub network: Network,
    /// `status.phase`.
    pub life: Life,
    /// `status.podIP` and `status.podIPs`.
    pub addresses: Vec<String>,
    /// `status.hostIPs`.
    pub node_addresses: Vec<String>,
}

/// Whose addresses a pod has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Its own.
    #[default]
    Pod,
    /// The node's.
    Node,
    /// The report does not say it in a way that can be understood.
    Unclear,
}

/// Whether a pod can still call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// It can, a terminating pod included.
    #[default]
    Live,
    /// It has succeeded or failed: its containers never run again, and its
    /// address may be another's already.
    Over,
}

/// What is wrong with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A name or UID is missing or illegal.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// One of its addresses is none. The pod keeps the others.
    #[error("not an IP address")]
    Address,
    /// Not to be told whether it is on the host network.
    #[error("hostNetwork is not a boolean")]
    Network,
}

/// What a change of the index came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The index says what it said before.
    Same,
    /// The index says something else.
    Changed,
    /// As `Changed`, and the pod, or one of its addresses, is refused.
    Flawed(Flaw),
}

/// Names a pod among those that exist at one time. Its UID does not: a garbled
/// one must not keep the pod from being found, replaced and deleted.
type Name = (String, String);

/// The live pods of one node, by name and by address.
#[derive(Debug, Default)]
pub struct PodIndex {
    pods: HashMap<Name, Pod>,
    /// Never an empty list, and hardly ever more than one name.
    claims: HashMap<IpAddr, Vec<Name>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Pod {
    standing: Standing,
    /// Canonical and distinct.
    addresses: Vec<IpAddr>,
    flaw: Option<Flaw>,
}

/// What the owner of an address is answered.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Caller(Caller),
    /// On the host network: its addresses name no pod.
    Node,
    Unusable(Flaw),
}

impl PodIndex {
    /// Adds a pod, or replaces the one of its name; one whose life is over is
    /// removed.
    pub fn apply(&mut self, report: Report) -> Outcome {
        if report.life == Life::Over {
            return self.remove(report);
        }
        let pod = Pod::new(&report);
        let name = (report.namespace, report.name);
        if self.pods.get(&name) == Some(&pod) {
            return Outcome::Same;
        }
        self.forget(&name);
        for address in &pod.addresses {
            self.claims.entry(*address).or_default().push(name.clone());
        }
        let outcome = pod.flaw.map_or(Outcome::Changed, Outcome::Flawed);
        self.pods.insert(name, pod);
        outcome
    }

    /// Removes a pod that no longer exists.
    pub fn remove(&mut self, report: Report) -> Outcome {
        match self.forget(&(report.namespace, report.name)) {
            None => Outcome::Same,
            Some(_) => Outcome::Changed,
        }
    }

    fn forget(&mut self, name: &Name) -> Option<Pod> {
        let pod = self.pods.remove(name)?;
        for address in &pod.addresses {
            if let Entry::Occupied(mut names) = self.claims.entry(*address) {
                names.get_mut().retain(|other| other != name);
                if names.get().is_empty() {
                    names.remove();
                }
            }
        }
        Some(pod)
    }

    /// The one live pod that owns the canonical address `peer`. In constant
    /// time, however many pods there are.
    pub fn caller(&self, peer: IpAddr) -> Result<Caller, Error> {
        let names = self.claims.get(&peer).map_or(&[][..], Vec::as_slice);
        let standing = |name| &self.pods[name].standing;
        match names {
            [] => Err(Error::Unknown(peer)),
            [name] => match standing(name) {
                Standing::Caller(caller) => Ok(caller.clone()),
                Standing::Node => Err(Error::Node(peer)),
                Standing::Unusable(flaw) => Err(Error::Unusable(peer, flaw.to_string())),
            },
            several => {
                let is_node = several.iter().any(|name| *standing(name) == Standing::Node);
                Err(if is_node {
                    Error::Node(peer)
                } else {
                    Error::Ambiguous(peer)
                })
            }
        }
    }

    /// The accounts of all live pods that have or will have an address of their own.
    pub fn accounts(&self) -> HashSet<ServiceAccount> {
        let account = |pod: &Pod| match &pod.standing {
            Standing::Caller(caller) => Some(caller.account.clone()),
            Standing::Node | Standing::Unusable(_) => None,
        };
        self.pods.values().filter_map(account).collect()
    }

    /// How many live pods are known, those that are refused included.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether no live pod is known.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Whether both refuse the pod of this name for the same reason.
    pub fn agrees_on_flaw(&self, namespace: &str, name: &str, flaw: Flaw) -> bool {
        let name = (namespace.to_owned(), name.to_owned());
        self.pods
            .get(&name)
            .is_some_and(|pod| pod.flaw == Some(flaw))
    }
}

impl Pod {
    fn new(report: &Report) -> Self {
        let (standing, reported) = match report.network {
            Network::Node => {
                let all = [&report.addresses[..], &report.node_addresses].concat();
                (Standing::Node, all)
            }
            Network::Pod => {
                let standing = caller(report).map_or_else(
                    |invalid| Standing::Unusable(invalid.into()),
                    Standing::Caller,
                );
                (standing, report.addresses.clone())
            }
            Network::Unclear => (Standing::Unusable(Flaw::Network), report.addresses.clone()),
        };
        let mut addresses = Vec::with_capacity(2);
        let mut flaw = match standing {
            Standing::Caller(_) | Standing::Node => None,
            Standing::Unusable(flaw) => Some(flaw),
        };
        for text in &reported {
            match text.parse::<IpAddr>() {
                Err(_) => flaw = flaw.or(Some(Flaw::Address)),
                Ok(address) => {
                    let address = address.to_canonical();
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
            }
        }
        Self {
            standing,
            addresses,
            flaw,
        }
    }
}

fn caller(report: &Report) -> Result<Caller, Invalid> {
    Ok(Caller {
        pod: PodUid::new(&report.uid)?,
        account: ServiceAccount::new(&report.namespace, &report.account)?,
    })
}
