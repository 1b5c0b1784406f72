//! Who calls, as one node's agent knows from a real API server.

use std::ops::Deref;
use std::time::Duration;

use credlet::clock::Clock;
use credlet::identity::paths::{Path, Port, Shown};
use credlet::identity::watch::{LostLabels, Reason};
use credlet::identity::{Error, Settings, lending};
use credlet_tests::callers::{self, Callers};
use kube::Client;
use tokio::time::timeout;

/// For what must come, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The identity room of one node's agent.
pub(crate) struct Follower(Callers);

impl Deref for Follower {
    type Target = Callers;

    fn deref(&self) -> &Callers {
        &self.0
    }
}

impl Follower {
    /// Returns when the first list is there.
    pub(crate) async fn of(node: &str, client: Client) -> Self {
        Self::by(node, client, Clock::system()).await
    }

    /// As [`Self::of`], by another clock.
    pub(crate) async fn by(node: &str, client: Client, clock: Clock) -> Self {
        Self::with(node, client, clock, lending::Settings::default()).await
    }

    /// As [`Self::by`], that lends these tokens.
    pub(crate) async fn with(
        node: &str,
        client: Client,
        clock: Clock,
        lending: lending::Settings,
    ) -> Self {
        let settings = Settings {
            node: node.to_owned(),
            lending,
            ..callers::settings()
        };
        let follower = Self(Callers::of(client, clock, settings));
        let synced = timeout(PATIENCE, follower.identity.synced()).await;
        synced.expect("the API server answers");
        follower
    }

    /// The UID of the pod at an address, now.
    pub(crate) async fn now(&self, address: &str) -> Result<String, Error> {
        self.uid_by(None, address, None, Duration::ZERO).await
    }

    /// The UID of the pod at an address, as soon as there is one.
    pub(crate) async fn at(&self, address: &str) -> String {
        let answer = self.uid_by(None, address, None, PATIENCE).await;
        answer.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The UID of the pod that shows a token at an address, as soon as that is sure.
    pub(crate) async fn shown(&self, token: &str, address: &str) -> Result<String, Error> {
        self.uid_by(None, address, Some(token), PATIENCE).await
    }

    /// The kernel says that the address is reached by another link now.
    pub(crate) fn moved_to(&self, address: &str, link: u32) {
        let port = Port::Own;
        let path = Shown::Path(Path { link, port });
        let address = address.parse().expect("an address");
        self.kernel.show(address, path);
    }

    /// The UID of the pod that calls from an address by a link, within this time.
    pub(crate) async fn by_link(
        &self,
        link: u32,
        address: &str,
        patience: Duration,
    ) -> Result<String, Error> {
        self.uid_by(Some(link), address, None, patience).await
    }

    /// Returns when no pod has the address.
    pub(crate) async fn nobody_at(&self, address: &str) {
        self.until(address, unknown(address)).await;
    }

    /// Returns when this is the answer to who is at the address.
    pub(crate) async fn until(&self, address: &str, answer: Result<String, Error>) {
        let mut changes = self.identity.changes();
        let comes = async {
            while self.now(address).await != answer {
                changes.changed().await.expect("the watch goes on");
            }
        };
        let came = timeout(PATIENCE, comes).await.is_ok();
        assert!(came, "{:?} and not {answer:?}", self.now(address).await);
    }

    pub(crate) fn lost(&self, reason: Reason) -> u64 {
        let lost = &self.metrics.pods.lost;
        lost.get_or_create(&LostLabels { reason }).get()
    }
}

/// The answer about an address that no pod has.
pub(crate) fn unknown(address: &str) -> Result<String, Error> {
    Err(Error::Unknown(address.parse().expect("an address")))
}
