//! The metadata of objects, whatever else is in them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Named, Object};

/// What is kept of an object's metadata.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Partial")]
pub struct Meta {
    /// Its name.
    pub name: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    version: String,
}

#[derive(Deserialize)]
struct Partial {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Metadata {
    name: String,
    resource_version: String,
    annotations: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

/// `kubectl apply` keeps the whole object in it, which is of no use here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl From<Partial> for Meta {
    fn from(Partial { mut metadata }: Partial) -> Self {
        metadata.annotations.remove(LAST_APPLIED);
        Self {
            name: metadata.name,
            annotations: metadata.annotations,
            labels: metadata.labels,
            version: metadata.resource_version,
        }
    }
}

impl Object for Meta {
    fn version(&self) -> &str {
        &self.version
    }
}

impl Named for Meta {
    fn name(&self) -> &str {
        &self.name
    }
}
