//! What is known of the paths, and whom they vouch for: no I/O.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use foldhash::HashMap;
use tokio::time::Instant;

use super::{Change, Path, Port, Shown};
use crate::identity::Origin;
use crate::identity::pods::{Owner, PodIndex};
use crate::model::PodUid;

#[cfg(test)]
mod tests;
mod way;

pub use way::Way;

/// How long after the watch told of a pod's address its path may still be
/// learnt without asking the API server: a neighbour takes that long to answer.
const RESOLVES_WITHIN: Duration = Duration::from_secs(1);

/// Times in the API have whole seconds: what happened at one of them may have
/// happened so much later.
const RESOLUTION: Duration = Duration::from_secs(1);

/// How many links that went are remembered.
const GONE: usize = 1024;

/// The paths of the addresses that pods of this node own.
#[derive(Debug, Default)]
pub(in crate::identity) struct Book {
    entries: HashMap<IpAddr, Entry>,
    /// The pod that a link was found to be of, until the link goes: it is
    /// never another's, whatever becomes of the pod.
    holders: HashMap<u32, PodUid>,
    /// The links that went last, and when.
    gone: VecDeque<(SystemTime, Option<PodUid>)>,
}

#[derive(Debug)]
struct Entry {
    pod: PodUid,
    learnt: Learnt,
    /// What the kernel showed last.
    shown: Shown,
    /// When the watch told that the pod owns the address.
    told: Instant,
}

/// What was found to be the pod's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Learnt {
    Nothing,
    /// Its link has gone, and with it the pod, or the pod's sandbox.
    Lost,
    /// The network has no path for each pod.
    Hidden,
    Path(Path),
}

/// Whether a caller is the pod that owns its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::identity) enum Proof {
    /// It came by the pod's path.
    Path,
    /// The network shows no paths, so that only its address speaks for it.
    Address,
    /// To be told when it is known what the kernel shows for this connection.
    Look,
    /// No: it came by another path, or the pod's is not known.
    None,
}

/// When a link was seen to appear.
#[derive(Clone, Copy, Debug)]
pub(in crate::identity) enum Since {
    /// It was there before anybody looked.
    Start,
    /// Then, or a moment before.
    Seen(SystemTime),
    /// That is still to be told.
    Untold,
}

impl Since {
    /// Whether a report of that date is of when the link was there already.
    fn is_known_to(self, as_of: SystemTime) -> bool {
        match self {
            Self::Start => true,
            Self::Seen(appeared) => as_of > appeared,
            Self::Untold => false,
        }
    }
}

/// How many addresses stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Their pod's path is known.
    pub known: usize,
    /// The network shows no path for them: only the address speaks.
    pub hidden: usize,
    /// Their path is not known, or is no longer what it was.
    pub unconfirmed: usize,
}

impl Book {
    /// Drops what is no longer so, and returns the addresses that are to be
    /// learnt: those whose owner is new.
    pub(in crate::identity) fn follow(&mut self, pods: &PodIndex) -> Vec<IpAddr> {
        let owner = |address| match pods.owner(address) {
            Owner::Pod(_, caller) => Some(caller.pod()),
            Owner::Nobody | Owner::Node | Owner::Several | Owner::Unusable(_) => None,
        };
        self.entries
            .retain(|address, entry| owner(*address) == Some(&entry.pod));
        pods.owned()
            .map(|(address, ..)| address)
            .filter(|address| !self.entries.contains_key(address))
            .collect()
    }

    /// Takes what the kernel shows for an address whose owner is new.
    pub(in crate::identity) fn learn(
        &mut self,
        pods: &PodIndex,
        address: IpAddr,
        shown: Shown,
        since: Since,
    ) {
        let Owner::Pod(_, caller) = pods.owner(address) else {
            return;
        };
        if self.entries.contains_key(&address) {
            return;
        }
        let entry = Entry {
            pod: caller.pod().clone(),
            learnt: self.first(pods, address, shown, since),
            shown,
            told: Instant::now(),
        };
        self.entries.insert(address, entry);
        self.hold(address);
    }

