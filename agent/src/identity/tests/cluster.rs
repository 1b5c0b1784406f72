//! A simple model of the truth: the pods of a node at the API server, what
//! happens to them, and what the watch has told of that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;

use super::Which;
use crate::identity::pods::{Life, Network, OptIn, Report};

/// An address as it can be written, and as it is meant. The last two are the node's.
const ADDRESSES: [(&str, &str); 10] = [
    ("10.0.0.1", "10.0.0.1"),
    ("10.0.0.2", "10.0.0.2"),
    ("::ffff:10.0.0.2", "10.0.0.2"),
    ("10.0.0.3", "10.0.0.3"),
    ("fd00::1", "fd00::1"),
    ("FD00:0:0::1", "fd00::1"),
    ("fd00::2", "fd00::2"),
    ("10.0.0.", ""),
    ("192.0.2.1", "192.0.2.1"),
    ("fd00::a", "fd00::a"),
];

const NAMES: [(&str, &str); 4] = [
    ("shop", "web-0"),
    ("shop", "web-1"),
    ("bank", "web-0"),
    ("bank", "vault"),
];

const ACCOUNTS: [&str; 3] = ["checkout", "reports", "not legal"];

/// What happens next. A [`Which`] chooses among what there is then.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Create(Which, Which, Network),
    Address(Which, Vec<Which>),
    Terminate(Which),
    /// It succeeds or fails.
    Finish(Which),
    Delete(Which),
    /// It is deleted, and another of its name takes its addresses.
    Recreate(Which, Which),
    /// The watch tells of so many more events.
    Tell(usize),
    /// It tells the last so many again.
    Repeat(usize),
    /// What it has not told yet it never will: only a list helps.
    Lose,
    List,
}

pub(super) fn history(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let any = Which::any;
    let network = prop_oneof![
        8 => Just(Network::Pod),
        2 => Just(Network::Node),
        1 => Just(Network::Unclear),
    ];
    let step = prop_oneof![
        4 => (any(), any(), network).prop_map(|(name, account, network)| Step::Create(name, account, network)),
        6 => (any(), prop::collection::vec(any(), 0..4)).prop_map(|(pod, addresses)| Step::Address(pod, addresses)),
        1 => any().prop_map(Step::Terminate),
        2 => any().prop_map(Step::Finish),
        2 => any().prop_map(Step::Delete),
        2 => (any(), any()).prop_map(|(pod, account)| Step::Recreate(pod, account)),
        9 => (1_usize..4).prop_map(Step::Tell),
        2 => (1_usize..6).prop_map(Step::Repeat),
        1 => Just(Step::Lose),
        2 => Just(Step::List),
    ];
    prop::collection::vec(step, 1..most)
}

/// A pod as the API server has it.
#[derive(Clone, Debug)]
pub(super) struct Object {
    name: (&'static str, &'static str),
    pub(super) uid: String,
    account: &'static str,
    network: Network,
    life: Life,
    /// Into [`ADDRESSES`].
    addresses: Vec<usize>,
}

impl Object {
    pub(super) fn report(&self) -> Report {
        let written = |at: &usize| ADDRESSES[*at].0.to_owned();
        Report {
            namespace: self.name.0.to_owned(),
            name: self.name.1.to_owned(),
            uid: self.uid.clone(),
            account: self.account.to_owned(),
            network: self.network,
            life: self.life,
            addresses: self.addresses.iter().map(written).collect(),
            node_addresses: vec!["192.0.2.1".to_owned(), "fd00::a".to_owned()],
            as_of: None,
            imds: OptIn::Out,
            own_role: String::new(),
        }
    }

    fn claims(&self, address: IpAddr) -> bool {
        let own = self.addresses.iter().filter_map(|at| meant(*at));
        let is_own = own.into_iter().any(|own| own == address);
        is_own || (self.network == Network::Node && node_addresses().contains(&address))
    }

    /// Who it is, if that can be used.
    fn identity(&self) -> Option<(&str, String)> {
        let is_usable = self.network != Network::Unclear && self.account != "not legal";
        let account = format!("{}/{}", self.name.0, self.account);
        is_usable.then_some((self.uid.as_str(), account))
    }
}

fn uid(number: usize) -> String {
    format!("uid-{number}")
}

fn meant(at: usize) -> Option<IpAddr> {
    ADDRESSES[at].1.parse().ok()
}

fn node_addresses() -> Vec<IpAddr> {
    [8, 9].into_iter().filter_map(meant).collect()
}

