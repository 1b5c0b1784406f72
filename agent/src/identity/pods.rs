//! The pure index: who owns an address, and which pods live.

use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::time::SystemTime;

use foldhash::HashMap;

pub use self::caller::{Caller, OptIn};
use self::gone::Gone;
use crate::model::{Invalid, PodUid};

mod caller;
mod gone;
#[cfg(test)]
mod tests;

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
    /// `status.phase` and `metadata.deletionTimestamp`.
    pub life: Life,
    /// Two of `metadata.labels`.
    pub imds: OptIn,
    /// Of `metadata.annotations`, [`crate::model::OwnRole::ANNOTATION`].
    pub own_role: String,
    /// `status.podIP` and `status.podIPs`.
    pub addresses: Vec<String>,
    /// `status.hostIPs`.
    pub node_addresses: Vec<String>,
    /// The latest moment that the status mentions, by the node's clock and to
    /// the second: the kubelet saw the pod's addresses then or later. `None`
    /// where it mentions none.
    pub as_of: Option<SystemTime>,
}

impl Report {
    /// Who this is, once it is found to be the caller.
    pub fn caller(&self) -> Result<Caller, Flaw> {
        Caller::of(self)
    }
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
    /// It can.
    #[default]
    Live,
    /// It can, until its containers have ended; its address may go any moment.
    Terminating,
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

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// No live pod claims it.
    Nobody,
    /// The node's: it names no pod.
    Node,
    /// This one live pod's.
    Pod(&'a Pod, &'a Caller),
    /// More than one live pod claims it.
    Several,
    /// One live pod's, of which what is reported cannot be used.
    Unusable(Flaw),
}

/// What is known of the pod of a UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resident<'a> {
    /// Nothing: another node's, or one that was never reported, or so long ago
    /// that it is forgotten.
    Unknown,
    /// It was here and lives no more.
    Gone,
    /// It lives here.
    Live(&'a Pod, &'a Caller),
}

/// Names a pod among those that exist at one time. Its UID does not: a garbled
/// one must not keep the pod from being found, replaced and deleted.
type Name = (String, String);

/// The live pods of one node, by name, by address and by UID.
#[derive(Debug, Default)]
pub struct PodIndex {
    pods: HashMap<Name, Pod>,
    /// Never an empty list, and hardly ever more than one name.
    claims: HashMap<IpAddr, Vec<Name>>,
    uids: HashMap<PodUid, Name>,
    gone: Gone,
}

/// A live pod.
#[derive(Debug, PartialEq, Eq)]
pub struct Pod {
    network: Network,
    /// What it is known as, if that can be used.
    caller: Result<Caller, Flaw>,
    /// Canonical and distinct.
    addresses: Vec<IpAddr>,
    flaw: Option<Flaw>,
    as_of: Option<SystemTime>,
}

impl PodIndex {
    /// Adds a pod, or replaces the one of its name; one whose life is over is
    /// removed.
    pub fn apply(&mut self, report: Report) -> Outcome {
        match report.life {
            Life::Over => return self.remove(report),
            Life::Live | Life::Terminating => {}
        }
        let pod = Pod::new(&report);
        let name = (report.namespace, report.name);
        if let Some(known) = self.pods.get_mut(&name)
            && known.says_what_says(&pod)
        {
            known.as_of = pod.as_of;
            return Outcome::Same;
        }
        let before = self.forget(&name);
        for address in &pod.addresses {
            self.claims.entry(*address).or_default().push(name.clone());
        }
        if let Ok(caller) = &pod.caller {
            self.uids.insert(caller.pod().clone(), name.clone());
        }
        let outcome = pod.flaw.map_or(Outcome::Changed, Outcome::Flawed);
        self.pods.insert(name, pod);
        if let Some(before) = before {
            self.bury(before);
        }
        outcome
    }

    /// Removes a pod that no longer exists.
    pub fn remove(&mut self, report: Report) -> Outcome {
        match self.forget(&(report.namespace, report.name)) {
            None => Outcome::Same,
            Some(pod) => {
                self.bury(pod);
                Outcome::Changed
            }
        }
    }

