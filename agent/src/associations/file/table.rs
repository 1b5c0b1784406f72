//! What a file says: entries for accounts, and entries for patterns of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Association, Glob, Rank, ServiceAccount};

/// The entries of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    exact: HashMap<ServiceAccount, Arc<Association>>,
    /// The most specific first, and of equals the first in the file.
    patterns: Vec<(Pattern, Arc<Association>)>,
}

/// Of namespaces and service accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) namespace: Glob,
    pub(super) name: Glob,
}

/// Whom an entry is for.
pub(super) enum Whose {
    Account(ServiceAccount),
    Accounts(Pattern),
}

impl Pattern {
    fn rank(&self) -> (Rank, Rank) {
        (self.namespace.rank(), self.name.rank())
    }

    fn fits(&self, account: &ServiceAccount) -> bool {
        self.namespace.matches(account.namespace()) && self.name.matches(account.name())
    }
}

impl Table {
    /// The account's own entry, else that of the most specific pattern.
    pub fn get(&self, account: &ServiceAccount) -> Option<&Arc<Association>> {
        self.exact.get(account).or_else(|| {
            let first = self.patterns.iter().find(|(it, _)| it.fits(account));
            first.map(|(_, association)| association)
        })
    }

    /// All entries that are for the account, as a person would name them; the
    /// first counts.
    pub fn matching<'a>(
        &'a self,
        account: &'a ServiceAccount,
    ) -> impl Iterator<Item = (String, &'a Arc<Association>)> {
        let exact = self.exact.get(account);
        let exact = exact.map(|association| (account.to_string(), association));
        let fits = self.patterns.iter().filter(|(it, _)| it.fits(account));
        let fits = fits.map(|(it, association)| {
            let Pattern { namespace, name } = it;
            (format!("{namespace}/{name}"), association)
        });
        exact.into_iter().chain(fits)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.exact.len() + self.patterns.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the entries are of, in no order.
    pub fn associations(&self) -> impl Iterator<Item = &Association> {
        let patterns = self.patterns.iter().map(|(_, association)| association);
        self.exact.values().chain(patterns).map(|it| &**it)
    }

    pub(super) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Refuses a second entry for the same.
    pub(super) fn insert(&mut self, whose: Whose, association: Association) -> Result<(), String> {
        let association = Arc::new(association);
        match whose {
            Whose::Account(account) => {
                if self.exact.contains_key(&account) {
                    return Err(account.to_string());
                }
                self.exact.insert(account, association);
            }
            Whose::Accounts(pattern) => {
                if self.patterns.iter().any(|(it, _)| *it == pattern) {
                    return Err("the same pattern".to_owned());
                }
                self.patterns.push((pattern, association));
            }
        }
        Ok(())
    }

    /// To be called once all entries are there.
    pub(super) fn sort(&mut self) {
        // Stable: of equals the first stays the first.
        self.patterns
            .sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.rank()));
    }
}