/// All that a look-up is made for, and one that no pod ever has.
pub(super) fn addresses() -> BTreeSet<IpAddr> {
    let nobodys = "10.0.0.99".parse().ok();
    (0..ADDRESSES.len())
        .filter_map(meant)
        .chain(nobodys)
        .collect()
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Is(Object),
    Deleted(Object),
    /// These and no others.
    All(Vec<Object>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    Node,
    /// Its UID and account.
    Pod(String, String),
    Several,
    Unusable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resident {
    Unknown,
    Gone,
    /// Its account.
    Live(String),
}

/// The API server.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    pods: Vec<Object>,
    made: usize,
    log: Vec<Event>,
    /// How much of the log has been told.
    told: usize,
    is_lost: bool,
}

impl Cluster {
    /// Lets something happen, and returns what the watch tells meanwhile.
    pub(super) fn step(&mut self, step: &Step) -> Vec<Event> {
        match step {
            Step::Create(name, account, network) => {
                let name = NAMES[name.index(NAMES.len())];
                if self.pods.iter().all(|pod| pod.name != name) {
                    self.create(
                        name,
                        ACCOUNTS[account.index(ACCOUNTS.len())],
                        *network,
                        Vec::new(),
                    );
                }
            }
            Step::Address(pod, addresses) => {
                let addresses = addresses.iter().map(|at| at.index(ADDRESSES.len()));
                self.change(*pod, |pod| pod.addresses = addresses.collect());
            }
            Step::Terminate(pod) => self.change(*pod, |pod| {
                if pod.life == Life::Live {
                    pod.life = Life::Terminating;
                }
            }),
            Step::Finish(pod) => self.change(*pod, |pod| pod.life = Life::Over),
            Step::Delete(pod) => drop(self.delete(*pod)),
            Step::Recreate(pod, account) => {
                if let Some(old) = self.delete(*pod) {
                    let account = ACCOUNTS[account.index(ACCOUNTS.len())];
                    self.create(old.name, account, old.network, old.addresses);
                }
            }
            Step::Tell(count) if !self.is_lost => {
                let from = self.told;
                self.told = (from + count).min(self.log.len());
                return self.log[from..self.told].to_vec();
            }
            Step::Tell(_) => {}
            Step::Repeat(count) => {
                return self.log[self.told.saturating_sub(*count)..self.told].to_vec();
            }
            Step::Lose => self.is_lost = true,
            Step::List => {
                self.log.truncate(self.told);
                self.log.push(Event::All(self.pods.clone()));
                self.told = self.log.len();
                self.is_lost = false;
                return self.log[self.told - 1..].to_vec();
            }
        }
        Vec::new()
    }

    /// Of all pods that there ever were, and of one that is to come.
    pub(super) fn uids(&self) -> impl Iterator<Item = String> + use<> {
        (1..=self.made + 1).map(uid)
    }

    fn create(
        &mut self,
        name: (&'static str, &'static str),
        account: &'static str,
        network: Network,
        addresses: Vec<usize>,
    ) {
        self.made += 1;
        let pod = Object {
            name,
            uid: uid(self.made),
            account,
            network,
            life: Life::Live,
            addresses,
        };
        self.log.push(Event::Is(pod.clone()));
        self.pods.push(pod);
    }

    fn change(&mut self, which: Which, change: impl FnOnce(&mut Object)) {
        if !self.pods.is_empty() {
            let at = which.index(self.pods.len());
            change(&mut self.pods[at]);
            self.log.push(Event::Is(self.pods[at].clone()));
        }
    }

    fn delete(&mut self, which: Which) -> Option<Object> {
        let at = (!self.pods.is_empty()).then(|| which.index(self.pods.len()))?;
        let pod = self.pods.swap_remove(at);
        self.log.push(Event::Deleted(pod.clone()));
        Some(pod)
    }
}

/// What follows from the events told so far, in the plainest way.
#[derive(Debug, Default)]
pub(super) struct Told {
    live: BTreeMap<(&'static str, &'static str), Object>,
    /// The UIDs of all that ever were, if they could be used.
    seen: BTreeSet<String>,
}

impl Told {
    pub(super) fn hear(&mut self, event: &Event) {
        match event {
            Event::Is(pod) => self.replace(pod),
            Event::Deleted(pod) => drop(self.live.remove(&pod.name)),
            Event::All(pods) => {
                self.live.clear();
                for pod in pods {
                    self.replace(pod);
                }
            }
        }
    }

    fn replace(&mut self, pod: &Object) {
        self.live.remove(&pod.name);
        if pod.life != Life::Over {
            self.live.insert(pod.name, pod.clone());
            self.seen
                .extend(pod.identity().map(|(uid, _)| uid.to_owned()));
        }
    }

    pub(super) fn resident(&self, uid: &str) -> Resident {
        let mut live = self.live.values().filter_map(Object::identity);
        match live.find(|(live, _)| *live == uid) {
            Some((_, account)) => Resident::Live(account),
            None if self.seen.contains(uid) => Resident::Gone,
            None => Resident::Unknown,
        }
    }

    pub(super) fn owner(&self, address: IpAddr) -> Owner {
        let claimants: Vec<&Object> = self
            .live
            .values()
            .filter(|pod| pod.claims(address))
            .collect();
        if claimants.iter().any(|pod| pod.network == Network::Node) {
            return Owner::Node;
        }
        match claimants[..] {
            [] => Owner::Nobody,
            [pod] => match pod.identity() {
                Some((uid, account)) => Owner::Pod(uid.to_owned(), account),
                None => Owner::Unusable,
            },
            [..] => Owner::Several,
        }
    }
}
