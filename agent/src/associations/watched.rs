//! What all sources share that are lists of the API server's.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::HashMap;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{Error, Health, Known, Learns, Level, Refused, Source};
use crate::apiserver::{State, Survey};
use crate::clock::Moment;
use crate::config::Presence;
use crate::model::{Association, ServiceAccount};

/// Counts on whenever an answer of any of these sources may have changed.
pub type Changes = Arc<watch::Sender<u64>>;

/// What is declared for an account, as far as it is known.
#[derive(Clone, Debug)]
pub enum Look {
    /// This.
    Is(Arc<Association>),
    /// Nothing.
    None,
    /// What cannot be used, or may not.
    Refused(Arc<Refused>),
    /// The API server has not said yet.
    Waiting,
    /// The API server cannot say, and why.
    Failing(String),
}

impl Look {
    /// An association of this source's that cannot be used, and why.
    pub(super) fn unusable(account: &ServiceAccount, origin: &'static str, why: String) -> Self {
        Self::Refused(Arc::new(Refused::Unusable {
            account: account.clone(),
            origin,
            why,
        }))
    }
}

/// The objects of a list, or what is to be said of accounts without it: that
/// there is none where the cluster does not have the list, or not for the agent,
/// and need not.
pub(super) fn objects<O>(
    state: &State<O>,
    presence: Presence,
) -> Result<&BTreeMap<String, Arc<O>>, Look> {
    match (state, presence) {
        (State::Known(known), _) => Ok(known),
        (State::Unknown(None), _) => Err(Look::Waiting),
        (State::Absent(_), Presence::Optional) => Err(Look::None),
        (State::Unknown(Some(why)), _) | (State::Absent(why), Presence::Required) => {
            Err(Look::Failing(why.to_string()))
        }
    }
}

/// Lists of the API server's in which associations are declared.
pub trait Declared: Send + Sync + 'static {
    /// For whom.
    type Subject: Clone + Eq + Hash + Send + Sync + 'static;

    /// The source's name.
    const NAME: &'static str;

    /// What the lists say.
    fn look(&self, subject: &Self::Subject) -> Look;

    /// Begins to follow the lists that can say more.
    fn want(&self, subject: &Self::Subject);

    /// Ends to follow what is of no use to these.
    fn retain(&self, subjects: &HashSet<Self::Subject>);

    /// How the lists stand, each kind for itself, and whether they must be there.
    fn survey(&self) -> (Vec<Survey>, Presence);
}

/// How a source of these lists stands.
fn health(lists: Vec<Survey>, presence: Presence, now: Moment) -> Health {
    let mut health = Health {
        level: Level::Good,
        known: 0,
        as_of: None,
        why: None,
    };
    // The worst of them, of two alike the first.
    let mut worst = 0;
    for list in lists {
        let Survey {
            objects,
            heard,
            absent,
            unknown,
        } = list;
        health.known += objects;
        let heard = heard.map(|at| now.wall_at(at));
        health.as_of = health.as_of.into_iter().chain(heard).min();
        let (bad, level, why) = match (unknown, absent, presence) {
            (Some(Some(why)), ..) | (_, Some(why), Presence::Required) => {
                (3, Level::Failing, Some(why))
            }
            (Some(None), None, _) => (2, Level::Waiting, None),
            (_, Some(why), Presence::Optional) => (1, Level::Absent, Some(why)),
            (None, None, _) => (0, Level::Good, None),
        };
        if bad > worst {
            worst = bad;
            (health.level, health.why) = (level, why.map(|why| why.to_string()));
        }
    }
    health
}

/// Such a source. What was found is remembered until a list changes, so that a
/// request costs no search.
pub struct Watched<D: Declared> {
    declared: Arc<D>,
    changes: Changes,
    found: RwLock<HashMap<D::Subject, (u64, Look)>>,
}

impl<D: Declared> Watched<D> {
    /// Finds in `declared`, whose lists tell `changes`.
    pub fn new(declared: Arc<D>, changes: Changes) -> Self {
        Self {
            declared,
            changes,
            found: RwLock::default(),
        }
    }

    fn look(&self, subject: &D::Subject) -> Look {
        // Before the look: what changes meanwhile is looked at again.
        let at = *self.changes.borrow();
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, look)) = found.get(subject)
            && *seen == at
        {
            return look.clone();
        }
        drop(found);
        let look = self.declared.look(subject);
        if !matches!(look, Look::Waiting) {
            let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
            found.insert(subject.clone(), (at, look.clone()));
        }
        look
    }
}

impl<D: Declared> Source<D::Subject> for Watched<D> {
    fn find<'a>(
        &'a self,
        subject: &'a D::Subject,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Arc<Association>>, Error>> {
        async move {
            let mut changes = self.changes.subscribe();
            self.declared.want(subject);
            loop {
                changes.mark_unchanged();
                match self.look(subject) {
                    Look::Is(association) => return Ok(Some(association)),
                    Look::None => return Ok(None),
                    Look::Refused(why) => return Err(Error::Refused(why)),
                    Look::Failing(why) => {
                        return Err(Error::Source {
                            origin: D::NAME,
                            why,
                        });
                    }
                    Look::Waiting => {}
                }
                match timeout_at(deadline, changes.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return Err(Error::Deadline { origin: D::NAME }),
                }
            }
        }
        .boxed()
    }

    fn peek(&self, subject: &D::Subject) -> Known {
        match self.look(subject) {
            Look::Is(association) => Known::Is(association),
            Look::None => Known::None,
            Look::Refused(why) => Known::Refused(why),
            Look::Waiting | Look::Failing(_) => Known::Unknown,
        }
    }

    fn prefetch(&self, subject: &D::Subject) {
        self.declared.want(subject);
    }

    fn retain(&self, subjects: &HashSet<D::Subject>) {
        self.declared.retain(subjects);
        let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
        found.retain(|subject, _| subjects.contains(subject));
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn name(&self) -> &'static str {
        D::NAME
    }

    fn health(&self, now: Moment) -> Health {
        let (lists, presence) = self.declared.survey();
        health(lists, presence, now)
    }

    fn learns(&self) -> Learns {
        Learns::Steadily
    }
}
