//! The pure index: address -> [`Caller`].

use crate::model::{PodUid, ServiceAccount};

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
