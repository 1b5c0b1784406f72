//! The leader's work on certificates: it makes them, keeps them in the Secret and
//! has API servers trust them.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::objects::{Configuration, Secret, Unwritten};
use super::one::Seen;
use super::rotation::{Step, Times};
use crate::apiserver::{Backoff, Client};
use crate::clock::Clock;

/// How long a watch may take to tell of what was written.
const ECHO: Duration = Duration::from_secs(10);

/// Keeps the certificates of one webhook.
#[derive(Clone)]
pub(super) struct Keeper {
    /// Writes.
    pub(super) client: Client,
    /// Where the Secret is.
    pub(super) namespace: String,
    /// What it is called.
    pub(super) secret: String,
    /// What the configuration is called.
    pub(super) configuration: String,
    /// The DNS name that certificates are for.
    pub(super) name: String,
    /// When is what.
    pub(super) times: Times,
    /// Knows the time.
    pub(super) clock: Clock,
    /// What the Secret keeps.
    pub(super) kept: watch::Receiver<Seen<Secret>>,
    /// Whom API servers trust.
    pub(super) trusted: watch::Receiver<Seen<Configuration>>,
}

impl Keeper {
    /// Works for as long as this process leads.
    pub(super) async fn run(mut self) -> Infallible {
        let mut backoff = Backoff::default();
        let mut since = Instant::now();
        loop {
            let step = self.step(since.elapsed());
            if let Step::Wait(pause) = step {
                tokio::select! {
                    () = sleep(pause) => continue,
                    () = self.changed() => {}
                }
            } else if let Err(why) = self.take(step).await {
                warn!(%why, ?step, "certificates could not be seen to");
                sleep(backoff.next()).await;
            } else {
                info!(?step, name = self.name, "certificates were seen to");
                backoff = Backoff::default();
                // Until the watch has told of it, the step would look undone.
                let _ = timeout(ECHO, self.changed()).await;
            }
            since = Instant::now();
        }
    }

    fn step(&mut self, steady: Duration) -> Step {
        let wait = Step::Wait(self.times.look);
        let trusted = self.trusted.borrow_and_update();
        let trusted = match &*trusted {
            Seen::Is(configuration) => configuration.trusted(),
            Seen::Absent => None,
            Seen::Unknown => return wait,
        };
        match &*self.kept.borrow_and_update() {
            Seen::Is(secret) => {
                let now = self.clock.now();
                let kept = &secret.kept;
                kept.step(trusted, steady, &self.name, self.times, now)
            }
            Seen::Absent => {
                let (namespace, secret) = (&self.namespace, &self.secret);
                warn!(
                    namespace,
                    secret, "there is no such Secret: apply the manifests"
                );
                wait
            }
            Seen::Unknown => wait,
        }
    }

    /// What [`Self::step`] looks at has changed since.
    async fn changed(&mut self) {
        let (kept, trusted) = (self.kept.changed(), self.trusted.changed());
        let is_over = tokio::select! {
            changed = kept => changed.is_err(),
            changed = trusted => changed.is_err(),
        };
        if is_over {
            std::future::pending::<()>().await;
        }
    }

    async fn take(&self, step: Step) -> Result<(), Unwritten> {
        let Seen::Is(secret) = self.kept.borrow().clone() else {
            return Ok(());
        };
        match step {
            Step::Wait(_) => Ok(()),
            Step::Trust => {
                let Seen::Is(configuration) = self.trusted.borrow().clone() else {
                    return Ok(());
                };
                let bundle = secret.kept.bundle();
                configuration
                    .trust(&self.client, &self.configuration, &bundle)
                    .await
            }
            Step::Begin | Step::Prepare | Step::Switch | Step::Forget => {
                let kept = secret.kept.clone();
                let kept = kept.after(step, &self.name, self.clock.now());
                secret
                    .keep(&self.client, &self.namespace, &self.secret, &kept)
                    .await
            }
        }
    }
}
