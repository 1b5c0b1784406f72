//! How the mirror does, for people and for `credlet doctor`: in a `ConfigMap`.

use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;
use kube::core::Request;
use kube::core::params::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::mirrored::{Feed, MANAGER};
use super::{board, mirror};
use crate::apiserver::Client;
use crate::causes::causes;

/// The `ConfigMap`, and what is in it.
pub const NAME: &str = "credlet-sync";
/// As [`NAME`].
pub const KEY: &str = "status.json";

/// How often it is written, if it changes.
const EVERY: Duration = Duration::from_secs(10);

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many faults are told of each feed.
const MOST_FAULTS: usize = 20;

/// What is written.
pub(super) fn document(feeds: &[(Feed, board::Standing)], objects: &mirror::Standing) -> Value {
    let feeds = feeds.iter().map(|(feed, standing)| {
        let board::Standing {
            listed_at,
            associations,
            failure,
            unusable,
        } = standing;
        let listed_at = listed_at.and_then(|at| Timestamp::try_from(at).ok());
        let listed_at = listed_at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let faults = unusable.iter().take(MOST_FAULTS);
        let faults = faults.map(|(origin, why)| (origin.to_string(), json!(why)));
        json!({
            "feed": match feed {
                Feed::Eks(_) => "eks",
                Feed::Ack => "ack",
            },
            "cluster": match feed {
                Feed::Eks(cluster) => Some(&**cluster),
                Feed::Ack => None,
            },
            "lastSync": listed_at,
            "associations": associations,
            "failure": failure,
            "unusable": unusable.len(),
            "faults": faults.collect::<serde_json::Map<_, _>>(),
        })
    });
    let mirror::Standing {
        mirrored,
        waiting,
        shadowed,
        failed,
        faults,
    } = objects;
    json!({
        "feeds": feeds.collect::<Vec<_>>(),
        "objects": {
            "mirrored": mirrored,
            "waitingForNamespace": waiting,
            "shadowed": shadowed,
            "failed": failed,
            "faults": faults,
        },
    })
}

/// Writes what `look` says, whenever it says something new.
pub(super) async fn write(
    client: Client,
    namespace: String,
    look: impl Fn() -> Value + Send,
) -> Infallible {
    let mut written = Value::Null;
    let mut fails = false;
    loop {
        sleep(EVERY).await;
        let document = look();
        if document == written {
            continue;
        }
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME},
            "data": {KEY: format!("{document:#}")},
        });
        let params = PatchParams::apply(MANAGER).force();
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/configmaps"));
        let request = request.patch(NAME, &params, &Patch::Apply(object));
        let request = request.expect("a legal name fits a path");
        let outcome = match timeout(PATIENCE, client.request_text(request)).await {
            Ok(Ok(_)) => {
                written = document;
                Ok(())
            }
            Ok(Err(error)) => Err(causes(&error)),
            Err(_) => Err(format!("no answer for {PATIENCE:?}")),
        };
        let failed = outcome.is_err();
        if let Err(why) = outcome
            && !fails
        {
            warn!(
                why,
                "the status could not be written; nothing else depends on it"
            );
        }
        fails = failed;
    }
}
