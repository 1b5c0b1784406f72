//! Which role: the sources, their precedence, and what they answered last.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Moment;
use crate::model::{AllowedRoles, Association, OwnRole, RoleArn, ServiceAccount, Subject};

pub mod annotation;
pub mod crd;
pub mod eks;
pub mod eks_auth;
pub mod file;
pub mod namespaces;
pub mod spec;
pub mod watched;

#[cfg(test)]
mod tests;

/// One place where associations are declared, of accounts for the most part.
pub trait Source<S = ServiceAccount>: Send + Sync {
    /// The subject's association; `Ok(None)` only if the source said that there is none.
    fn find<'a>(
        &'a self,
        subject: &'a S,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Arc<Association>>, Error>>;

    /// What the source would say without asking anybody.
    fn peek(&self, subject: &S) -> Known;

    /// Learns the subject's association, for later. Does not wait.
    fn prefetch(&self, subject: &S);

    /// Forgets all subjects but these.
    fn retain(&self, subjects: &HashSet<S>);

    /// Changes whenever an answer may have changed.
    fn changes(&self) -> watch::Receiver<u64>;

    /// What it is called where sources are listed.
    fn name(&self) -> &'static str;

    /// How it stands.
    fn health(&self, now: Moment) -> Health;

    /// What follows when [`Self::prefetch`] has been asked for once.
    fn learns(&self) -> Learns {
        Learns::Once
    }
}

/// How a source stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether its answers can be had.
    pub level: Level,
    /// How many declarations it knows that may concern pods of this node.
    pub known: usize,
    /// When it was last heard; of several parts, that of which it is longest ago.
    pub as_of: Option<SystemTime>,
    /// What is wrong, where something is.
    pub why: Option<String>,
}

/// Whether a source's answers can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// They can.
    Good,
    /// The cluster does not have it, or not for the agent: it is as if it were empty.
    Absent,
    /// Not heard yet.
    Waiting,
    /// What was known is answered still, and the rest is not.
    Failing,
}

/// How a source learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learns {
    /// By asking, each time that somebody does.
    Once,
    /// By a watch: what is unknown becomes known by itself, and then those
    /// behind it can be asked.
    Steadily,
}

/// What a source knows without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The account has this association.
    Is(Arc<Association>),
    /// The account has none here.
    None,
    /// The account has one here that cannot be used, or may not.
    Refused(Arc<Refused>),
    /// Not known, so nothing may be concluded.
    Unknown,
}

impl Known {
    /// Whether later sources are not asked.
    pub fn is_decisive(&self) -> bool {
        match self {
            Self::Is(_) | Self::Refused(_) | Self::Unknown => true,
            Self::None => false,
        }
    }
}

/// Why an association that is there is of no use. It hides those of later
/// sources: whoever wrote it is to hear of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The role is beyond what the account may use.
    #[error(
        "the service account {account} may not use {}: {by} does not allow it",
        role.as_ref().map_or("a role that only EKS knows", RoleArn::as_str)
    )]
    NotAllowed {
        /// Whose association it is.
        account: ServiceAccount,
        /// The role; `None` where only EKS knows it.
        role: Option<RoleArn>,
        /// What bounds the roles.
        by: &'static str,
    },
    /// It cannot be understood, or AWS could not be asked for it.
    #[error("the association of {account} in {origin} cannot be used: {why}")]
    Unusable {
        /// Whose association it is.
        account: ServiceAccount,
        /// The source.
        origin: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// Why no association was found.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Every source answered, and none has one.
    #[error("no association for the service account {0}")]
    None(ServiceAccount),
    /// There is one, but it is of no use.
    #[error(transparent)]
    Refused(Arc<Refused>),
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
    /// Before all others, for those that name a role for themselves.
    own: Option<Box<dyn Source<OwnRole>>>,
    sources: Vec<Box<dyn Source>>,
    allowed: Option<AllowedRoles>,
}

/// What bounds the roles of all sources, as it is told.
pub const BY_FLAG: &str = "--allowed-roles";

impl Associations {
    /// The earlier a source, the more it counts.
    pub fn new(sources: Vec<Box<dyn Source>>, allowed: Option<AllowedRoles>) -> Self {
        Self {
            own: None,
            sources,
            allowed,
        }
    }

    /// Has pods name roles for themselves, if there is a source of these; else
    /// what they name is as if it were not there.
    #[must_use]
    pub fn naming(self, own: Option<Box<dyn Source<OwnRole>>>) -> Self {
        Self { own, ..self }
    }

