//! What is declared by ACK's `PodIdentityAssociation`s (`eks.services.k8s.aws`),
//! read from the API server without any AWS.
//!
//! ACK lets an object name its cluster and roles by reference to other objects of
//! its own, which are looked up as its controllers do: by name, in the object's
//! namespace unless the reference says another.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, select_all};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use super::board::Board;
use super::mirrored::{Feed, Origin, Said, Wanted};
use super::plan::Known;
use crate::apiserver::{Client, Limits, Losses, Named, Object, Place, Shelf, State, View};
use crate::clock::Clock;
use crate::config::Exchange;
use crate::model::ServiceAccount;

/// Where the kinds are.
const ASSOCIATIONS: &str = "/apis/eks.services.k8s.aws/v1alpha1/podidentityassociations";
const CLUSTERS: &str = "/apis/eks.services.k8s.aws/v1alpha1/clusters";
const ROLES: &str = "/apis/iam.services.k8s.aws/v1alpha1/roles";

/// Which of ACK's objects count.
pub(super) struct Settings {
    /// Those for these clusters, of which the first counts first; none: all.
    pub(super) clusters: Vec<Arc<str>>,
    /// How the roles are had; `None`: as each agent has them.
    pub(super) exchange: Option<Exchange>,
}

/// An object of one of ACK's kinds, as it comes.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Value")]
struct Thing {
    /// With its namespace.
    key: String,
    object: Value,
    version: String,
}

impl From<Value> for Thing {
    fn from(mut object: Value) -> Self {
        let metadata = &mut object["metadata"];
        if let Some(fields) = metadata.as_object_mut() {
            fields.remove("managedFields");
            fields.remove("annotations");
        }
        let text = |field: &str| metadata[field].as_str().unwrap_or_default();
        Self {
            key: format!("{}/{}", text("namespace"), text("name")),
            version: text("resourceVersion").to_owned(),
            object,
        }
    }
}

impl Object for Thing {
    fn version(&self) -> &str {
        &self.version
    }
}

impl Named for Thing {
    fn name(&self) -> &str {
        &self.key
    }
}

impl Thing {
    fn text(&self, pointer: &str) -> Option<&str> {
        self.object.pointer(pointer)?.as_str()
    }
}

/// The three lists.
pub(super) struct Ack {
    settings: Settings,
    board: Board,
    clock: Clock,
    changes: watch::Receiver<u64>,
    associations: Shelf<(), Thing>,
    clusters: Shelf<(), Thing>,
    roles: Shelf<(), Thing>,
}

