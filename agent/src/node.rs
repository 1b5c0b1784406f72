//! The daemon: composition, supervision, what operators look at.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::associations::eks::Eks;
use crate::associations::file::{self, File};
use crate::associations::{Associations, Source};
use crate::aws::{self, SdkConfig};
use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::{AssociationSource, Config};
use crate::credentials::Vault;
use crate::credentials::sts::Sts;
use crate::identity::watch::{self, Client, Watch};
use crate::serve::{self, BindError, Listeners, Prefer};

pub mod metrics;
pub mod network;
pub mod ops;
pub mod readiness;
pub mod supervise;
pub mod telemetry;

use metrics::{Counters, Metrics, State};
use ops::Desk;
use readiness::{Gate, Readiness};
use supervise::Supervisor;

/// Why the agent could not start or go on. Fatal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server's address or the agent's identity there is not known.
    #[error(transparent)]
    ApiServer(#[from] watch::ConnectError),
    /// AWS's endpoints are not known.
    #[error(transparent)]
    Aws(#[from] aws::NoRegion),
    /// The association file cannot be used.
    #[error(transparent)]
    AssociationFile(#[from] file::LoadError),
    /// The node's link or addresses could not be set up.
    #[error(transparent)]
    Network(#[from] netsetup::Error),
    /// An address could not be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A task ended that should not.
    #[error(transparent)]
    Task(#[from] supervise::Error),
    /// The kernel does not tell about signals.
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
}

/// What the agent talks to.
pub struct Outside {
    /// Knows the pods.
    pub api_server: Client,
    /// Knows the roles.
    pub aws: SdkConfig,
    /// Knows the time.
    pub clock: Clock,
}

/// Where an agent listens, with the ports that port 0 became.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The front doors.
    pub doors: Vec<SocketAddr>,
    /// `/healthz` and `/readyz`.
    pub probes: Vec<SocketAddr>,
    /// `/metrics`, if it is served.
    pub metrics: Vec<SocketAddr>,
}

/// An agent that serves its node.
pub struct Agent {
    addresses: Addresses,
    readiness: Readiness,
    supervisor: Supervisor,
    doors: tokio::task::JoinHandle<()>,
    leave: CancellationToken,
}

/// Serves this node until SIGTERM or SIGINT, and then drains.
pub async fn run(config: Config) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let outside = Outside {
        api_server: watch::connect(config.kubeconfig.as_deref()).await?,
        aws: aws::load().await?,
        clock: Clock::system(),
    };
    Agent::start(config, outside).await?.run(stop).await
}

impl Agent {
    /// Sets up the network, listens, and starts to learn about pods. Ready
    /// somewhat later; requests wait for that.
    pub async fn start(config: Config, outside: Outside) -> Result<Self, Error> {
        let Outside {
            api_server,
            aws,
            clock,
        } = outside;
        let counters = Counters::default();
        let readiness = Readiness::default();
        let mut supervisor = Supervisor::default();

        if let Some(network) = &config.network {
            let keep = network::start(network, counters.network_repairs.clone()).await?;
            supervisor.spawn("network", keep);
        }
        readiness.open(Gate::Network);

        let limits = serve::Limits::for_open_files(open_files());
        let hosts = usable(&config.bind_hosts);
        let listen = |port, prefer| Listeners::bind(&hosts, port, prefer, limits.stall);
        let doors = listen(config.port, Prefer::Incumbent)?;
        let probes = listen(config.probe_port, Prefer::Newcomer)?;
        let scrapes = match config.metrics_address {
            Some(at) => Some(Listeners::bind(&[at.ip()], at.port(), Prefer::Newcomer, limits.stall)?),
            None => None,
        };
        let addresses = Addresses {
            doors: doors.addresses(),
            probes: probes.addresses(),
            metrics: scrapes.iter().flat_map(Listeners::addresses).collect(),
        };

        let (identity, pods) =
            Watch::new(api_server, &config.node_name, watch::Limits::default(), counters.pods.clone());
        supervisor.spawn("pod watch", pods.run());

        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        let (mut eks, mut file) = (None, None);
        for source in &config.sources {
            match source {
                AssociationSource::File(path) => {
                    let (source, reader) = File::load(path)?;
                    supervisor.spawn("association file", ended(reader));
                    sources.push(Box::new(source.clone()));
                    file = Some(source);
                }
                AssociationSource::Eks { cluster } => {
                    let (source, scheduler) = Eks::new(&aws, cluster, counters.aws.clone(), clock);
                    supervisor.spawn("EKS associations", ended(scheduler));
                    sources.push(Box::new(source.clone()));
                    eks = Some(source);
                }
            }
        }

        let sts = Sts::new(
            &aws,
            config.sts_endpoints,
            config.cluster_name.as_deref(),
            config.session_duration,
            counters.aws.clone(),
        );
        let (vault, scheduler) = Vault::new(Arc::new(sts), clock);
        supervisor.spawn("credentials", ended(scheduler));

        let broker = Arc::new(Broker::new(identity.clone(), Associations::new(sources), vault.clone()));
        supervisor.spawn("prefetch", Arc::clone(&broker).keep_ready());

        let leave = CancellationToken::new();
        let doors = serve::run(doors, broker, limits, counters.serve.clone(), leave.clone());
        let doors = tokio::spawn(doors);
        readiness.open(Gate::Doors);

        let gates = readiness.clone();
        let closed = move || gates.closed().into_iter().map(|gate| gate.name().to_owned()).collect();
        supervisor.spawn("probes", ended(ops::run(probes, Desk::Probes(Arc::new(closed)))));
        if let Some(listeners) = scrapes {
            let state = State {
                clock,
                identity: identity.clone(),
                vault,
                eks,
                file,
            };
            let metrics = Metrics::new(counters, state);
            let desk = Desk::Metrics(Arc::new(move || metrics.render()));
            supervisor.spawn("metrics", ended(ops::run(listeners, desk)));
        }
        supervisor.spawn("readiness", when_synced(identity, readiness.clone()));

        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            node = config.node_name,
            doors = ?addresses.doors,
            "credlet serves this node"
        );
        Ok(Self {
            addresses,
            readiness,
            supervisor,
            doors,
            leave,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Goes on until `stop`, then drains: returns when every accepted request
    /// has its answer, a few seconds later at most.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::select! {
            failure = self.supervisor.failure() => return Err(failure.into()),
            ended = &mut self.doors => return Err(supervise::Error::of("front doors", ended).into()),
            () = stop => {}
        }
        tracing::info!("credlet leaves: it answers what it has accepted");
        self.readiness.close(Gate::Doors);
        self.leave.cancel();
        tokio::select! {
            failure = self.supervisor.failure() => Err(failure.into()),
            ended = &mut self.doors => match ended {
                Ok(()) => Ok(()),
                Err(_) => Err(supervise::Error::of("front doors", ended).into()),
            },
        }
    }
}

/// For tasks that have nothing to say about their end.
async fn ended(task: impl Future<Output = ()>) -> &'static str {
    task.await;
    "nothing was left to do"
}

async fn when_synced(identity: crate::identity::Identity, readiness: Readiness) -> std::convert::Infallible {
    identity.synced().await;
    readiness.open(Gate::Pods);
    tracing::info!("credlet is ready");
    std::future::pending().await
}

/// The soft limit; the start of the process has raised it.
fn open_files() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// The hosts without the IPv6 ones that this node cannot have: a kernel without
/// IPv6, or a node where it is disabled, is served over IPv4.
fn usable(hosts: &[IpAddr]) -> Vec<IpAddr> {
    let (usable, absent): (Vec<_>, Vec<_>) = hosts
        .iter()
        .partition(|host| host.is_ipv4() || UdpSocket::bind((**host, 0)).is_ok());
    // Without any, listening is to say what is wrong.
    if usable.is_empty() {
        return absent;
    }
    if !absent.is_empty() {
        tracing::warn!(?absent, "this node cannot have these IPv6 addresses; serving without them");
    }
    usable
}
