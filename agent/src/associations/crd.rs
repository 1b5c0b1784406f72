//! Associations from `PodIdentityAssociation` and `ClusterPodIdentityAssociation`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::namespaces::Namespaces;
use super::spec::Defaults;
use super::watched::{Changes, Declared, Look, Watched, objects};
use crate::apiserver::{Client, Limits, Losses, Place, Shelf, Standing, State, Survey, View};
use crate::config::Presence;
use crate::model::{Association, Glob, Rank, ServiceAccount};

pub mod declaration;
mod matching;
pub mod status;
#[cfg(test)]
mod tests;

pub use declaration::Declaration;
pub use matching::{in_cluster, in_namespace};

const NAME: &str = "crd";

/// The API group, and the one version.
pub const GROUP: &str = "credlet.dev";
/// As [`GROUP`].
pub const VERSION: &str = "v1alpha1";

/// The kinds' plural names: of one namespace, and of the cluster.
pub const NAMESPACED: &str = "podidentityassociations";
/// As [`NAMESPACED`].
pub const CLUSTER: &str = "clusterpodidentityassociations";

/// The declarations that may concern pods here.
pub struct Crd {
    /// By namespace.
    local: Shelf<Arc<str>, Declaration>,
    cluster: Shelf<(), Declaration>,
    namespaces: Namespaces,
    defaults: Defaults,
    presence: Presence,
}

/// How much a declaration says of an account, and since when: the largest counts.
type Weight<'a> = (Rank, Rank, Reverse<(&'a str, &'a str)>);

impl Crd {
    /// The source, and what follows the declarations for it.
    pub fn open(
        client: &Client,
        defaults: Defaults,
        presence: Presence,
        namespaces: Namespaces,
        changes: Changes,
        losses: &Losses,
    ) -> (
        Arc<Self>,
        Watched<Self>,
        [BoxFuture<'static, &'static str>; 2],
    ) {
        let local = Shelf::new(NAMESPACED, Arc::clone(&changes), losses.clone());
        let cluster = Shelf::new(CLUSTER, Arc::clone(&changes), losses.clone());
        let limits = Limits::default();
        let tasks = [
            local
                .clone()
                .tend(client.clone(), limits, namespaced_at)
                .boxed(),
            cluster
                .clone()
                .tend(client.clone(), limits, |()| cluster_at())
                .boxed(),
        ];
        // From the start: whether the cluster has the kind is known before pods ask.
        cluster.want(&());
        let crd = Arc::new(Self {
            local,
            cluster,
            namespaces,
            defaults,
            presence,
        });
        let source = Watched::new(Arc::clone(&crd), changes);
        (crd, source, tasks)
    }

    /// How many lists are known.
    pub fn standing(&self) -> Standing {
        let Standing {
            known,
            absent,
            unknown,
        } = self.local.standing();
        let cluster = self.cluster.standing();
        Standing {
            known: known + cluster.known,
            absent: absent + cluster.absent,
            unknown: unknown + cluster.unknown,
        }
    }

    /// The best of a list, by `weigh`; `Ok(None)` only if the list is known, or there is none.
    fn best<K: Clone + Eq + std::hash::Hash + Send + Sync + 'static>(
        &self,
        lists: &Shelf<K, Declaration>,
        key: &K,
        weigh: impl for<'a> Fn(&'a Declaration) -> Option<Weight<'a>>,
    ) -> Result<Option<Arc<Declaration>>, Look> {
        lists.look(key, |state| match objects(state, self.presence) {
            Ok(known) => {
                let weighed = known.values().filter_map(|it| Some((weigh(it)?, it)));
                let best = weighed.max_by(|(one, _), (other, _)| one.cmp(other));
                Ok(best.map(|(_, it)| Arc::clone(it)))
            }
            Err(Look::None) => Ok(None),
            Err(look) => Err(look),
        })
    }

    fn accept(
        &self,
        account: &ServiceAccount,
        declaration: &Declaration,
    ) -> Result<Arc<Association>, Look> {
        let accepted = declaration.association(&self.defaults);
        accepted
            .map(Arc::new)
            .map_err(|why| Look::unusable(account, NAME, format!("{}: {why}", declaration.name)))
    }

    fn in_namespace(&self, account: &ServiceAccount) -> Result<Option<Look>, Look> {
        let namespace = Arc::from(account.namespace());
        let found = self.best(&self.local, &namespace, |it| {
            weigh(it, Rank::Exact, account)
        })?;
        let Some(found) = found else { return Ok(None) };
        let association = self.accept(account, &found)?;
        Ok(Some(self.namespaces.guard(account, NAME, association)))
    }

    fn in_cluster(&self, account: &ServiceAccount) -> Result<Look, Look> {
        let selects = self.cluster.look(&(), |state| match state {
            State::Known(known) => known.values().any(|it| it.labels.is_some()),
            State::Unknown(_) | State::Absent(_) => false,
        });
        let namespace = if selects {
            Some(self.namespaces.of(account)?)
        } else {
            None
        };
        let found = self.best(&self.cluster, &(), |it| {
            let labels = namespace.as_deref().map(|meta| &meta.labels);
            weigh_in_cluster(it, account, labels)
        })?;
        match found {
            Some(found) => Ok(Look::Is(self.accept(account, &found)?)),
            None => Ok(Look::None),
        }
    }
}

