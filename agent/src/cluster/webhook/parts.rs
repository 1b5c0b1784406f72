//! What a webhook is made of, opened as the settings say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::keeper::Keeper;
use super::knowledge::Knowledge;
use super::listed::Lister;
use super::metrics::Metrics;
use super::missed::{Evictor, Search};
use super::objects::{Configuration, Secret};
use super::rotation::Times;
use super::serving::Serving;
use super::{Addresses, Error, Outside, one};
use crate::associations::file::File;
use crate::associations::spec::Defaults;
use crate::config::webhook::{Certificates, Missed, Webhook as Config};
use crate::config::{Exchange, Injection};
use crate::events::{self, Notices, Rate};
use crate::inject::Settings;
use crate::model::{Means, SessionScope};
use crate::node::supervise::Supervisor;
use crate::node::{ended, usable};
use crate::serve::{BindError, Listeners, Prefer};

/// How long an API server may leave what was written unacknowledged.
const STALL: Duration = Duration::from_secs(10);

/// Begins to learn what there is to know of accounts.
pub(super) fn learn(
    config: &Config,
    outside: &Outside,
    metrics: &Metrics,
    supervisor: &mut Supervisor,
) -> Result<Knowledge, Error> {
    let defaults = defaults(&config.injection);
    let file = match &config.association_file {
        Some(path) => {
            let (file, reader) = File::load(path, defaults.clone())?;
            supervisor.spawn("association file", ended(reader));
            Some(file)
        }
        None => None,
    };
    let listed = match (&config.eks_cluster, &outside.aws) {
        (Some(cluster), Some(aws)) => {
            let (known, lister) = Lister::new(aws, cluster, metrics.aws.clone());
            supervisor.spawn("EKS associations", lister.run());
            Some(known)
        }
        (Some(_) | None, _) => None,
    };
    let (knowledge, tasks) =
        Knowledge::open(&outside.api_server, listed, file, defaults, &metrics.losses);
    for task in tasks {
        supervisor.spawn("lists", task);
    }
    Ok(knowledge)
}

/// As the agents read associations.
fn defaults(injection: &Injection) -> Defaults {
    let audience: Arc<str> = injection.web_identity_audience.as_str().into();
    Defaults {
        means: match injection.exchange {
            Exchange::AssumeRole => Some(Means::Agent),
            Exchange::WebIdentity => Some(Means::WebIdentity {
                audience: Arc::clone(&audience),
            }),
            Exchange::EksAuth => None,
        },
        audience,
        // The one that refuses no name of a session.
        scope: SessionScope::Pod,
    }
}

/// Has a certificate served; returns the leader's work on it, if there is any.
#[expect(clippy::too_many_arguments, reason = "of the one caller")]
pub(super) fn certify(
    certificates: &Certificates,
    outside: &Outside,
    namespace: &str,
    name: String,
    times: Times,
    serving: &Serving,
    metrics: &Metrics,
    supervisor: &mut Supervisor,
) -> Option<Keeper> {
    let client = &outside.api_server;
    let (secret, configuration) = match certificates {
        Certificates::Folder(folder) => {
            let (serving, folder) = (serving.clone(), folder.clone());
            supervisor.spawn("certificate", serving.read(folder));
            return None;
        }
        Certificates::Own {
            secret,
            configuration,
        } => (secret, configuration),
    };
    let losses = &metrics.losses;
    let folder = format!("/api/v1/namespaces/{namespace}/secrets");
    let (kept, task) =
        one::follow::<Secret>(client.clone(), "Secret", &folder, secret, losses.clone());
    supervisor.spawn("Secret", task);
    let folder = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let (trusted, task) = one::follow::<Configuration>(
        client.clone(),
        "MutatingWebhookConfiguration",
        folder,
        configuration,
        losses.clone(),
    );
    supervisor.spawn("configuration", task);
    supervisor.spawn("certificate", serving.clone().follow(kept.clone()));
    Some(Keeper {
        client: client.clone(),
        namespace: namespace.to_owned(),
        secret: secret.clone(),
        configuration: configuration.clone(),
        name,
        times,
        clock: outside.clock,
        kept,
        trusted,
    })
}

/// What looks for pods that were missed.
pub(super) fn search(
    config: &Config,
    outside: &Outside,
    knowledge: &Knowledge,
    settings: &Settings,
    metrics: &Metrics,
    supervisor: &mut Supervisor,
) -> Search {
    let client = &outside.api_server;
    // Of the whole cluster, after an outage at once.
    let limits = events::Limits {
        pod: Rate::new(1, Duration::from_mins(10)),
        node: Rate::new(100, Duration::from_secs(1)),
        ..events::Limits::default()
    };
    let (notices, writer) = Notices::open(
        client.clone(),
        &config.name,
        limits,
        metrics.events.clone(),
        outside.clock,
    );
    supervisor.spawn("events", writer);
    let orders = match config.missed {
        Missed::Told => None,
        Missed::Evicted => {
            let (orders, evictor) = Evictor::new(client.clone(), outside.clock, metrics.clone());
            supervisor.spawn("evictions", evictor.run());
            Some(orders)
        }
    };
    Search {
        client: client.clone(),
        knowledge: knowledge.clone(),
        settings: settings.clone(),
        notices,
        metrics: metrics.clone(),
        orders,
    }
}

/// The sockets that listen.
pub(super) struct Ports {
    pub(super) reviews: Listeners,
    pub(super) probes: Listeners,
    pub(super) metrics: Option<Listeners>,
}

impl Ports {
    pub(super) fn bind(config: &Config) -> Result<Self, BindError> {
        let everywhere: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let everywhere = usable(&everywhere);
        let bind = |hosts: &[IpAddr], port| Listeners::bind(hosts, port, Prefer::Newcomer, STALL);
        Ok(Self {
            reviews: bind(&everywhere, config.port)?,
            probes: bind(&everywhere, config.probe_port)?,
            metrics: config
                .metrics_address
                .map(|at| bind(&[at.ip()], at.port()))
                .transpose()?,
        })
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses {
            reviews: self.reviews.addresses(),
            probes: self.probes.addresses(),
            metrics: self.metrics.iter().flat_map(Listeners::addresses).collect(),
        }
    }
}
