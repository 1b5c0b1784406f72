//! Where associations come from, and whether what is declared there can be used.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::api::{Api, Lack, text};
use super::finding::{Check, Finding};
use super::settings::Origin;
use crate::associations::crd::{CLUSTER, Declaration, GROUP, NAMESPACED, VERSION};
use crate::associations::file;
use crate::associations::spec::Defaults;
use crate::config::{AssociationSource, Doctor, Exchange, Presence};
use crate::model::Means;

/// As the agent reads it.
const LARGEST_FILE: usize = 1 << 20;

/// Bad declarations that are named.
const NAMED: usize = 5;

/// What a source has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The file has so many entries, or this is why it cannot be used.
    File(String, Result<usize, String>),
    /// The file is in the agents' pods.
    FileThere(String),
    Crd(Presence, Result<Declared, Lack>),
    /// So many accounts are annotated.
    Annotation(Presence, Result<usize, Lack>),
    /// EKS lists so many on its first page; `None`: it was not asked, or did not
    /// answer, which is another check's.
    Eks(Option<usize>),
    /// EKS answers for every account.
    EksAuth,
}

/// What custom resources there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) good: usize,
    /// Name and fault of each that cannot be used.
    pub(super) bad: Vec<(String, String)>,
}

/// All sources but EKS, which is asked elsewhere.
pub(super) async fn observe(
    api: Option<&Api>,
    settings: &Doctor,
    origin: Origin,
    eks: Option<usize>,
) -> Vec<Seen> {
    let defaults = defaults(settings);
    let mut all = Vec::new();
    for source in &settings.sources {
        all.push(match source {
            AssociationSource::File(path) if origin == Origin::Agents => {
                Seen::FileThere(path.display().to_string())
            }
            AssociationSource::File(path) => {
                Seen::File(path.display().to_string(), entries(path, &defaults))
            }
            AssociationSource::Crd(presence) => {
                let declared = match api {
                    Some(api) => declared(api, &defaults).await,
                    None => Err(Lack::Unasked),
                };
                Seen::Crd(*presence, declared)
            }
            AssociationSource::Annotation(presence) => {
                let annotated = match api {
                    Some(api) => annotated(api, &settings.annotation_prefix).await,
                    None => Err(Lack::Unasked),
                };
                Seen::Annotation(*presence, annotated)
            }
            AssociationSource::Eks { cluster: _ } => Seen::Eks(eks),
            AssociationSource::EksAuth { cluster: _ } => Seen::EksAuth,
        });
    }
    all
}

fn defaults(settings: &Doctor) -> Defaults {
    let standard = Defaults::default();
    let means = match settings.exchange {
        Exchange::AssumeRole => Some(Means::Agent),
        Exchange::WebIdentity => Some(Means::WebIdentity {
            audience: Arc::clone(&standard.audience),
        }),
        Exchange::EksAuth => None,
    };
    Defaults { means, ..standard }
}

fn entries(path: &Path, defaults: &Defaults) -> Result<usize, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() > LARGEST_FILE {
        return Err(file::LoadError::TooLarge.to_string());
    }
    let table = file::parse(&text, defaults).map_err(|error| error.to_string())?;
    Ok(table.len())
}

async fn declared(api: &Api, defaults: &Defaults) -> Result<Declared, Lack> {
    let mut declared = Declared::default();
    for plural in [NAMESPACED, CLUSTER] {
        let path = format!("/apis/{GROUP}/{VERSION}/{plural}");
        for object in api.list(&path, None, None).await?.items {
            match fault(&object, defaults) {
                None => declared.good += 1,
                Some(fault) => {
                    let namespace = text(&object, "/metadata/namespace");
                    let name = format!("{namespace}/{}", text(&object, "/metadata/name"));
                    let name = name.trim_start_matches('/').to_owned();
                    declared.bad.push((name, fault));
                }
            }
        }
    }
    Ok(declared)
}

/// What is wrong with a declaration.
fn fault(object: &Value, defaults: &Defaults) -> Option<String> {
    let declaration = Declaration::from(object.clone());
    let parts = declaration.accounts.as_ref().map(drop);
    let parts = parts.and(declaration.namespaces.as_ref().map(drop));
    parts
        .map_err(Clone::clone)
        .and_then(|()| declaration.association(defaults).map(drop))
        .err()
}

