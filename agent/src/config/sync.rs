//! `credlet sync`: its flags, and what it mirrors.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::args::duration;
use super::{Error, Exchange, Log, optional_address, usage};

/// EKS throttles an account that asks much more often, whoever it is.
const MOST_RATE: f64 = 50.0;

/// A list every second would be all that the rate allows.
const SHORTEST: Duration = Duration::from_secs(10);

/// How associations are mirrored. Valid once built.
#[derive(Clone, Debug)]
pub struct Sync {
    /// Where they are declared.
    pub source: Source,
    /// The clusters, as EKS names them; of two that have an association for one
    /// account, the first counts. None: ACK's for any cluster.
    pub clusters: Vec<Arc<str>>,
    /// How often EKS lists what there is.
    pub interval: Duration,
    /// How old a description of EKS's may get.
    pub refresh: Duration,
    /// How many calls a second EKS gets at most.
    pub max_rate: f64,
    /// How mirrored roles are had; `None`: as each agent has them.
    pub exchange: Option<Exchange>,
    /// Where the lease and the status are kept.
    pub namespace: String,
    /// The port of `/healthz` and `/readyz`, on all addresses.
    pub probe_port: u16,
    /// Where `/metrics` is served.
    pub metrics_address: Option<SocketAddr>,
    /// `None`: in-cluster configuration, then the usual file.
    pub kubeconfig: Option<PathBuf>,
    /// How logs look.
    pub log: Log,
}

/// Where associations are declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// In EKS.
    Eks,
    /// In this cluster, by objects of ACK's.
    Ack,
}

/// The flags.
#[derive(Debug, Args)]
pub(super) struct SyncArgs {
    /// Where associations are declared: in EKS, or by ACK's `PodIdentityAssociation`s
    #[arg(long, env = "CREDLET_SYNC_SOURCE", value_enum, default_value_t = Source::Eks)]
    source: Source,
    /// The clusters, as EKS names them; of several, the first counts first; required by `eks`
    #[arg(long, env = "CREDLET_CLUSTER_NAME", value_delimiter = ',')]
    cluster_name: Vec<String>,
    /// How often EKS is asked what there is
    #[arg(long, env = "CREDLET_SYNC_INTERVAL", default_value = "1m", value_parser = duration)]
    interval: Duration,
    /// How old a description of an association may get
    #[arg(long, env = "CREDLET_SYNC_REFRESH", default_value = "5m", value_parser = duration)]
    refresh: Duration,
    /// How many calls a second EKS gets at most
    #[arg(long, env = "CREDLET_SYNC_MAX_RATE", default_value_t = 5.0)]
    max_rate: f64,
    /// How mirrored roles are had [default: as each agent's --exchange says]
    #[arg(long, env = "CREDLET_SYNC_EXCHANGE", value_enum)]
    exchange: Option<Exchange>,
    /// The namespace of the lease and of the status
    #[arg(long, env = "CREDLET_NAMESPACE", default_value = "credlet")]
    namespace: String,
    /// The port of /healthz and /readyz, on all addresses
    #[arg(long, env = "CREDLET_PROBE_PORT", default_value_t = 2703)]
    probe_port: u16,
    /// Where /metrics is served; empty turns it off
    #[arg(
        long,
        env = "CREDLET_METRICS_ADDRESS",
        default_value = "127.0.0.1:2705"
    )]
    metrics_address: String,
    /// A kubeconfig file [default: in-cluster, then the usual file]
    #[arg(long, env = "CREDLET_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    log: Log,
}

impl TryFrom<SyncArgs> for Sync {
    type Error = Error;

    fn try_from(args: SyncArgs) -> Result<Self, Error> {
        let SyncArgs {
            source,
            cluster_name,
            interval,
            refresh,
            max_rate,
            exchange,
            namespace,
            probe_port,
            metrics_address,
            kubeconfig,
            log,
        } = args;
        let mut clusters: Vec<Arc<str>> = Vec::new();
        // An empty variable of the environment names none.
        for name in cluster_name.into_iter().filter(|it| !it.is_empty()) {
            if clusters.iter().any(|it| **it == *name) {
                return Err(usage("--cluster-name", "names a cluster twice"));
            }
            clusters.push(name.into());
        }
        if clusters.is_empty() && source == Source::Eks {
            return Err(usage("--cluster-name", "is required by the source `eks`"));
        }
        for (flag, time) in [("--interval", interval), ("--refresh", refresh)] {
            if time < SHORTEST {
                return Err(usage(flag, "is less than 10s"));
            }
        }
        if !(max_rate > 0.0 && max_rate <= MOST_RATE) {
            return Err(usage("--max-rate", "is not more than 0 and 50 at most"));
        }
        if crate::model::ServiceAccount::new(&namespace, "it").is_err() {
            return Err(usage("--namespace", "is no name of a namespace"));
        }
        Ok(Self {
            source,
            clusters,
            interval,
            refresh,
            max_rate,
            exchange,
            namespace,
            probe_port,
            metrics_address: optional_address("--metrics-address", &metrics_address)?,
            kubeconfig,
            log,
        })
    }
}
