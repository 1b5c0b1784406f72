//! Writes what the feeds know into the cluster, and again whatever becomes of it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::core::Request;
use kube::core::params::{DeleteParams, PostParams};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::board::Board;
use super::metrics::{Metrics, Verb, Written};
use super::mirrored::{Mirrored, Origin};
use super::plan::{Picture, Plan, Step};
use crate::apiserver::{Client, Limits, Losses, Meta, Named, Place, Shelf, State, View};
use crate::associations::crd::{GROUP, NAMESPACED, VERSION};
use crate::causes::causes;

/// How many writes are under way at once.
const AT_ONCE: usize = 8;

/// How long the API server may take for one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Changes that come together are written together.
const SPREAD: Duration = Duration::from_millis(200);

/// How soon a write that failed is tried again, whatever else happens.
const AGAIN: Duration = Duration::from_secs(15);

/// How many failures are told one by one.
const MOST_FAULTS: usize = 20;

/// What is in the cluster, compared to what is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Objects that are as they are to be.
    pub(super) mirrored: usize,
    /// Associations whose namespace is not there.
    pub(super) waiting: usize,
    /// Associations of accounts that another one counts for.
    pub(super) shadowed: usize,
    /// Writes that failed the last time.
    pub(super) failed: usize,
    /// Of which, by object, and why: some of them.
    pub(super) faults: BTreeMap<String, String>,
}

/// Objects by namespace and name.
type Objects = BTreeMap<String, Arc<Mirrored>>;

/// The objects that are there, and the namespaces.
#[derive(Clone)]
pub(super) struct There {
    objects: Shelf<(), Mirrored>,
    namespaces: Shelf<(), Meta>,
    changes: Arc<watch::Sender<u64>>,
}

impl There {
    /// Knows nothing before [`Self::follow`] does.
    pub(super) fn new(losses: &Losses) -> Self {
        let changes = Arc::new(watch::Sender::new(0));
        Self {
            objects: Shelf::new(
                "mirrored associations",
                Arc::clone(&changes),
                losses.clone(),
            ),
            namespaces: Shelf::new("namespaces", Arc::clone(&changes), losses.clone()),
            changes,
        }
    }

    /// Follows both. Returns only if that breaks.
    pub(super) async fn follow(self, client: Client) -> &'static str {
        self.objects.want(&());
        self.namespaces.want(&());
        let limits = Limits::default();
        let objects = self.objects.tend(client.clone(), limits, |()| Place {
            path: format!("/apis/{GROUP}/{VERSION}/{NAMESPACED}"),
            fields: None,
            labels: Some(Mirrored::selector()),
            view: View::Whole,
        });
        let namespaces = self.namespaces.tend(client, limits, |()| Place {
            path: "/api/v1/namespaces".to_owned(),
            fields: None,
            labels: None,
            view: View::Metadata,
        });
        tokio::select! {
            ended = objects => ended,
            ended = namespaces => ended,
        }
    }

    /// The origins of the objects that are there, as soon as both are known.
    pub(super) async fn known(&self) -> HashSet<Origin> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some((objects, _)) = self.look() {
                let origins = objects.values().filter_map(|it| it.origin.clone());
                return origins.collect();
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn look(&self) -> Option<(Objects, HashSet<String>)> {
        let objects = self.objects.look(&(), |state| match state {
            State::Known(known) => Some(known.clone()),
            State::Unknown(_) | State::Absent(_) => None,
        });
        let namespaces = self.namespaces.look(&(), |state| match state {
            State::Known(known) => Some(known.keys().cloned().collect()),
            State::Unknown(_) | State::Absent(_) => None,
        });
        objects.zip(namespaces)
    }
}

/// The one writer.
pub(super) struct Mirror {
    client: Client,
    there: There,
    board: Board,
    metrics: Metrics,
    standing: Arc<Mutex<Standing>>,
}

impl Mirror {
    /// Writes what `board` knows, and says in `standing` how it does.
    pub(super) fn new(
        client: Client,
        there: There,
        board: Board,
        metrics: Metrics,
        standing: Arc<Mutex<Standing>>,
    ) -> Self {
        Self {
            client,
            there,
            board,
            metrics,
            standing,
        }
    }

