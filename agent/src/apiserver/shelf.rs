//! Lists of one kind of object, each followed while somebody wants it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Again, Client, Follow, Keep, Limits, Lost, LostLabels, Object, Place, Reason};

mod survey;

pub use survey::Survey;

/// How often a kind is asked for that the cluster does not have, or not for us.
const ABSENT_FOR: Duration = Duration::from_mins(1);

/// An API server that starts forbids for some milliseconds what it allows later.
/// What it does not have, it does not have.
const REFUSALS: u32 = 2;

/// What a list is known to be.
#[derive(Clone, Debug)]
pub enum State<O> {
    /// Nothing may be concluded: not heard yet, or why not.
    Unknown(Option<Arc<str>>),
    /// The cluster has no such kind, or lets the agent read none, from the start on.
    Absent(Arc<str>),
    /// These, by name, when last heard.
    Known(BTreeMap<String, Arc<O>>),
}

/// What has a name that is its own in its list.
pub trait Named: Object + Sync {
    /// The name.
    fn name(&self) -> &str;
}

/// Counts lists and watches that ended before their time.
pub type Losses = Family<LostLabels, Counter>;

/// How many lists are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// That are known.
    pub known: usize,
    /// That the cluster does not have, or not for us.
    pub absent: usize,
    /// Of which nothing is known.
    pub unknown: usize,
}

/// The lists, by key. Cheap to clone.
pub struct Shelf<K, O>(Arc<Shared<K, O>>);

struct Shared<K, O> {
    /// For people.
    what: &'static str,
    lists: RwLock<HashMap<K, List<O>>>,
    next: AtomicU64,
    offer: Mutex<Offer>,
    wanted: Notify,
    changes: Arc<watch::Sender<u64>>,
    losses: Losses,
}

/// Whether the kind is to be had, as far as its lists tell.
#[derive(Default)]
enum Offer {
    /// None was answered yet.
    #[default]
    Unknown,
    /// It is not, and why: a list that is wanted later is not waited for.
    Absent(Arc<str>),
    /// One was answered once: from then on a refusal is a failure.
    Given,
}

struct List<O> {
    /// Tells it from one of the same key that was dropped.
    id: u64,
    state: State<O>,
    /// When the API server last said anything of it.
    heard: Option<Instant>,
}

impl<K, O> Clone for Shelf<K, O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static, O: Named> Shelf<K, O> {
    /// An empty one, for [`Self::tend`] to fill. `changes` counts on whenever a
    /// state may have changed.
    pub fn new(what: &'static str, changes: Arc<watch::Sender<u64>>, losses: Losses) -> Self {
        Self(Arc::new(Shared {
            what,
            lists: RwLock::default(),
            next: AtomicU64::default(),
            offer: Mutex::default(),
            wanted: Notify::new(),
            changes,
            losses,
        }))
    }

    /// Follows what is wanted, each at its `place`. Returns only if that breaks.
    pub async fn tend(
        self,
        client: Client,
        limits: Limits,
        place: impl Fn(&K) -> Place + Send,
    ) -> &'static str {
        let mut tasks = JoinSet::new();
        let mut running: HashMap<K, (u64, AbortHandle)> = HashMap::new();
        loop {
            let wanted: HashMap<K, u64> = {
                let lists = self.0.read();
                let ids = lists.iter().map(|(key, list)| (key.clone(), list.id));
                ids.collect()
            };
            running.retain(|key, (id, task)| {
                let stays = wanted.get(key) == Some(id);
                if !stays {
                    task.abort();
                }
                stays
            });
            for (key, id) in wanted {
                let Entry::Vacant(vacancy) = running.entry(key) else {
                    continue;
                };
                let writer = Writer {
                    shared: Arc::clone(&self.0),
                    key: vacancy.key().clone(),
                    id,
                    refusals: 0,
                    lost: false,
                };
                let place = place(vacancy.key());
                let follow = Follow::new(client.clone(), place, limits, writer);
                vacancy.insert((id, tasks.spawn(follow.run())));
            }
            tokio::select! {
                () = self.0.wanted.notified() => {}
                Some(Err(error)) = tasks.join_next() => {
                    if error.is_panic() {
                        return "a watch broke";
                    }
                }
            }
        }
    }

    /// Begins to follow a list, unless it is followed already.
    pub fn want(&self, key: &K) {
        if self.0.read().contains_key(key) {
            return;
        }
        let new = || List {
            id: self.0.next.fetch_add(1, Ordering::Relaxed),
            state: match &*self.0.offer() {
                Offer::Absent(why) => State::Absent(Arc::clone(why)),
                Offer::Unknown | Offer::Given => State::Unknown(None),
            },
            heard: None,
        };
        let mut lists = self.0.write();
        lists.entry(key.clone()).or_insert_with(new);
        drop(lists);
        self.0.wanted.notify_one();
    }

    /// Ends to follow all but these, and forgets them.
    pub fn retain(&self, stays: impl Fn(&K) -> bool) {
        let mut lists = self.0.write();
        let before = lists.len();
        lists.retain(|key, _| stays(key));
        let after = lists.len();
        drop(lists);
        if after != before {
            self.0.wanted.notify_one();
            // Whoever looked meanwhile is to look again: nobody follows it now.
            self.0.changes.send_modify(|count| *count += 1);
        }
    }

    /// A look at a list; one that nobody wants is unknown.
    pub fn look<T>(&self, key: &K, look: impl FnOnce(&State<O>) -> T) -> T {
        match self.0.read().get(key) {
            Some(list) => look(&list.state),
            None => look(&State::Unknown(None)),
        }
    }

    /// All that is known, by list.
    pub fn known(&self) -> Vec<(K, Vec<Arc<O>>)> {
        let lists = self.0.read();
        let known = lists.iter().filter_map(|(key, list)| match &list.state {
            State::Known(known) => Some((key.clone(), known.values().cloned().collect())),
            State::Unknown(_) | State::Absent(_) => None,
        });
        known.collect()
    }

    /// How many lists are in which state.
    pub fn standing(&self) -> Standing {
        let mut standing = Standing::default();
        for list in self.0.read().values() {
            *match list.state {
                State::Known(_) => &mut standing.known,
                State::Absent(_) => &mut standing.absent,
                State::Unknown(_) => &mut standing.unknown,
            } += 1;
        }
        standing
    }
}

