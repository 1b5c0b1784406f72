//! Where associations come from.

use std::path::PathBuf;

use clap::ValueEnum;

use super::args::SourceName;
use super::{Error, Exchange, usage};

/// One place where associations are declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssociationSource {
    /// A file in YAML or JSON.
    File(PathBuf),
    /// `PodIdentityAssociation` and `ClusterPodIdentityAssociation`.
    Crd(Presence),
    /// EKS Pod Identity associations of this cluster.
    Eks {
        /// The cluster, as EKS names it.
        cluster: String,
    },
    /// EKS Auth, which gives the credentials for a token.
    EksAuth {
        /// The cluster, as EKS names it.
        cluster: String,
    },
    /// Annotations of service accounts.
    Annotation(Presence),
}

/// Whether the cluster must have what a source reads, and let the agent read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nobody asked for the source: where it is not to be had, it is off.
    Optional,
    /// The source is named on the command line: where it is not to be had, it fails.
    Required,
}

/// In the order in which they are named; by default all that are set up.
pub(super) fn sources(
    names: Option<Vec<SourceName>>,
    file: Option<&PathBuf>,
    cluster: Option<&str>,
    exchange: Exchange,
) -> Result<Vec<AssociationSource>, Error> {
    let presence = match names {
        Some(_) => Presence::Required,
        None => Presence::Optional,
    };
    let names = names.unwrap_or_else(|| by_default(file, cluster, exchange));
    if names.is_empty() {
        return Err(usage("--association-sources", "names no source"));
    }
    if file.is_some() && !names.contains(&SourceName::File) {
        return Err(usage(
            "--association-file",
            "is given, but --association-sources leaves `file` out",
        ));
    }
    let mut sources = Vec::with_capacity(names.len());
    for name in names {
        let source =
            match name {
                SourceName::File => AssociationSource::File(file.cloned().ok_or_else(|| {
                    usage("--association-file", "is required by the source `file`")
                })?),
                SourceName::Crd => AssociationSource::Crd(presence),
                SourceName::Annotation => AssociationSource::Annotation(presence),
                SourceName::Eks => {
                    let cluster = cluster
                        .ok_or_else(|| usage("--cluster-name", "is required by the source `eks`"))?
                        .to_owned();
                    match exchange {
                        Exchange::EksAuth => AssociationSource::EksAuth { cluster },
                        Exchange::AssumeRole | Exchange::WebIdentity => {
                            AssociationSource::Eks { cluster }
                        }
                    }
                }
            };
        if sources.contains(&source) {
            return Err(usage("--association-sources", "names a source twice"));
        }
        sources.push(source);
    }
    let asks_last = |source: &AssociationSource| match source {
        AssociationSource::EksAuth { .. } => true,
        AssociationSource::File(_)
        | AssociationSource::Crd(_)
        | AssociationSource::Eks { .. }
        | AssociationSource::Annotation(_) => false,
    };
    let is_last = sources.iter().position(asks_last) == Some(sources.len() - 1);
    if exchange == Exchange::EksAuth && !is_last {
        return Err(usage(
            "--association-sources",
            "must end with `eks` when --exchange is eks-auth: EKS answers for every account",
        ));
    }
    Ok(sources)
}

/// EKS Auth answers for every account, so that nothing can come after it; and
/// on EKS, Pod Identity goes before an annotation.
fn by_default(
    file: Option<&PathBuf>,
    cluster: Option<&str>,
    exchange: Exchange,
) -> Vec<SourceName> {
    let mut names = Vec::new();
    names.extend(file.map(|_| SourceName::File));
    names.push(SourceName::Crd);
    match exchange {
        Exchange::EksAuth => names.push(SourceName::Eks),
        Exchange::AssumeRole | Exchange::WebIdentity => {
            names.extend(cluster.map(|_| SourceName::Eks));
            names.push(SourceName::Annotation);
        }
    }
    names
}

/// Whether statuses of declarations are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusReports {
    /// They are not: the agent may not.
    Off,
    /// They are.
    On,
}