    fn own<'a>(&'a self, subject: &'a Subject) -> Option<(&'a dyn Source<OwnRole>, &'a OwnRole)> {
        match subject {
            Subject::Account(_) => None,
            Subject::Own(role) => self.own.as_deref().map(|own| (own, role)),
        }
    }

    /// A pattern or two against an ARN: no more than a look-up would cost.
    fn check(
        &self,
        account: &ServiceAccount,
        found: Arc<Association>,
    ) -> Result<Arc<Association>, Arc<Refused>> {
        let Some(allowed) = &self.allowed else {
            return Ok(found);
        };
        let refused = |beyond| Arc::new(Refused::beyond(account, beyond, BY_FLAG));
        allowed.check(&found).map(|()| found).map_err(refused)
    }

    /// The first source that knows one wins; one that fails ends the search,
    /// because a later one's answer might be the wrong role.
    pub async fn find(
        &self,
        subject: &Subject,
        deadline: Instant,
    ) -> Result<Arc<Association>, Error> {
        let account = subject.account();
        let mut found = match self.own(subject) {
            Some((own, role)) => own.find(role, deadline).await?,
            None => None,
        };
        for source in &self.sources {
            if found.is_some() {
                break;
            }
            found = source.find(account, deadline).await?;
        }
        let found = found.ok_or_else(|| Error::None(account.clone()))?;
        self.check(account, found).map_err(Error::Refused)
    }

    /// As [`Self::find`], from what is known already.
    pub fn peek(&self, subject: &Subject) -> Known {
        let account = subject.account();
        let own = self.own(subject).map(|(own, role)| own.peek(role));
        let of_account = self.sources.iter().map(|source| source.peek(account));
        let mut answers = own.into_iter().chain(of_account);
        let decisive = answers.find(Known::is_decisive);
        self.checked(account, decisive.unwrap_or(Known::None))
    }

    fn checked(&self, account: &ServiceAccount, known: Known) -> Known {
        match known {
            Known::Is(association) => match self.check(account, association) {
                Ok(association) => Known::Is(association),
                Err(refused) => Known::Refused(refused),
            },
            Known::None | Known::Refused(_) | Known::Unknown => known,
        }
    }

    /// What each source knows of the subject, by the source's name and in order of
    /// precedence, whatever those before it say.
    pub fn each(&self, subject: &Subject) -> Vec<(&'static str, Known)> {
        let account = subject.account();
        let own = self.own(subject);
        let own = own.map(|(own, role)| (own.name(), own.peek(role)));
        let of_account = self.sources.iter();
        let of_account = of_account.map(|source| (source.name(), source.peek(account)));
        let all = own.into_iter().chain(of_account);
        all.map(|(name, known)| (name, self.checked(account, known)))
            .collect()
    }

    /// How each source stands, by its name and in order of precedence.
    pub fn health(&self, now: Moment) -> Vec<(&'static str, Health)> {
        let sources = self.sources.iter();
        sources
            .map(|source| (source.name(), source.health(now)))
            .collect()
    }

    /// Learns the subject's association, for later. Does not wait: where a
    /// source that learns steadily does not know yet, those behind it are asked
    /// by the next call, after a change.
    pub fn prefetch(&self, subject: &Subject) -> Learns {
        let own = self.own(subject);
        if let Some(learns) = own.and_then(|(own, role)| learn(own, role)) {
            return learns;
        }
        let account = subject.account();
        let mut of_account = self.sources.iter();
        let first = of_account.find_map(|source| learn(&**source, account));
        first.unwrap_or(Learns::Once)
    }

    /// Forgets all subjects but these.
    pub fn retain(&self, subjects: &HashSet<Subject>) {
        let accounts = subjects.iter().map(|subject| subject.account().clone());
        let accounts: HashSet<ServiceAccount> = accounts.collect();
        for source in &self.sources {
            source.retain(&accounts);
        }
        if let Some(own) = &self.own {
            let roles = subjects.iter().filter_map(|subject| match subject {
                Subject::Account(_) => None,
                Subject::Own(role) => Some(role.clone()),
            });
            own.retain(&roles.collect());
        }
    }

    /// One receiver a source: each changes whenever an answer may have changed.
    pub fn changes(&self) -> Vec<watch::Receiver<u64>> {
        let own = self.own.iter().map(|own| own.changes());
        let others = self.sources.iter().map(|source| source.changes());
        own.chain(others).collect()
    }
}

/// Has the source learn what it does not know; `None` if those behind it are to
/// be asked.
fn learn<S>(source: &dyn Source<S>, subject: &S) -> Option<Learns> {
    match source.peek(subject) {
        Known::Is(_) | Known::Refused(_) => Some(Learns::Once),
        Known::None => None,
        Known::Unknown => {
            source.prefetch(subject);
            Some(source.learns())
        }
    }
}
