//! What becomes of each declaration, said in its status by agents that may.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::core::Request;
use kube::core::params::{Patch, PatchParams};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{CLUSTER, Crd, Declaration, GROUP, NAMESPACED, VERSION};
use crate::apiserver::Client;
use crate::associations::spec::Defaults;
use crate::associations::watched::Changes;
use crate::causes::causes;
use crate::clock::Clock;

/// Whose the condition is, to the API server.
const MANAGER: &str = "credlet";

/// The one condition.
const CONDITION: &str = "Accepted";

/// All agents that have pods in a namespace hear of a change: the first that
/// gets to it writes, and the others see it written.
const SPREAD: Duration = Duration::from_secs(10);

/// How long the API server may take for one status.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long nothing is written after a failure.
const PAUSE: Duration = Duration::from_mins(5);

/// The longest message, in bytes.
const LONGEST: usize = 1024;

/// What becomes of a declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It counts for the accounts that it names.
    Accepted,
    /// This one, which is older, counts for the same accounts.
    Superseded(String),
    /// It cannot be used, and why.
    Invalid(String),
}

/// What a status says already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Said {
    #[serde(rename = "type")]
    of: String,
    status: String,
    reason: String,
    message: String,
    observed_generation: i64,
    last_transition_time: String,
}

impl Said {
    /// The condition in a status, if it is there.
    pub(super) fn read(status: &Value) -> Option<Self> {
        let conditions = status["conditions"].as_array()?.iter();
        let mut read = conditions.filter_map(|it| Self::deserialize(it).ok());
        read.find(|said| said.of == CONDITION)
    }
}

/// A status that is to be written.
struct Due {
    kind: &'static str,
    folder: String,
    of: Arc<Declaration>,
    verdict: Verdict,
}

/// The one task that writes.
pub struct Reporter {
    client: Client,
    crd: Arc<Crd>,
    changes: Changes,
    clock: Clock,
}

enum Failure {
    /// The next may do: this one has changed, or gone.
    OfOne,
    OfAll(String),
}

impl Reporter {
    /// Says what `crd`, which tells `changes`, makes of its declarations.
    pub fn new(client: Client, crd: Arc<Crd>, changes: Changes, clock: Clock) -> Self {
        Self {
            client,
            crd,
            changes,
            clock,
        }
    }

    /// Looks again after every change. Returns only if there can be none any more.
    pub async fn run(self) -> &'static str {
        let mut changes = self.changes.subscribe();
        let mut fails = false;
        loop {
            changes.mark_unchanged();
            sleep(SPREAD.mul_f64(fastrand::f64())).await;
            match self.write_all().await {
                Ok(()) if std::mem::take(&mut fails) => info!("statuses are written again"),
                Ok(()) => {}
                Err(why) => {
                    if !std::mem::replace(&mut fails, true) {
                        warn!(why, "the status of an association could not be written");
                    }
                    sleep(PAUSE).await;
                    continue;
                }
            }
            if changes.changed().await.is_err() {
                return "associations are no longer watched";
            }
        }
    }

    async fn write_all(&self) -> Result<(), String> {
        for due in due(&self.crd) {
            match self.write(&due).await {
                Ok(()) | Err(Failure::OfOne) => {}
                Err(Failure::OfAll(why)) => return Err(why),
            }
        }
        Ok(())
    }

    async fn write(&self, due: &Due) -> Result<(), Failure> {
        let params = PatchParams::apply(MANAGER).force();
        let now = Timestamp::try_from(self.clock.now()).unwrap_or_default();
        let status = Patch::Apply(document(due, now));
        let request = Request::new(due.folder.clone());
        let request = request.patch_subresource("status", &due.of.name, &params, &status);
        let request = request.expect("an object's own name fits a path");
        match timeout(PATIENCE, self.client.request_text(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409 | 422) => {
                Err(Failure::OfOne)
            }
            Ok(Err(error)) => Err(Failure::OfAll(causes(&error))),
            Err(_) => Err(Failure::OfAll(format!("no answer for {PATIENCE:?}"))),
        }
    }
}

fn due(crd: &Crd) -> Vec<Due> {
    let mut due = Vec::new();
    let mut look = |kind, folder: String, list: Vec<Arc<Declaration>>| {
        for of in &list {
            let verdict = verdict(of, &list, &crd.defaults);
            if !of
                .said
                .as_ref()
                .is_some_and(|said| says(said, of, &verdict))
            {
                let (folder, of) = (folder.clone(), Arc::clone(of));
                due.push(Due {
                    kind,
                    folder,
                    of,
                    verdict,
                });
            }
        }
    };
    let group = format!("/apis/{GROUP}/{VERSION}");
    for (namespace, list) in crd.local.known() {
        let folder = format!("{group}/namespaces/{namespace}/{NAMESPACED}");
        look("PodIdentityAssociation", folder, list);
    }
    for ((), list) in crd.cluster.known() {
        let folder = format!("{group}/{CLUSTER}");
        look("ClusterPodIdentityAssociation", folder, list);
    }
    due
}

