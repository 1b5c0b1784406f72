//! What credentials: one session a service account and association, for all of the node.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cache;
use crate::clock::Clock;
use crate::model::{Association, Credentials, ServiceAccount};

pub mod sts;

/// What credentials are of. Pods of one account share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Whose session it is.
    pub account: ServiceAccount,
    /// Which role, and how.
    pub association: Arc<Association>,
}

/// By the account alone: equal keys have equal accounts, and an account has one
/// association at a time.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.account.hash(state);
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {}", self.account, self.association.final_role())
    }
}

/// How credentials come from AWS.
pub trait Exchange: Send + Sync + 'static {
    /// Asks AWS once.
    fn exchange(&self, key: Key) -> BoxFuture<'static, Result<Credentials, Refusal>>;
}

/// Why AWS gave none.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// AWS understood and refuses: the role's trust policy, or a permission.
    #[error("AWS refuses the role: {0}")]
    Denied(String),
    /// AWS asks to come back later.
    #[error("AWS throttles")]
    Throttled,
    /// AWS could not be asked, or failed itself.
    #[error("AWS could not be asked: {0}")]
    Unavailable(String),
    /// AWS answered what cannot be used.
    #[error("AWS answered what cannot be used: {0}")]
    Malformed(&'static str),
}

/// Why there are no credentials.
pub type Error = cache::Error<Refusal>;

/// The node's credentials. Cheap to clone.
#[derive(Clone)]
pub struct Vault {}

impl Vault {
    /// An empty vault, and the future that fills and refreshes it.
    pub fn new(exchange: Arc<dyn Exchange>, clock: Clock) -> (Self, BoxFuture<'static, ()>) {
        todo!()
    }

    /// The key's credentials; see [`cache::Cache::get`] for the deadline.
    pub async fn get(&self, key: &Key, deadline: Instant) -> Result<Arc<Credentials>, Error> {
        todo!()
    }

    /// Fetches them unless they are there or on their way. Does not wait.
    pub fn prefetch(&self, key: &Key) {
        todo!()
    }

    /// Forgets the credentials of every other key.
    pub fn retain(&self, keep: &HashSet<Key>) {
        todo!()
    }
}