impl<K, O> Shared<K, O> {
    fn offer(&self) -> MutexGuard<'_, Offer> {
        self.offer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<K, List<O>>> {
        self.lists.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<K, List<O>>> {
        self.lists.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one writer of one list.
struct Writer<K, O> {
    shared: Arc<Shared<K, O>>,
    key: K,
    id: u64,
    /// In a row, before the first answer.
    refusals: u32,
    lost: bool,
}

impl<K: Clone + Eq + Hash, O> Writer<K, O> {
    fn change(&self, change: impl FnOnce(&mut State<O>)) {
        let mut lists = self.shared.write();
        match lists.get_mut(&self.key) {
            Some(list) if list.id == self.id => change(&mut list.state),
            Some(_) | None => return,
        }
        drop(lists);
        self.shared.changes.send_modify(|count| *count += 1);
    }

    /// Whether its list is there still, and in such a state.
    fn is(&self, such: impl FnOnce(&State<O>) -> bool) -> bool {
        let lists = self.shared.read();
        let list = lists.get(&self.key).filter(|list| list.id == self.id);
        list.is_some_and(|list| such(&list.state))
    }

    /// Says why nothing is known, unless that is known already.
    fn unknown(&self, why: &str) {
        let is_new = |state: &State<O>| match state {
            State::Unknown(before) => before.as_deref() != Some(why),
            State::Absent(_) => true,
            State::Known(_) => false,
        };
        if self.is(is_new) {
            self.change(|state| *state = State::Unknown(Some(why.into())));
        }
    }

    /// Takes the kind for one that is not to be had, unless it once was.
    fn concede(&self, why: &Arc<str>) -> bool {
        let mut offer = self.shared.offer();
        match *offer {
            Offer::Given => return false,
            Offer::Unknown => {
                let what = self.shared.what;
                info!(what, %why, "the cluster does not offer this to the agent");
            }
            Offer::Absent(_) => {}
        }
        *offer = Offer::Absent(Arc::clone(why));
        true
    }

    fn recovered(&mut self) {
        let mut lists = self.shared.write();
        if let Some(list) = lists.get_mut(&self.key).filter(|list| list.id == self.id) {
            list.heard = Some(Instant::now());
        }
        drop(lists);
        self.refusals = 0;
        if std::mem::take(&mut self.lost) {
            info!(what = self.shared.what, "a watch is back");
        }
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static, O: Named> Keep for Writer<K, O> {
    type Object = O;

    fn replace(&mut self, objects: Vec<O>) {
        *self.shared.offer() = Offer::Given;
        let named = objects
            .into_iter()
            .map(|object| (object.name().to_owned(), Arc::new(object)));
        let known = named.collect();
        self.change(|state| *state = State::Known(known));
        self.recovered();
    }

    fn apply(&mut self, object: O) {
        self.change(|state| {
            if let State::Known(known) = state {
                known.insert(object.name().to_owned(), Arc::new(object));
            }
        });
    }

    fn remove(&mut self, object: O) {
        self.change(|state| {
            if let State::Known(known) = state {
                known.remove(object.name());
            }
        });
    }

    fn heard(&mut self) {
        self.recovered();
    }

    fn lost(&mut self, lost: &Lost) -> Again {
        let reason = lost.reason;
        let labels = LostLabels { reason };
        self.shared.losses.get_or_create(&labels).inc();
        let what = self.shared.what;
        if reason != Reason::Ended && !std::mem::replace(&mut self.lost, true) {
            warn!(what, ?reason, why = lost.why, "a watch is lost");
        }
        if self.is(|state| matches!(state, State::Known(_))) {
            return Again::Soon;
        }
        if !matches!(lost.status, Some(403 | 404)) {
            self.refusals = 0;
            // What was absent does not come with an outage.
            if !self.is(|state| matches!(state, State::Absent(_))) {
                self.unknown(&lost.why);
            }
            return Again::Soon;
        }
        self.refusals += 1;
        let is_definite = lost.status == Some(404) || self.refusals >= REFUSALS;
        let why: Arc<str> = lost.why.as_str().into();
        if matches!(*self.shared.offer(), Offer::Given) {
            self.unknown(&why);
        } else if is_definite && self.concede(&why) {
            self.change(|state| *state = State::Absent(why));
            return Again::After(ABSENT_FOR);
        }
        Again::Soon
    }
}
