//! `TokenRequest`: the API server signs a token of a pod's for an exchange.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::api::{self, Trouble};
use super::{Client, Metrics, RequestLabels, Requested};
use crate::identity::pods::Caller;
use crate::model::{Secret, ServiceAccount};

/// Requests at a time.
const AT_ONCE: usize = 8;
/// An exchange has to follow, and both together have ten seconds.
const PATIENCE: Duration = Duration::from_secs(3);
/// Nothing is asked for an account for so long after it was refused, or failed.
const REFUSED: Duration = Duration::from_secs(10);
const UNAVAILABLE: Duration = Duration::from_secs(1);

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRequested {
    /// The pod is gone, or its account.
    #[error("no pod that the API server knows is left")]
    Gone,
    /// The API server understood and refuses.
    #[error("{0}")]
    Refused(String),
    /// The API server cannot be asked, or fails.
    #[error("{0}")]
    Unavailable(String),
}

const MISSING: &str = "the API server refuses the agent a token of the service account: its own \
    account needs the verb `create` on `serviceaccounts/token` (manifests/components/request-tokens)";

/// Where exchanges ask for tokens.
pub(in crate::identity) struct Requests {
    client: Client,
    turns: Semaphore,
    metrics: Metrics,
    /// What failed, and until when nothing is asked for the account: callers
    /// come at any rate, and each has its exchange tried.
    failed: Mutex<HashMap<ServiceAccount, (Instant, NotRequested)>>,
    /// What was logged last.
    is_refused: AtomicBool,
}

impl Requests {
    pub(in crate::identity) fn new(client: Client, metrics: Metrics) -> Self {
        // There from the start, so that the first one shows as an increase.
        let outcome = Requested::Ok;
        let labels = RequestLabels { outcome };
        metrics.requests.get_or_create(&labels).inc_by(0);
        Self {
            client,
            turns: Semaphore::new(AT_ONCE),
            metrics,
            failed: Mutex::default(),
            is_refused: AtomicBool::new(false),
        }
    }

    /// A token for the audience that is bound to this pod, and when it ends.
    pub(in crate::identity) async fn ask(
        &self,
        pod: &Caller,
        audience: &str,
    ) -> Result<(Arc<Secret>, SystemTime), NotRequested> {
        self.may_ask(pod.account())?;
        let turn = self.turns.acquire().await;
        let _turn = turn.expect("nobody closes it");
        let request = api::request(&self.client, pod, audience);
        let answer = timeout(PATIENCE, request).await;
        let answer = answer.unwrap_or(Err(Trouble::Silent));
        let outcome = outcome(&answer);
        let labels = RequestLabels { outcome };
        self.metrics.requests.get_or_create(&labels).inc();
        match answer {
            Ok((token, expires)) => {
                if self.is_refused.swap(false, Ordering::Relaxed) {
                    info!("the API server issues requested tokens again");
                }
                Ok((Arc::new(token), expires))
            }
            Err(trouble) => {
                let error = why(&trouble);
                self.note(pod.account(), &error);
                Err(error)
            }
        }
    }

    fn may_ask(&self, account: &ServiceAccount) -> Result<(), NotRequested> {
        match self.failed().get(account) {
            Some((until, error)) if Instant::now() < *until => Err(error.clone()),
            Some(_) | None => Ok(()),
        }
    }

    fn note(&self, account: &ServiceAccount, error: &NotRequested) {
        let pause = match error {
            // Another pod of the account may be asked for.
            NotRequested::Gone => return,
            NotRequested::Refused(why) => {
                if !self.is_refused.swap(true, Ordering::Relaxed) {
                    warn!(%account, why, "a token was requested in vain");
                }
                REFUSED
            }
            NotRequested::Unavailable(_) => UNAVAILABLE,
        };
        let now = Instant::now();
        let mut failed = self.failed();
        failed.retain(|_, (until, _)| now < *until);
        failed.insert(account.clone(), (now + pause, error.clone()));
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<ServiceAccount, (Instant, NotRequested)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn outcome<T>(answer: &Result<T, Trouble>) -> Requested {
    match answer {
        Ok(_) => Requested::Ok,
        // There is none of this name, or one of another UID.
        Err(Trouble::Refused(404) | Trouble::Failing(409)) => Requested::Gone,
        Err(Trouble::Refused(_)) => Requested::Refused,
        Err(Trouble::Failing(_)) => Requested::Failing,
        Err(Trouble::Unreachable(_)) => Requested::Unreachable,
        Err(Trouble::Silent) => Requested::Silent,
        Err(Trouble::Garbled(_)) => Requested::Garbled,
    }
}

fn why(trouble: &Trouble) -> NotRequested {
    match trouble {
        Trouble::Refused(404) | Trouble::Failing(409) => NotRequested::Gone,
        Trouble::Refused(403) => NotRequested::Refused(MISSING.to_owned()),
        // It does not like the audience, or it is too old to know any.
        Trouble::Failing(400 | 422) => NotRequested::Refused(trouble.why()),
        Trouble::Refused(_)
        | Trouble::Failing(_)
        | Trouble::Unreachable(_)
        | Trouble::Silent
        | Trouble::Garbled(_) => NotRequested::Unavailable(trouble.why()),
    }
}