impl Ack {
    /// The reader, and what follows the lists for it. Tells `board`.
    pub(super) fn new(
        client: &Client,
        settings: Settings,
        board: Board,
        losses: &Losses,
        clock: Clock,
    ) -> (Self, BoxFuture<'static, &'static str>) {
        let (changes, seen) = watch::channel(0);
        let changes = Arc::new(changes);
        let shelf = |what| Shelf::new(what, Arc::clone(&changes), losses.clone());
        let ack = Self {
            settings,
            board,
            clock,
            changes: seen,
            associations: shelf(ASSOCIATIONS),
            clusters: shelf(CLUSTERS),
            roles: shelf(ROLES),
        };
        let tend = |shelf: &Shelf<(), Thing>, path: &'static str| {
            let place = move |(): &()| place(path);
            shelf
                .clone()
                .tend(client.clone(), Limits::default(), place)
                .boxed()
        };
        let tasks = [
            tend(&ack.associations, ASSOCIATIONS),
            tend(&ack.clusters, CLUSTERS),
            tend(&ack.roles, ROLES),
        ];
        let tasks = select_all(tasks).map(|(ended, _, _)| ended).boxed();
        (ack, tasks)
    }

    /// Goes on for as long as it is let. `there` are the origins of the objects
    /// that are there.
    pub(super) async fn run(mut self, there: impl IntoIterator<Item = Origin>) -> Infallible {
        self.associations.want(&());
        // Those that an earlier leader has left, and those that were told of since.
        let mut told: Vec<Origin> = there.into_iter().collect();
        told.retain(|origin| origin.feed() == Some(Feed::Ack));
        loop {
            self.changes.mark_unchanged();
            told = self.look(told);
            if self.changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Tells what there is now, and of what was told before that it is gone.
    fn look(&self, told: Vec<Origin>) -> Vec<Origin> {
        let all = self.associations.look(&(), |state| match state {
            State::Known(known) => Ok(known.clone()),
            State::Unknown(None) => Err(None),
            State::Unknown(Some(why)) | State::Absent(why) => Err(Some(why.to_string())),
        });
        let all = match all {
            Ok(all) => all,
            Err(None) => return told,
            Err(Some(why)) => {
                self.board
                    .change(&Feed::Ack, |it| it.standing.failure = Some(why));
                return told;
            }
        };
        let mut known = HashMap::new();
        let mut unusable = BTreeMap::new();
        for thing in all.values() {
            let origin = origin(thing);
            match self.read(thing) {
                Ok(Some(wanted)) => {
                    known.insert(origin, Known::Is(wanted));
                }
                Ok(None) => {}
                Err(why) => {
                    unusable.insert(origin, why);
                }
            }
        }
        let now = self.clock.now();
        let is_gone =
            |origin: &&Origin| !known.contains_key(*origin) && !unusable.contains_key(*origin);
        let gone: Vec<Origin> = told.iter().filter(is_gone).cloned().collect();
        let told = known.keys().chain(unusable.keys()).cloned().collect();
        self.board.change(&Feed::Ack, |it| {
            it.standing.associations = known.len() + unusable.len();
            it.standing.listed_at = Some(now);
            it.standing.failure = None;
            it.standing.unusable = unusable;
            it.known.extend(known);
            it.known
                .extend(gone.into_iter().map(|it| (it, Known::Gone)));
        });
        told
    }

    /// What an object declares; `None`, if it is for another cluster.
    fn read(&self, thing: &Thing) -> Result<Option<Wanted>, String> {
        let cluster = named(
            thing,
            "clusterName",
            "clusterRef",
            &self.clusters,
            "/spec/name",
        )?;
        let order = match &cluster {
            _ if self.settings.clusters.is_empty() => 0,
            Some(cluster) => {
                let order = self
                    .settings
                    .clusters
                    .iter()
                    .position(|it| **it == **cluster);
                let Some(order) = order else { return Ok(None) };
                order
            }
            None => return Err("it names no cluster".to_owned()),
        };
        let arn = "/status/ackResourceMetadata/arn";
        let said = Said {
            role: named(thing, "roleARN", "roleRef", &self.roles, arn)?,
            target_role: named(thing, "targetRoleARN", "targetRoleRef", &self.roles, arn)?,
            external_id: thing.text("/status/externalID").map(str::to_owned),
            policy: thing.text("/spec/policy").map(str::to_owned),
            tags: thing.object["spec"]["disableSessionTags"].as_bool().into(),
        };
        // EKS makes one up for each association, and uses it only with a target role.
        let external_id = said.external_id.filter(|_| said.target_role.is_some());
        let said = Said {
            external_id,
            ..said
        };
        let account = ServiceAccount::new(
            thing.text("/spec/namespace").unwrap_or_default(),
            thing.text("/spec/serviceAccount").unwrap_or_default(),
        );
        let uid = thing.text("/metadata/uid").unwrap_or_default();
        let created = thing
            .text("/metadata/creationTimestamp")
            .unwrap_or_default();
        let wanted = Wanted::new(
            account.map_err(|why| why.to_string())?,
            said,
            self.settings.exchange,
            format!("ack-{uid}"),
            origin(thing),
            (order, created.to_owned()),
        )?;
        Ok(Some(wanted))
    }
}

/// The text of a field or, where that refers to another object, of that one's.
fn named(
    thing: &Thing,
    field: &str,
    reference: &str,
    list: &Shelf<(), Thing>,
    pointer: &str,
) -> Result<Option<String>, String> {
    let spec = &thing.object["spec"];
    if let Some(text) = spec[field].as_str() {
        return Ok(Some(text.to_owned()));
    }
    let from = &spec[reference]["from"];
    let Some(name) = from["name"].as_str() else {
        return Ok(None);
    };
    let own = || thing.text("/metadata/namespace").unwrap_or_default();
    let namespace = from["namespace"].as_str().unwrap_or_else(own);
    let key = format!("{namespace}/{name}");
    // From now on: a change of it is heard of.
    list.want(&());
    let found = list.look(&(), |state| match state {
        State::Known(known) => known
            .get(&key)
            .and_then(|it| Some(it.text(pointer)?.to_owned())),
        State::Unknown(_) | State::Absent(_) => None,
    });
    let missing = || format!("{reference} refers to {key}, which is not there or not ready");
    found.map(Some).ok_or_else(missing)
}

fn origin(thing: &Thing) -> Origin {
    let (namespace, name) = thing.key.split_once('/').expect("made with a slash");
    Origin::ack(namespace, name)
}

fn place(path: &str) -> Place {
    Place {
        path: path.to_owned(),
        fields: None,
        labels: None,
        view: View::Whole,
    }
}
