//! One pod, served from inside it: the composition root of `credlet sidecar`.
//!
//! Whoever is in the pod's network namespace is the pod, so that nobody has to
//! be looked up, and no API server asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::aws::pod::Signer;
use crate::aws::{self, SdkConfig};
use crate::clock::Clock;
use crate::config::Imds;
use crate::config::sidecar::{Account, Container, Exchange, Sidecar as Config};
use crate::credentials::Vault;
use crate::credentials::exchanges::Exchanges;
use crate::credentials::session::Sessions;
use crate::credentials::sts::Sts;
use crate::identity::tokens::{self, Flaw};
use crate::model::{Invalid, PodName, PodUid, ServiceAccount};
use crate::node::ops::{self, Desk};
use crate::node::supervise::{self, Supervisor};
use crate::node::{ended, kernel, open_files, stop_signal, usable};
use crate::serve::{self, BindError, Door, Limits, Listeners, Metadata, Prefer};

mod file;
mod own;
mod role;

use file::OfFile;
use own::Own;

/// Why the sidecar could not start or go on. Fatal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// AWS's endpoints are not known.
    #[error("no AWS region: neither AWS_REGION nor the profile names one")]
    NoRegion,
    /// The token's file cannot be read.
    #[error("the token file {}: {why}", path.display())]
    Token {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: io::Error,
    },
    /// The token does not say whose it is.
    #[error("the token file {}: {why}", path.display())]
    Holder {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: Flaw,
    },
    /// The role's file cannot be used.
    #[error("the role file {}: {why}", path.display())]
    Role {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: role::Fault,
    },
    /// The host has no name, after which a pod is called whose token does not name it.
    #[error("the pod's name is not known: {0}")]
    Name(#[from] Invalid),
    /// An address could not be listened on.
    #[error(
        "{0}; an init container `credlet sidecar --setup` gives a pod the addresses, \
             the sysctl net.ipv4.ip_unprivileged_port_start the port"
    )]
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

/// What the sidecar talks to.
pub struct Outside {
    /// Knows the roles.
    pub aws: SdkConfig,
    /// Knows the time.
    pub clock: Clock,
}

/// A sidecar that serves its pod.
pub struct Sidecar {
    doors: Vec<SocketAddr>,
    probes: Vec<SocketAddr>,
    supervisor: Supervisor,
    serving: tokio::task::JoinHandle<()>,
    leaving: Arc<AtomicBool>,
    leave: CancellationToken,
}

/// Serves the pod until SIGTERM or SIGINT, and then drains.
pub async fn run(config: Config) -> Result<(), Error> {
    let stop = stop_signal()?;
    let signer = match &config.exchange {
        Exchange::WebIdentity(_) => Signer::Nobody,
        Exchange::AssumeRole(Container::Other) => Signer::Environment,
        Exchange::AssumeRole(Container::Own) => Signer::EnvironmentAlone,
    };
    let aws = aws::pod::load(signer).await;
    let outside = Outside {
        aws: aws.map_err(|aws::NoRegion| Error::NoRegion)?,
        clock: Clock::system(),
    };
    Sidecar::start(&config, outside)?.run(stop).await
}

