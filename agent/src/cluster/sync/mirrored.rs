//! An association of elsewhere as a `PodIdentityAssociation`: as it is to be, and
//! as it is there.

use std::fmt;
use std::sync::Arc;

use kube::core::params::Preconditions;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::apiserver::{Named, Object};
use crate::associations::crd::{GROUP, VERSION};
use crate::associations::spec::{Defaults, Spec};
use crate::config::Exchange;
use crate::model::ServiceAccount;

/// Whose the objects are, to the API server and to people.
pub(super) const MANAGER: &str = "credlet-sync";

/// The label by which they are found.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The annotation that says of what an object is the mirror image.
const ORIGIN: &str = "credlet.dev/origin";

/// What `kubectl apply` would keep in it, were it a person's.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Where an association was declared: by EKS its ARN, by ACK its kind, namespace
/// and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Origin(Arc<str>);

/// Who tells of associations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Feed {
    /// EKS, of this cluster.
    Eks(Arc<str>),
    /// ACK's objects.
    Ack,
}

/// What origins of ACK's begin with.
const OF_ACK: &str = "eks.services.k8s.aws/";

impl Origin {
    /// An association of EKS's.
    pub(super) fn eks(arn: &str) -> Self {
        Self(arn.into())
    }

    /// An object of ACK's.
    pub(super) fn ack(namespace: &str, name: &str) -> Self {
        Self(format!("{OF_ACK}{namespace}/{name}").into())
    }

    /// Who would tell of it; `None` for what is neither.
    pub(super) fn feed(&self) -> Option<Feed> {
        if self.0.starts_with(OF_ACK) {
            return Some(Feed::Ack);
        }
        let (cluster, _id) = self.eks_parts()?;
        Some(Feed::Eks(cluster.into()))
    }

    /// The id of an association of EKS's.
    pub(super) fn eks_id(&self) -> Option<&str> {
        self.eks_parts().map(|(_, id)| id)
    }

    /// The ARN or the path.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn eks_parts(&self) -> Option<(&str, &str)> {
        let (_, resource) = self.0.split_once(":podidentityassociation/")?;
        resource.split_once('/')
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eks(cluster) => f.write_str(cluster),
            Self::Ack => f.write_str("ack"),
        }
    }
}

/// What an association says, in EKS's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// `roleArn`.
    pub(super) role: Option<String>,
    /// `targetRoleArn`.
    pub(super) target_role: Option<String>,
    /// `externalId`.
    pub(super) external_id: Option<String>,
    /// `policy`.
    pub(super) policy: Option<String>,
    /// `disableSessionTags`.
    pub(super) tags: Tags,
}

/// Whether its sessions have the tags that say whose they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tags {
    /// They have.
    #[default]
    On,
    /// They have not.
    Off,
}

impl From<Option<bool>> for Tags {
    fn from(are_disabled: Option<bool>) -> Self {
        match are_disabled {
            Some(true) => Self::Off,
            Some(false) | None => Self::On,
        }
    }
}

/// An association as it is to be in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// For whom.
    pub(super) account: ServiceAccount,
    /// What is declared, but for the account.
    pub(super) spec: Map<String, Value>,
    /// The object's name.
    pub(super) name: String,
    /// Of what it is the image.
    pub(super) origin: Origin,
    /// Of several for one account the first counts.
    pub(super) rank: Rank,
}

/// An order of feeds, and within a feed of associations: a time, mostly.
pub(super) type Rank = (usize, String);

impl Wanted {
    /// The object, if agents can use what it declares.
    pub(super) fn new(
        account: ServiceAccount,
        said: Said,
        exchange: Option<Exchange>,
        name: String,
        origin: Origin,
        rank: Rank,
    ) -> Result<Self, String> {
        let spec = spec(said, exchange);
        let read: Spec =
            serde_json::from_value(Value::Object(spec.clone())).map_err(|it| it.to_string())?;
        read.accept(&Defaults::default())
            .map_err(|it| it.to_string())?;
        Ok(Self {
            account,
            spec,
            name,
            origin,
            rank,
        })
    }

