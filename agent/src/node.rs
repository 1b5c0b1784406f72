//! The daemon: composition, supervision, what operators look at.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::associations::file;
use crate::aws::{self, SdkConfig, Whereabouts};
use crate::clock::Clock;
use crate::config::Config;
use crate::identity::Identity;
use crate::identity::watch::{self, Client};
use crate::serve::{self, BindError, Door, Listeners, Metadata, Prefer};

mod asked;
mod counters;
pub(crate) mod kernel;
mod metrics;
pub mod network;
pub mod ops;
pub mod page;
pub mod readiness;
mod rooms;
mod sources;
mod status;
pub mod supervise;
mod taint;

use counters::Counters;
use metrics::Metrics;
use ops::Desk;
use page::Page;
use readiness::{Gate, Readiness};
use rooms::Rooms;
use status::Looks;
use supervise::Supervisor;

/// Where SDKs ask for instance metadata.
const IMDS_PORT: u16 = 80;

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
    #[error("the association file {0}")]
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
    /// Instance metadata, if it is served.
    pub imds: Vec<SocketAddr>,
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
    let stop = stop_signal()?;
    let outside = Outside {
        api_server: watch::connect(config.kubeconfig.as_deref()).await?,
        aws: aws::load().await?,
        clock: Clock::system(),
    };
    Agent::start(config, outside).await?.run(stop).await
}

/// Resolves when the process is asked to end, by SIGTERM or SIGINT.
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()>, Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

impl Agent {
    /// Sets up the network, listens, and starts to learn about pods. Ready
    /// somewhat later; requests wait for that.
    pub async fn start(config: Config, outside: Outside) -> Result<Self, Error> {
        let started = Instant::now();
        let counters = Counters::default();
        let readiness = Readiness::default();
        let mut supervisor = Supervisor::default();

        if let Some(network) = &config.network {
            let keep = network::start(network, counters.network_repairs.clone()).await?;
            supervisor.spawn("network", keep);
        }
        readiness.open(Gate::Network);

        let limits = serve::Limits::for_open_files(open_files());
        let ports = Ports::bind(&config, limits)?;
        let addresses = ports.addresses();
        let node = Whereabouts::new(&outside.aws, None);
        let api_server = outside.api_server.clone();
        let rooms = Rooms::open(
            &config,
            outside,
            kernel::open().await?,
            &counters,
            &mut supervisor,
        )?;
        supervisor.spawn(
            "readiness",
            when_synced(rooms.identity.clone(), readiness.clone()),
        );

        if let Some(key) = config.startup_taint.clone() {
            let (node, gates) = (config.node_name.clone(), readiness.clone());
            supervisor.spawn(
                "start-up taint",
                taint::remove(api_server, node, key, gates),
            );
        }

        let metadata = Metadata::new(config.imds.clone()).asking(node);
        if let Some(network) = &config.network {
            let pods = config.imds.pods;
            if let Some(hold) = network::exempt(network, rooms.identity.clone(), pods) {
                supervisor.spawn("exemptions", hold);
            }
        }
        let leave = CancellationToken::new();
        let doors = serve::run(
            vec![
                (Door::Container, ports.doors),
                (Door::Imds(Arc::new(metadata)), ports.imds),
            ],
            kernel::ingress,
            Arc::clone(&rooms.broker) as _,
            limits,
            counters.serve.clone(),
            leave.clone(),
        );
        let doors = tokio::spawn(doors);
        readiness.open(Gate::Doors);

        let gates = readiness.clone();
        let probes = Desk::Probes(Arc::new(move || gates.closed_names()));
        supervisor.spawn("probes", ended(ops::run(ports.probes, probes)));
        if let Some(listeners) = ports.metrics {
            let rooms = Arc::new(rooms);
            let looks = Looks {
                rooms: Arc::clone(&rooms),
                readiness: readiness.clone(),
                node: config.node_name.clone(),
                cluster: config.cluster_name.clone(),
                started,
            };
            let broker = Arc::clone(&rooms.broker);
            let metrics = Metrics::new(counters, rooms);
            let page = Page::new(config.status_access, Arc::new(move || looks.json()));
            let page = page.asking(Arc::new(move |path: &str| asked::ask(&broker, path)));
            let desk = Desk::Metrics(Arc::new(move || metrics.render()), page);
            supervisor.spawn("metrics", ended(ops::run(listeners, desk)));
        }

        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            node = config.node_name,
            doors = ?addresses.doors,
            imds = ?addresses.imds,
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
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let Self {
            addresses: _,
            readiness,
            supervisor,
            doors,
            leave,
        } = self;
        let leave = || {
            readiness.close(Gate::Doors);
            leave.cancel();
        };
        Ok(supervisor.serve(doors, stop, leave).await?)
    }
}

/// The sockets that listen.
struct Ports {
    doors: Listeners,
    imds: Listeners,
    probes: Listeners,
    metrics: Option<Listeners>,
}

impl Ports {
    fn bind(config: &Config, limits: serve::Limits) -> Result<Self, BindError> {
        let hosts = usable(&config.bind_hosts);
        let bind = |hosts: &[_], port, prefer| Listeners::bind(hosts, port, prefer, limits.stall);
        Ok(Self {
            doors: bind(&hosts, config.port, Prefer::Incumbent)?,
            imds: Listeners::bind_captured(
                &speakable(&config.imds_hosts),
                IMDS_PORT,
                Prefer::Incumbent,
                limits.stall,
            )?,
            probes: bind(&hosts, config.probe_port, Prefer::Newcomer)?,
            metrics: config
                .metrics_address
                .map(|at| bind(&[at.ip()], at.port(), Prefer::Newcomer))
                .transpose()?,
        })
    }

    fn addresses(&self) -> Addresses {
        Addresses {
            doors: self.doors.addresses(),
            imds: self.imds.addresses(),
            probes: self.probes.addresses(),
            metrics: self.metrics.iter().flat_map(Listeners::addresses).collect(),
        }
    }
}

/// For tasks that have nothing to say about their end.
pub(crate) async fn ended(task: impl Future<Output = ()>) -> &'static str {
    task.await;
    "nothing was left to do"
}

async fn when_synced(identity: Identity, readiness: Readiness) -> Infallible {
    identity.synced().await;
    readiness.open(Gate::Pods);
    tracing::info!("credlet is ready");
    std::future::pending().await
}

/// The soft limit; the start of the process has raised it.
pub(crate) fn open_files() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// The hosts, which are others', without the IPv6 ones where the kernel has none.
fn speakable(hosts: &[IpAddr]) -> Vec<IpAddr> {
    let has_ipv6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
    let hosts = hosts.iter().copied();
    hosts.filter(|host| host.is_ipv4() || has_ipv6).collect()
}

/// The hosts without the IPv6 ones that this node cannot have: a kernel without
/// IPv6, or a node where it is disabled, is served over IPv4.
pub(crate) fn usable(hosts: &[IpAddr]) -> Vec<IpAddr> {
    let (usable, absent): (Vec<_>, Vec<_>) = hosts
        .iter()
        .partition(|host| host.is_ipv4() || UdpSocket::bind((**host, 0)).is_ok());
    // Without any, listening is to say what is wrong.
    if usable.is_empty() {
        return absent;
    }
    if !absent.is_empty() {
        tracing::warn!(
            ?absent,
            "this node cannot have these IPv6 addresses; serving without them"
        );
    }
    usable
}
