//! Who a pod is.

use super::{Flaw, Report};
use crate::model::{PodName, PodUid, ServiceAccount};

/// Proof of a finished look-up: built by the index, or of the pod that this
/// process is in, which there is no need to look up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    pod: PodName,
    account: ServiceAccount,
}

impl Caller {
    pub(super) fn of(report: &Report) -> Result<Self, Flaw> {
        Ok(Self {
            pod: PodName {
                uid: PodUid::new(&report.uid)?,
                name: report.name.as_str().into(),
            },
            account: ServiceAccount::new(&report.namespace, &report.account)?,
        })
    }

    /// The pod that this process is in: the process answers nobody else.
    pub fn own(pod: PodName, account: ServiceAccount) -> Self {
        Self { pod, account }
    }

    /// The calling pod.
    pub fn pod(&self) -> &PodUid {
        &self.pod.uid
    }

    /// Its name, in the namespace of its account.
    pub fn name(&self) -> &str {
        &self.pod.name
    }

    /// Both.
    pub fn pod_name(&self) -> &PodName {
        &self.pod
    }

    /// Its service account.
    pub fn account(&self) -> &ServiceAccount {
        &self.account
    }
}
