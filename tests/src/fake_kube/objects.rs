//! Objects of other kinds than pods: whatever a test puts there.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use serde_json::{Value, json};

use super::Event;
use super::server::line;

/// A kind that the server can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `ServiceAccount`.
    ServiceAccount,
    /// `Namespace`.
    Namespace,
    /// `Node`.
    Node,
    /// `PodIdentityAssociation`.
    Association,
    /// `ClusterPodIdentityAssociation`.
    ClusterAssociation,
}

/// The objects of the kinds that are offered; of the others there is no path.
#[derive(Default)]
pub(super) struct Objects {
    pub(super) offered: HashSet<Kind>,
    pub(super) all: BTreeMap<(Kind, String, String), Value>,
}

/// Which objects a request is about.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) kind: Kind,
    namespace: Option<String>,
    name: Option<String>,
}

impl Scope {
    /// Of a collection's path.
    pub(super) fn of(parts: &[&str]) -> Option<Self> {
        let (kind, namespace) = match parts {
            ["api", "v1", "namespaces"] => (Kind::Namespace, None),
            ["api", "v1", "nodes"] => (Kind::Node, None),
            ["api", "v1", "serviceaccounts"] => (Kind::ServiceAccount, None),
            ["apis", "credlet.dev", "v1alpha1", "podidentityassociations"] => {
                (Kind::Association, None)
            }
            ["api", "v1", "namespaces", namespace, "serviceaccounts"] => {
                (Kind::ServiceAccount, Some(namespace))
            }
            [
                "apis",
                "credlet.dev",
                "v1alpha1",
                "namespaces",
                namespace,
                "podidentityassociations",
            ] => (Kind::Association, Some(namespace)),
            [
                "apis",
                "credlet.dev",
                "v1alpha1",
                "clusterpodidentityassociations",
            ] => (Kind::ClusterAssociation, None),
            _ => return None,
        };
        Some(Self {
            kind,
            namespace: namespace.map(|name| (*name).to_owned()),
            name: None,
        })
    }

    /// As a field selector narrows it.
    pub(super) fn narrowed(mut self, query: &HashMap<String, String>) -> Self {
        let selector = query.get("fieldSelector").and_then(|it| it.split_once('='));
        self.name = selector.map(|(field, name)| {
            assert_eq!(field, "metadata.name");
            name.to_owned()
        });
        self
    }

    pub(super) fn has(&self, kind: Kind, object: &Value) -> bool {
        let is = |field: &str, wanted: &Option<String>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| object["metadata"][field] == **wanted)
        };
        kind == self.kind && is("namespace", &self.namespace) && is("name", &self.name)
    }
}

impl Objects {
    pub(super) fn list(&self, scope: &Scope, version: u64) -> Value {
        let all = self.all.iter();
        let items = all.filter(|((kind, ..), object)| scope.has(*kind, object));
        let items: Vec<&Value> = items.map(|(_, object)| object).collect();
        json!({
            "apiVersion": "v1",
            "kind": "List",
            "metadata": {"resourceVersion": version.to_string()},
            "items": items,
        })
    }
}

/// What a watch is of.
pub(super) enum Of {
    /// The pods of a node, or of all.
    Node(Option<String>),
    Objects(Scope),
}

impl Of {
    /// The line of an event that the watch is to hear of.
    pub(super) fn line(&self, event: &Event) -> Option<Bytes> {
        let (kind, object) = match (self, event) {
            (Self::Node(node), Event::Pod(kind, pod)) if pod.is_on(node.as_deref()) => {
                (kind, pod.json())
            }
            (Self::Objects(scope), Event::Object(kind, of, object)) if scope.has(*of, object) => {
                (kind, object)
            }
            _ => return None,
        };
        Some(line(&json!({"type": kind, "object": object})))
    }
}
