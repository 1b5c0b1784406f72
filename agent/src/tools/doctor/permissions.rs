//! What the agent may do at the API server, by asking the API server.

use serde_json::{Value, json};

use super::api::{Api, Lack, text};
use super::finding::{Check, Finding};
use crate::config::{AssociationSource, Doctor, StatusReports, TokenRequests};

/// What the agent is called by `manifests/`.
const ACCOUNT: &str = "credlet";

/// What becomes of the agent without a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// It serves nobody, or not as it is set.
    Broken(&'static str),
    /// It does without.
    Poorer(&'static str),
}

/// One permission that the agent uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needed {
    pub(super) verb: &'static str,
    pub(super) what: What,
    pub(super) without: Without,
}

/// What a permission is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Resource {
        group: &'static str,
        /// With its subresource after a slash.
        resource: &'static str,
    },
    Path(&'static str),
}

/// Whose permissions were looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// This is the agent.
    Own,
    /// This asks about the agent.
    Agent(String),
}

/// What the API server says of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) whose: Whose,
    /// In the order of [`needed`].
    pub(super) allowed: Vec<(Needed, Result<bool, Lack>)>,
}

const PODS: Without = Without::Broken("the agent does not know the node's pods");
const SOURCES: Without =
    Without::Broken("the sources annotation and crd are off, or answer nobody");
const CRD: Without = Without::Broken("the source crd is off, or answers nobody");
const KEYS: Without =
    Without::Poorer("service account tokens can be verified only by the component token-review");
const EVENTS: Without = Without::Poorer("owners of pods are not told why they get no credentials");
const TOKENS: Without = Without::Broken("--request-tokens requests none");
const STATUSES: Without = Without::Poorer("statuses of associations are not written");

/// What an agent with these settings uses; `manifests/` gives it.
pub(super) fn needed(settings: &Doctor) -> Vec<Needed> {
    let mut all = Vec::new();
    let mut of = |group, resource, verbs: &[&'static str], without| {
        let what = What::Resource { group, resource };
        all.extend(verbs.iter().map(|&verb| Needed {
            verb,
            what,
            without,
        }));
    };
    of("", "pods", &["get", "list", "watch"], PODS);
    let is_crd = |source: &AssociationSource| matches!(source, AssociationSource::Crd(_));
    let is_noted = |source: &AssociationSource| {
        is_crd(source) || matches!(source, AssociationSource::Annotation(_))
    };
    if settings.sources.iter().any(is_noted) {
        of("", "namespaces", &["list", "watch"], SOURCES);
        of("", "serviceaccounts", &["list", "watch"], SOURCES);
    }
    if settings.sources.iter().any(is_crd) {
        let kinds = ["podidentityassociations", "clusterpodidentityassociations"];
        for kind in kinds {
            of("credlet.dev", kind, &["list", "watch"], CRD);
        }
        if settings.status_reports == StatusReports::On {
            of(
                "credlet.dev",
                "podidentityassociations/status",
                &["patch"],
                STATUSES,
            );
            let cluster = "clusterpodidentityassociations/status";
            of("credlet.dev", cluster, &["patch"], STATUSES);
        }
    }
    of("events.k8s.io", "events", &["create", "patch"], EVENTS);
    if settings.token_requests == TokenRequests::On {
        of("", "serviceaccounts/token", &["create"], TOKENS);
    }
    for path in ["/.well-known/openid-configuration", "/openid/v1/jwks"] {
        all.push(Needed {
            verb: "get",
            what: What::Path(path),
            without: KEYS,
        });
    }
    all
}

/// As the agent itself by `SelfSubjectAccessReview`; as anybody else about the
/// agent by `SubjectAccessReview`.
pub(super) async fn observe(api: &Api, settings: &Doctor) -> Result<Seen, Lack> {
    let agent = format!("system:serviceaccount:{}:{ACCOUNT}", settings.namespace);
    let me = whoami(api).await?;
    let whose = if me == agent {
        Whose::Own
    } else {
        Whose::Agent(agent)
    };
    let mut allowed = Vec::new();
    for needed in needed(settings) {
        let answer = may(api, &whose, &settings.namespace, &needed).await;
        if let (Whose::Agent(_), Err(lack)) = (&whose, &answer) {
            return Err(lack.clone());
        }
        allowed.push((needed, answer));
    }
    Ok(Seen { whose, allowed })
}

