//! Service account tokens: whether one is good here, and which pod it is bound to.
//!
//! A token is verified with the cluster's public keys. Where the agent may not
//! have these, the API server is asked about each token (`TokenReview`). Either
//! answer is remembered by the token's hash; the token itself is kept nowhere but
//! on the shelf of those that an exchange may show AWS (`held`).

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelValue;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::clock::Clock;
use crate::model::{PodUid, ServiceAccount};

mod api;
mod file;
mod held;
mod jwt;
mod keeper;
mod keys;
mod metrics;
mod remembered;
mod request;
mod review;

pub use held::Held;
pub(super) use held::Shelf;
use jwt::Jwt;
pub use jwt::holder;
use keeper::Keeper;
use keys::{Key, KeySet};
pub use metrics::{
    FetchLabels, Fetched, Metrics, Outcome, RequestLabels, Requested, VerificationLabels, Way,
};
pub(super) use remembered::Hash;
use remembered::{Basis, Memory, Remembered};
pub use request::NotRequested;
pub(super) use request::Requests;
use review::{Desk, Reviews};

/// The API server, as far as the rooms that pass it on need to know.
use super::watch::Client;

/// Longer than any that an API server signs; a pod's is about 1 KiB.
const LONGEST: usize = 8 * 1024;
/// Keys are not believed for longer than this after they were fetched: the
/// cluster may have stopped to use one since.
const TRUSTED: Duration = Duration::from_hours(24);
/// An unknown key id leads to no fetch so soon after the last one.
const SPACING: Duration = Duration::from_secs(10);

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The pod that it is bound to. It may be gone by now.
    pub pod: PodUid,
    /// Its name, in the account's namespace.
    pub pod_name: String,
    /// Whose token it is.
    pub account: ServiceAccount,
    /// The pod's node; `None` from API servers before 1.30, which do not say.
    pub node: Option<String>,
    /// For whom it is.
    pub audiences: Vec<String>,
    /// When it ends, by the API server's clock.
    pub expires: SystemTime,
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no good, and never will be.
    #[error("the token is refused: {0}")]
    Refused(Flaw),
    /// Whether it is good cannot be known now, and why.
    #[error("the token cannot be verified now: {0}")]
    Unavailable(String),
}

/// What is wrong with a token.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelValue, thiserror::Error,
)]
pub enum Flaw {
    /// Not the form of a service account token, or contradictory.
    #[error("it is no service account token as Kubernetes signs them")]
    Malformed,
    /// Signed in a way that no API server signs in, or that its key does not fit.
    #[error("its algorithm is none of RS256, ES256, ES384 and ES512, or does not fit its key")]
    Algorithm,
    /// Signed with a key that the cluster does not publish.
    #[error("it is signed with a key that is none of this cluster's")]
    UnknownKey,
    /// The signature is not that of the key and the content.
    #[error("its signature is wrong")]
    Signature,
    /// Issued by somebody else.
    #[error("its issuer is not this cluster's")]
    Issuer,
    /// Meant for somebody else.
    #[error(
        "it is not for the agent's audience: mount a projected token with the audience of --token-audience"
    )]
    Audience,
    /// Too old.
    #[error("it has expired: read the token's file again for each request")]
    Expired,
    /// Not valid until later.
    #[error("it is not valid yet: is the clock right?")]
    NotYetValid,
    /// A token of an account and not of a pod: a legacy secret's, or one made
    /// by `kubectl create token` without `--bound-object-kind Pod`.
    #[error("it is not bound to a pod: mount a projected token (serviceAccountToken)")]
    Unbound,
    /// The API server says no: the pod is gone, or the token was never good.
    #[error("the API server rejects it in a TokenReview")]
    Rejected,
}

/// What the room needs to be told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Of which a token must have one.
    pub audiences: Vec<String>,
    /// Where the public keys outlive a restart; without it they do not.
    pub state_dir: Option<PathBuf>,
}

/// The verifier. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Room>);

/// What the verifier and its keeper share.
struct Room {
    audiences: Vec<String>,
    clock: Clock,
    metrics: Metrics,
    known: RwLock<Known>,
    remembered: RwLock<Memory>,
    desk: Desk,
    /// A caller needs newer keys.
    wanted: Notify,
    /// A fetch has ended, well or not.
    progress: watch::Sender<()>,
}

