//! Who on this node may ask for what, for people.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Broker, Error};
use crate::associations::{Health, Known};
use crate::clock::Moment;
use crate::credentials::Key;
use crate::identity::Caller;
use crate::model::{Credentials, PodName, SessionScope, Subject};

/// The live pods of this node that share a session, or would.
#[derive(Clone, Debug)]
pub struct Account {
    /// The service account, or the role that the pods name for themselves.
    pub subject: Subject,
    /// The one pod, where each has a session of its own.
    pub pod: Option<PodName>,
    /// Their association, as far as it is known, and the source that decides.
    pub known: Known,
    /// As [`Self::known`].
    pub source: Option<&'static str>,
    /// What their credentials are kept under; `None` without an association.
    pub key: Option<Key>,
    /// The pods' names, sorted.
    pub pods: Vec<Arc<str>>,
}

impl Broker {
    /// All of them, by namespace and name. Asks nobody.
    pub fn accounts(&self) -> Vec<Account> {
        let mut pods: HashMap<(Subject, Option<PodName>), Vec<Arc<str>>> = HashMap::new();
        let mut keys = HashMap::new();
        for caller in self.identity.callers() {
            let pod = match self.scope {
                SessionScope::ServiceAccount => None,
                SessionScope::Pod => Some(caller.pod_name().clone()),
            };
            let whose = (caller.subject().clone(), pod);
            let names = pods.entry(whose.clone()).or_default();
            names.push(Arc::clone(&caller.pod_name().name));
            keys.entry(whose).or_insert(caller);
        }
        let account = |((subject, pod), mut names): (_, Vec<_>)| {
            names.sort_unstable();
            let all = self.associations.each(&subject);
            let decisive = all.into_iter().find(|(_, known)| known.is_decisive());
            let (source, known) = match decisive {
                Some((source, known)) => (Some(source), known),
                None => (None, Known::None),
            };
            let whose = (subject, pod);
            let key = match &known {
                Known::Is(association) => Some(self.key(&keys[&whose], Arc::clone(association))),
                Known::None | Known::Refused(_) | Known::Unknown => None,
            };
            let (subject, pod) = whose;
            Account {
                subject,
                pod,
                known,
                source,
                key,
                pods: names,
            }
        };
        let mut accounts: Vec<Account> = pods.into_iter().map(account).collect();
        accounts.sort_by(|one, other| {
            let by = |it: &Account| (it.subject.account().clone(), it.pods.first().cloned());
            by(one).cmp(&by(other))
        });
        accounts
    }

    /// What the pod of that name would be answered if it asked and were known, at
    /// `deadline` at the latest; its owner hears nothing of it. `None` if no such
    /// pod lives on this node.
    pub async fn answer_for(
        &self,
        namespace: &str,
        name: &str,
        deadline: Instant,
    ) -> Option<Result<Arc<Credentials>, Error>> {
        let mut callers = self.identity.callers().into_iter();
        let is_it =
            |caller: &Caller| caller.account().namespace() == namespace && caller.name() == name;
        let caller = callers.find(is_it)?;
        Some(self.answer(&caller, deadline).await)
    }

    /// How each source of associations stands, by name and in order of precedence.
    pub fn sources(&self, now: Moment) -> Vec<(&'static str, Health)> {
        self.associations.health(now)
    }
}
