//! By which link an address's packets come in, as far as that is sure.

use std::net::IpAddr;

use super::{Book, Learnt, Shown};
use crate::model::PodUid;

/// Where the packets of a pod come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the link of this index: the pod's own, or a bridge that it shares.
    Link(u32),
    /// By one that tells no pod from another: only the address speaks.
    Hidden,
    /// It is not known, or no longer what it was: another pod may have the
    /// address.
    Unsure,
}

impl Book {
    /// The way of an address that this pod owns.
    pub(in crate::identity) fn way(&self, address: IpAddr, pod: &PodUid) -> Way {
        let entry = self.entries.get(&address);
        let sure = entry
            .filter(|entry| entry.pod == *pod && Shown::from(entry.learnt) == entry.shown)
            .map(|entry| entry.learnt);
        match sure {
            Some(Learnt::Path(path)) => Way::Link(path.link),
            Some(Learnt::Hidden) => Way::Hidden,
            Some(Learnt::Nothing | Learnt::Lost) | None => Way::Unsure,
        }
    }
}
