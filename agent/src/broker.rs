//! Who, then which, then what: the only place that knows all three.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::{BoxFuture, select_all};
use futures::{FutureExt, TryFutureExt};
use tokio::time::Instant;

use crate::associations::{self, Associations, Known, Learns};
use crate::clock::Moment;
use crate::credentials::{self, Key, Vault};
use crate::events::Notices;
use crate::identity::{self, Caller, Identity, Origin};
use crate::model::{Association, Credentials, SessionScope, Subject};

mod accounts;
mod tokens;
mod told;

pub use accounts::Account;
pub use tokens::Lent;
pub use told::Absence;

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

/// What the doors ask: who is calling, and what that caller gets. Each question
/// has a form that is a look at what is known already, which is all that nearly
/// every request takes, and one that waits.
pub trait Answers: Send + Sync {
    /// The moment at which a request `arrived`, just now.
    fn moment(&self, arrived: Instant) -> Moment;

    /// Who calls from `origin`, with a token or without, if that is known.
    fn caller_at_once(&self, origin: &Origin, token: Option<&str>, now: Moment) -> Option<Caller>;

    /// Who calls, or why that is not known at `deadline` at the latest.
    fn caller<'a>(
        &'a self,
        origin: &'a Origin,
        token: Option<&'a str>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Caller, Error>>;

    /// The caller's credentials, if all about them is known.
    fn credentials_at_once(&self, caller: &Caller, now: Moment) -> Option<Arc<Credentials>>;

    /// The caller's credentials, or why there are none at `deadline` at the latest.
    fn credentials<'a>(
        &'a self,
        caller: &'a Caller,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Arc<Credentials>, Error>>;
}

/// Answers the callers of a node.
pub struct Broker {
    identity: Identity,
    associations: Associations,
    vault: Vault,
    notices: Option<(Notices, Absence)>,
    scope: SessionScope,
}

impl Broker {
    /// Joins the three, with a session for each whom `scope` says.
    pub fn new(
        identity: Identity,
        associations: Associations,
        vault: Vault,
        scope: SessionScope,
    ) -> Self {
        Self {
            identity,
            associations,
            vault,
            notices: None,
            scope,
        }
    }

    /// Has the pods' owners told of what only they can change.
    #[must_use]
    pub fn telling(mut self, notices: Notices, absence: Absence) -> Self {
        self.notices = Some((notices, absence));
        self
    }

    /// The credentials of a caller who is known.
    async fn answer(&self, caller: &Caller, deadline: Instant) -> Result<Arc<Credentials>, Error> {
        let association = self.associations.find(caller.subject(), deadline).await?;
        let key = self.key(caller, association);
        Ok(self.vault.get(&key, deadline).await?)
    }

    /// Keeps ready what the node's pods may ask for, so that a pod's first
    /// request is a hit, and forgets what no pod uses or may use any more.
    ///
    /// Runs for the life of the process: it returns only when what it watches
    /// has gone.
    pub async fn keep_ready(self: Arc<Self>) -> &'static str {
        let mut changes = self.associations.changes();
        changes.push(self.identity.changes());
        let mut used = HashMap::new();
        loop {
            // Seen before looking, so that a change while looking is looked at next.
            for change in &mut changes {
                change.mark_unchanged();
            }
            used = self.prepare(&used);
            let any = select_all(changes.iter_mut().map(|change| Box::pin(change.changed())));
            if any.await.0.is_err() {
                return "the pods or a source of associations are no longer watched";
            }
        }
    }

    /// One turn of [`Self::keep_ready`]: from the associations in use before to
    /// those in use now.
    fn prepare(&self, before: &Used) -> Used {
        let callers = self.identity.callers();
        let subjects = callers.iter().map(|caller| caller.subject().clone());
        let subjects: HashSet<Subject> = subjects.collect();
        self.associations.retain(&subjects);
        let used: Used = subjects
            .into_iter()
            .map(|subject| {
                let association = self.association_of(&subject, before);
                (subject, association)
            })
            .collect();
        let keys = callers.iter().filter_map(|caller| {
            let association = used[caller.subject()].association.clone()?;
            Some(self.key(caller, association))
        });
        let keys: HashSet<Key> = keys.collect();
        self.vault.retain(&keys);
        for key in &keys {
            self.vault.prefetch(key);
        }
        used
    }

    fn association_of(&self, subject: &Subject, before: &Used) -> Use {
        let previous = before.get(subject);
        // Once only: an account without an association would cost its
        // source a call at every change on the node.
        let learns = match previous.map(|previous| previous.learns) {
            None | Some(Learns::Steadily) => self.associations.prefetch(subject),
            Some(Learns::Once) => Learns::Once,
        };
        let association = match self.associations.peek(subject) {
            Known::Is(association) => Some(association),
            Known::None | Known::Refused(_) => None,
            // Not a reason to drop what was good when last heard of.
            Known::Unknown => previous.and_then(|previous| previous.association.clone()),
        };
        Use {
            association,
            learns,
        }
    }

    fn key(&self, caller: &Caller, association: Arc<Association>) -> Key {
        let pod = match self.scope {
            SessionScope::ServiceAccount => None,
            SessionScope::Pod => Some(caller.pod_name().clone()),
        };
        Key {
            account: caller.account().clone(),
            pod,
            association,
        }
    }
}

impl Answers for Broker {
    fn moment(&self, arrived: Instant) -> Moment {
        self.vault.moment(arrived)
    }

    fn caller_at_once(&self, origin: &Origin, token: Option<&str>, now: Moment) -> Option<Caller> {
        self.identity.at_once(origin, token, now.wall)
    }

    fn caller<'a>(
        &'a self,
        origin: &'a Origin,
        token: Option<&'a str>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Caller, Error>> {
        let caller = self.identity.caller(origin, token, deadline);
        caller.err_into().boxed()
    }

    fn credentials_at_once(&self, caller: &Caller, now: Moment) -> Option<Arc<Credentials>> {
        let association = match self.associations.peek(caller.subject()) {
            Known::Is(association) => association,
            Known::None | Known::Refused(_) | Known::Unknown => return None,
        };
        self.vault.at_once(&self.key(caller, association), now)
    }

    fn credentials<'a>(
        &'a self,
        caller: &'a Caller,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Arc<Credentials>, Error>> {
        let answer = async move {
            let answer = self.answer(caller, deadline).await;
            if let (Err(error), Some((notices, absence))) = (&answer, &self.notices) {
                told::tell(notices, *absence, caller, error);
            }
            answer
        };
        answer.boxed()
    }
}

/// The accounts of the node's live pods, and the roles that pods name for
/// themselves, each with the association that these pods use, as far as known.
type Used = HashMap<Subject, Use>;

struct Use {
    association: Option<Arc<Association>>,
    /// Steadily: sources further behind have still to be asked.
    learns: Learns,
}
