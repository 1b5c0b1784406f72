//! How all lists of a shelf stand, for people.

use std::hash::Hash;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Named, Shelf, State};

/// What is known of the lists together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// What is in those that are known.
    pub objects: usize,
    /// When the API server last said anything of the list that it has been silent
    /// about longest; `None` before the first answer.
    pub heard: Option<Instant>,
    /// Why the cluster does not have a list, or not for us.
    pub absent: Option<Arc<str>>,
    /// Of which nothing is known, and of one of them why, where that is known.
    pub unknown: Option<Option<Arc<str>>>,
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static, O: Named> Shelf<K, O> {
    /// How all of them stand.
    pub fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        for list in self.0.read().values() {
            match &list.state {
                State::Known(known) => survey.objects += known.len(),
                State::Absent(why) => survey.absent = Some(Arc::clone(why)),
                State::Unknown(why) => {
                    let other = survey.unknown.take().flatten();
                    survey.unknown = Some(other.or_else(|| why.clone()));
                }
            }
            survey.heard = match (survey.heard, list.heard) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        survey
    }
}
