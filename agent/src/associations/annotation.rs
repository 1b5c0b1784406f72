//! Associations from annotations of service accounts, as for IRSA.

use std::collections::HashSet;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;

use super::namespaces::Namespaces;
use super::spec::{Defaults, Spec};
use super::watched::{Changes, Declared, Look, Watched, objects};
use crate::apiserver::{Client, Limits, Losses, Meta, Place, Shelf, Standing, Survey, View};
use crate::config::Presence;
use crate::model::{Association, Grant, Means, ServiceAccount, StsEndpoints};

mod own;
#[cfg(test)]
mod tests;

pub use own::{OwnRoles, named};

const NAME: &str = "annotation";

/// The annotation that says by which exchange, whatever the prefix of the others.
const EXCHANGE: &str = "credlet.dev/exchange";

/// The lifetimes of tokens that the EKS webhook takes, in seconds. Nothing is
/// done with them here: the pod's own token is used, whose life is the pod's matter.
const TOKEN_EXPIRATION: std::ops::RangeInclusive<u32> = 600..=86400;

/// The service accounts that have pods here, and what bounds their roles.
pub struct Annotations {
    accounts: Shelf<ServiceAccount, Meta>,
    namespaces: Namespaces,
    prefix: String,
    defaults: Defaults,
    presence: Presence,
}

/// The source, and what is to be done for it.
pub struct Opened {
    /// For metrics.
    pub annotations: Arc<Annotations>,
    /// What accounts are annotated with.
    pub accounts: Watched<Annotations>,
    /// What pods are.
    pub pods: Watched<OwnRoles>,
    /// Follows the accounts; returns only if that breaks.
    pub tend: BoxFuture<'static, &'static str>,
}

impl Annotations {
    /// The source, for accounts and for pods, and what follows the accounts for it.
    pub fn open(
        client: Client,
        prefix: &str,
        defaults: Defaults,
        presence: Presence,
        namespaces: Namespaces,
        changes: Changes,
        losses: Losses,
    ) -> Opened {
        let accounts = Shelf::new("service accounts", Arc::clone(&changes), losses);
        let tend = accounts.clone().tend(client, Limits::default(), place);
        let annotations = Arc::new(Self {
            accounts,
            namespaces,
            prefix: prefix.to_owned(),
            defaults,
            presence,
        });
        let pods = Arc::new(OwnRoles(Arc::clone(&annotations)));
        Opened {
            accounts: Watched::new(Arc::clone(&annotations), Arc::clone(&changes)),
            pods: Watched::new(pods, changes),
            tend: tend.boxed(),
            annotations,
        }
    }

    /// How many accounts are known.
    pub fn standing(&self) -> Standing {
        self.accounts.standing()
    }

    fn read(&self, meta: &Meta) -> Result<Option<Association>, String> {
        read(meta, &self.prefix, &self.defaults)
    }
}

/// What an account is annotated with, by annotations of this prefix, or why it
/// cannot be used.
pub fn read(meta: &Meta, prefix: &str, defaults: &Defaults) -> Result<Option<Association>, String> {
    let get = |what: &str| {
        let key = format!("{prefix}/{what}");
        meta.annotations.get(&key).map(|text| text.trim())
    };
    let exchange = meta.annotations.get(EXCHANGE).map(|text| text.trim());
    let role = get("role-arn").filter(|role| !role.is_empty());
    if role.is_none() && exchange != Some("eks-auth") {
        return Ok(None);
    }
    let audience = get("audience").map_or_else(|| defaults.audience.clone(), Arc::from);
    let defaults = Defaults {
        means: Some(Means::WebIdentity {
            audience: Arc::clone(&audience),
        }),
        audience,
        scope: defaults.scope,
    };
    if defaults.audience.is_empty() {
        return Err("audience is empty".to_owned());
    }
    let endpoints = match get("sts-regional-endpoints") {
        None => None,
        Some("true") => Some(StsEndpoints::Regional),
        Some("false") => Some(StsEndpoints::Legacy),
        Some(_) => return Err("sts-regional-endpoints is neither true nor false".to_owned()),
    };
    if let Some(seconds) = get("token-expiration") {
        let fits = seconds
            .parse()
            .is_ok_and(|it| TOKEN_EXPIRATION.contains(&it));
        if !fits {
            return Err("token-expiration is not 600 to 86400 seconds".to_owned());
        }
    }
    let mut fields = json!({});
    if let Some(role) = role {
        fields["roleArn"] = role.into();
    }
    if let Some(exchange) = exchange {
        fields["exchange"] = exchange.into();
    }
    let spec: Spec = serde_json::from_value(fields).map_err(|error| error.to_string())?;
    let association = spec.accept(&defaults).map_err(|fault| fault.to_string())?;
    Ok(Some(match association {
        Association::Role(grant) => Association::Role(Grant { endpoints, ..grant }),
        Association::EksAuth => Association::EksAuth,
    }))
}

impl Declared for Annotations {
    type Subject = ServiceAccount;

    const NAME: &'static str = NAME;

    fn look(&self, account: &ServiceAccount) -> Look {
        let found = self.accounts.look(account, |state| {
            let known = objects(state, self.presence)?;
            Ok(known.get(account.name()).cloned())
        });
        let meta = match found {
            Ok(Some(meta)) => meta,
            Ok(None) => return Look::None,
            Err(look) => return look,
        };
        match self.read(&meta) {
            Ok(None) => Look::None,
            Ok(Some(association)) => self.namespaces.guard(account, NAME, Arc::new(association)),
            Err(why) => Look::unusable(account, NAME, why),
        }
    }

    fn want(&self, account: &ServiceAccount) {
        self.accounts.want(account);
        self.namespaces.want(account);
    }

    fn retain(&self, accounts: &HashSet<ServiceAccount>) {
        self.accounts.retain(|account| accounts.contains(account));
        self.namespaces.retain(accounts);
    }

    fn survey(&self) -> (Vec<Survey>, Presence) {
        (vec![self.accounts.survey()], self.presence)
    }
}

fn place(account: &ServiceAccount) -> Place {
    Place {
        path: format!("/api/v1/namespaces/{}/serviceaccounts", account.namespace()),
        fields: Some(format!("metadata.name={}", account.name())),
        labels: None,
        view: View::Metadata,
    }
}
