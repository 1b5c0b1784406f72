//! Who a pod is.

use super::{Flaw, Report};
use crate::model::{PodName, PodUid, ServiceAccount};

/// Whether a pod has asked for instance metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OptIn {
    /// It has, by a label.
    In,
    /// It has not.
    #[default]
    Out,
}

/// Proof of a finished look-up: built by the index, or of the pod that this
/// process is in, which there is no need to look up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    pod: PodName,
    account: ServiceAccount,
    imds: OptIn,
}

impl Caller {
    pub(super) fn of(report: &Report) -> Result<Self, Flaw> {
        Ok(Self {
            pod: PodName {
                uid: PodUid::new(&report.uid)?,
                name: report.name.as_str().into(),
            },
            account: ServiceAccount::new(&report.namespace, &report.account)?,
            imds: OptIn::default(),
        })
    }

    /// The pod that this process is in: the process answers nobody else.
    pub fn own(pod: PodName, account: ServiceAccount) -> Self {
        let imds = OptIn::In;
        Self { pod, account, imds }
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

    /// Whether it has asked for instance metadata.
    pub fn imds(&self) -> OptIn {
        self.imds
    }
}
