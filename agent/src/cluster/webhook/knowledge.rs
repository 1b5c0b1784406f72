//! What is known of service accounts, cluster-wide: their annotations, and what is
//! declared for them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::core::Request;
use kube::core::params::GetParams;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::listed::Listed;
use crate::apiserver::{Client, Limits, Losses, Meta, Named, Object, Place, Shelf, State, View};
use crate::associations::crd::{self, Declaration};
use crate::associations::file::File;
use crate::associations::spec::Defaults;
use crate::associations::{Known, Source};
use crate::causes::causes;
use crate::inject;
use crate::model::{Association, ServiceAccount};

/// How long the API server may take to tell of one account.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many it is asked for at a time.
const AT_A_TIME: usize = 16;

/// What is known. Cheap to clone.
#[derive(Clone)]
pub(super) struct Knowledge(Arc<Inner>);

struct Inner {
    client: Client,
    accounts: Shelf<(), Account>,
    namespaces: Shelf<(), Meta>,
    local: Shelf<(), Local>,
    cluster: Shelf<(), Declaration>,
    listed: Option<Listed>,
    file: Option<File>,
    defaults: Defaults,
    changes: Arc<watch::Sender<u64>>,
    asking: Semaphore,
}

/// What an account is to be given by.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    account: Option<Arc<Account>>,
    declared: Found,
}

#[derive(Clone, Debug)]
enum Found {
    Nothing,
    Is(Arc<Association>),
    Unusable,
}

/// What is not known yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    /// A list has not come yet.
    #[error("the list of {0} has not come yet")]
    List(&'static str),
    /// The API server has not told of the account.
    #[error("the service account {0} could not be looked up: {1}")]
    Account(ServiceAccount, String),
}

/// What is kept of a service account.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Value")]
pub(super) struct Account {
    key: String,
    annotations: BTreeMap<String, String>,
    version: String,
}

/// A declaration with its namespace.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Value")]
struct Local {
    key: String,
    declaration: Declaration,
}

/// `kubectl apply` keeps the whole object in it, which is of no use here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl From<Value> for Account {
    fn from(mut object: Value) -> Self {
        let annotations = object["metadata"]["annotations"].take();
        let annotations = serde_json::from_value(annotations);
        let mut annotations: BTreeMap<_, _> = annotations.unwrap_or_default();
        annotations.remove(LAST_APPLIED);
        Self {
            key: key_of(&object),
            annotations,
            version: text(&object, "resourceVersion").to_owned(),
        }
    }
}

impl Object for Account {
    fn version(&self) -> &str {
        &self.version
    }
}

impl Named for Account {
    fn name(&self) -> &str {
        &self.key
    }
}

impl From<Value> for Local {
    fn from(object: Value) -> Self {
        Self {
            key: key_of(&object),
            declaration: object.into(),
        }
    }
}

impl Object for Local {
    fn version(&self) -> &str {
        self.declaration.version()
    }
}

impl Named for Local {
    fn name(&self) -> &str {
        &self.key
    }
}

impl Facts {
    /// The account's annotations.
    pub(super) fn annotations(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.account.as_ref().map_or(&NONE, |it| &it.annotations)
    }

    /// What is declared for it.
    pub(super) fn declared(&self) -> inject::Declared<'_> {
        match &self.declared {
            Found::Nothing => inject::Declared::Nothing,
            Found::Is(association) => inject::Declared::Is(association),
            Found::Unusable => inject::Declared::Unusable,
        }
    }
}

impl Knowledge {
    /// Knows nothing yet; the futures learn it, for the life of the process.
    pub(super) fn open(
        client: &Client,
        listed: Option<Listed>,
        file: Option<File>,
        defaults: Defaults,
        losses: &Losses,
    ) -> (Self, [BoxFuture<'static, &'static str>; 4]) {
        let changes = Arc::new(watch::Sender::new(0));
        let accounts = shelf("service accounts", &changes, losses);
        let namespaces = shelf("namespaces", &changes, losses);
        let local = shelf(crd::NAMESPACED, &changes, losses);
        let cluster = shelf(crd::CLUSTER, &changes, losses);
        let declared = |plural: &str| format!("/apis/{}/{}/{plural}", crd::GROUP, crd::VERSION);
        let tasks = [
            tend(
                &accounts,
                client,
                "/api/v1/serviceaccounts".to_owned(),
                View::Metadata,
            ),
            tend(
                &namespaces,
                client,
                "/api/v1/namespaces".to_owned(),
                View::Metadata,
            ),
            tend(&local, client, declared(crd::NAMESPACED), View::Whole),
            tend(&cluster, client, declared(crd::CLUSTER), View::Whole),
        ];
        let knowledge = Self(Arc::new(Inner {
            client: client.clone(),
            accounts,
            namespaces,
            local,
            cluster,
            listed,
            file,
            defaults,
            changes,
            asking: Semaphore::new(AT_A_TIME),
        }));
        (knowledge, tasks)
    }

