//! Keeps the cluster's keys: fetched, refreshed, and saved for the next process.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::select;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::api::{self, Trouble};
use super::file::KeyFile;
use super::keys::KeySet;
use super::{Client, FetchLabels, Fetched, Room, SPACING, Source, TRUSTED};
use crate::apiserver::Backoff;

/// Keys are fetched again about so often, unless a token needs new ones.
const REFRESH: Duration = Duration::from_hours(1);
/// Where keys are not permitted, they are asked for again about so often.
const RETRY: Duration = Duration::from_mins(5);

/// An API server that has just started refuses, for a moment, what it has not
/// read its rules about yet: only what it refuses for longer is forbidden.
const STARTING: Duration = Duration::from_secs(10);

/// The one who changes what the room knows.
pub(super) struct Keeper {
    room: Arc<Room>,
    client: Client,
    file: Option<KeyFile>,
    backoff: Backoff,
    /// Since when the keys have been refused, and nothing else happened.
    refused: Option<Instant>,
    health: Health,
}

/// What was logged last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Keys,
    Review,
    Failing,
}

impl Keeper {
    pub(super) fn new(room: Arc<Room>, client: Client, state_dir: Option<PathBuf>) -> Self {
        Self {
            room,
            client,
            file: state_dir.map(KeyFile::new),
            backoff: Backoff::default(),
            refused: None,
            health: Health::Unknown,
        }
    }

    pub(super) async fn run(mut self) -> Infallible {
        self.load().await;
        loop {
            let began = Instant::now();
            let pause = match api::keys(&self.client, self.room.clock.now()).await {
                Ok(keys) => {
                    let keys = Arc::new(keys);
                    let pause = self.have(Arc::clone(&keys), began);
                    self.save(keys).await;
                    pause
                }
                Err(trouble) => self.lack(&trouble),
            };
            select! {
                () = sleep(pause) => {}
                () = self.wanted(began) => {}
            }
        }
    }

    /// A caller needs other keys, and the last fetch is long enough ago.
    async fn wanted(&self, last: Instant) {
        self.room.wanted.notified().await;
        sleep_until(last + SPACING).await;
    }

    /// Begins with what the last process left.
    async fn load(&mut self) {
        let Some(file) = self.file.clone() else {
            return;
        };
        let now = self.room.clock.now();
        let loaded = spawn_blocking(move || file.load(now)).await;
        match loaded.expect("reading a file does not panic") {
            Ok(None) => {}
            Ok(Some(keys)) if keys.age(now) > TRUSTED => {
                info!("the saved keys are too old to be used");
            }
            Ok(Some(keys)) => {
                info!("tokens are verified with saved keys until the API server answers");
                self.room.replace(Source::Keys(Arc::new(keys)));
                self.room.progress.send_replace(());
            }
            Err(error) => warn!(%error, "the saved keys are ignored"),
        }
    }

    /// Uses the keys, and says when to fetch others.
    fn have(&mut self, keys: Arc<KeySet>, began: Instant) -> Duration {
        self.count(Fetched::Ok);
        self.room.replace(Source::Keys(keys));
        {
            let mut known = self.room.known_mut();
            known.fetched = Some(began);
            known.failure = None;
        }
        // Who wanted keys before has them now.
        let _ = self.room.wanted.notified().now_or_never();
        self.room.progress.send_replace(());
        self.backoff = Backoff::default();
        self.refused = None;
        self.tell(Health::Keys, || {
            info!("tokens are verified with the cluster's keys");
        });
        REFRESH.mul_f64(0.9 + fastrand::f64() / 5.0)
    }

    /// Goes on without new keys, and says when to try again.
    fn lack(&mut self, trouble: &Trouble) -> Duration {
        self.count(trouble.outcome());
        let pause = match trouble {
            Trouble::Refused(code) => self.refuse(*code, trouble.why()),
            Trouble::Failing(_)
            | Trouble::Unreachable(_)
            | Trouble::Silent
            | Trouble::Garbled(_) => {
                self.refused = None;
                let why = trouble.why();
                self.tell(Health::Failing, || {
                    warn!(why, "the cluster's keys cannot be fetched");
                });
                self.room.known_mut().failure = Some(why);
                self.backoff.next()
            }
        };
        self.room.progress.send_replace(());
        pause
    }

    /// Keys that are there are not given up for what may pass in a moment.
    fn refuse(&mut self, code: u16, why: String) -> Duration {
        let since = *self.refused.get_or_insert_with(Instant::now);
        let may_pass = since.elapsed() < STARTING;
        let has_keys = matches!(self.room.known().source, Source::Keys(_));
        if may_pass && has_keys {
            self.room.known_mut().failure = Some(why);
            return self.backoff.next();
        }
        self.room.replace(Source::Review);
        self.room.known_mut().failure = None;
        self.tell(Health::Review, || {
            warn!(
                code,
                "the cluster's keys may not be read: each token costs a TokenReview"
            );
        });
        if may_pass {
            return self.backoff.next();
        }
        self.backoff = Backoff::default();
        RETRY.mul_f64(0.9 + fastrand::f64() / 5.0)
    }

    async fn save(&mut self, keys: Arc<KeySet>) {
        let Some(mut file) = self.file.take() else {
            return;
        };
        let saved = spawn_blocking(move || {
            let saved = file.save(&keys);
            (file, saved)
        });
        let (file, saved) = saved.await.expect("writing a file does not panic");
        self.file = Some(file);
        if let Err(error) = saved {
            warn!(%error, "the cluster's keys are not saved for the next start");
        }
    }

    fn count(&self, outcome: Fetched) {
        let labels = FetchLabels { outcome };
        self.room.metrics.fetches.get_or_create(&labels).inc();
    }

    /// Logs a change, and what goes on as before only once.
    fn tell(&mut self, health: Health, log: impl FnOnce()) {
        if self.health != health {
            log();
            self.health = health;
        }
    }
}
