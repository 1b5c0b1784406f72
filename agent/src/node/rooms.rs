//! The rooms behind the front doors, joined, and their tasks.

use std::sync::Arc;

use super::counters::Counters;
use super::supervise::Supervisor;
use super::{Error, Outside, ended, kernel};
use crate::associations::eks::Eks;
use crate::associations::file::File;
use crate::associations::{Associations, Source};
use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::{AssociationSource, Config};
use crate::credentials::Vault;
use crate::credentials::sts::Sts;
use crate::identity::{self, Identity, lending, tokens, watch};

/// What answers callers, and its parts for those who look at them.
pub(super) struct Rooms {
    /// For ages.
    pub(super) clock: Clock,
    /// The pods.
    pub(super) identity: Identity,
    /// The source `eks`, if it is on.
    pub(super) eks: Option<Eks>,
    /// The source `file`, if it is on.
    pub(super) file: Option<File>,
    /// The credentials.
    pub(super) vault: Vault,
    /// All of them together.
    pub(super) broker: Arc<Broker>,
}

impl Rooms {
    /// Nothing is known at first; the tasks learn it.
    pub(super) fn open(
        config: &Config,
        outside: Outside,
        network: kernel::Opened,
        counters: &Counters,
        supervisor: &mut Supervisor,
    ) -> Result<Self, Error> {
        let Outside {
            api_server,
            aws,
            clock,
        } = outside;
        let kernel::Opened {
            kernel,
            changes,
            links,
            driver,
        } = network;
        supervisor.spawn("kernel", driver);
        let settings = identity::Settings {
            node: config.node_name.clone(),
            mode: config.identity,
            max_pod_staleness: config.max_pod_staleness,
            tokens: tokens::Settings {
                audiences: config.token_audiences.clone(),
                state_dir: config.state_dir.clone(),
            },
            watch: watch::Limits::default(),
            lending: lending::Settings {
                audiences: Vec::new(),
                requests: config.token_requests,
            },
        };
        let outside = identity::Outside {
            client: api_server,
            kernel,
            changes,
            links,
            clock,
        };
        let (identity, tasks) = Identity::new(outside, settings, counters.identity.clone());
        for (name, task) in tasks {
            supervisor.spawn(name, task);
        }

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

        let associations = Associations::new(sources);
        let broker = Broker::new(
            identity.clone(),
            associations,
            vault.clone(),
            config.session_scope,
        );
        let broker = Arc::new(broker);
        supervisor.spawn("prefetch", Arc::clone(&broker).keep_ready());
        Ok(Self {
            clock,
            identity,
            eks,
            file,
            vault,
            broker,
        })
    }
}
