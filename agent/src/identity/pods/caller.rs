//! Who a pod is.

use super::{Flaw, Report};
use crate::model::{OwnRole, PodName, PodUid, ServiceAccount, Subject};

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
    subject: Subject,
    imds: OptIn,
}

impl Caller {
    pub(super) fn of(report: &Report) -> Result<Self, Flaw> {
        let pod = PodName {
            uid: PodUid::new(&report.uid)?,
            name: report.name.as_str().into(),
        };
        let account = ServiceAccount::new(&report.namespace, &report.account)?;
        let subject = match (report.imds, report.own_role.trim()) {
            (OptIn::Out, _) | (OptIn::In, "") => Subject::Account(account),
            (OptIn::In, text) => Subject::Own(OwnRole::new(account, text)),
        };
        Ok(Self {
            pod,
            subject,
            imds: report.imds,
        })
    }

    /// The pod that this process is in: the process answers nobody else, and
    /// that it is there is what opts in to instance metadata.
    pub fn own(pod: PodName, account: ServiceAccount) -> Self {
        Self {
            pod,
            subject: Subject::Account(account),
            imds: OptIn::In,
        }
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
        self.subject.account()
    }

    /// Whom its role is given to: its account or, if it has opted in to instance
    /// metadata and names a role for itself, that.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether it has asked for instance metadata.
    pub fn imds(&self) -> OptIn {
        self.imds
    }

    /// Whether the other is this pod, whatever has changed of it since.
    pub fn is(&self, other: &Self) -> bool {
        let Self {
            pod,
            subject,
            imds: _,
        } = self;
        *pod == other.pod && subject.account() == other.account()
    }
}
