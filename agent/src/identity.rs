//! Who is calling: the peer address of a connection, the path that it came by
//! and a token, if it brings one, name a pod of this node.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::Notify;
use tokio::sync::watch::{Receiver, Sender};
use tokio::time::{Instant, timeout_at};

use crate::clock::Clock;
use crate::config::IdentityMode;
use crate::model::PodUid;

mod judge;
pub mod lending;
mod origin;
pub mod paths;
pub mod pods;
mod seats;
#[cfg(test)]
mod tests;
pub mod tokens;
pub mod watch;

use judge::{Rules, Verdict, judge};
use lending::Lender;
pub use origin::Origin;
use paths::{Book, Change, Counts, Keeper, Kernel};
use pods::PodIndex;
pub use pods::{Caller, OptIn};
pub use seats::Seat;
use tokens::Tokens;
use watch::{Client, Reader};

/// Why nobody is known to be calling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first full list of pods has not arrived yet.
    #[error("the pods of this node are not known yet")]
    NotSynced,
    /// No live pod of this node owns the address, and none came to within the deadline.
    #[error("no pod of this node has the address {0}")]
    Unknown(IpAddr),
    /// More than one live pod claims the address.
    #[error("more than one pod of this node claims the address {0}")]
    Ambiguous(IpAddr),
    /// The address is the node's own: it names no pod.
    #[error("the address {0} is the node's own and names no pod")]
    Node(IpAddr),
    /// The pod is known, but what it says of itself cannot be used.
    #[error("the pod at {0} cannot be used: {1}")]
    Unusable(IpAddr, String),
    /// A pod owns the address, but the caller came by another path than that
    /// pod's, and the API server has not said whether that is right.
    #[error("it is not sure which pod has the address {0} now")]
    Unconfirmed(IpAddr),
    /// What is known of the pods is too old for an address alone to name one.
    #[error("the API server has said nothing about pods for {0:?}, so that an address names none")]
    Outdated(Duration),
    /// `--identity` asks for a token.
    #[error("the request has no service account token")]
    NoToken,
    /// The token is not a good one, or cannot be verified now.
    #[error(transparent)]
    Token(#[from] tokens::Error),
    /// The token's pod has not been reported on this node, and was not within the deadline.
    #[error("the token is of a pod that is not known on this node: {0}")]
    UnknownPod(PodUid),
    /// The token's pod lives no more.
    #[error("the token is of a pod that has gone: {0}")]
    GonePod(PodUid),
    /// This process answers its own pod alone.
    #[error("the address {0} is not this pod's own")]
    Stranger(IpAddr),
    /// The token's pod is not the one that calls.
    #[error("the token is of another pod than the one that calls from {0}")]
    Elsewhere(IpAddr),
}

/// Answers who is calling. Cheap to clone. What it says is as old as the pod
/// watch; through an outage of the API server it says what it said last.
#[derive(Clone)]
pub struct Identity {
    shared: Arc<Shared>,
    changes: Receiver<u64>,
    tokens: Tokens,
    kernel: Arc<dyn Kernel>,
    rules: Arc<Rules>,
    lender: Arc<Lender>,
}

/// How callers are to be known.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node, as the API server names it.
    pub node: String,
    /// What a caller must show.
    pub mode: IdentityMode,
    /// How old the pods may be for an address alone to name one.
    pub max_pod_staleness: Duration,
    /// Of the tokens.
    pub tokens: tokens::Settings,
    /// Of the watch.
    pub watch: watch::Limits,
    /// Of the tokens that exchanges use.
    pub lending: lending::Settings,
}

/// What the room counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// The pod watch.
    pub pods: watch::Metrics,
    /// The paths.
    pub paths: paths::Metrics,
    /// The tokens.
    pub tokens: tokens::Metrics,
}

/// Whom to ask.
pub struct Outside {
    /// The API server.
    pub client: Client,
    /// The kernel.
    pub kernel: Arc<dyn Kernel>,
    /// What the kernel tells, from a moment before this was made.
    pub changes: BoxStream<'static, Change>,
    /// The links that there were at that moment.
    pub links: HashSet<u32>,
    /// The time.
    pub clock: Clock,
}