impl Sidecar {
    /// Listens, and asks for the first credentials. Ready when they are there.
    ///
    /// Needs a tokio runtime.
    pub fn start(config: &Config, outside: Outside) -> Result<Self, Error> {
        let Outside { aws, clock } = outside;
        let mut supervisor = Supervisor::default();
        let limits = Limits::for_open_files(open_files());
        let hosts: Vec<IpAddr> = config.bind.iter().map(SocketAddr::ip).collect();
        let hosts = usable(&hosts);
        let bind = config.bind.iter().copied();
        let bind = bind.filter(|address| hosts.contains(&address.ip()));
        let doors = Listeners::bind_each(bind, Prefer::Incumbent, limits.stall)?;
        // A kubelet asks the pod's address, whichever that is.
        let everywhere = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let everywhere = usable(&everywhere);
        let probes = Listeners::bind(
            &everywhere,
            config.probe_port,
            Prefer::Newcomer,
            limits.stall,
        )?;
        let (at, probed_at) = (doors.addresses(), probes.addresses());

        let (account, pod) = whose(&config.account)?;
        let (role, follower) = role::read(&config.role)?;
        let exchanges = exchanges(config, &aws);
        let (vault, scheduler) = Vault::new(Arc::new(exchanges), clock);
        supervisor.spawn("credentials", ended(scheduler));
        let own = Arc::new(Own::new(account, pod, &config.exchange, role, vault));
        if let Some(follower) = follower {
            supervisor.spawn("role", follower.run(Arc::clone(&own)));
        }

        let metadata = Metadata::new(Imds {
            versions: config.imds_versions,
            ..Imds::default()
        });
        let leave = CancellationToken::new();
        let serving = tokio::spawn(serve::run(
            vec![(Door::Both(Arc::new(metadata)), doors)],
            kernel::ingress,
            Arc::clone(&own) as _,
            limits,
            serve::Metrics::default(),
            leave.clone(),
        ));
        let leaving = Arc::new(AtomicBool::new(false));
        let gates = {
            let (own, leaving) = (Arc::clone(&own), Arc::clone(&leaving));
            move || {
                let gates = [
                    ("credentials", !own.has_credentials()),
                    ("doors", leaving.load(Ordering::Relaxed)),
                ];
                let closed = gates.into_iter().filter(|(_, is_closed)| *is_closed);
                closed.map(|(name, _)| name.to_owned()).collect()
            }
        };
        supervisor.spawn(
            "probes",
            ended(ops::run(probes, Desk::Probes(Arc::new(gates)))),
        );
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            doors = ?at,
            key = %own.key(),
            "credlet serves this pod"
        );
        Ok(Self {
            doors: at,
            probes: probed_at,
            supervisor,
            serving,
            leaving,
            leave,
        })
    }

    /// Where it listens, with the ports that port 0 became.
    pub fn doors(&self) -> &[SocketAddr] {
        &self.doors
    }

    /// Where it answers probes.
    pub fn probes(&self) -> &[SocketAddr] {
        &self.probes
    }

    /// Goes on until `stop`, then drains: returns when every accepted request
    /// has its answer, a few seconds later at most.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let leave = || {
            self.leaving.store(true, Ordering::Relaxed);
            self.leave.cancel();
        };
        Ok(self.supervisor.serve(self.serving, stop, leave).await?)
    }
}

/// The account, and the pod as its token names it or, where that does not, its host.
fn whose(account: &Account) -> Result<(ServiceAccount, PodName), Error> {
    let of_host = || {
        let host = nix::unistd::gethostname().unwrap_or_default();
        let host = host.to_string_lossy();
        let uid = PodUid::new(&host)?;
        let name = host.as_ref().into();
        Ok::<_, Invalid>(PodName { uid, name })
    };
    match account {
        Account::Given(account) => Ok((account.clone(), of_host()?)),
        Account::OfToken(path) => {
            let token = file::read(path).map_err(|why| Error::Token {
                path: path.clone(),
                why,
            })?;
            let holder = tokens::holder(&token).map_err(|why| Error::Holder {
                path: path.clone(),
                why,
            })?;
            match holder {
                (account, Some(pod)) => Ok((account, pod)),
                (account, None) => Ok((account, of_host()?)),
            }
        }
    }
}

fn exchanges(config: &Config, aws: &SdkConfig) -> Exchanges {
    let file = match &config.exchange {
        Exchange::WebIdentity(file) => Some(file.clone()),
        Exchange::AssumeRole(_) => None,
    };
    let sessions = Sessions {
        cluster_name: None,
        cluster_arn: None,
        node: "".into(),
        duration: config.session_duration,
        name: config.session_name.clone(),
        source_identity: None,
        tags: std::collections::BTreeMap::new(),
    };
    let tokens = Arc::new(OfFile::new(file));
    let metrics = aws::Metrics::default();
    let sts = Sts::new(aws, config.sts_endpoints, sessions, tokens, metrics);
    Exchanges::new(sts, None)
}
