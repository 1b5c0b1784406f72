//! What is to be written, so that the cluster has what was declared elsewhere.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::mirrored::{Feed, Mirrored, Origin, Wanted};
use crate::model::ServiceAccount;

/// What is known of an association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is this.
    Is(Wanted),
    /// It is not there any more.
    Gone,
}

/// One write.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// This is missing.
    Create(Wanted),
    /// This is to be that.
    Replace(Arc<Mirrored>, Wanted),
    /// This is the image of nothing.
    Delete(Arc<Mirrored>),
}

/// What is there, and what is missing.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The writes, in no order.
    pub(super) steps: Vec<Step>,
    /// Objects that are as they are to be, or are not to be touched.
    pub(super) mirrored: usize,
    /// Associations whose namespace is not there.
    pub(super) waiting: usize,
    /// Associations of accounts that another one counts for.
    pub(super) shadowed: usize,
}

/// All that a plan is made of.
pub(super) struct Picture<'a> {
    /// What the feeds know, in all their associations.
    pub(super) known: &'a HashMap<Origin, Known>,
    /// The feeds that there are, if each of them has told all it knows.
    pub(super) feeds: Option<&'a [Feed]>,
    /// The objects that are there, by namespace and name.
    pub(super) there: &'a BTreeMap<String, Arc<Mirrored>>,
    /// Whether a namespace is there.
    pub(super) has_namespace: &'a dyn Fn(&str) -> bool,
}

impl Picture<'_> {
    /// The writes that are due.
    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        let first = self.first_of_each_account();
        let mut kept: HashSet<String> = HashSet::new();
        for wanted in self.wanted() {
            if first.get(&wanted.account) != Some(&wanted) {
                plan.shadowed += 1;
                continue;
            }
            let key = wanted.key();
            match self.there.get(&key) {
                Some(there) if there.is_as(wanted) => plan.mirrored += 1,
                Some(there) => {
                    let step = Step::Replace(Arc::clone(there), wanted.clone());
                    plan.steps.push(step);
                }
                None if !(self.has_namespace)(wanted.account.namespace()) => plan.waiting += 1,
                None => plan.steps.push(Step::Create(wanted.clone())),
            }
            kept.insert(key);
        }
        for (key, there) in self.there {
            if kept.contains(key) {
                continue;
            }
            if self.is_stale(there) {
                plan.steps.push(Step::Delete(Arc::clone(there)));
            } else {
                plan.mirrored += 1;
            }
        }
        plan
    }

    fn wanted(&self) -> impl Iterator<Item = &Wanted> {
        self.known.values().filter_map(|known| match known {
            Known::Is(wanted) => Some(wanted),
            Known::Gone => None,
        })
    }

    fn first_of_each_account(&self) -> HashMap<&ServiceAccount, &Wanted> {
        let mut first: HashMap<&ServiceAccount, &Wanted> = HashMap::new();
        for wanted in self.wanted() {
            let best = first.entry(&wanted.account).or_insert(wanted);
            if (&wanted.rank, &wanted.origin) < (&best.rank, &best.origin) {
                *best = wanted;
            }
        }
        first
    }

    /// Whether an object that nothing known wants is to go. What is not known yet
    /// may want it.
    fn is_stale(&self, there: &Mirrored) -> bool {
        let Some(origin) = &there.origin else {
            return self.feeds.is_some();
        };
        match self.known.get(origin) {
            Some(Known::Gone | Known::Is(_)) => true,
            None => match (self.feeds, origin.feed()) {
                (Some(feeds), Some(feed)) => !feeds.contains(&feed),
                (Some(_), None) => true,
                (None, _) => false,
            },
        }
    }
}
