//! Where associations come from, opened as the settings say.

use std::sync::Arc;

use tokio::sync::watch;

use super::counters::Counters;
use super::supervise::Supervisor;
use super::{Error, ended};
use crate::apiserver::{Client, Limits};
use crate::associations::Source;
use crate::associations::annotation::{self, Annotations};
use crate::associations::crd::Crd;
use crate::associations::crd::status::Reporter;
use crate::associations::eks::Eks;
use crate::associations::eks_auth::EksAuth;
use crate::associations::file::File;
use crate::associations::namespaces::Namespaces;
use crate::associations::spec::Defaults;
use crate::associations::watched::Changes;
use crate::aws::SdkConfig;
use crate::clock::Clock;
use crate::config::{AssociationSource, Config, StatusReports};
use crate::model::OwnRole;

/// The sources in order, and those that are looked at for metrics.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) all: Vec<Box<dyn Source>>,
    /// Of the roles that pods name for themselves.
    pub(super) own: Option<Box<dyn Source<OwnRole>>>,
    pub(super) file: Option<File>,
    pub(super) crd: Option<Arc<Crd>>,
    pub(super) eks: Option<Eks>,
    pub(super) annotation: Option<Arc<Annotations>>,
}

impl Sources {
    /// Nothing is known at first, but for the file; the tasks learn it.
    pub(super) fn open(
        config: &Config,
        defaults: &Defaults,
        client: &Client,
        aws: &SdkConfig,
        clock: Clock,
        counters: &Counters,
        supervisor: &mut Supervisor,
    ) -> Result<Self, Error> {
        let mut sources = Self::default();
        let mut names = Vec::new();
        let changes: Changes = Arc::new(watch::Sender::new(0));
        let losses = &counters.association_watches_lost;
        let namespaces = Namespaces::new(Arc::clone(&changes), losses.clone());
        let mut guards = false;
        for source in &config.sources {
            match source {
                AssociationSource::File(path) => {
                    names.push("file");
                    let (source, reader) = File::load(path, defaults.clone())?;
                    supervisor.spawn("association file", ended(reader));
                    sources.all.push(Box::new(source.clone()));
                    sources.file = Some(source);
                }
                AssociationSource::Crd(presence) => {
                    names.push("crd");
                    guards = true;
                    let (crd, source, [one, other]) = Crd::open(
                        client,
                        defaults.clone(),
                        *presence,
                        namespaces.clone(),
                        Arc::clone(&changes),
                        losses,
                    );
                    supervisor.spawn("associations of namespaces", one);
                    supervisor.spawn("associations of the cluster", other);
                    match config.status_reports {
                        StatusReports::On => {
                            let (client, changes) = (client.clone(), Arc::clone(&changes));
                            let reporter = Reporter::new(client, Arc::clone(&crd), changes, clock);
                            supervisor.spawn("statuses of associations", reporter.run());
                        }
                        StatusReports::Off => {}
                    }
                    sources.all.push(Box::new(source));
                    sources.crd = Some(crd);
                }
                AssociationSource::Eks { cluster } => {
                    names.push("eks");
                    let means = defaults.means.clone().expect("EKS is asked for roles");
                    let metrics = counters.aws.clone();
                    let (source, scheduler) = Eks::new(aws, cluster, means, metrics, clock);
                    supervisor.spawn("EKS associations", ended(scheduler));
                    sources.all.push(Box::new(source.clone()));
                    sources.eks = Some(source);
                }
                AssociationSource::EksAuth { cluster: _ } => {
                    names.push("eks");
                    sources.all.push(Box::new(EksAuth::default()));
                }
                AssociationSource::Annotation(presence) => {
                    names.push("annotation");
                    guards = true;
                    let opened = Annotations::open(
                        client.clone(),
                        &config.annotation_prefix,
                        defaults.clone(),
                        *presence,
                        namespaces.clone(),
                        Arc::clone(&changes),
                        losses.clone(),
                    );
                    let annotation::Opened {
                        annotations,
                        accounts,
                        pods,
                        tend,
                    } = opened;
                    supervisor.spawn("annotations", tend);
                    sources.all.push(Box::new(accounts));
                    sources.own = Some(Box::new(pods));
                    sources.annotation = Some(annotations);
                }
            }
        }
        if guards {
            let shelf = namespaces.shelf();
            let task = shelf.tend(client.clone(), Limits::default(), Namespaces::place);
            supervisor.spawn("namespaces", task);
        }
        tracing::info!(sources = ?names, "associations come from these, the first that knows one");
        Ok(sources)
    }
}
