//! Who, which and what, in a pod of one's own.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::broker::{self, Answers};
use crate::clock::Moment;
use crate::config::sidecar::Exchange;
use crate::credentials::{Key, Vault};
use crate::identity::{self, Caller, Origin};
use crate::model::{
    Association, Credentials, Grant, Means, PodName, RoleArn, ServiceAccount, Session,
};

/// `lo`, in every network namespace (`LOOPBACK_IFINDEX`).
const LO: u32 = 1;

/// Answers the pod that it is in, and nobody else.
pub(super) struct Own {
    caller: Caller,
    means: Means,
    key: RwLock<Arc<Key>>,
    vault: Vault,
}

impl Own {
    /// Asks for the first credentials at once.
    pub(super) fn new(
        account: ServiceAccount,
        pod: PodName,
        exchange: &Exchange,
        role: RoleArn,
        vault: Vault,
    ) -> Self {
        let means = match exchange {
            // The token's audience is as it is.
            Exchange::WebIdentity(_) => Means::WebIdentity {
                audience: "sts.amazonaws.com".into(),
            },
            Exchange::AssumeRole(_) => Means::Agent,
        };
        let caller = Caller::own(pod, account);
        let key = RwLock::new(Arc::new(key(&caller, means.clone(), role)));
        let own = Self {
            caller,
            means,
            key,
            vault,
        };
        own.vault.prefetch(&own.key());
        own
    }

    /// What the pod may use now.
    pub(super) fn key(&self) -> Arc<Key> {
        Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets the pod use another role instead, at once.
    pub(super) fn change(&self, role: RoleArn) {
        let new = Arc::new(key(&self.caller, self.means.clone(), role));
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        self.vault.retain(&HashSet::from([Key::clone(&new)]));
        self.vault.prefetch(&new);
    }

    /// Whether there is something to serve.
    pub(super) fn has_credentials(&self) -> bool {
        let standing = self.vault.standing();
        standing.fresh + standing.stale > 0
    }
}

/// Without tags: the pod itself would say what they are, and so they would
/// prove nothing.
fn key(caller: &Caller, means: Means, role: RoleArn) -> Key {
    Key {
        account: caller.account().clone(),
        pod: Some(caller.pod_name().clone()),
        association: Arc::new(Association::Role(Grant {
            means,
            session: Session::Untagged { policy: None },
            ..Grant::of(role)
        })),
    }
}

/// Whether a connection comes from the pod itself: by `lo`, where nothing else
/// comes in, or from the very address that it goes to, which the kernel takes
/// from no link (its own connections to an address of another link's seem to
/// come in by that one).
fn is_own(origin: &Origin) -> bool {
    origin.link() == Some(LO) || origin.peer() == origin.local()
}

impl Answers for Own {
    fn moment(&self, arrived: Instant) -> Moment {
        self.vault.moment(arrived)
    }

    fn caller_at_once(
        &self,
        origin: &Origin,
        _token: Option<&str>,
        _now: Moment,
    ) -> Option<Caller> {
        is_own(origin).then(|| self.caller.clone())
    }

    fn caller<'a>(
        &'a self,
        origin: &'a Origin,
        _token: Option<&'a str>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Caller, broker::Error>> {
        let stranger = |peer: IpAddr| identity::Error::Stranger(peer).into();
        let caller = is_own(origin).then(|| self.caller.clone());
        let caller = caller.ok_or_else(|| stranger(origin.peer()));
        std::future::ready(caller).boxed()
    }

    fn credentials_at_once(&self, _caller: &Caller, now: Moment) -> Option<Arc<Credentials>> {
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner);
        self.vault.at_once(&key, now)
    }

    fn credentials<'a>(
        &'a self,
        _caller: &'a Caller,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Arc<Credentials>, broker::Error>> {
        let key = self.key();
        async move { Ok(self.vault.get(&key, deadline).await?) }.boxed()
    }
}
