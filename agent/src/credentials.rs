//! What credentials: one session a service account and association, for all of the node.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

pub use self::remedy::remedy;
use crate::cache::{self, Cache, Failing, Fetch, Life, Patience, State};
use crate::clock::{Clock, Moment};
use crate::model::{Association, AssumedRole, Credentials, PodName, Secret, ServiceAccount};

pub mod eks_auth;
pub mod exchanges;
mod remedy;
pub mod session;
pub mod sts;
#[cfg(test)]
mod tests;
mod web_identity;

/// What is left at least of what is served while AWS answers: the widest window
/// in which SDKs refresh early (botocore, Java, .NET).
pub const FRESH_LEFT: Duration = Duration::from_mins(15);

/// What is left at least of what is served at all: a request that a pod signs
/// now must still be valid when it arrives, by a clock that may be another.
pub const USABLE_LEFT: Duration = Duration::from_mins(1);

/// Between the latest refresh and the end of freshness: time for some retries.
const REFRESH_SLACK: Duration = Duration::from_mins(1);

/// STS issues sessions of 15 minutes to 12 hours. Anything far from that says
/// that this node's clock is not AWS's.
const SHORTEST_SESSION: Duration = Duration::from_mins(5);
const LONGEST_SESSION: Duration = Duration::from_hours(13);

/// What credentials are of. Pods of one account share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Whose session it is.
    pub account: ServiceAccount,
    /// The one pod whose it is, where each pod has its own.
    pub pod: Option<PodName>,
    /// Which role, and how.
    pub association: Arc<Association>,
}

/// By the account and pod alone: equal keys have equal ones, and an account has
/// one association at a time, or a few where pods name roles for themselves.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.account.hash(state);
        self.pod.as_ref().map(|pod| &pod.uid).hash(state);
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.account.fmt(f)?;
        if let Some(pod) = &self.pod {
            write!(f, " (pod {})", pod.name)?;
        }
        match &*self.association {
            Association::Role(grant) => write!(f, " as {}", grant.final_role()),
            Association::EksAuth => f.write_str(" as EKS says"),
        }
    }
}

/// How credentials come from AWS.
pub trait Exchange: Send + Sync + 'static {
    /// Asks AWS once.
    fn exchange(&self, key: Key) -> BoxFuture<'static, Result<Credentials, Refusal>>;
}

/// Where exchanges get service account tokens from.
pub trait Tokens: Send + Sync + 'static {
    /// A token of the account for that audience; of that pod, if one is named,
    /// else of any of its pods that live.
    fn token(
        &self,
        account: ServiceAccount,
        pod: Option<PodName>,
        audience: Arc<str>,
    ) -> BoxFuture<'static, Result<Secret, NoToken>>;
}

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoToken {
    /// No pod has shown one, and the agent requests none.
    #[error("no pod of the account has shown a token for the audience {0}")]
    NoneShown(Arc<str>),
    /// The API server refuses to issue one.
    #[error("the API server refuses to issue a token: {0}")]
    Refused(String),
    /// One cannot be had now.
    #[error("a token cannot be had now: {0}")]
    Unavailable(String),
}

/// Why AWS gave none.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no token to exchange.
    #[error(transparent)]
    NoToken(#[from] NoToken),
    /// EKS has no association for the service account.
    #[error("EKS has no association for the service account")]
    NotAssociated,
    /// AWS understood and refuses: the role's trust policy, or a permission.
    #[error("AWS refuses the role: {0}")]
    Denied(String),
    /// The session's tags and policy are more than STS takes; says what to drop.
    #[error("the session has too much of tags or policy for STS: {0}")]
    TooLarge(String),
    /// AWS asks to come back later.
    #[error("AWS throttles")]
    Throttled,
    /// AWS could not be asked, or failed itself.
    #[error("AWS could not be asked: {0}")]
    Unavailable(String),
    /// AWS answered what cannot be used.
    #[error("AWS answered what cannot be used: {0}")]
    Malformed(&'static str),
}

/// Why there are no credentials.
pub type Error = cache::Error<Refusal>;

/// The node's credentials: one entry a key. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    cache: Cache<Assume>,
    clock: Clock,
}

/// What a vault has for a key, and none of its secrets: for people.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Of whom.
    pub key: Key,
    /// How it stands.
    pub state: State,
    /// As what AWS knows the session that was had last.
    pub role: Option<AssumedRole>,
    /// When that was had.
    pub issued_at: Option<SystemTime>,
    /// When AWS stops to accept its credentials.
    pub expires_at: Option<SystemTime>,
    /// When it is refreshed next, or the next attempt made.
    pub next_at: Option<SystemTime>,
    /// The attempts that failed since.
    pub failing: Option<Failing>,
}

/// How a vault stands now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Entries whose first fetch is under way.
    pub pending: usize,
    /// Entries whose last fetch was well.
    pub fresh: usize,
    /// Entries that serve unexpired credentials although the last fetch failed.
    pub stale: usize,
    /// Entries that have nothing to serve because the last fetch failed.
    pub failed: usize,
    /// The life left of those credentials, of all that would be served, which
    /// expire first.
    pub shortest: Option<Duration>,
}

impl Vault {
    /// An empty vault, and the future that fills and refreshes it.
    pub fn new(exchange: Arc<dyn Exchange>, clock: Clock) -> (Self, BoxFuture<'static, ()>) {
        let (cache, scheduler) = Cache::new(Assume { exchange, clock }, clock);
        (Self { cache, clock }, scheduler.run().boxed())
    }

