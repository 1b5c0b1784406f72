//! `credlet sync`: associations that are declared elsewhere, mirrored into the
//! cluster's own `PodIdentityAssociation`s by one leader, so that agents watch
//! Kubernetes and thousands of nodes cost EKS what one does.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::apiserver::{self, Client};
use crate::aws::{self, SdkConfig};
use crate::clock::Clock;
use crate::cluster::lease::store::Lease;
use crate::cluster::lease::{Candidate, Lead, Terms};
use crate::config::StatusAccess;
use crate::config::sync::{Source, Sync as Config};
use crate::node::ops::{self, Desk};
use crate::node::page::Page;
use crate::node::supervise::{self, Supervisor};
use crate::node::{ended, stop_signal, usable};
use crate::serve::{BindError, Listeners, Prefer};

mod ack;
mod board;
mod eks;
mod metrics;
mod mirror;
mod mirrored;
mod pace;
mod plan;
mod roll;
pub mod status;
#[cfg(test)]
mod tests;

use board::Board;
use metrics::{Look, Metrics, Names};
use mirror::{Mirror, There};
use mirrored::Feed;
use pace::Pace;

/// The lease that the leader holds.
pub const LEASE: &str = "credlet-sync";

/// How long a connection of a probe or a scrape may stall.
const STALL: std::time::Duration = std::time::Duration::from_secs(5);