async fn annotated(api: &Api, prefix: &str) -> Result<usize, Lack> {
    let accounts = api.list("/api/v1/serviceaccounts", None, None).await?;
    let key = format!("{prefix}/role-arn");
    let has_it = |account: &&Value| account["metadata"]["annotations"].get(&key).is_some();
    Ok(accounts.items.iter().filter(has_it).count())
}

pub(super) fn judge(all: &[Seen]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = all.iter().flat_map(of_source).collect();
    let is_empty = |seen: &Seen| match seen {
        Seen::File(_, found) => *found == Ok(0),
        Seen::Crd(_, found) => *found == Err(Lack::Absent) || *found == Ok(Declared::default()),
        Seen::Annotation(_, found) => *found == Ok(0),
        Seen::Eks(found) => *found == Some(0),
        Seen::FileThere(_) | Seen::EksAuth => false,
    };
    if all.iter().all(is_empty) {
        findings.push(Finding::warning(
            Check::Sources,
            "no source declares any association: no pod gets a role",
            "declare one: README, Install, step 4",
        ));
    }
    findings
}

fn of_source(seen: &Seen) -> Vec<Finding> {
    let check = Check::Sources;
    match seen {
        Seen::File(path, Ok(count)) => {
            vec![Finding::ok(
                check,
                format!("file: {path} has {count} entries"),
            )]
        }
        Seen::File(path, Err(why)) => vec![Finding::failure(
            check,
            format!("file: {path} {why}"),
            "mend it; an agent that runs keeps the last good one, and one that starts ends",
        )],
        Seen::FileThere(path) => vec![Finding::skipped(
            check,
            format!("file: {path} is in the agents' pods"),
            "run this in one: `kubectl -n credlet exec ds/credlet -- /credlet doctor`",
        )],
        Seen::Crd(_, Ok(declared)) => of_declared(declared),
        Seen::Crd(presence, Err(Lack::Absent)) => vec![absent(
            *presence,
            "crd: the custom resources are not installed",
            "apply manifests/crd.yaml, or leave `crd` out of --association-sources",
        )],
        Seen::Annotation(_, Ok(count)) => {
            let says = format!("annotation: {count} service accounts name a role");
            vec![Finding::ok(check, says)]
        }
        Seen::Annotation(_, Err(lack)) => vec![unseen("annotation", lack)],
        Seen::Crd(_, Err(lack)) => vec![unseen("crd", lack)],
        Seen::Eks(Some(count)) => {
            let says = format!("eks: EKS lists {count} associations, or more");
            vec![Finding::ok(check, says)]
        }
        Seen::Eks(None) => vec![Finding::skipped(
            check,
            "eks: EKS did not list its associations",
            "see what `eks` says",
        )],
        Seen::EksAuth => vec![Finding::ok(
            check,
            "eks: EKS Auth answers for every account",
        )],
    }
}

fn absent(presence: Presence, says: &str, remedy: &str) -> Finding {
    match presence {
        Presence::Required => Finding::failure(Check::Sources, says, remedy),
        Presence::Optional => {
            let says = format!("{says}: the source is off");
            Finding::skipped(Check::Sources, says, remedy)
        }
    }
}

fn unseen(source: &str, lack: &Lack) -> Finding {
    let says = format!("{source}: not looked at: {}", lack.why());
    let remedy = "run this as somebody who may list it, or in the agent's pod";
    Finding::skipped(Check::Sources, says, remedy)
}

fn of_declared(declared: &Declared) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(
        Check::Sources,
        format!("crd: {} associations can be used", declared.good),
    )];
    for (name, fault) in declared.bad.iter().take(NAMED) {
        let says = format!("crd: {name} cannot be used, and its accounts are refused: {fault}");
        let remedy = "mend or delete it";
        findings.push(Finding::failure(Check::Sources, says, remedy));
    }
    if let more @ 1.. = declared.bad.len().saturating_sub(NAMED) {
        let says = format!("crd: {more} more cannot be used");
        let remedy = "mend these first; `kubectl get pia,cpia -A` has all";
        findings.push(Finding::failure(Check::Sources, says, remedy));
    }
    findings
}