    /// Takes over from the index before it, when all pods were listed anew: of
    /// its pods, those that are not listed have gone.
    pub fn succeed(&mut self, before: &Self) {
        self.gone = before.gone.clone();
        for uid in before.uids.keys() {
            if !self.uids.contains_key(uid) {
                self.gone.insert(uid.clone());
            }
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
        if let Ok(caller) = &pod.caller
            && self.uids.get(caller.pod()) == Some(name)
        {
            self.uids.remove(caller.pod());
        }
        Some(pod)
    }

    /// Remembers that a pod which was forgotten has gone, unless it is here anew.
    fn bury(&mut self, pod: Pod) {
        if let Ok(caller) = pod.caller
            && !self.uids.contains_key(caller.pod())
        {
            self.gone.insert(caller.pod().clone());
        }
    }

    /// Whose the canonical address is. In constant time, however many pods
    /// there are.
    pub fn owner(&self, address: IpAddr) -> Owner<'_> {
        let names = self.claims.get(&address).map_or(&[][..], Vec::as_slice);
        match names {
            [] => Owner::Nobody,
            [name] => {
                let pod = &self.pods[name];
                match (pod.network, &pod.caller) {
                    (Network::Node, _) => Owner::Node,
                    (Network::Pod | Network::Unclear, Ok(caller)) => Owner::Pod(pod, caller),
                    (Network::Pod | Network::Unclear, Err(flaw)) => Owner::Unusable(*flaw),
                }
            }
            several => {
                let is_node = |name| self.pods[name].network == Network::Node;
                if several.iter().any(is_node) {
                    Owner::Node
                } else {
                    Owner::Several
                }
            }
        }
    }

    /// The pod of a UID. In constant time.
    pub fn resident(&self, uid: &PodUid) -> Resident<'_> {
        let live = self.uids.get(uid).map(|name| &self.pods[name]);
        match live.map(|pod| (pod, &pod.caller)) {
            Some((pod, Ok(caller))) => Resident::Live(pod, caller),
            Some((_, Err(_))) | None if self.gone.contains(uid) => Resident::Gone,
            Some((_, Err(_))) | None => Resident::Unknown,
        }
    }

    /// Every address that one live pod owns, with the pod, in no order.
    pub fn owned(&self) -> impl Iterator<Item = (IpAddr, &Pod, &Caller)> {
        self.claims
            .keys()
            .filter_map(|address| match self.owner(*address) {
                Owner::Pod(pod, caller) => Some((*address, pod, caller)),
                Owner::Nobody | Owner::Node | Owner::Several | Owner::Unusable(_) => None,
            })
    }

    /// All live pods that can be told who they are, in no order.
    pub fn callers(&self) -> impl Iterator<Item = &Caller> {
        let pods = self.pods.values();
        pods.filter_map(|pod| pod.caller.as_ref().ok())
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
        let (caller, reported) = match report.network {
            Network::Node => {
                let all = [&report.addresses[..], &report.node_addresses].concat();
                (Caller::of(report), all)
            }
            Network::Pod => (Caller::of(report), report.addresses.clone()),
            Network::Unclear => (Err(Flaw::Network), report.addresses.clone()),
        };
        let mut addresses = Vec::with_capacity(2);
        let mut flaw = caller.as_ref().err().copied();
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
            network: report.network,
            caller,
            addresses,
            flaw,
            as_of: report.as_of,
        }
    }

    /// Whose addresses it has.
    pub fn network(&self) -> Network {
        self.network
    }

    /// Its addresses; on the host network those of the node that it knows.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// See [`Report::as_of`].
    pub fn as_of(&self) -> Option<SystemTime> {
        self.as_of
    }

    /// The same but for when it was said.
    fn says_what_says(&self, other: &Self) -> bool {
        let Self {
            network,
            caller,
            addresses,
            flaw,
            as_of: _,
        } = self;
        *network == other.network
            && *caller == other.caller
            && *addresses == other.addresses
            && *flaw == other.flaw
    }
}
