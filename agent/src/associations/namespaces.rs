//! What a namespace says of the roles that may be declared in it.

use std::collections::HashSet;
use std::sync::Arc;

use super::Refused;
use super::watched::{Changes, Look};
use crate::apiserver::{Losses, Meta, Place, Shelf, State, View};
use crate::model::{AllowedRoles, Association, Beyond, ServiceAccount};

/// The annotation of a namespace that bounds what is declared in it.
pub const ALLOWED_ROLES: &str = "credlet.dev/allowed-roles";

/// The namespaces that have pods here, each by itself. Cheap to clone.
#[derive(Clone)]
pub struct Namespaces(Shelf<Arc<str>, Meta>);

impl Namespaces {
    /// None yet.
    pub fn new(changes: Changes, losses: Losses) -> Self {
        Self(Shelf::new("namespaces", changes, losses))
    }

    /// The lists, for who follows them.
    pub fn shelf(&self) -> Shelf<Arc<str>, Meta> {
        self.0.clone()
    }

    /// Where a namespace is.
    pub fn place(namespace: &Arc<str>) -> Place {
        Place {
            path: "/api/v1/namespaces".to_owned(),
            fields: Some(format!("metadata.name={namespace}")),
            labels: None,
            view: View::Metadata,
        }
    }

    /// Begins to follow the account's.
    pub fn want(&self, account: &ServiceAccount) {
        self.0.want(&Arc::from(account.namespace()));
    }

    /// Ends to follow those of no account.
    pub fn retain(&self, accounts: &HashSet<ServiceAccount>) {
        let names: HashSet<&str> = accounts.iter().map(ServiceAccount::namespace).collect();
        self.0.retain(|name| names.contains(&**name));
    }

    /// The account's.
    pub fn of(&self, account: &ServiceAccount) -> Result<Arc<Meta>, Look> {
        let name: Arc<str> = account.namespace().into();
        self.0.look(&name, |state| match state {
            State::Known(known) => known
                .get(&*name)
                .cloned()
                .ok_or_else(|| Look::Failing(format!("there is no namespace {name}"))),
            State::Unknown(None) => Err(Look::Waiting),
            State::Unknown(Some(why)) | State::Absent(why) => {
                Err(Look::Failing(format!("the namespace {name}: {why}")))
            }
        })
    }

    /// The association, if it may be declared in the account's namespace.
    pub fn guard(
        &self,
        account: &ServiceAccount,
        origin: &'static str,
        association: Arc<Association>,
    ) -> Look {
        match self.of(account) {
            Ok(namespace) => permit(&namespace, account, origin, association),
            Err(look) => look,
        }
    }
}

/// The association, if its account's namespace allows it.
pub fn permit(
    namespace: &Meta,
    account: &ServiceAccount,
    origin: &'static str,
    association: Arc<Association>,
) -> Look {
    let Some(text) = namespace.annotations.get(ALLOWED_ROLES) else {
        return Look::Is(association);
    };
    let by = "its namespace's annotation credlet.dev/allowed-roles";
    match AllowedRoles::parse(text) {
        Ok(allowed) => match allowed.check(&association) {
            Ok(()) => Look::Is(association),
            Err(beyond) => Look::Refused(Arc::new(Refused::beyond(account, beyond, by))),
        },
        Err(why) => Look::unusable(account, origin, format!("{by} is malformed: {why}")),
    }
}

impl Refused {
    /// For a role that `by` does not allow.
    pub fn beyond(account: &ServiceAccount, beyond: Beyond, by: &'static str) -> Self {
        let role = match beyond {
            Beyond::Role(role) => Some(role),
            Beyond::Hidden => None,
        };
        Self::NotAllowed {
            account: account.clone(),
            role,
            by,
        }
    }
}
