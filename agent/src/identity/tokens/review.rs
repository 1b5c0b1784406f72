//! `TokenReview`: the API server says whether a token is good.
//!
//! A review belongs to the room and not to the client that caused it: clients
//! with the same token share one, and one that hangs up ends nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::api::{self, Trouble, Verdict};
use super::jwt::{Vetted, subject};
use super::remembered::{Basis, Hash, REVIEWED, Remembered};
use super::{Claims, Client, Error, Flaw, Room};

/// Reviews at a time.
const AT_ONCE: usize = 8;
/// Reviews that wait for their turn.
const QUEUE: usize = 64;

type Answer = Result<Arc<Claims>, Error>;

/// Where callers hand in what is to be reviewed.
pub(super) struct Desk {
    under_way: Mutex<HashMap<Hash, watch::Receiver<Option<Answer>>>>,
    jobs: mpsc::Sender<Job>,
}

/// One token to review. Not `Debug`: it has the token.
pub(super) struct Job {
    token: String,
    hash: Hash,
    vetted: Vetted,
    answer: watch::Sender<Option<Answer>>,
}

impl Desk {
    pub(super) fn new() -> (Self, mpsc::Receiver<Job>) {
        let (jobs, receiver) = mpsc::channel(QUEUE);
        let under_way = Mutex::default();
        (Self { under_way, jobs }, receiver)
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Hash, watch::Receiver<Option<Answer>>>> {
        let under_way = self.under_way.lock();
        under_way.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// What the API server says of the token, which is not remembered.
    pub(super) async fn reviewed(
        &self,
        token: &str,
        hash: Hash,
        vetted: Vetted,
        deadline: Instant,
    ) -> Answer {
        let unavailable = |why: &str| Err(Error::Unavailable(why.to_owned()));
        let mut answer = {
            let mut under_way = self.desk.under_way();
            // It may have come since the caller looked; what has, was
            // remembered before it left the desk.
            if let Some(claims) = self.recall(&hash, self.clock.now()) {
                return Ok(claims);
            }
            match under_way.entry(hash) {
                Entry::Occupied(shared) => shared.get().clone(),
                Entry::Vacant(free) => {
                    let (answer, receiver) = watch::channel(None);
                    let job = Job {
                        token: token.to_owned(),
                        hash,
                        vetted,
                        answer,
                    };
                    if self.desk.jobs.try_send(job).is_err() {
                        return unavailable("too many tokens wait for a TokenReview");
                    }
                    free.insert(receiver).clone()
                }
            }
        };
        match timeout_at(deadline, answer.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => answer.clone().expect("this was waited for"),
            Ok(Err(_)) => unavailable("the review was given up"),
            Err(_) => unavailable("the API server has not answered the TokenReview yet"),
        }
    }
}

/// Does the reviews.
pub(super) struct Reviews {
    room: Arc<Room>,
    client: Client,
    jobs: mpsc::Receiver<Job>,
    health: Health,
}

/// What was logged last.
#[derive(PartialEq)]
enum Health {
    Well,
    Refused,
}

impl Reviews {
    pub(super) fn new(room: Arc<Room>, client: Client, jobs: mpsc::Receiver<Job>) -> Self {
        let health = Health::Well;
        Self {
            room,
            client,
            jobs,
            health,
        }
    }

    pub(super) async fn run(mut self) -> Infallible {
        let mut running = FuturesUnordered::new();
        loop {
            select! {
                job = self.jobs.recv(), if running.len() < AT_ONCE => {
                    let job = job.expect("the room has a sender");
                    running.push(review(Arc::clone(&self.room), self.client.clone(), job));
                }
                Some(ended) = running.next(), if !running.is_empty() => self.report(&ended),
            }
        }
    }

    fn report(&mut self, ended: &Result<(), Trouble>) {
        let health = match ended {
            Ok(()) => Health::Well,
            Err(Trouble::Refused(_)) => Health::Refused,
            // The callers say so, and it may be over with the next.
            Err(
                Trouble::Failing(_)
                | Trouble::Unreachable(_)
                | Trouble::Silent
                | Trouble::Garbled(_),
            ) => return,
        };
        if health == self.health {
            return;
        }
        match health {
            Health::Well => info!("the API server reviews tokens again"),
            Health::Refused => warn!("tokens cannot be verified: {MISSING}"),
        }
        self.health = health;
    }
}

const MISSING: &str = "the API server refuses TokenReviews to the agent, whose account needs \
    the verb `create` on `tokenreviews.authentication.k8s.io` or, better, the cluster role \
    `system:service-account-issuer-discovery`";

/// From the call to the answer for all who wait.
async fn review(room: Arc<Room>, client: Client, job: Job) -> Result<(), Trouble> {
    let Job {
        token,
        hash,
        vetted,
        answer,
    } = job;
    let asked = Instant::now();
    let verdict = api::review(&client, &token, &room.audiences).await;
    drop(token);
    let (result, ended) = match verdict {
        Ok(verdict) => (agree(vetted.claims, &verdict, &room.audiences), Ok(())),
        Err(trouble) => {
            let why = match &trouble {
                Trouble::Refused(403) => MISSING.to_owned(),
                Trouble::Refused(_)
                | Trouble::Failing(_)
                | Trouble::Unreachable(_)
                | Trouble::Silent
                | Trouble::Garbled(_) => trouble.why(),
            };
            (Err(Error::Unavailable(why)), Err(trouble))
        }
    };
    let result = result.map(Arc::new);
    if let Ok(claims) = &result {
        let now = room.clock.now();
        let remembered = Remembered {
            claims: Arc::clone(claims),
            expires: vetted.expires.min(now + REVIEWED),
            basis: Basis::Review(asked),
        };
        room.remember(hash, remembered, now);
    }
    room.desk.under_way().remove(&hash);
    answer.send_replace(Some(result));
    ended
}

/// What the token says, where the API server vouches for it and says the same.
fn agree(claims: Claims, verdict: &Verdict, ours: &[String]) -> Result<Claims, Error> {
    let user = &verdict.user;
    if !verdict.authenticated {
        return Err(Error::Refused(Flaw::Rejected));
    }
    // An API server that knows no audiences names none, and has not looked.
    if !verdict.audiences.iter().any(|it| ours.contains(it)) {
        return Err(Error::Refused(Flaw::Audience));
    }
    let pod = claims.pod.to_string();
    let Some((uid, name)) = user.extra("pod-uid").zip(user.extra("pod-name")) else {
        return Err(Error::Refused(Flaw::Unbound));
    };
    let node = user.extra("node-name");
    if user.username != subject(&claims.account)
        || uid != pod
        || name != claims.pod_name
        || (node.is_some() && node != claims.node.as_deref())
    {
        return Err(Error::Refused(Flaw::Malformed));
    }
    Ok(claims)
}