/// Why it could not start or go on. Fatal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server's address or the identity there is not known.
    #[error(transparent)]
    ApiServer(#[from] apiserver::ConnectError),
    /// AWS's endpoints are not known.
    #[error(transparent)]
    Aws(#[from] aws::NoRegion),
    /// An address could not be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A task ended that should not, or a signal cannot be received.
    #[error(transparent)]
    Process(#[from] crate::node::Error),
}

impl From<supervise::Error> for Error {
    fn from(error: supervise::Error) -> Self {
        Self::Process(error.into())
    }
}

/// What it talks to.
pub struct Outside {
    /// Has the objects.
    pub api_server: Client,
    /// Knows the associations; not needed where ACK's objects do.
    pub aws: Option<SdkConfig>,
    /// Knows the time.
    pub clock: Clock,
    /// How the lease is held.
    pub terms: Terms,
}

/// A candidate that mirrors while it leads.
pub struct Sync {
    probes: Vec<SocketAddr>,
    metrics: Vec<SocketAddr>,
    supervisor: Supervisor,
    lead: Lead,
    candidate: tokio::task::JoinHandle<()>,
    leave: CancellationToken,
}

/// Mirrors until SIGTERM or SIGINT, and then lets go of the lease.
pub async fn run(config: Config) -> Result<(), Error> {
    let stop = stop_signal()?;
    let aws = match config.source {
        Source::Eks => Some(aws::load().await?),
        Source::Ack => None,
    };
    let outside = Outside {
        api_server: apiserver::connect(config.kubeconfig.as_deref()).await?,
        aws,
        clock: Clock::system(),
        terms: Terms::default(),
    };
    Sync::start(config, outside)?.run(stop).await
}

impl Sync {
    /// Stands for the lease. Needs a tokio runtime.
    ///
    /// # Panics
    /// If the source is EKS and `outside` has no AWS.
    pub fn start(config: Config, outside: Outside) -> Result<Self, Error> {
        let Outside {
            api_server,
            aws,
            clock,
            terms,
        } = outside;
        let mut supervisor = Supervisor::default();
        // A kubelet asks the pod's address, whichever that is.
        let everywhere = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let bind = |hosts: &[IpAddr], port| Listeners::bind(hosts, port, Prefer::Newcomer, STALL);
        let probed = bind(&usable(&everywhere), config.probe_port)?;
        let scrapes = config.metrics_address;
        let scrapes = scrapes.map(|at| bind(&[at.ip()], at.port())).transpose()?;
        let asked_at = probed.addresses();
        let scrapes_at = scrapes.iter().flat_map(Listeners::addresses).collect();

        let metrics = Metrics::default();
        let board = Board::new(feeds(&config));
        let objects = Arc::new(Mutex::new(mirror::Standing::default()));
        let lease = Lease::new(api_server.clone(), &config.namespace, LEASE);
        let (candidate, lead) = Candidate::new(lease, &own_name(), terms, clock);
        let ending = CancellationToken::new();
        let stop = ending.clone().cancelled_owned();
        let standing = tokio::spawn(candidate.run(stop));

        let desk = Desk::Probes(Arc::new({
            let lead = lead.clone();
            move || {
                let closed = (!lead.has_looked()).then(|| "lease".to_owned());
                closed.into_iter().collect()
            }
        }));
        supervisor.spawn("probes", ended(ops::run(probed, desk)));
        if let Some(scrapes) = scrapes {
            let names = Names::new(metrics.clone());
            let (board, objects, lead) = (board.clone(), Arc::clone(&objects), lead.clone());
            let render = move || {
                let feeds = board.look(|state| state.feeds.clone());
                let objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
                names.render(&Look {
                    leads: lead.leads(),
                    feeds: &feeds,
                    objects: &objects,
                    now: clock.now(),
                })
            };
            // The status is in the cluster.
            let page = Page::new(StatusAccess::None, Arc::new(Vec::new));
            let desk = Desk::Metrics(Arc::new(render), page);
            supervisor.spawn("metrics", ended(ops::run(scrapes, desk)));
        }
        let leader = Leader {
            config,
            client: api_server,
            aws,
            clock,
            metrics,
            board,
            objects,
        };
        supervisor.spawn("mirror", leader.run(lead.clone()));
        Ok(Self {
            probes: asked_at,
            metrics: scrapes_at,
            supervisor,
            lead,
            candidate: standing,
            leave: ending,
        })
    }

    /// Where it answers probes.
    pub fn probes(&self) -> &[SocketAddr] {
        &self.probes
    }

    /// Where it answers scrapes.
    pub fn metrics(&self) -> &[SocketAddr] {
        &self.metrics
    }

    /// Whether it leads.
    pub fn lead(&self) -> Lead {
        self.lead.clone()
    }

    /// Goes on until `stop`, and then lets go of the lease.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let leave = || self.leave.cancel();
        Ok(self.supervisor.serve(self.candidate, stop, leave).await?)
    }
}

/// What leads, when it does.
struct Leader {
    config: Config,
    client: Client,
    aws: Option<SdkConfig>,
    clock: Clock,
    metrics: Metrics,
    board: Board,
    objects: Arc<Mutex<mirror::Standing>>,
}

impl Leader {
    async fn run(self, mut lead: Lead) -> &'static str {
        loop {
            lead.won().await;
            tracing::info!("this process mirrors associations");
            if let Some(ended) = lead.during(self.mirror()).await {
                return ended;
            }
            tracing::info!("another process may mirror associations now");
            // What was known is old by the next time.
            self.board.clear();
        }
    }

    async fn mirror(&self) -> &'static str {
        let there = There::new(&self.metrics.losses);
        let (mirror, tasks) = (
            Mirror::new(
                self.client.clone(),
                there.clone(),
                self.board.clone(),
                self.metrics.clone(),
                Arc::clone(&self.objects),
            ),
            FuturesUnordered::<BoxFuture<'_, &'static str>>::new(),
        );
        tasks.push(there.clone().follow(self.client.clone()).boxed());
        tasks.push(never(mirror.run()).boxed());
        tasks.push(never(self.write_status()).boxed());
        tasks.push(self.feed(there).boxed());
        let mut tasks = tasks;
        tasks.next().await.expect("four tasks")
    }

    async fn feed(&self, there: There) -> &'static str {
        let origins = there.known().await;
        let clusters = self.config.clusters.iter();
        match self.config.source {
            Source::Eks => {
                let aws = self.aws.as_ref().expect("the source is EKS");
                let settings = eks::Settings {
                    every: self.config.interval,
                    refresh: self.config.refresh,
                    exchange: self.config.exchange,
                };
                let pace = Pace::new(self.config.max_rate);
                let metrics = self.metrics.aws.clone();
                let asking = eks::Asking::new(aws, pace, settings, metrics, self.clock);
                let feeds = clusters.enumerate().map(|(order, name)| {
                    let (asking, board) = (asking.clone(), self.board.clone());
                    let origins = origins.iter().cloned();
                    never(eks::Cluster::new(asking, name, order, board, origins).run()).boxed()
                });
                let mut feeds: FuturesUnordered<_> = feeds.collect();
                feeds.next().await.expect("a cluster at least")
            }
            Source::Ack => {
                let settings = ack::Settings {
                    clusters: clusters.cloned().collect(),
                    exchange: self.config.exchange,
                };
                let (ack, follow) = ack::Ack::new(
                    &self.client,
                    settings,
                    self.board.clone(),
                    &self.metrics.losses,
                    self.clock,
                );
                tokio::select! {
                    ended = follow => ended,
                    ended = never(ack.run(origins)) => ended,
                }
            }
        }
    }

    async fn write_status(&self) -> Infallible {
        let look = || {
            let feeds = self.board.look(|state| state.feeds.clone());
            let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
            status::document(&feeds, &objects)
        };
        status::write(self.client.clone(), self.config.namespace.clone(), look).await
    }
}

/// For what has no end.
async fn never(task: impl Future<Output = Infallible>) -> &'static str {
    match task.await {}
}

fn feeds(config: &Config) -> Vec<Feed> {
    match config.source {
        Source::Eks => config.clusters.iter().cloned().map(Feed::Eks).collect(),
        Source::Ack => vec![Feed::Ack],
    }
}

/// The pod's name, and what tells this process from those before it.
fn own_name() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    format!("{}_{:016x}", host.to_string_lossy(), fastrand::u64(..))
}