impl Declared for Crd {
    type Subject = ServiceAccount;

    const NAME: &'static str = NAME;

    fn look(&self, account: &ServiceAccount) -> Look {
        match self.in_namespace(account) {
            Ok(Some(look)) | Err(look) => look,
            Ok(None) => self.in_cluster(account).unwrap_or_else(|look| look),
        }
    }

    fn want(&self, account: &ServiceAccount) {
        self.local.want(&Arc::from(account.namespace()));
        self.namespaces.want(account);
    }

    fn retain(&self, accounts: &HashSet<ServiceAccount>) {
        let names: HashSet<&str> = accounts.iter().map(ServiceAccount::namespace).collect();
        self.local.retain(|name| names.contains(&**name));
        self.namespaces.retain(accounts);
    }

    fn survey(&self) -> (Vec<Survey>, Presence) {
        (
            vec![self.cluster.survey(), self.local.survey()],
            self.presence,
        )
    }
}

/// The declaration that counts for the account: of those of its namespace, else of
/// the cluster's. `labels` are the namespace's; without them no selector fits.
pub fn counting<'a>(
    local: impl IntoIterator<Item = &'a Declaration>,
    cluster: impl IntoIterator<Item = &'a Declaration>,
    account: &ServiceAccount,
    labels: Option<&BTreeMap<String, String>>,
) -> Option<&'a Declaration> {
    let local = local.into_iter();
    let local = local.filter_map(|it| Some((weigh(it, Rank::Exact, account)?, it)));
    let cluster = cluster.into_iter();
    let cluster = cluster.filter_map(|it| Some((weigh_in_cluster(it, account, labels)?, it)));
    let heavier = |it: &(Weight<'a>, &'a Declaration), other: &(Weight<'a>, &'a Declaration)| {
        it.0.cmp(&other.0)
    };
    let best = local.max_by(heavier).or_else(|| cluster.max_by(heavier));
    best.map(|(_, declaration)| declaration)
}

fn weigh_in_cluster<'a>(
    declaration: &'a Declaration,
    account: &ServiceAccount,
    labels: Option<&BTreeMap<String, String>>,
) -> Option<Weight<'a>> {
    let namespace = covers(declaration, account.namespace(), labels)?;
    weigh(declaration, namespace, account)
}

/// The more text of the namespace, then of the account; then the oldest, then by name.
fn weigh<'a>(
    declaration: &'a Declaration,
    namespace: Rank,
    account: &ServiceAccount,
) -> Option<Weight<'a>> {
    let glob = declaration.accounts.as_ref().ok()?;
    glob.matches(account.name())
        .then(|| (namespace, glob.rank(), Reverse(declaration.since())))
}

/// Whether a declaration of the cluster's is for this namespace, and how exactly.
fn covers(
    declaration: &Declaration,
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
) -> Option<Rank> {
    let glob = declaration.namespaces.as_ref().ok()?.as_ref();
    let by_name = match glob {
        Some(glob) => glob.matches(namespace).then(|| glob.rank())?,
        None => Rank::Pattern(0),
    };
    match &declaration.labels {
        Some(selector) => selector.matches(labels?).then_some(by_name),
        // One that says nothing of namespaces is for none.
        None => glob.map(|_: &Glob| by_name),
    }
}

fn namespaced_at(namespace: &Arc<str>) -> Place {
    Place {
        path: format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{NAMESPACED}"),
        fields: None,
        labels: None,
        view: View::Whole,
    }
}

fn cluster_at() -> Place {
    Place {
        path: format!("/apis/{GROUP}/{VERSION}/{CLUSTER}"),
        fields: None,
        labels: None,
        view: View::Whole,
    }
}