fn verdict(of: &Declaration, list: &[Arc<Declaration>], defaults: &Defaults) -> Verdict {
    let fault = [of.accounts.as_ref().err(), of.namespaces.as_ref().err()];
    if let Some(why) = fault.into_iter().flatten().next() {
        return Verdict::Invalid(why.clone());
    }
    if let Err(why) = of.association(defaults) {
        return Verdict::Invalid(why);
    }
    let is_for_the_same = |it: &&Arc<Declaration>| {
        it.accounts == of.accounts && it.namespaces == of.namespaces && it.labels == of.labels
    };
    let same = list.iter().filter(is_for_the_same);
    match same.min_by_key(|it| it.since()) {
        Some(oldest) if oldest.name != of.name => Verdict::Superseded(oldest.name.clone()),
        Some(_) | None => Verdict::Accepted,
    }
}

impl Verdict {
    fn status(&self) -> &'static str {
        match self {
            Self::Accepted => "True",
            Self::Superseded(_) | Self::Invalid(_) => "False",
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Superseded(_) => "Superseded",
            Self::Invalid(_) => "Invalid",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Accepted => "it counts for the service accounts that it names".to_owned(),
            Self::Superseded(by) => format!("{by} is older and for the same service accounts"),
            Self::Invalid(why) => why[..why.floor_char_boundary(LONGEST)].to_owned(),
        }
    }
}

fn says(said: &Said, of: &Declaration, verdict: &Verdict) -> bool {
    said.status == verdict.status()
        && said.reason == verdict.reason()
        && said.message == verdict.message()
        && said.observed_generation == of.generation
}

fn document(due: &Due, now: Timestamp) -> Value {
    let Due {
        kind, of, verdict, ..
    } = due;
    let before = of.said.as_ref();
    let stays = before.filter(|said| said.status == verdict.status());
    let since = stays.map_or_else(
        || now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        |said| said.last_transition_time.clone(),
    );
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": kind,
        // What has changed meanwhile is looked at again.
        "metadata": {"name": of.name, "resourceVersion": of.version},
        "status": {"conditions": [{
            "type": CONDITION,
            "status": verdict.status(),
            "reason": verdict.reason(),
            "message": verdict.message(),
            "observedGeneration": of.generation,
            "lastTransitionTime": since,
        }]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/cart";

    fn declaration(name: &str, day: u8, account: &str, role: &str) -> Arc<Declaration> {
        let object = json!({
            "metadata": {
                "name": name,
                "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z"),
                "generation": 2,
                "resourceVersion": "7",
            },
            "spec": {"serviceAccount": account, "roleArn": role},
        });
        Arc::new(serde_json::from_value(object).expect("any JSON is one"))
    }

    fn verdicts(list: &[Arc<Declaration>]) -> Vec<Verdict> {
        let of = |it: &Arc<Declaration>| verdict(it, list, &Defaults::default());
        list.iter().map(of).collect()
    }

    #[test]
    fn the_oldest_of_those_for_the_same_accounts_counts_and_a_pattern_is_for_others() {
        let list = [
            declaration("later", 2, "cart", ROLE),
            declaration("sooner", 1, "cart", ROLE),
            declaration("pattern", 3, "ca*", ROLE),
        ];
        let superseded = Verdict::Superseded("sooner".to_owned());
        let wanted = [superseded, Verdict::Accepted, Verdict::Accepted];
        assert_eq!(verdicts(&list), wanted);
    }

    #[test]
    fn what_cannot_be_used_says_why_and_hides_the_later_all_the_same() {
        let list = [
            declaration("bad", 1, "cart", "cart"),
            declaration("good", 2, "cart", ROLE),
            declaration("nobody's", 3, "", ROLE),
        ];
        let [bad, good, nobodys] = verdicts(&list).try_into().expect("three");
        assert!(matches!(bad, Verdict::Invalid(why) if why.contains("ARN")));
        assert_eq!(good, Verdict::Superseded("bad".to_owned()));
        assert!(matches!(nobodys, Verdict::Invalid(why) if why.contains("serviceAccount")));
    }

    #[test]
    fn a_status_is_written_once_for_each_change_and_keeps_since_when_it_is_so() {
        let of = declaration("it", 1, "cart", ROLE);
        let due = |of: &Arc<Declaration>| Due {
            kind: "PodIdentityAssociation",
            folder: String::new(),
            of: Arc::clone(of),
            verdict: Verdict::Accepted,
        };
        let first = document(&due(&of), "2026-02-01T00:00:00Z".parse().expect("a time"));
        let said = Said::read(&first["status"]).expect("it is there");
        assert!(says(&said, &of, &Verdict::Accepted));
        assert!(!says(&said, &of, &Verdict::Invalid(String::new())));

        let mut changed = (*of).clone();
        changed.generation = 3;
        changed.said = Some(said.clone());
        assert!(!says(&said, &changed, &Verdict::Accepted));
        let later = "2026-03-01T00:00:00Z".parse().expect("a time");
        let second = document(&due(&Arc::new(changed)), later);
        let since = &second["status"]["conditions"][0]["lastTransitionTime"];
        assert_eq!(since, "2026-02-01T00:00:00Z");
    }
}