/// What the keeper knows of the cluster's keys.
#[derive(Default)]
struct Known {
    source: Source,
    /// When the last fetch by this process that was well began.
    fetched: Option<Instant>,
    /// Why the last fetch failed, if it did.
    failure: Option<String>,
}

/// By what tokens are verified.
#[derive(Default)]
enum Source {
    /// By nothing yet.
    #[default]
    Nothing,
    /// By the cluster's keys.
    Keys(Arc<KeySet>),
    /// By asking the API server: it does not permit to read its keys.
    Review,
}

/// What the token claims, if the form and the claims are such as [`Tokens::verify`]
/// accepts at `now`. Nothing is verified: for fuzzing, and not to know a caller by.
pub fn unverified(token: &str, audiences: &[String], now: SystemTime) -> Result<Claims, Flaw> {
    let vetted = Jwt::read(token)?.vet(now, audiences, None)?;
    Ok(vetted.claims)
}

/// How it goes on with a token.
enum Step {
    Done(Result<Arc<Claims>, Error>),
    Review(jwt::Vetted),
    /// Other keys are needed, and why they are not here.
    Wait(String),
}

impl Tokens {
    /// A verifier that knows nothing yet, and its keeper, which must run for as
    /// long as tokens are verified.
    pub fn new(
        client: Client,
        settings: Settings,
        metrics: Metrics,
        clock: Clock,
    ) -> (Self, impl Future<Output = Infallible> + Send) {
        let Settings {
            audiences,
            state_dir,
        } = settings;
        let (desk, jobs) = Desk::new();
        let room = Arc::new(Room {
            audiences,
            clock,
            metrics,
            known: RwLock::default(),
            remembered: RwLock::default(),
            desk,
            wanted: Notify::new(),
            progress: watch::Sender::new(()),
        });
        let keeper = Keeper::new(Arc::clone(&room), client.clone(), state_dir);
        let reviews = Reviews::new(Arc::clone(&room), client, jobs);
        let both = async {
            let (never, _) = tokio::join!(keeper.run(), reviews.run());
            never
        };
        (Self(room), both)
    }

    /// Whether the token, without any `Bearer`, is a good one of this cluster
    /// for one of our audiences, and what it says. Whether its pod still lives
    /// is not asked.
    ///
    /// Waits until `deadline` for keys that are being fetched and for the API
    /// server's review; a caller that stops to wait cancels neither.
    pub async fn verify(&self, token: &str, deadline: Instant) -> Result<Arc<Claims>, Error> {
        let room = &self.0;
        if token.len() > LONGEST {
            return room.count(Way::Keys, Err(Error::Refused(Flaw::Malformed)));
        }
        let hash = Hash::of(token);
        if let Some(claims) = self.recall(&hash, room.clock.now()) {
            return Ok(claims);
        }
        let (way, result) = room.examine(token, hash, deadline).await;
        room.count(way, result)
    }

    /// What a token says that has been verified before; `None` for any other.
    pub(super) fn recall(&self, hash: &Hash, now: SystemTime) -> Option<Arc<Claims>> {
        let claims = self.0.recall(hash, now)?;
        self.0.metrics.remembered.inc();
        Some(claims)
    }

    /// The time since the keys in use were fetched, perhaps before a restart;
    /// `None` where there are none, so also while tokens are reviewed.
    pub fn keys_age(&self) -> Option<Duration> {
        match &self.0.known().source {
            Source::Keys(keys) => Some(keys.age(self.0.clock.now())),
            Source::Nothing | Source::Review => None,
        }
    }
}

impl Room {
    async fn examine(
        &self,
        token: &str,
        hash: Hash,
        deadline: Instant,
    ) -> (Way, Result<Arc<Claims>, Error>) {
        let jwt = match Jwt::read(token) {
            Ok(jwt) => jwt,
            Err(flaw) => return (Way::Keys, Err(Error::Refused(flaw))),
        };
        let arrived = Instant::now();
        // From before the first look, so that no fetch ends unseen.
        let mut progress = self.progress.subscribe();
        loop {
            let why = match self.step(&jwt, hash, arrived) {
                Step::Done(result) => return (Way::Keys, result),
                Step::Review(vetted) => {
                    let result = self.reviewed(token, hash, vetted, deadline).await;
                    return (Way::Review, result);
                }
                Step::Wait(why) => why,
            };
            self.wanted.notify_one();
            match timeout_at(deadline, progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return (Way::Keys, Err(Error::Unavailable(why))),
            }
        }
    }