async fn whoami(api: &Api) -> Result<String, Lack> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    match api.create(path, &review).await {
        Ok(said) => Ok(text(&said.value, "/status/userInfo/username").to_owned()),
        // Before Kubernetes 1.28.
        Err(Lack::Absent) => Ok(String::new()),
        Err(lack) => Err(lack),
    }
}

async fn may(api: &Api, whose: &Whose, namespace: &str, needed: &Needed) -> Result<bool, Lack> {
    let mut spec = attributes(needed);
    let kind = match whose {
        Whose::Own => "SelfSubjectAccessReview",
        Whose::Agent(user) => {
            let group = format!("system:serviceaccounts:{namespace}");
            spec["user"] = json!(user);
            spec["groups"] = json!(["system:serviceaccounts", group, "system:authenticated"]);
            "SubjectAccessReview"
        }
    };
    let path = format!("/apis/authorization.k8s.io/v1/{}s", kind.to_lowercase());
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    let said = api.create(&path, &review).await?;
    Ok(said.value["status"]["allowed"] == Value::Bool(true))
}

fn attributes(needed: &Needed) -> Value {
    match needed.what {
        What::Path(path) => {
            json!({"nonResourceAttributes": {"path": path, "verb": needed.verb}})
        }
        What::Resource { group, resource } => {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            json!({"resourceAttributes": {
                "group": group,
                "resource": resource,
                "subresource": subresource,
                "verb": needed.verb,
            }})
        }
    }
}

pub(super) fn judge(seen: &Result<Seen, Lack>) -> Vec<Finding> {
    let seen = match seen {
        Ok(seen) => seen,
        Err(lack) => {
            return vec![Finding::skipped(
                Check::Permissions,
                format!("what the agent may do was not asked: {}", lack.why()),
                "ask as somebody who may create SubjectAccessReviews, or run this in the agent's \
                 pod: `kubectl -n credlet exec ds/credlet -- /credlet doctor`",
            )];
        }
    };
    let mut all = Vec::new();
    for (needed, allowed) in &seen.allowed {
        match allowed {
            Ok(true) => {}
            Ok(false) => all.push(missing(needed)),
            Err(lack) => {
                let says = format!(
                    "whether the agent may {needed} is not known: {}",
                    lack.why()
                );
                let remedy = "see what `api-server` says";
                all.push(Finding::warning(Check::Permissions, says, remedy));
            }
        }
    }
    if all.is_empty() {
        let count = seen.allowed.len();
        let says = format!("the agent may do all that it does: {count} permissions");
        all.push(Finding::ok(Check::Permissions, says));
    }
    all
}

fn missing(needed: &Needed) -> Finding {
    let file = match needed.without {
        TOKENS => "manifests/components/request-tokens",
        STATUSES => "manifests/components/association-status",
        PODS | SOURCES | CRD | KEYS | EVENTS | Without::Broken(_) | Without::Poorer(_) => {
            "manifests/rbac.yaml"
        }
    };
    let remedy = format!("apply the ClusterRole and its binding of {file}");
    match needed.without {
        Without::Broken(then) => {
            let says = format!("the agent may not {needed}: {then}");
            Finding::failure(Check::Permissions, says, remedy)
        }
        Without::Poorer(then) => {
            let says = format!("the agent may not {needed}: {then}");
            Finding::warning(Check::Permissions, says, remedy)
        }
    }
}

impl std::fmt::Display for Needed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let object = match self.what {
            What::Path(path) => path.to_owned(),
            What::Resource { group, resource } => {
                let whole = format!("{resource}.{group}");
                whole.trim_end_matches('.').to_owned()
            }
        };
        write!(f, "{} {object}", self.verb)
    }
}