    /// Takes what the kernel shows now; returns whether that is something else.
    pub(super) fn see(
        &mut self,
        pods: &PodIndex,
        address: IpAddr,
        shown: Shown,
        since: Since,
    ) -> bool {
        let first = self.first(pods, address, shown, since);
        let Some(entry) = self.entries.get_mut(&address) else {
            return false;
        };
        let before = (entry.shown, entry.learnt);
        entry.shown = shown;
        // The index may be ahead, and `first` then about the next owner.
        let is_owner = matches!(
            pods.owner(address),
            Owner::Pod(_, caller) if *caller.pod() == entry.pod
        );
        let is_new = entry.told.elapsed() <= RESOLVES_WITHIN;
        if entry.learnt == Learnt::Nothing && is_owner && is_new {
            entry.learnt = first;
        }
        let is_other = before != (entry.shown, entry.learnt);
        self.hold(address);
        is_other
    }

    /// Keeps in mind whose link was learnt.
    fn hold(&mut self, address: IpAddr) {
        if let Some(entry) = self.entries.get(&address)
            && let Learnt::Path(path) = entry.learnt
        {
            self.holders.insert(path.own_link(), entry.pod.clone());
        }
    }

    /// What is believed without asking. A path is the owner's if the report of
    /// the pod is as new as the link: else the link may be another pod's.
    fn first(&self, pods: &PodIndex, address: IpAddr, shown: Shown, since: Since) -> Learnt {
        match (shown, pods.owner(address)) {
            (Shown::Path(path), Owner::Pod(pod, caller))
                if self.is_told_of(since, pod.as_of(), caller.pod())
                    && self.is_free(path, caller.pod()) =>
            {
                Learnt::Path(path)
            }
            (Shown::Hidden, _) => Learnt::Hidden,
            (Shown::Path(_) | Shown::Unresolved, _) => Learnt::Nothing,
        }
    }

    /// Whether a report of the pod of that date is of when the link was there.
    /// One of the second in which it appeared is, unless there was another
    /// before that may have been the pod's.
    fn is_told_of(&self, since: Since, as_of: Option<SystemTime>, pod: &PodUid) -> bool {
        match (since, as_of) {
            (Since::Start, _) => true,
            (Since::Untold, _) | (Since::Seen(_), None) => false,
            (Since::Seen(appeared), Some(as_of)) => {
                let may_be = as_of + RESOLUTION > appeared;
                since.is_known_to(as_of) || may_be && !self.went(as_of, appeared, pod)
            }
        }
    }

    /// Whether a link that may have been the pod's went after `from`, and before
    /// another appeared, or as it did: addresses are given on a little before
    /// the link goes.
    fn went(&self, from: SystemTime, appeared: SystemTime, pod: &PodUid) -> bool {
        let forgotten = self.gone.len() == GONE;
        let oldest = self.gone.front().filter(|_| forgotten);
        oldest.is_some_and(|(at, _)| *at >= from)
            || self.gone.iter().any(|(at, holder)| {
                (from..=appeared + RESOLUTION).contains(at)
                    && holder.as_ref().is_none_or(|holder| holder == pod)
            })
    }

    /// A link has gone; another may have its index. Returns whether it was known
    /// to be a pod's.
    pub(super) fn lose(&mut self, link: u32, now: SystemTime) -> bool {
        if self.gone.len() == GONE {
            self.gone.pop_front();
        }
        self.gone.push_back((now, self.holders.remove(&link)));
        let mut is_lost = false;
        for entry in self.entries.values_mut() {
            match entry.learnt {
                Learnt::Path(path) if path.own_link() == link => {
                    entry.learnt = Learnt::Lost;
                    is_lost = true;
                }
                Learnt::Path(_) | Learnt::Hidden | Learnt::Nothing | Learnt::Lost => {}
            }
        }
        is_lost
    }

    /// The path that is shown but not learnt, if a fresh report of the pod can
    /// confirm it. While the pod's own link is there it cannot: whoever is shown
    /// at another took the address from a pod that lives.
    pub(super) fn unconfirmed(&self, address: IpAddr) -> Option<(&PodUid, Path)> {
        let entry = self.entries.get(&address)?;
        match (entry.learnt, entry.shown) {
            (Learnt::Nothing | Learnt::Lost | Learnt::Hidden, Shown::Path(path)) => {
                Some((&entry.pod, path))
            }
            (Learnt::Path(_), _) | (_, Shown::Unresolved | Shown::Hidden) => None,
        }
    }

