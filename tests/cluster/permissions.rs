//! The agent's RBAC, held against the API server's audit log.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use credlet_tests::fake_aws::issued_to;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::agent::Rig;
use crate::control_plane::{ControlPlane, Settings};
use crate::events::Desk;
use crate::follower::{Follower, PATIENCE};
use crate::manifests;
use crate::place::Place;
use crate::requests::{request, requester};

/// Of the pod.
const ADDRESS: &str = "127.0.1.1";

/// Of one without a role.
const LONE: &str = "127.0.1.2";

/// What RBAC can allow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Permission {
    verb: String,
    /// `resource.group`, or the path of what is no resource.
    object: String,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.object)
    }
}

/// One request of the agent's.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    object_ref: Option<Object>,
    response_status: Option<Status>,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    resource: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    api_group: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Status {
    code: u16,
}

impl Event {
    fn permission(&self) -> Permission {
        let object = if let Some(of) = &self.object_ref {
            let resource = format!("{}/{}", of.resource, of.subresource);
            object(&of.api_group, resource.trim_end_matches('/'))
        } else {
            let path = self.request_uri.split('?').next();
            path.expect("split yields at least one").to_owned()
        };
        Permission {
            verb: self.verb.clone(),
            object,
        }
    }

    fn is_refused(&self) -> bool {
        let decision = self.annotations.get("authorization.k8s.io/decision");
        let code = self.response_status.as_ref().map(|status| status.code);
        decision.is_none_or(|decision| decision != "allow") || matches!(code, Some(401 | 403))
    }
}

/// Where the cluster's public keys are published.
const DISCOVERY: [&str; 2] = ["/.well-known/openid-configuration", "/openid/v1/jwks"];

#[tokio::test]
async fn the_agent_is_refused_nothing_and_may_nothing_that_it_does_not_do() {
    let cluster = Arc::new(ControlPlane::start(Settings::default()).await);
    let place = Place::on(Arc::clone(&cluster)).await;
    let uid = place.add_pod("cart-0").await;
    place.runs_at("cart-0", &[ADDRESS]).await;
    let token = place.token("cart-0").await;

    let rig = Rig::serve(&place).await;
    for token in [None, Some(&*token)] {
        let answer = rig.get(ADDRESS, token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let whose = issued_to(&answer.field("AccessKeyId"));
        assert_eq!(whose, Some(format!("{}/cart", place.namespace)));
    }
    // An account that no source before the annotations knows.
    let lone = json!({"nodeName": place.node, "serviceAccountName": "default"});
    place.add_pod_as("lone-0", lone).await;
    place.runs_at("lone-0", &[LONE]).await;
    let answer = rig.get(LONE, None).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.text());
    let follower = Follower::of(&place.node, place.agent().await).await;
    follower.moved_to(ADDRESS, 7);
    let answer = follower.by_link(7, ADDRESS, PATIENCE).await;
    assert_eq!(answer, Ok(uid.clone()));
    let desk = Desk::about(&place, "cart-0", &uid).await;
    desk.tell();
    desk.tell();
    desk.until(1, Some(2)).await;
    let mut allowed = granted(manifests::PLAIN);
    until_used(&cluster, &allowed).await;
    rig.leave().await;
    let refused = refused(&cluster);
    assert!(refused.is_empty(), "{refused:#?}");

    // A service account that may not read the keys may ask about each token.
    manifests::forbid_discovery(&place.admin).await;
    for component in [manifests::TOKEN_REVIEW, manifests::REQUEST_TOKENS] {
        manifests::apply(&place.admin, component).await;
        allowed.extend(granted(component));
    }
    let follower = requester(&place).await;
    assert_eq!(follower.shown(&token, ADDRESS).await, Ok(uid));
    let requested = request(&follower, &place, "sts.amazonaws.com").await;
    assert!(requested.is_ok(), "{:?}", requested.err());
    until_used(&cluster, &allowed).await;
    // The API server lets every service account do a few things more.
    let all = events(&cluster);
    let beyond: BTreeSet<_> = all.iter().map(Event::permission).collect();
    let beyond: Vec<_> = beyond.difference(&allowed).collect();
    assert!(beyond.is_empty(), "done without being granted: {beyond:?}");
    let refused = self::refused(&cluster);
    let is_discovery = |used: &Permission| DISCOVERY.contains(&&*used.object);
    assert!(refused.iter().all(is_discovery), "{refused:#?}");
}

fn refused(cluster: &ControlPlane) -> Vec<Permission> {
    let events = events(cluster).into_iter();
    let refused = events.filter(Event::is_refused);
    refused.map(|event| event.permission()).collect()
}

/// Returns when the agent has done all of it.
pub(crate) async fn until_used(cluster: &ControlPlane, granted: &BTreeSet<Permission>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let used: BTreeSet<_> = events(cluster).iter().map(Event::permission).collect();
        let unused: Vec<String> = granted.difference(&used).map(ToString::to_string).collect();
        if unused.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "granted, never used: {unused:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn events(cluster: &ControlPlane) -> Vec<Event> {
    let log = cluster.audit_log();
    // The last line may be half written.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let events = whole.lines().map(serde_json::from_str);
    events
        .collect::<Result<_, _>>()
        .expect("an audit event a line")
}

/// What the roles in a folder allow.
pub(crate) fn granted(folder: &str) -> BTreeSet<Permission> {
    let mut granted = BTreeSet::new();
    for rule in manifests::rules(folder) {
        let list = |name: &str| -> Vec<String> {
            let list = rule[name].as_array().into_iter().flatten();
            let texts = list.map(|text| text.as_str().expect("a text").to_owned());
            texts.collect()
        };
        let mut objects = list("nonResourceURLs");
        for group in list("apiGroups") {
            objects.extend(
                list("resources")
                    .iter()
                    .map(|resource| object(&group, resource)),
            );
        }
        for verb in list("verbs") {
            let all = objects.iter().cloned();
            granted.extend(all.map(|object| Permission {
                verb: verb.clone(),
                object,
            }));
        }
        assert!(
            is_plain(&rule),
            "nobody can tell how much this allows: {rule}"
        );
    }
    assert!(!granted.is_empty(), "{folder} grants nothing");
    granted
}

/// Whether a rule names all that it allows.
fn is_plain(rule: &Value) -> bool {
    !rule.to_string().contains('*') && rule["resourceNames"].is_null()
}

fn object(group: &str, resource: &str) -> String {
    [resource, group].join(".").trim_end_matches('.').to_owned()
}
