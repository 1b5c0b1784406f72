//! Where associations come from.

use std::path::PathBuf;

use super::args::SourceName;
use super::{Error, Exchange, usage};

/// One place where associations are declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssociationSource {
    /// A file in YAML or JSON.
    File(PathBuf),
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
}

/// In the order in which they are named.
pub(super) fn sources(
    names: Option<Vec<SourceName>>,
    file: Option<&PathBuf>,
    cluster: Option<&str>,
    exchange: Exchange,
) -> Result<Vec<AssociationSource>, Error> {
    let names = names.unwrap_or_else(|| match file {
        Some(_) => vec![SourceName::File, SourceName::Eks],
        None => vec![SourceName::Eks],
    });
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
        AssociationSource::File(_) | AssociationSource::Eks { .. } => false,
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