/// A name, and what runs under it for the life of the process.
pub type Task = (&'static str, BoxFuture<'static, &'static str>);

/// What the watch and the keeper of the paths publish, each its own part.
struct Shared {
    known: RwLock<Known>,
    changes: Sender<u64>,
    /// Addresses whose owner a caller came in the name of, by a path that is
    /// not known to be the owner's.
    doubts: Mutex<HashSet<IpAddr>>,
    doubted: Notify,
}

#[derive(Default)]
struct Known {
    /// `None` before the first full list. The watch's.
    pods: Option<PodIndex>,
    /// When the API server last said anything. The watch's.
    heard: Option<Instant>,
    /// The keeper's.
    paths: Book,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        // A writer that panicked has ended the process: it is supervised.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn doubt(&self, address: IpAddr) {
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        doubts.insert(address);
        drop(doubts);
        self.doubted.notify_one();
    }

    fn take_doubted(&self) -> HashSet<IpAddr> {
        std::mem::take(&mut *self.doubts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Identity {
    /// Knows nobody yet; the tasks learn, each for the life of the process.
    pub fn new(outside: Outside, settings: Settings, metrics: Metrics) -> (Self, [Task; 4]) {
        let Outside {
            client,
            kernel,
            changes,
            links,
            clock,
        } = outside;
        let shared = Arc::new(Shared {
            known: RwLock::default(),
            changes: Sender::new(0),
            doubts: Mutex::default(),
            doubted: Notify::new(),
        });
        let lender = Lender::new(
            Arc::clone(&shared),
            settings.lending,
            client.clone(),
            metrics.tokens.clone(),
            clock,
        );
        let lender = Arc::new(lender);
        let (tokens, keys) = Tokens::new(client.clone(), settings.tokens, metrics.tokens, clock);
        let watch = {
            let (client, shared) = (client.clone(), Arc::clone(&shared));
            let (node, limits, metrics) = (settings.node.clone(), settings.watch, metrics.pods);
            async move { watch::run(client, &node, limits, metrics, shared).await }
        };
        let keeper = Keeper::new(
            Arc::clone(&shared),
            Arc::clone(&kernel),
            changes,
            links,
            Reader::new(client),
            clock,
            metrics.paths,
        );
        let identity = Self {
            lender: Arc::clone(&lender),
            changes: shared.changes.subscribe(),
            shared,
            tokens,
            kernel,
            rules: Arc::new(Rules {
                node: settings.node,
                mode: settings.mode,
                max_pod_staleness: settings.max_pod_staleness,
            }),
        };
        let tasks: [Task; 4] = [
            ("pod watch", watch.map(|never| match never {}).boxed()),
            ("pod paths", keeper.run().boxed()),
            ("token keys", keys.map(|never| match never {}).boxed()),
            (
                "held tokens",
                lender.tend().map(|never| match never {}).boxed(),
            ),
        ];
        (identity, tasks)
    }

    /// Who calls, if that takes nothing but a look: what nearly all requests get.
    pub fn at_once(&self, origin: &Origin, token: Option<&str>, now: SystemTime) -> Option<Caller> {
        if !origin.is_settled(&*self.kernel) {
            return None;
        }
        let claims = match token {
            Some(token) => Some(self.tokens.recall(&origin.hash_of(token), now)?),
            None => None,
        };
        match judge(&self.shared.read(), origin, claims.as_deref(), &self.rules) {
            Verdict::Is(caller) => Some(caller),
            Verdict::Refuse(_) | Verdict::Look | Verdict::Wait(_) | Verdict::Confirm => None,
        }
    }

    /// Who calls from `origin`, with a token or without.
    ///
    /// What may be known soon is waited for until `deadline`: the first list of
    /// pods, an owner of the address, the confirmation that it still is, keys
    /// for the token. All are woken by what they wait for.
    pub async fn caller(
        &self,
        origin: &Origin,
        token: Option<&str>,
        deadline: Instant,
    ) -> Result<Caller, Error> {
        let claims = match token {
            Some(token) => Some(self.tokens.verify(token, deadline).await?),
            None => None,
        };
        let claims = claims.as_deref();
        if !origin.settle(&*self.kernel, deadline).await {
            return Err(Error::Unconfirmed(origin.peer()));
        }
        let mut changes = None;
        loop {
            // Bound first: a verdict in the match would hold the lock.
            let verdict = judge(&self.shared.read(), origin, claims, &self.rules);
            let (otherwise, doubted) = match verdict {
                Verdict::Is(caller) => {
                    if let (Some(token), Some(claims)) = (token, claims) {
                        self.lender.keep(&caller, token, claims);
                    }
                    return Ok(caller);
                }
                Verdict::Refuse(error) => return Err(error),
                Verdict::Look => {
                    if origin.look(&*self.kernel).await {
                        continue;
                    }
                    (Error::Unconfirmed(origin.peer()), None)
                }
                Verdict::Wait(otherwise) => (otherwise, None),
                Verdict::Confirm => {
                    let peer = origin.peer();
                    (Error::Unconfirmed(peer), Some(peer))
                }
            };
            // Only a miss pays for it. What changed between the look and this
            // is caught by looking again before waiting.
            let Some(changes) = &mut changes else {
                changes = Some(self.changes());
                continue;
            };
            if let Some(address) = doubted {
                self.shared.doubt(address);
            }
            match timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(otherwise),
            }
        }
    }

    /// Changes whenever the index or a path does from now on, the first list
    /// included; that a pod changed in what the index does not keep is no change.
    pub fn changes(&self) -> Receiver<u64> {
        let mut changes = self.changes.clone();
        changes.mark_unchanged();
        changes
    }

    /// Returns once the first full list of pods is there.
    pub async fn synced(&self) {
        let mut changes = self.changes();
        while self.shared.read().pods.is_none() {
            if changes.changed().await.is_err() {
                // The watch has gone, and so has the process, all but.
                std::future::pending::<()>().await;
            }
        }
    }

    /// How many live pods are known, those that are refused included; `None`
    /// before the first list.
    pub fn pods(&self) -> Option<usize> {
        self.shared.read().pods.as_ref().map(PodIndex::len)
    }

    /// How the paths to the pods' addresses stand.
    pub fn paths(&self) -> Counts {
        self.shared.read().paths.counts()
    }

    /// How old the keys are that tokens are verified by; `None` without any.
    pub fn keys_age(&self) -> Option<Duration> {
        self.tokens.keys_age()
    }

    /// How long ago the API server last said anything: a list, an event or a
    /// bookmark. `None` before the first. A healthy server bookmarks about
    /// once a minute.
    pub fn watch_age(&self) -> Option<Duration> {
        self.shared.read().age()
    }
}

impl Known {
    fn age(&self) -> Option<Duration> {
        self.heard.map(|heard| heard.elapsed())
    }
}
