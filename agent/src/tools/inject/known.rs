//! What files say of a cluster: accounts, associations and namespaces.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::Arc;

use serde_json::Value;

use super::Error;
use super::manifest::{Manifest, objects};
use crate::associations::crd::{Declaration, counting};
use crate::associations::file::{self, Table};
use crate::associations::spec::Defaults;
use crate::config::Exchange;
use crate::config::inject::Inject;
use crate::inject::Declared;
use crate::model::{Association, Glob, Means, ServiceAccount, SessionScope};

type Texts = BTreeMap<String, String>;

/// What is known, and how what is not said is to be taken.
pub(super) struct Known {
    table: Table,
    /// By namespace.
    local: HashMap<String, Vec<Declaration>>,
    cluster: Vec<Declaration>,
    /// Labels of namespaces.
    namespaces: HashMap<String, Texts>,
    /// Annotations of accounts, by namespace and name.
    accounts: HashMap<(String, String), Texts>,
    elsewhere: Vec<(Glob, Glob)>,
    defaults: Defaults,
    /// The annotations of who is not known.
    pub(super) nothing: Texts,
}

/// An association, or something of no use in its place.
pub(super) type Found = Result<Arc<Association>, String>;

impl Known {
    pub(super) fn of<'a>(
        config: &Inject,
        manifests: impl Iterator<Item = &'a Manifest>,
    ) -> Result<Self, Error> {
        let audience: Arc<str> = config.injection.web_identity_audience.as_str().into();
        let means = match config.injection.exchange {
            Exchange::AssumeRole => Some(Means::Agent),
            Exchange::WebIdentity => Some(Means::WebIdentity {
                audience: Arc::clone(&audience),
            }),
            Exchange::EksAuth => None,
        };
        let defaults = Defaults {
            means,
            audience,
            // What a session is called is not judged here.
            scope: SessionScope::Pod,
        };
        let mut known = Self {
            table: table(config, &defaults)?,
            local: HashMap::new(),
            cluster: Vec::new(),
            namespaces: HashMap::new(),
            accounts: HashMap::new(),
            elsewhere: config.associated.clone(),
            defaults,
            nothing: Texts::new(),
        };
        for document in manifests.flat_map(|manifest| &manifest.documents) {
            for (_, object) in objects(document) {
                known.learn(object, &config.namespace);
            }
        }
        Ok(known)
    }

    fn learn(&mut self, object: &Value, namespace: &str) {
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default().to_owned();
        let own = metadata["namespace"].as_str();
        let namespace = own
            .filter(|own| !own.is_empty())
            .unwrap_or(namespace)
            .to_owned();
        let declaration = || Declaration::from(object.clone());
        match object["kind"].as_str() {
            Some("ServiceAccount") => {
                let annotations = texts(&metadata["annotations"]);
                self.accounts.insert((namespace, name), annotations);
            }
            Some("PodIdentityAssociation") => {
                self.local.entry(namespace).or_default().push(declaration());
            }
            Some("ClusterPodIdentityAssociation") => self.cluster.push(declaration()),
            Some("Namespace") => {
                self.namespaces.insert(name, texts(&metadata["labels"]));
            }
            Some(_) | None => {}
        }
    }

    /// As agents would find it, whose order this is.
    pub(super) fn association(&self, account: &ServiceAccount) -> Option<Found> {
        if let Some(association) = self.table.get(account) {
            return Some(Ok(Arc::clone(association)));
        }
        let local = self.local.get(account.namespace()).into_iter().flatten();
        let labels = self.namespaces.get(account.namespace());
        if let Some(declaration) = counting(local, &self.cluster, account, labels) {
            return Some(declaration.association(&self.defaults).map(Arc::new));
        }
        let is_elsewhere = self.elsewhere.iter().any(|(namespace, name)| {
            namespace.matches(account.namespace()) && name.matches(account.name())
        });
        is_elsewhere.then(|| Ok(Arc::new(Association::EksAuth)))
    }

    pub(super) fn annotations(&self, account: &ServiceAccount) -> &Texts {
        let key = (account.namespace().to_owned(), account.name().to_owned());
        self.accounts.get(&key).unwrap_or(&self.nothing)
    }
}

pub(super) fn declared(found: Option<&Found>) -> Declared<'_> {
    match found {
        None => Declared::Nothing,
        Some(Ok(association)) => Declared::Is(association),
        Some(Err(_)) => Declared::Unusable,
    }
}

fn table(config: &Inject, defaults: &Defaults) -> Result<Table, Error> {
    let Some(path) = &config.association_file else {
        return Ok(Table::default());
    };
    let failed = |why: String| Error::Associations(format!("{} {why}", path.display()));
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| failed(format!("cannot be read: {error}")))?;
    file::parse(&text, defaults).map_err(|error| failed(error.to_string()))
}

fn texts(fields: &Value) -> Texts {
    let fields = fields.as_object().into_iter().flatten();
    let texts = fields.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    texts.collect()
}
