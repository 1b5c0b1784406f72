//! `credlet webhook`: the environment that AWS SDKs look for, for pods as they are made.
//!
//! Every replica answers reviews; the one that leads also keeps certificates and
//! looks for pods that were missed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::apiserver::{Client, ConnectError, connect};
use crate::associations::file;
use crate::aws::{self, SdkConfig};
use crate::clock::Clock;
use crate::cluster::lease::store::Lease;
use crate::cluster::lease::{Candidate, Lead, Terms};
use crate::config::StatusAccess;
use crate::config::webhook::Webhook as Config;
use crate::inject::Settings;
use crate::node::ops::{self, Desk as Ops};
use crate::node::page::Page;
use crate::node::supervise::{self, Supervisor};
use crate::node::{ended, stop_signal};
use crate::serve::BindError;

pub mod certificate;
mod desk;
mod keeper;
mod knowledge;
mod listed;
mod metrics;
mod missed;
mod objects;
mod one;
mod parts;
mod review;
mod rotation;
mod server;
mod serving;

use desk::Desk;
use keeper::Keeper;
use metrics::Metrics;
use missed::Search;
use parts::Ports;
pub use rotation::Times;
pub use server::Farewell;
use server::Server;
use serving::Serving;

/// Why the webhook could not start or go on. Fatal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server's address or our identity there is not known.
    #[error(transparent)]
    ApiServer(#[from] ConnectError),
    /// AWS's endpoints are not known.
    #[error(transparent)]
    Aws(#[from] aws::NoRegion),
    /// The association file cannot be used.
    #[error("the association file {0}")]
    AssociationFile(#[from] file::LoadError),
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

/// What the webhook talks to.
pub struct Outside {
    /// Knows the accounts, and asks.
    pub api_server: Client,
    /// Knows the associations, if it is asked.
    pub aws: Option<SdkConfig>,
    /// Knows the time.
    pub clock: Clock,
}

/// How it takes its time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Certificates.
    pub times: Times,
    /// The lease.
    pub terms: Terms,
    /// Its end.
    pub farewell: Farewell,
}

/// Where a webhook listens, with the ports that port 0 became.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Reviews.
    pub reviews: Vec<SocketAddr>,
    /// `/healthz` and `/readyz`.
    pub probes: Vec<SocketAddr>,
    /// `/metrics`, if it is served.
    pub metrics: Vec<SocketAddr>,
}

/// A webhook that answers.
pub struct Webhook {
    addresses: Addresses,
    supervisor: Supervisor,
    serving: JoinHandle<()>,
    leaving: Arc<AtomicBool>,
    leave: CancellationToken,
}

/// Serves the cluster until SIGTERM or SIGINT, and then drains.
pub async fn run(config: Config) -> Result<(), Error> {
    let stop = stop_signal()?;
    let aws = match &config.eks_cluster {
        Some(_) => Some(aws::load().await?),
        None => None,
    };
    let outside = Outside {
        api_server: connect(config.kubeconfig.as_deref()).await?,
        aws,
        clock: Clock::system(),
    };
    Webhook::start(&config, outside, Pace::default())?
        .run(stop)
        .await
}

impl Webhook {
    /// Listens, and starts to learn about accounts. Ready when all first lists
    /// have come and there is a certificate.
    ///
    /// Needs a tokio runtime.
    pub fn start(config: &Config, outside: Outside, pace: Pace) -> Result<Self, Error> {
        let metrics = Metrics::default();
        let mut supervisor = Supervisor::default();
        let ports = Ports::bind(config)?;
        let addresses = ports.addresses();
        let namespace = match &config.namespace {
            Some(namespace) => namespace.clone(),
            None => outside.api_server.default_namespace().to_owned(),
        };
        let leave = CancellationToken::new();

        let knowledge = parts::learn(config, &outside, &metrics, &mut supervisor)?;
        let settings = Settings::from(&config.injection);
        let name = format!("{}.{namespace}.svc", config.service);
        let serving = Serving::default();
        let keeper = parts::certify(
            &config.certificates,
            &outside,
            &namespace,
            name,
            pace.times,
            &serving,
            &metrics,
            &mut supervisor,
        );
        let search = parts::search(
            config,
            &outside,
            &knowledge,
            &settings,
            &metrics,
            &mut supervisor,
        );

        let store = Lease::new(outside.api_server, &namespace, &config.service);
        // No replica has another's name, nor that of one before it.
        let me = format!("{}_{:016x}", config.name, fastrand::u64(..));
        let (candidate, lead) = Candidate::new(store, &me, pace.terms, outside.clock);
        let stands = {
            let leave = leave.clone();
            async move {
                candidate.run(leave.cancelled()).await;
                std::future::pending::<Infallible>().await
            }
        };
        supervisor.spawn("lease", stands);
        let leads = lead.clone();
        supervisor.spawn("leader", work(leads, keeper, search));

        let desk = Arc::new(Desk::new(knowledge.clone(), settings, metrics.clone()));
        let server = Server {
            desk,
            tls: serving.tls(),
            farewell: pace.farewell,
            metrics: metrics.clone(),
        };
        let answering = tokio::spawn(server.run(ports.reviews, leave.clone()));

        let leaving = Arc::new(AtomicBool::new(false));
        let gates = {
            let (serving, leaving) = (serving.clone(), Arc::clone(&leaving));
            move || {
                let mut closed = knowledge.missing();
                closed.extend((!serving.is_ready()).then_some("certificate"));
                let is_leaving = leaving.load(Ordering::Relaxed);
                closed.extend(is_leaving.then_some("doors"));
                closed.into_iter().map(ToOwned::to_owned).collect()
            }
        };
        let probes = Ops::Probes(Arc::new(gates));
        supervisor.spawn("probes", ended(ops::run(ports.probes, probes)));
        if let Some(listeners) = ports.metrics {
            let registry = metrics.registry();
            let render = move || {
                metrics.leads.set(lead.leads().into());
                metrics.certificate.set(serving.is_ready().into());
                metrics::render(&registry)
            };
            let nothing = Page::new(StatusAccess::None, Arc::new(Vec::new));
            let desk = Ops::Metrics(Arc::new(render), nothing);
            supervisor.spawn("metrics", ended(ops::run(listeners, desk)));
        }
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            reviews = ?addresses.reviews,
            "credlet reviews pods"
        );
        Ok(Self {
            addresses,
            supervisor,
            serving: answering,
            leaving,
            leave,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Goes on until `stop`, then drains: returns when every accepted review has
    /// its answer, some seconds later.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let leave = || {
            self.leaving.store(true, Ordering::Relaxed);
            self.leave.cancel();
        };
        Ok(self.supervisor.serve(self.serving, stop, leave).await?)
    }
}

/// What only one replica does, whenever this one leads.
async fn work(mut lead: Lead, keeper: Option<Keeper>, search: Search) -> Infallible {
    loop {
        lead.won().await;
        let (keeper, search) = (keeper.clone(), search.clone());
        let keeps = async {
            match keeper {
                Some(keeper) => keeper.run().await,
                None => std::future::pending().await,
            }
        };
        lead.during(Box::pin(join(keeps, search.run()))).await;
    }
}
