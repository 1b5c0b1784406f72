//! The rooms behind the front doors, joined, and their tasks.

use std::sync::Arc;

use super::counters::Counters;
use super::sources::Sources;
use super::supervise::Supervisor;
use super::{Error, Outside, ended, kernel};
use crate::associations::Associations;
use crate::associations::annotation::Annotations;
use crate::associations::crd::Crd;
use crate::associations::eks::Eks;
use crate::associations::file::File;
use crate::associations::spec::Defaults;
use crate::aws::SdkConfig;
use crate::broker::{Absence, Broker, Lent};
use crate::clock::Clock;
use crate::config::{AssociationSource, Config, ImdsPods};
use crate::credentials::Vault;
use crate::credentials::eks_auth::{AUDIENCE, EksAuth};
use crate::credentials::exchanges::Exchanges;
use crate::credentials::sts::Sts;
use crate::events::{self, Notices};
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
    /// The source `crd`, if it is on.
    pub(super) crd: Option<Arc<Crd>>,
    /// The source `annotation`, if it is on.
    pub(super) annotation: Option<Arc<Annotations>>,
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
            api_server: client,
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
                audiences: lent_audiences(config),
                requests: config.token_requests,
            },
        };
        let (notices, writer) = Notices::open(
            client.clone(),
            &config.node_name,
            events::Limits::default(),
            counters.events.clone(),
            clock,
        );
        supervisor.spawn("events", writer);
        let outside = identity::Outside {
            client: client.clone(),
            kernel,
            changes,
            links,
            clock,
        };
        let (identity, tasks) = Identity::new(outside, settings, counters.identity.clone());
        for (name, task) in tasks {
            supervisor.spawn(name, task);
        }

        let sources = Sources::open(
            config,
            &Defaults::from(config),
            &client,
            &aws,
            clock,
            counters,
            supervisor,
        )?;

        let exchanges = exchanges(config, &aws, &identity, counters);
        let (vault, scheduler) = Vault::new(Arc::new(exchanges), clock);
        supervisor.spawn("credentials", ended(scheduler));

        let associations = Associations::new(sources.all, config.allowed_roles.clone());
        let associations = associations.naming(sources.own);
        let broker = Broker::new(
            identity.clone(),
            associations,
            vault.clone(),
            config.session_scope,
        );
        let broker = Arc::new(broker.telling(notices, absence(config)));
        supervisor.spawn("prefetch", Arc::clone(&broker).keep_ready());
        Ok(Self {
            clock,
            identity,
            eks: sources.eks,
            file: sources.file,
            crd: sources.crd,
            annotation: sources.annotation,
            vault,
            broker,
        })
    }
}

/// Whether all who ask mean to.
fn absence(config: &Config) -> Absence {
    match config.imds.pods {
        ImdsPods::All if !config.imds_hosts.is_empty() => Absence::OptedIn,
        ImdsPods::All | ImdsPods::OptedIn => Absence::Told,
    }
}

/// Of the tokens that AWS may have to be shown.
fn lent_audiences(config: &Config) -> Vec<Arc<str>> {
    let asks_eks = |source: &AssociationSource| match source {
        // An entry may name the exchange eks-auth.
        AssociationSource::File(_)
        | AssociationSource::Crd(_)
        | AssociationSource::Annotation(_) => config.cluster_name.is_some(),
        AssociationSource::EksAuth { .. } => true,
        AssociationSource::Eks { .. } => false,
    };
    let asks_eks = config.sources.iter().any(asks_eks);
    // An annotation may name any that callers may bring.
    let accepted = config.token_audiences.iter();
    let lent = accepted.filter(|audience| asks_eks || *audience != AUDIENCE);
    lent.map(|audience| audience.as_str().into()).collect()
}

fn exchanges(
    config: &Config,
    aws: &SdkConfig,
    identity: &Identity,
    counters: &Counters,
) -> Exchanges {
    let tokens = Arc::new(Lent::new(identity.clone()));
    let metrics = || counters.aws.clone();
    let lent = || Arc::clone(&tokens) as _;
    let eks_auth = config.cluster_name.as_deref();
    let eks_auth = eks_auth.map(|cluster| EksAuth::new(aws, cluster, lent(), metrics()));
    let sts = Sts::new(aws, config.sts_endpoints, config.into(), lent(), metrics());
    Exchanges::new(sts, eks_auth)
}
