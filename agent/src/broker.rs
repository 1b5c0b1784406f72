//! Who, then which, then what: the only place that knows all three.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use crate::associations::{self, Associations};
use crate::credentials::{self, Key, Vault};
use crate::identity::{self, Identity};
use crate::model::Credentials;

/// Why a caller gets no credentials: which of the three questions had no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Who is calling?
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// Which role may it use?
    #[error(transparent)]
    Association(#[from] associations::Error),
    /// What are the role's credentials?
    #[error(transparent)]
    Credentials(#[from] credentials::Error),
}

/// Answers callers.
pub struct Broker {
    identity: Identity,
    associations: Associations,
    vault: Vault,
}

impl Broker {
    /// Joins the three.
    pub fn new(identity: Identity, associations: Associations, vault: Vault) -> Self {
        Self {
            identity,
            associations,
            vault,
        }
    }

    /// The credentials of the pod that calls from `peer` on a connection to
    /// `local`, or why there are none, at `deadline` at the latest.
    pub async fn credentials(
        &self,
        peer: IpAddr,
        local: IpAddr,
        deadline: Instant,
    ) -> Result<Arc<Credentials>, Error> {
        let caller = self.identity.caller(peer, local, deadline).await?;
        let association = self.associations.find(caller.account(), deadline).await?;
        let key = Key {
            account: caller.account().clone(),
            association,
        };
        Ok(self.vault.get(&key, deadline).await?)
    }
}