    /// A report that was made after `path` was shown says that `pod` owns the
    /// address. It vouches for the path if it is surely of when the link was
    /// there, and no other pod has it.
    pub(super) fn confirm(
        &mut self,
        address: IpAddr,
        pod: &PodUid,
        path: Path,
        as_of: SystemTime,
        since: Since,
    ) -> bool {
        let confirmed = self.unconfirmed(address) == Some((pod, path))
            && since.is_known_to(as_of)
            && self.is_free(path, pod);
        if confirmed && let Some(entry) = self.entries.get_mut(&address) {
            entry.learnt = Learnt::Path(path);
            self.holders.insert(path.own_link(), pod.clone());
        }
        confirmed
    }

    /// The addresses that a change may concern.
    pub(super) fn concerned(&self, change: Change) -> Vec<IpAddr> {
        let by = |wanted: &dyn Fn(Path) -> bool| {
            let concerns = |entry: &Entry| {
                let paths = [entry.shown, entry.learnt.into()];
                paths.iter().any(|shown| match shown {
                    Shown::Path(path) => wanted(*path),
                    Shown::Unresolved => true,
                    Shown::Hidden => false,
                })
            };
            let entries = self.entries.iter();
            entries
                .filter(|(_, entry)| concerns(entry))
                .map(|(address, _)| *address)
                .collect()
        };
        match change {
            Change::Address(address) => {
                let known = self.entries.contains_key(&address);
                known.then_some(address).into_iter().collect()
            }
            Change::Neighbour(address) => {
                let has_a_link_to_itself = |entry: &Entry| match entry.shown {
                    Shown::Path(path) => path.port == Port::Own,
                    Shown::Unresolved | Shown::Hidden => false,
                };
                let entry = self.entries.get(&address);
                let concerned = entry.is_some_and(|entry| !has_a_link_to_itself(entry));
                concerned.then_some(address).into_iter().collect()
            }
            Change::Mac(mac) => by(&|path| match path.port {
                Port::Own => false,
                Port::Bridged { mac: of_pod, .. } => of_pod == mac,
            }),
            Change::Link(link) | Change::Appeared(link) | Change::Gone(link) => {
                by(&|path| path.link == link || path.own_link() == link)
            }
            Change::Network(network, bits) => {
                let addresses = self.entries.keys().copied();
                addresses
                    .filter(|address| begins_as(*address, network, bits))
                    .collect()
            }
            Change::Any => self.entries.keys().copied().collect(),
        }
    }

    /// Whether a caller is the pod that owns its address.
    pub(in crate::identity) fn proof(&self, origin: &Origin, pod: &PodUid) -> Proof {
        let Some(entry) = self.entries.get(&origin.peer()) else {
            return Proof::None;
        };
        if entry.pod != *pod || Shown::from(entry.learnt) != entry.shown {
            return Proof::None;
        }
        match (entry.learnt, origin.shown()) {
            (Learnt::Path(path), _) if origin.link() != Some(path.link) => Proof::None,
            (
                Learnt::Path(Path {
                    port: Port::Own, ..
                }),
                _,
            ) => Proof::Path,
            (Learnt::Path(_) | Learnt::Hidden, None) => Proof::Look,
            (Learnt::Path(path), Some(Shown::Path(seen))) if seen == path => Proof::Path,
            (Learnt::Hidden, Some(Shown::Hidden)) => Proof::Address,
            (Learnt::Path(_) | Learnt::Hidden | Learnt::Nothing | Learnt::Lost, _) => Proof::None,
        }
    }

    /// The pod that has a link to itself, if one is known to, or was.
    pub(in crate::identity) fn holder(&self, link: u32) -> Option<&PodUid> {
        self.holders.get(&link)
    }

    /// How many addresses stand how.
    pub(in crate::identity) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.entries.values() {
            match entry.learnt {
                learnt if Shown::from(learnt) != entry.shown => counts.unconfirmed += 1,
                Learnt::Path(_) => counts.known += 1,
                Learnt::Hidden => counts.hidden += 1,
                Learnt::Nothing | Learnt::Lost => counts.unconfirmed += 1,
            }
        }
        counts
    }

    fn is_free(&self, path: Path, pod: &PodUid) -> bool {
        self.holder(path.own_link())
            .is_none_or(|holder| holder == pod)
    }
}

fn begins_as(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let bits = u32::from(bits);
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

impl From<Learnt> for Shown {
    fn from(learnt: Learnt) -> Self {
        match learnt {
            Learnt::Nothing | Learnt::Lost => Self::Unresolved,
            Learnt::Hidden => Self::Hidden,
            Learnt::Path(path) => Self::Path(path),
        }
    }
}
