//! Whom a role is given to.

use std::sync::Arc;

use super::ServiceAccount;

/// More than any ARN of a role has.
const LONGEST: usize = 1024;

/// A service account or, of a pod that names a role for itself, that role of the
/// account's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// All pods of the account that name none.
    Account(ServiceAccount),
    /// Those that name this one.
    Own(OwnRole),
}

impl Subject {
    /// The service account, in either case.
    pub fn account(&self) -> &ServiceAccount {
        match self {
            Self::Account(account) => account,
            Self::Own(own) => &own.account,
        }
    }
}

/// A role that a pod names for itself. The text is the pod's: nothing in it is
/// believed yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnRole {
    account: ServiceAccount,
    text: Arc<str>,
}

impl OwnRole {
    /// The annotation of a pod that names it (GKE on AWS, the role of its
    /// emulator of instance metadata).
    pub const ANNOTATION: &str = "gkemulticloud.googleapis.com/aws-imds-emulator-role-arn";

    /// What a pod of this account wrote. Of a text that is too long to be an ARN
    /// as much is kept as shows that.
    pub fn new(account: ServiceAccount, text: &str) -> Self {
        let kept = &text[..text.floor_char_boundary(LONGEST)];
        let text = if kept.len() < text.len() {
            format!("{kept}…").into()
        } else {
            text.into()
        };
        Self { account, text }
    }

    /// The pod's account.
    pub fn account(&self) -> &ServiceAccount {
        &self.account
    }

    /// What should be the ARN of a role.
    pub fn text(&self) -> &str {
        &self.text
    }
}
