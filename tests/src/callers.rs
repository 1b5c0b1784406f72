//! The identity room by itself, between a stand-in of the API server and one of the kernel.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use credlet::clock::Clock;
use credlet::config::IdentityMode;
use credlet::identity::{
    Error, Identity, Metrics, Origin, Outside, Settings, lending, tokens, watch,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fake_kernel::FakeKernel;
use crate::fake_kube::{FakeKube, NODE};

/// Who calls, and the tasks that find out, which end when this is dropped.
pub struct Callers {
    /// The room.
    pub identity: Identity,
    /// What the kernel shows.
    pub kernel: Arc<FakeKernel>,
    /// What the room counts.
    pub metrics: Metrics,
    tasks: JoinSet<()>,
}

/// As the agent's own, without flags.
pub fn settings() -> Settings {
    Settings {
        node: NODE.to_owned(),
        mode: IdentityMode::Address,
        max_pod_staleness: Duration::from_mins(5),
        tokens: tokens::Settings {
            audiences: vec!["pods.eks.amazonaws.com".to_owned()],
            state_dir: None,
        },
        watch: watch::Limits::default(),
        lending: lending::Settings::default(),
    }
}

impl Callers {
    /// Begins to learn about the pods.
    pub fn open(kube: &FakeKube, settings: Settings) -> Self {
        let url = kube.url().parse().expect("a URL");
        let mut config = kube::Config::new(url);
        config.default_retry = false;
        let client = kube::Client::try_from(config).expect("plain HTTP needs nothing");
        Self::of(client, Clock::system(), settings)
    }

    /// With a client and a clock of the caller's.
    pub fn of(client: kube::Client, clock: Clock, settings: Settings) -> Self {
        let (kernel, changes) = FakeKernel::new();
        let metrics = Metrics::default();
        let outside = Outside {
            client,
            kernel: Arc::clone(&kernel) as _,
            changes,
            // Of those that no test lets appear.
            links: (1..2000).collect(),
            clock,
        };
        let (identity, rooms) = Identity::new(outside, settings, metrics.clone());
        let mut tasks = JoinSet::new();
        for (name, task) in rooms {
            tasks.spawn(async move { panic!("the task {name} ended: {}", task.await) });
        }
        Self {
            identity,
            kernel,
            metrics,
            tasks,
        }
    }

    /// The UID of the pod that calls from an address by a link.
    pub async fn uid_by(
        &self,
        link: Option<u32>,
        address: &str,
        token: Option<&str>,
        patience: Duration,
    ) -> Result<String, Error> {
        let (peer, door) = (ip(address), ip("169.254.170.23"));
        let origin = Origin::new(peer, door, link);
        let deadline = Instant::now() + patience;
        let caller = self.identity.caller(&origin, token, deadline).await?;
        Ok(caller.pod().to_string())
    }

    /// Has the tasks outlive this.
    pub fn into_tasks(self) -> JoinSet<()> {
        self.tasks
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
