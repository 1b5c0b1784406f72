//! What the feeds know, for whoever mirrors it and for people.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use super::mirrored::{Feed, Origin};
use super::plan::Known;

/// Shared by the feeds and their reader. Cheap to clone.
#[derive(Clone)]
pub(super) struct Board(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Of each association that more is known of than that it is there.
    pub(super) known: HashMap<Origin, Known>,
    /// Of each feed.
    pub(super) feeds: Vec<(Feed, Standing)>,
}

/// How one feed does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// When all associations were last known to be there.
    pub(super) listed_at: Option<SystemTime>,
    /// How many there are.
    pub(super) associations: usize,
    /// Why the last try failed, if it did.
    pub(super) failure: Option<String>,
    /// The associations that cannot be mirrored, and why.
    pub(super) unusable: BTreeMap<Origin, String>,
}

impl Board {
    /// Of feeds that know nothing yet.
    pub(super) fn new(feeds: impl IntoIterator<Item = Feed>) -> Self {
        let feeds = feeds.into_iter().map(|feed| (feed, Standing::default()));
        let state = State {
            known: HashMap::new(),
            feeds: feeds.collect(),
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
        }))
    }

    /// Counts on whenever something may have changed.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// A look, which nobody may wait in.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state())
    }

    /// A change of what a feed knows, which may be none.
    pub(super) fn change(&self, feed: &Feed, change: impl FnOnce(&mut Entries<'_>)) {
        {
            let mut state = self.state();
            let State { known, feeds } = &mut *state;
            let standing = feeds.iter_mut().find(|(it, _)| it == feed);
            let (_, standing) = standing.expect("the board was made for it");
            change(&mut Entries { known, standing });
        }
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// Forgets what is known to be gone, and is no more in the cluster.
    pub(super) fn forget(&self, is_there: impl Fn(&Origin) -> bool) {
        let known = &mut self.state().known;
        known.retain(|origin, known| match known {
            Known::Is(_) => true,
            Known::Gone => is_there(origin),
        });
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        let mut state = self.state();
        state.known.clear();
        for (_, standing) in &mut state.feeds {
            *standing = Standing::default();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one feed may change.
pub(super) struct Entries<'a> {
    /// Of all feeds: origins are nobody else's.
    pub(super) known: &'a mut HashMap<Origin, Known>,
    /// Its own.
    pub(super) standing: &'a mut Standing,
}

impl State {
    /// The feeds, once each of them has told all it knows.
    pub(super) fn complete(&self) -> Option<Vec<Feed>> {
        let listed = |(feed, standing): &(Feed, Standing)| {
            standing.listed_at.is_some().then(|| feed.clone())
        };
        self.feeds.iter().map(listed).collect()
    }
}