    /// The key's credentials; see [`Cache::get`] for failures and the deadline.
    ///
    /// While AWS answers, [`FRESH_LEFT`] or more is left of them; never less
    /// than [`USABLE_LEFT`].
    pub async fn get(&self, key: &Key, deadline: Instant) -> Result<Arc<Credentials>, Error> {
        self.cache.get(key, deadline).await
    }

    /// The moment `at`, which was just now, by the clock that credentials age by.
    pub fn moment(&self, at: Instant) -> Moment {
        self.clock.moment(at)
    }

    /// The credentials, if they are there and to be served without a fetch.
    pub fn at_once(&self, key: &Key, now: Moment) -> Option<Arc<Credentials>> {
        self.cache.at_once(key, now)
    }

    /// Fetches them unless they are there or on their way. Does not wait.
    pub fn prefetch(&self, key: &Key) {
        self.cache.prefetch(key);
    }

    /// Forgets the credentials of every other key.
    pub fn retain(&self, keep: &HashSet<Key>) {
        self.cache.retain(keep);
    }

    /// Every entry as it stands now, in no order.
    pub fn entries(&self) -> Vec<Entry> {
        let summaries = self.cache.summaries().into_iter();
        let entry = |it: cache::Summary<Key, Credentials>| {
            let value = it.value.as_deref();
            Entry {
                role: value.map(|value| value.role.clone()),
                expires_at: value.map(|value| value.expires_at),
                key: it.key,
                state: it.state,
                issued_at: it.fetched_at,
                next_at: it.next_at,
                failing: it.failure,
            }
        };
        summaries.map(entry).collect()
    }

    /// How many entries are in which state, and what is left.
    pub fn standing(&self) -> Standing {
        let now = self.clock.now();
        let mut standing = Standing::default();
        for entry in self.cache.summaries() {
            let (count, serves) = match entry.state {
                State::Pending => (&mut standing.pending, false),
                State::Fresh => (&mut standing.fresh, true),
                State::Stale => (&mut standing.stale, true),
                State::Failed => (&mut standing.failed, false),
            };
            *count += 1;
            if let Some(end) = entry.usable_until.filter(|_| serves) {
                let left = (end + USABLE_LEFT).duration_since(now).unwrap_or_default();
                standing.shortest = Some(standing.shortest.map_or(left, |least| least.min(left)));
            }
        }
        standing
    }
}

/// An exchange as what a cache fetches from.
struct Assume {
    exchange: Arc<dyn Exchange>,
    clock: Clock,
}

impl Fetch for Assume {
    type Key = Key;
    type Value = Credentials;
    type Error = Refusal;

    fn fetch(&self, key: Key) -> BoxFuture<'static, Result<Credentials, Refusal>> {
        let clock = self.clock;
        self.exchange
            .exchange(key)
            .map(move |answer| answer.and_then(|credentials| plausible(credentials, clock.now())))
            .boxed()
    }

    fn life(&self, credentials: &Credentials, now: SystemTime) -> Life {
        life(credentials.expires_at, now, fastrand::f64())
    }

    fn patience(&self, refusal: &Refusal) -> Patience {
        match refusal {
            Refusal::Denied(_) | Refusal::TooLarge(_) => Patience::Late,
            // Most accounts have none, and EKS Auth is asked for every account.
            Refusal::NotAssociated => Patience::OnDemand,
            // The next request may bring one.
            Refusal::NoToken(_) => Patience::AtOnce,
            Refusal::Throttled | Refusal::Unavailable(_) | Refusal::Malformed(_) => Patience::Soon,
        }
    }
}

/// What AWS issued, its id, secret and token, for a session of that ARN and id,
/// as ours, if it can be used.
fn issued(
    [id, secret, token]: [String; 3],
    expiration: DateTime,
    [arn, session_id]: [&str; 2],
) -> Result<Credentials, Refusal> {
    if id.is_empty() || secret.is_empty() || token.is_empty() {
        return Err(Refusal::Malformed("empty credentials"));
    }
    let (secret, token) = (Secret::new(secret), Secret::new(token));
    let expires_at = moment(expiration)?;
    let role = AssumedRole::new(arn, session_id).map_err(|_| Refusal::Malformed("no role"))?;
    Ok(Credentials::new(id, secret, token, expires_at, role))
}

fn moment(expiration: DateTime) -> Result<SystemTime, Refusal> {
    let impossible = |_| Refusal::Malformed("an impossible expiration");
    SystemTime::try_from(expiration).map_err(impossible)
}

fn plausible(credentials: Credentials, now: SystemTime) -> Result<Credentials, Refusal> {
    let left = credentials.left(now);
    if left < SHORTEST_SESSION {
        return Err(Refusal::Malformed(
            "credentials that expire within five minutes (is this node's clock right?)",
        ));
    }
    if left > LONGEST_SESSION {
        return Err(Refusal::Malformed(
            "credentials that expire in more than thirteen hours (is this node's clock right?)",
        ));
    }
    Ok(credentials)
}

/// Refresh after 40 to 50 % of the session, by `jitter` in 0..1. A session of
/// less than twice [`FRESH_LEFT`] is not asked for, but AWS may know better: it
/// is fresh for its first half.
fn life(expires_at: SystemTime, now: SystemTime, jitter: f64) -> Life {
    let session = expires_at.duration_since(now).unwrap_or_default();
    let fresh = session.saturating_sub(FRESH_LEFT.min(session / 2));
    let refresh = session
        .mul_f64(0.4 + jitter / 10.0)
        .min(fresh.saturating_sub(REFRESH_SLACK));
    Life {
        refresh_at: Some(now + refresh),
        fresh_until: Some(now + fresh),
        usable_until: Some(now + session.saturating_sub(USABLE_LEFT)),
    }
}