    /// Of what the first list has not come yet. A cluster need not have declarations.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let it = &*self.0;
        let lists = [
            ("service accounts", it.accounts.look(&(), is_known)),
            ("namespaces", it.namespaces.look(&(), is_known)),
            (crd::NAMESPACED, it.local.look(&(), is_settled)),
            (crd::CLUSTER, it.cluster.look(&(), is_settled)),
            (
                "EKS associations",
                it.listed.as_ref().is_none_or(Listed::is_known),
            ),
        ];
        let missing = lists.into_iter().filter(|(_, is_there)| !is_there);
        missing.map(|(name, _)| name).collect()
    }

    /// Resolves when every first list has come.
    pub(super) async fn complete(&self) {
        let mut changes = self.0.changes.subscribe();
        while !self.missing().is_empty() {
            // EKS's list tells nobody.
            let _ = timeout(Duration::from_secs(1), changes.changed()).await;
        }
    }

    /// What is known of the account; `Ok(None)` if it is not known to be there.
    pub(super) fn look(&self, account: &ServiceAccount) -> Result<Option<Facts>, Unknown> {
        if let Some(missing) = self.missing().first() {
            return Err(Unknown::List(missing));
        }
        let key = account.to_string();
        let lists = &self.0.accounts;
        let found = lists.look(&(), |state| known(state)?.get(&key).cloned());
        Ok(found.map(|found| self.facts(account, Some(found))))
    }

    /// The same, but an account that is not known is asked for: pods are often
    /// made right after it.
    pub(super) async fn find(&self, account: &ServiceAccount) -> Result<Facts, Unknown> {
        if let Some(facts) = self.look(account)? {
            return Ok(facts);
        }
        let found = match timeout(PATIENCE, self.ask(account)).await {
            Ok(Ok(found)) => found,
            Ok(Err(why)) => return Err(Unknown::Account(account.clone(), why)),
            Err(_) => {
                let why = format!("no answer for {PATIENCE:?}");
                return Err(Unknown::Account(account.clone(), why));
            }
        };
        Ok(self.facts(account, found.map(Arc::new)))
    }

    async fn ask(&self, account: &ServiceAccount) -> Result<Option<Account>, String> {
        let _permit = self.0.asking.acquire().await;
        let folder = format!("/api/v1/namespaces/{}/serviceaccounts", account.namespace());
        let request = Request::new(folder).get(account.name(), &GetParams::default());
        let request = request.expect("legal names fit a path");
        match self.0.client.request::<Account>(request).await {
            Ok(account) => Ok(Some(account)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(causes(&error)),
        }
    }

    fn facts(&self, account: &ServiceAccount, found: Option<Arc<Account>>) -> Facts {
        Facts {
            account: found,
            declared: self.declared(account),
        }
    }

    /// In the agents' order of precedence.
    fn declared(&self, account: &ServiceAccount) -> Found {
        let it = &*self.0;
        match it.file.as_ref().map(|file| file.peek(account)) {
            Some(Known::Is(association)) => return Found::Is(association),
            Some(Known::Refused(_)) => return Found::Unusable,
            Some(Known::None | Known::Unknown) | None => {}
        }
        match self.by_declaration(account) {
            Found::Nothing => {}
            found @ (Found::Is(_) | Found::Unusable) => return found,
        }
        match it.listed.as_ref().filter(|listed| listed.has(account)) {
            // Which role it is nobody needs to know here.
            Some(_) => Found::Is(Arc::new(Association::EksAuth)),
            None => Found::Nothing,
        }
    }

    fn by_declaration(&self, account: &ServiceAccount) -> Found {
        let it = &*self.0;
        let (lists, defaults) = (&it.namespaces, &it.defaults);
        let name = account.namespace();
        let namespace = lists.look(&(), |state| known(state)?.get(name).cloned());
        let labels = namespace.as_ref().map(|meta| &meta.labels);
        // A namespace's keys begin with its name and a slash, after which `0` comes.
        let (from, to) = (format!("{name}/"), format!("{name}0"));
        let range = (Bound::Included(&*from), Bound::Excluded(&*to));
        let judge = |counts: Option<&Declaration>| match counts.map(|it| it.association(defaults)) {
            None => Found::Nothing,
            Some(Ok(association)) => Found::Is(Arc::new(association)),
            Some(Err(_)) => Found::Unusable,
        };
        it.local.look(&(), |local| {
            it.cluster.look(&(), |cluster| {
                let cluster = values(cluster).map(|it| &**it);
                let local = known(local).into_iter();
                let local = local.flat_map(|known| known.range::<str, _>(range));
                let local = local.map(|(_, it)| &it.declaration);
                judge(crd::counting(local, cluster, account, labels))
            })
        })
    }
}

fn known<O>(state: &State<O>) -> Option<&BTreeMap<String, Arc<O>>> {
    match state {
        State::Known(known) => Some(known),
        State::Unknown(_) | State::Absent(_) => None,
    }
}

fn values<O>(state: &State<O>) -> impl Iterator<Item = &Arc<O>> {
    known(state).into_iter().flat_map(BTreeMap::values)
}

fn is_known<O>(state: &State<O>) -> bool {
    known(state).is_some()
}

fn is_settled<O>(state: &State<O>) -> bool {
    match state {
        State::Known(_) | State::Absent(_) => true,
        State::Unknown(_) => false,
    }
}

fn shelf<O: Named>(
    what: &'static str,
    changes: &Arc<watch::Sender<u64>>,
    losses: &Losses,
) -> Shelf<(), O> {
    let shelf = Shelf::new(what, Arc::clone(changes), losses.clone());
    shelf.want(&());
    shelf
}

fn tend<O: Named>(
    shelf: &Shelf<(), O>,
    client: &Client,
    path: String,
    view: View,
) -> BoxFuture<'static, &'static str> {
    let place = move |(): &()| Place {
        path: path.clone(),
        fields: None,
        labels: None,
        view,
    };
    let tend = shelf.clone().tend(client.clone(), Limits::default(), place);
    tend.boxed()
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

fn key_of(object: &Value) -> String {
    format!("{}/{}", text(object, "namespace"), text(object, "name"))
}
