//! Which role: the sources, their precedence, and what they answered last.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::{Association, ServiceAccount};

pub mod eks;
pub mod eks_auth;
pub mod file;
pub mod spec;

#[cfg(test)]
mod tests;

/// One place where associations are declared.
pub trait Source: Send + Sync {
    /// The account's association; `Ok(None)` only if the source said that there is none.
    fn find<'a>(
        &'a self,
        account: &'a ServiceAccount,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Arc<Association>>, Error>>;

    /// What the source would say without asking anybody.
    fn peek(&self, account: &ServiceAccount) -> Known;

    /// Learns the account's association, for later. Does not wait.
    fn prefetch(&self, account: &ServiceAccount);

    /// Forgets all accounts but these.
    fn retain(&self, accounts: &HashSet<ServiceAccount>);

    /// Changes whenever an answer may have changed.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// What a source knows without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The account has this association.
    Is(Arc<Association>),
    /// The account has none here.
    None,
    /// Not known, so nothing may be concluded.
    Unknown,
}

/// Why no association was found.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Every source answered, and none has one.
    #[error("no association for the service account {0}")]
    None(ServiceAccount),
    /// A source did not answer, so a later one must not be asked.
    #[error("the association source {origin} failed: {why}")]
    Source {
        /// The source's name.
        origin: &'static str,
        /// What failed.
        why: String,
    },
    /// A source did not answer in time; it is still being asked.
    #[error("the association source {origin} did not answer in time")]
    Deadline {
        /// The source's name.
        origin: &'static str,
    },
}

/// All sources, in order of precedence.
pub struct Associations {
    sources: Vec<Box<dyn Source>>,
}

impl Associations {
    /// The earlier a source, the more it counts.
    pub fn new(sources: Vec<Box<dyn Source>>) -> Self {
        Self { sources }
    }

    /// The first source that knows one wins; one that fails ends the search,
    /// because a later one's answer might be the wrong role.
    pub async fn find(
        &self,
        account: &ServiceAccount,
        deadline: Instant,
    ) -> Result<Arc<Association>, Error> {
        for source in &self.sources {
            if let Some(association) = source.find(account, deadline).await? {
                return Ok(association);
            }
        }
        Err(Error::None(account.clone()))
    }

    /// As [`Self::find`], from what is known already.
    pub fn peek(&self, account: &ServiceAccount) -> Known {
        let answers = self.sources.iter().map(|source| source.peek(account));
        let decisive = |known: &Known| match known {
            Known::Is(_) | Known::Unknown => true,
            Known::None => false,
        };
        answers.into_iter().find(decisive).unwrap_or(Known::None)
    }

    /// Learns the account's association, for later. Does not wait, so a source
    /// behind one that has to be asked first is asked by a later call.
    pub fn prefetch(&self, account: &ServiceAccount) {
        for source in &self.sources {
            match source.peek(account) {
                Known::Is(_) => return,
                Known::None => {}
                Known::Unknown => return source.prefetch(account),
            }
        }
    }

    /// Forgets all accounts but these.
    pub fn retain(&self, accounts: &HashSet<ServiceAccount>) {
        for source in &self.sources {
            source.retain(accounts);
        }
    }

    /// One receiver a source: each changes whenever an answer may have changed.
    pub fn changes(&self) -> Vec<watch::Receiver<u64>> {
        let changes = self.sources.iter().map(|source| source.changes());
        changes.collect()
    }
}