    /// Goes on for as long as it is let.
    pub(super) async fn run(self) -> std::convert::Infallible {
        let mut told = self.board.changes();
        let mut seen = self.there.changes.subscribe();
        loop {
            told.mark_unchanged();
            seen.mark_unchanged();
            self.pass().await;
            let change = async {
                tokio::select! {
                    it = told.changed() => it,
                    it = seen.changed() => it,
                }
            };
            // Without a change, what failed is tried again.
            let _ = timeout(AGAIN, change).await;
            sleep(SPREAD).await;
        }
    }

    /// One look, and the writes that it shows to be due.
    async fn pass(&self) {
        let Some((objects, namespaces)) = self.there.look() else {
            return;
        };
        let Plan {
            steps,
            mirrored,
            waiting,
            shadowed,
        } = self.board.look(|state| {
            let feeds = state.complete();
            let picture = Picture {
                known: &state.known,
                feeds: feeds.as_deref(),
                there: &objects,
                has_namespace: &|name| namespaces.contains(name),
            };
            picture.plan()
        });
        let origins: HashSet<&Origin> = objects
            .values()
            .filter_map(|it| it.origin.as_ref())
            .collect();
        self.board.forget(|origin| origins.contains(origin));
        let lasting = |step: &&Step| match step {
            Step::Create(_) | Step::Replace(..) => true,
            Step::Delete(_) => false,
        };
        let lasting = steps.iter().filter(lasting).count();
        let outcomes = stream::iter(steps).map(|step| async move {
            let key = key(&step);
            (key, self.take(step).await)
        });
        let outcomes: Vec<_> = outcomes.buffer_unordered(AT_ONCE).collect().await;
        let failures = outcomes
            .into_iter()
            .filter_map(|(key, outcome)| Some((key, outcome.err()?)));
        let failures: BTreeMap<String, String> = failures.collect();
        let failed = failures.len();
        self.tell(Standing {
            mirrored: (mirrored + lasting).saturating_sub(failed),
            waiting,
            shadowed,
            failed,
            faults: failures.into_iter().take(MOST_FAULTS).collect(),
        });
    }

    fn tell(&self, standing: Standing) {
        let mut before = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.failed > 0 && before.failed == 0 {
            let first = standing.faults.iter().next();
            let (object, why) = first.expect("there is one at least");
            warn!(
                failed = standing.failed,
                object, why, "associations could not be written"
            );
        } else if standing.failed == 0 && before.failed > 0 {
            info!("all associations are written again");
        }
        *before = standing;
    }

    async fn take(&self, step: Step) -> Result<(), String> {
        let verb = match &step {
            Step::Create(_) => Verb::Create,
            Step::Replace(..) => Verb::Replace,
            Step::Delete(_) => Verb::Delete,
        };
        let outcome = match timeout(PATIENCE, self.send(&step)).await {
            Ok(Ok(_)) => Written::Ok,
            // It is gone already, or has changed: the watch will tell.
            Ok(Err(kube::Error::Api(status)))
                if matches!(
                    (verb, status.code),
                    (Verb::Delete | Verb::Replace, 404 | 409)
                ) =>
            {
                Written::Overtaken
            }
            Ok(Err(error)) => Written::Failed(causes(&error)),
            Err(_) => Written::Failed(format!("no answer for {PATIENCE:?}")),
        };
        self.metrics.count(verb, &outcome);
        match outcome {
            Written::Ok | Written::Overtaken => Ok(()),
            Written::Failed(why) => Err(why),
        }
    }

    async fn send(&self, step: &Step) -> kube::Result<String> {
        let folder = |namespace: &str| {
            Request::new(format!(
                "/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{NAMESPACED}"
            ))
        };
        let params = PostParams::default();
        let bytes = |object: Value| object.to_string().into_bytes();
        let request = match step {
            Step::Create(wanted) => {
                let object = bytes(wanted.object(None));
                folder(wanted.account.namespace()).create(&params, object)
            }
            // The object has the version that was seen.
            Step::Replace(there, wanted) => {
                let object = bytes(wanted.object(Some(there)));
                folder(wanted.account.namespace()).replace(&wanted.name, &params, object)
            }
            Step::Delete(there) => {
                let params = DeleteParams::default().preconditions(there.preconditions());
                folder(&there.namespace).delete(there.own_name(), &params)
            }
        };
        let request = request.expect("the names of objects fit a path");
        self.client.request_text(request).await
    }
}

fn key(step: &Step) -> String {
    match step {
        Step::Create(wanted) | Step::Replace(_, wanted) => wanted.key(),
        Step::Delete(there) => there.name().to_owned(),
    }
}