    /// What the present keys say of the token.
    fn step(&self, jwt: &Jwt<'_>, hash: Hash, arrived: Instant) -> Step {
        let now = self.clock.now();
        let refused = |flaw| Step::Done(Err(Error::Refused(flaw)));
        let (keys, fetched, why) = {
            let known = self.known();
            match &known.source {
                Source::Keys(keys) if keys.age(now) <= TRUSTED => {
                    (Arc::clone(keys), known.fetched, known.why())
                }
                Source::Keys(_) | Source::Nothing => return Step::Wait(known.why()),
                Source::Review => {
                    drop(known);
                    return match jwt.vet(now, &self.audiences, None) {
                        Ok(vetted) => Step::Review(vetted),
                        Err(flaw) => refused(flaw),
                    };
                }
            }
        };
        let vetted = || jwt.vet(now, &self.audiences, Some(keys.issuer()));
        match keys.find(jwt.kid()) {
            Some(Key::Local(key)) => match jwt.verify(key).and_then(|()| vetted()) {
                Ok(vetted) => {
                    let claims = Arc::new(vetted.claims);
                    let remembered = Remembered {
                        claims: Arc::clone(&claims),
                        expires: vetted.expires,
                        basis: Basis::Key(Arc::clone(key)),
                    };
                    self.remember(hash, remembered, now);
                    Step::Done(Ok(claims))
                }
                Err(flaw) => refused(flaw),
            },
            // A token that would be refused all the same costs no call.
            Some(Key::Foreign) => match vetted() {
                Ok(vetted) => Step::Review(vetted),
                Err(flaw) => refused(flaw),
            },
            None => match vetted() {
                Err(flaw) => refused(flaw),
                // Keys from before may lack one that the API server took up since.
                Ok(_) if fetched.is_some_and(|began| began >= arrived) => refused(Flaw::UnknownKey),
                Ok(_) => Step::Wait(why),
            },
        }
    }

    fn recall(&self, hash: &Hash, now: SystemTime) -> Option<Arc<Claims>> {
        let remembered = self.remembered.read();
        // Nothing panics under it but what runs out of memory.
        let remembered = remembered.unwrap_or_else(PoisonError::into_inner);
        remembered.recall(hash, now)
    }

    /// Remembers the answer, unless its ground has gone meanwhile.
    fn remember(&self, hash: Hash, answer: Remembered, now: SystemTime) {
        // Held over the look at the source: whoever replaces that forgets
        // afterwards what it no longer supports, and waits for this.
        let mut remembered = self.remembered_mut();
        if answer.holds(&self.known().source) {
            remembered.insert(hash, answer, now);
        }
    }

    /// Goes on with another source, and forgets what it does not support.
    fn replace(&self, source: Source) {
        self.known_mut().source = source;
        let mut remembered = self.remembered_mut();
        let known = self.known();
        remembered.retain(|answer| answer.holds(&known.source));
    }

    fn count(&self, way: Way, result: Result<Arc<Claims>, Error>) -> Result<Arc<Claims>, Error> {
        let outcome = match &result {
            Ok(_) => Outcome::Ok,
            Err(Error::Refused(flaw)) => Outcome::Refused(*flaw),
            Err(Error::Unavailable(_)) => Outcome::Unavailable,
        };
        let labels = VerificationLabels { way, outcome };
        self.metrics.verifications.get_or_create(&labels).inc();
        result
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered_mut(&self) -> RwLockWriteGuard<'_, Memory> {
        let remembered = self.remembered.write();
        remembered.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Why there are no better keys than these.
    fn why(&self) -> String {
        match &self.failure {
            Some(failure) => format!("the cluster's keys cannot be fetched: {failure}"),
            None => "the cluster's keys are being fetched".to_owned(),
        }
    }
}