    /// What tells objects apart.
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.account.namespace(), self.name)
    }

    /// The whole object; `before` is what is there, if something is.
    pub(super) fn object(&self, before: Option<&Mirrored>) -> Value {
        let mut spec = self.spec.clone();
        spec.insert("serviceAccount".to_owned(), json!(self.account.name()));
        let mut metadata = before.map_or_else(|| json!({}), |it| it.metadata.clone());
        metadata["name"] = json!(self.name);
        metadata["namespace"] = json!(self.account.namespace());
        metadata["labels"][MANAGED_BY] = json!(MANAGER);
        metadata["annotations"][ORIGIN] = json!(self.origin.as_str());
        json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "PodIdentityAssociation",
            "metadata": metadata,
            "spec": spec,
        })
    }
}

fn spec(said: Said, exchange: Option<Exchange>) -> Map<String, Value> {
    let Said {
        role,
        target_role,
        external_id,
        policy,
        tags,
    } = said;
    let exchange = exchange.map(|it| (it, name_of(it)));
    let mut spec = Map::new();
    let mut set = |field: &str, value: Option<String>| {
        if let Some(value) = value {
            spec.insert(field.to_owned(), value.into());
        }
    };
    set("exchange", exchange.map(|(_, name)| name.to_owned()));
    // EKS knows the rest.
    if matches!(exchange, Some((Exchange::EksAuth, _))) {
        return spec;
    }
    set("roleArn", role);
    set("targetRoleArn", target_role);
    set("externalId", external_id);
    set("policy", policy);
    match tags {
        Tags::On => {}
        Tags::Off => {
            spec.insert("disableSessionTags".to_owned(), true.into());
        }
    }
    spec
}

fn name_of(exchange: Exchange) -> &'static str {
    match exchange {
        Exchange::AssumeRole => "assume-role",
        Exchange::WebIdentity => "web-identity",
        Exchange::EksAuth => "eks-auth",
    }
}

/// An object of ours that is there.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Value")]
pub(super) struct Mirrored {
    key: String,
    /// Its namespace.
    pub(super) namespace: String,
    /// Of what it is the image, if that can be told.
    pub(super) origin: Option<Origin>,
    spec: Value,
    metadata: Value,
    version: String,
}

impl From<Value> for Mirrored {
    fn from(mut object: Value) -> Self {
        let mut metadata = object["metadata"].take();
        if let Some(fields) = metadata.as_object_mut() {
            fields.remove("managedFields");
        }
        if let Some(annotations) = metadata["annotations"].as_object_mut() {
            annotations.remove(LAST_APPLIED);
        }
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let namespace = text("namespace");
        Self {
            key: format!("{namespace}/{}", text("name")),
            namespace,
            origin: metadata["annotations"][ORIGIN].as_str().map(Origin::eks),
            spec: object["spec"].take(),
            version: text("resourceVersion"),
            metadata,
        }
    }
}

impl Mirrored {
    /// Whether it is as it is to be.
    pub(super) fn is_as(&self, wanted: &Wanted) -> bool {
        let object = wanted.object(None);
        self.spec == object["spec"] && self.origin.as_ref() == Some(&wanted.origin)
    }

    /// Its name in its namespace.
    pub(super) fn own_name(&self) -> &str {
        let (_, name) = self.key.split_once('/').expect("made with a slash");
        name
    }

    /// Its UID and version, so that nothing else is deleted in its stead.
    pub(super) fn preconditions(&self) -> Preconditions {
        Preconditions {
            uid: self.metadata["uid"].as_str().map(str::to_owned),
            resource_version: Some(self.version.clone()),
        }
    }

    /// The selector of all of them.
    pub(super) fn selector() -> String {
        format!("{MANAGED_BY}={MANAGER}")
    }
}

impl Object for Mirrored {
    fn version(&self) -> &str {
        &self.version
    }
}

impl Named for Mirrored {
    /// With its namespace: the list is of all of them.
    fn name(&self) -> &str {
        &self.key
    }
}
