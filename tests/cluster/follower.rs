//! The agent's pod watch and its readers, without the rest of the agent.

use std::net::IpAddr;
use std::time::Duration;

use credlet::identity::watch::{Client, Limits, LostLabels, Metrics, Reason, Watch};
use credlet::identity::{Error, Identity};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// For what must come, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Follows one node's pods until it is dropped.
pub(crate) struct Follower {
    pub(crate) identity: Identity,
    metrics: Metrics,
    _watch: JoinSet<()>,
}

impl Follower {
    /// Returns when the first list is there.
    pub(crate) async fn of(node: &str, client: Client) -> Self {
        let metrics = Metrics::default();
        let (identity, watch) = Watch::new(client, node, Limits::default(), metrics.clone());
        let mut running = JoinSet::new();
        running.spawn(async { match watch.run().await {} });
        let synced = timeout(PATIENCE, identity.synced()).await;
        synced.expect("the API server answers");
        Self {
            identity,
            metrics,
            _watch: running,
        }
    }

    /// The UID of the pod at an address, now.
    pub(crate) async fn now(&self, address: &str) -> Result<String, Error> {
        self.by(address, Instant::now()).await
    }

    /// The UID of the pod at an address, as soon as there is one.
    pub(crate) async fn at(&self, address: &str) -> String {
        let answer = self.by(address, Instant::now() + PATIENCE).await;
        answer.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns when no pod has the address.
    pub(crate) async fn nobody_at(&self, address: &str) {
        let mut changes = self.identity.changes();
        let unknown = Err(Error::Unknown(ip(address)));
        let gone = async {
            while self.now(address).await != unknown {
                changes.changed().await.expect("the watch goes on");
            }
        };
        timeout(PATIENCE, gone).await.expect("the pod goes");
    }

    pub(crate) fn lost(&self, reason: Reason) -> u64 {
        let counter = self.metrics.lost.get_or_create(&LostLabels { reason });
        counter.get()
    }

    async fn by(&self, address: &str, deadline: Instant) -> Result<String, Error> {
        let local = ip("169.254.170.23");
        let caller = self.identity.caller(ip(address), local, deadline).await?;
        Ok(caller.pod().to_string())
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
