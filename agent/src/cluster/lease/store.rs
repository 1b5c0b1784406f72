//! Where a lease is kept: `coordination.k8s.io/v1` of an API server.

use std::time::Duration;

use kube::core::Request;
use kube::core::params::{GetParams, Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};

use super::election::Record;
use crate::apiserver::Client;
use crate::causes::causes;

/// Why a lease was not read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Another has changed it since it was read.
    #[error("another was faster")]
    Conflict,
    /// Anything else, for people.
    #[error("{0}")]
    Other(String),
}

/// Keeps one lease.
pub trait Store: Send + Sync {
    /// The lease, if there is one.
    fn read(&self) -> impl Future<Output = Result<Option<Record>, Failure>> + Send;

    /// Changes it, if it is still at the record's version; without a version,
    /// makes it, if there is still none.
    fn write(&self, record: &Record) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A lease of an API server.
#[derive(Clone)]
pub struct Lease {
    client: Client,
    folder: String,
    name: String,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    holder_identity: Option<String>,
    lease_duration_seconds: Option<u32>,
    acquire_time: Option<String>,
    renew_time: Option<String>,
    lease_transitions: Option<i64>,
}

impl Lease {
    /// The lease of this name, which need not be there yet. The names are legal ones.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            client,
            folder: format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
            name: name.to_owned(),
        }
    }

    fn folder(&self) -> Request {
        Request::new(self.folder.clone())
    }
}

impl Store for Lease {
    async fn read(&self) -> Result<Option<Record>, Failure> {
        let request = self.folder().get(&self.name, &GetParams::default());
        let request = request.expect("a legal name fits a path");
        match self.client.request::<Object>(request).await {
            Ok(object) => Ok(Some(object.into())),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&self, record: &Record) -> Result<(), Failure> {
        let request = if let Some(version) = &record.version {
            // A version makes it a change of what was read and nothing later.
            let patch = Patch::Merge(json!({
                "metadata": {"resourceVersion": version},
                "spec": spec(record),
            }));
            let params = PatchParams::default();
            self.folder().patch(&self.name, &params, &patch)
        } else {
            let object = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self.name},
                "spec": spec(record),
            });
            let object = object.to_string().into_bytes();
            self.folder().create(&PostParams::default(), object)
        };
        let request = request.expect("a legal name fits a path");
        match (self.client.request_text(request).await, &record.version) {
            (Ok(_), _) => Ok(()),
            (Err(kube::Error::Api(status)), _) if status.code == 409 => Err(Failure::Conflict),
            // It was deleted meanwhile. Without a version it is the namespace that is missing.
            (Err(kube::Error::Api(status)), Some(_)) if status.code == 404 => {
                Err(Failure::Conflict)
            }
            (Err(error), _) => Err(error.into()),
        }
    }
}

fn spec(record: &Record) -> Value {
    json!({
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.life.as_secs(),
        "acquireTime": record.acquired,
        "renewTime": record.renewed,
        "leaseTransitions": record.transitions,
    })
}

impl From<Object> for Record {
    fn from(Object { metadata, spec }: Object) -> Self {
        let holder = spec.holder_identity.filter(|it| !it.is_empty());
        Self {
            holder: holder.map(Into::into),
            life: Duration::from_secs(spec.lease_duration_seconds.unwrap_or_default().into()),
            acquired: spec.acquire_time.unwrap_or_default(),
            renewed: spec.renew_time.unwrap_or_default(),
            transitions: spec.lease_transitions.unwrap_or_default(),
            version: Some(metadata.resource_version),
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self::Other(causes(&error))
    }
}
