//! What an exchange may show AWS in a pod's name: a token that the pod has shown,
//! or one that is requested for it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::select;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::pods::{Caller, PodIndex, Resident};
use super::tokens::{Claims, Held, Metrics, NotRequested, Requests, Shelf};
use super::watch::Client;
use super::{Identity, Known, Shared};
use crate::clock::Clock;
use crate::config::TokenRequests;
use crate::model::{PodUid, Secret, ServiceAccount};

/// A token that ends sooner may have ended when AWS reads it.
const LEAST_LEFT: Duration = Duration::from_mins(1);

/// Of an account's pods, so many are tried that turn out to be gone.
const MOST_TRIED: usize = 3;

/// Which tokens are lent.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The audiences of those that are kept when pods show them; without any,
    /// none is.
    pub audiences: Vec<Arc<str>>,
    /// Whether the API server is asked for tokens that no pod has shown.
    pub requests: TokenRequests,
}

/// Why no token was requested, or none came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// [`TokenRequests::Off`].
    #[error("tokens are not requested")]
    Off,
    /// No such pod of the account lives on this node.
    #[error("no such pod of {0} lives on this node")]
    NoPod(ServiceAccount),
    /// The API server gave none.
    #[error(transparent)]
    NotRequested(#[from] NotRequested),
}

/// Keeps what is lent.
pub(super) struct Lender {
    shared: Arc<Shared>,
    shelf: Shelf,
    audiences: Vec<Arc<str>>,
    requests: Option<Requests>,
    clock: Clock,
    /// A token was put on the shelf.
    put: Notify,
}

impl Identity {
    /// A token for this audience that a pod of the account has shown, or that
    /// very pod; the one that ends last. Its pod lives here now, and it is good
    /// for a minute at least.
    pub fn held(
        &self,
        account: &ServiceAccount,
        pod: Option<&PodUid>,
        audience: &str,
    ) -> Option<Held> {
        self.lender.held(account, pod, audience)
    }

    /// A token for this audience that the API server signs now, for ten minutes,
    /// bound to a live pod of the account or to that very one. It is held then.
    pub async fn request(
        &self,
        account: &ServiceAccount,
        pod: Option<&PodUid>,
        audience: &Arc<str>,
    ) -> Result<Held, Error> {
        self.lender.request(account, pod, audience).await
    }

    /// All live pods of this node that can be told who they are, those on the host
    /// network included. None before the first list.
    pub fn callers(&self) -> Vec<Caller> {
        let known = self.shared.read();
        let pods = known.pods.iter();
        pods.flat_map(|pods| pods.callers().cloned()).collect()
    }
}

impl Lender {
    pub(super) fn new(
        shared: Arc<Shared>,
        settings: Settings,
        client: Client,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        let Settings {
            audiences,
            requests,
        } = settings;
        let requests = match requests {
            TokenRequests::On => Some(Requests::new(client, metrics)),
            TokenRequests::Off => None,
        };
        Self {
            shared,
            shelf: Shelf::default(),
            audiences,
            requests,
            clock,
            put: Notify::new(),
        }
    }

    /// Keeps what a pod has shown that was known by it.
    pub(super) fn keep(&self, caller: &Caller, token: &str, claims: &Claims) {
        if self.audiences.is_empty() {
            return;
        }
        // Held over both, so that no token is put down for a pod whose others
        // were just cleared away.
        let known = self.shared.read();
        if known.has(caller) {
            self.shelf.take(caller, token, claims, &self.audiences);
            self.put.notify_one();
        }
    }

    fn held(&self, account: &ServiceAccount, pod: Option<&PodUid>, audience: &str) -> Option<Held> {
        let until = self.clock.now() + LEAST_LEFT;
        let known = self.shared.read();
        let lives = |caller: &Caller| known.has(caller);
        self.shelf.find(account, pod, audience, until, lives)
    }

    async fn request(
        &self,
        account: &ServiceAccount,
        pod: Option<&PodUid>,
        audience: &Arc<str>,
    ) -> Result<Held, Error> {
        let requests = self.requests.as_ref().ok_or(Error::Off)?;
        let mut last = Error::NoPod(account.clone());
        for caller in self.some_of(account, pod) {
            match requests.ask(&caller, audience).await {
                Ok((token, expires)) => {
                    self.hold(&caller, audience, &token, expires);
                    let pod = caller.pod_name().clone();
                    return Ok(Held {
                        pod,
                        token,
                        expires,
                    });
                }
                // The watch has still to say so.
                Err(NotRequested::Gone) => last = NotRequested::Gone.into(),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last)
    }

    fn some_of(&self, account: &ServiceAccount, pod: Option<&PodUid>) -> Vec<Caller> {
        let known = self.shared.read();
        let callers = known.pods.iter().flat_map(PodIndex::callers);
        let its = callers.filter(|caller| {
            caller.account() == account && pod.is_none_or(|pod| caller.pod() == pod)
        });
        its.take(MOST_TRIED).cloned().collect()
    }

    /// Keeps what was requested, so that an exchange that AWS fails costs the API
    /// server no token each time that it is tried again.
    fn hold(&self, caller: &Caller, audience: &Arc<str>, token: &Arc<Secret>, expires: SystemTime) {
        let known = self.shared.read();
        if known.has(caller) {
            self.shelf.put(caller, audience, token, expires);
            self.put.notify_one();
        }
    }

    /// Clears away what is of no use any more, at every change of the pods and
    /// when a token expires.
    pub(super) async fn tend(self: Arc<Self>) -> Infallible {
        let mut changes = self.shared.changes.subscribe();
        loop {
            let now = self.clock.now();
            let next = {
                let known = self.shared.read();
                self.shelf.prune(now, |caller| known.has(caller))
            };
            let left = next.map(|next| next.duration_since(now).unwrap_or_default());
            select! {
                // Its sender is ours, too.
                _ = changes.changed() => {}
                () = self.put.notified() => {}
                () = sleep(left.unwrap_or_default()), if left.is_some() => {}
            }
        }
    }
}

impl Known {
    /// Whether this very pod lives.
    fn has(&self, caller: &Caller) -> bool {
        match self.pods.as_ref().map(|pods| pods.resident(caller.pod())) {
            Some(Resident::Live(_, resident)) => resident.is(caller),
            Some(Resident::Gone | Resident::Unknown) | None => false,
        }
    }
}
