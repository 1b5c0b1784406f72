//! What the SDKs in each container find, and what they lack.

use serde::Serialize;
use serde_json::Value;

use super::candidates::{Candidate, Says};
use super::facts::Facts;
use crate::config::ImdsPods;
use crate::identity::{Caller, OptIn};
use crate::inject::{self, Add, Declared, Spread};
use crate::model::StsEndpoints;

/// Where the agent listens, beside its own addresses.
const PATH: &str = "/v1/credentials";

/// How EKS's webhook has tokens live, in seconds.
const TOKEN_SECONDS: u32 = 86400;

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) way: Way,
    /// Sources of variables that are not looked into: they may hold secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) unseen: Vec<String>,
    /// The variables and volumes that it would have to have, if it has no way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) lacks: Vec<String>,
}

/// Where the SDKs in a container get credentials from, by the first thing in its
/// environment that they look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub(super) enum Way {
    /// Keys in the environment.
    Keys,
    /// STS, for this role and a token of the pod's.
    Sts { role: String },
    /// credlet's agent, with or without a token.
    Agent { uri: String, token: Token },
    /// Somebody else.
    Elsewhere { uri: String },
    /// credlet's agent, as instance metadata.
    Metadata,
    /// Nothing is said: whatever is reached as instance metadata, or nobody.
    Nothing,
}

/// What token is shown to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Token {
    /// None.
    None,
    /// One for this audience; the empty one is the API server's.
    For { audience: String },
    /// One of which the pod does not say what it is for.
    Unclear,
}

impl Way {
    /// Whether the agent is asked.
    pub(super) fn leads_here(&self) -> bool {
        match self {
            Self::Agent { .. } | Self::Metadata => true,
            Self::Keys | Self::Sts { .. } | Self::Elsewhere { .. } | Self::Nothing => false,
        }
    }

    /// What is shown to the agent.
    pub(super) fn token(&self) -> &Token {
        match self {
            Self::Agent { token, .. } => token,
            Self::Keys
            | Self::Sts { .. }
            | Self::Elsewhere { .. }
            | Self::Metadata
            | Self::Nothing => &Token::None,
        }
    }
}

/// Each container, init containers first.
pub(super) fn containers(facts: &Facts, caller: &Caller, all: &[Candidate]) -> Vec<Container> {
    let lacks = lacks(facts, all);
    let mut found = Vec::new();
    for kind in ["initContainers", "containers"] {
        let list = facts.pod["spec"][kind].as_array().into_iter().flatten();
        for (at, container) in list.enumerate() {
            let way = way(facts, caller, container);
            let prefix = format!("/spec/{kind}/{at}/");
            let own = lacks.iter().filter(|add| add.path.starts_with(&prefix));
            let own = own.flat_map(names).collect();
            found.push(Container {
                name: text(&container["name"]).to_owned(),
                lacks: match way {
                    Way::Nothing => own,
                    Way::Keys
                    | Way::Sts { .. }
                    | Way::Agent { .. }
                    | Way::Elsewhere { .. }
                    | Way::Metadata => Vec::new(),
                },
                unseen: unseen(container),
                way,
            });
        }
    }
    found
}

/// Why nothing is injected into the pod, if so.
pub(super) fn left(facts: &Facts, all: &[Candidate]) -> Option<inject::Left> {
    decide(facts, all).err()
}

fn lacks(facts: &Facts, all: &[Candidate]) -> Vec<Add> {
    let injection = decide(facts, all);
    injection.map_or_else(|_| Vec::new(), |it| it.additions(&facts.pod))
}

fn decide(facts: &Facts, all: &[Candidate]) -> Result<inject::Injection, inject::Left> {
    let config = &facts.config;
    let host = config.bind_hosts.first().expect("a configuration has one");
    let at = std::net::SocketAddr::new(*host, config.port);
    let settings = inject::Settings {
        uri: match config.port {
            80 if host.is_ipv4() => format!("http://{host}{PATH}"),
            80 => format!("http://[{host}]{PATH}"),
            _ => format!("http://{at}{PATH}"),
        },
        audience: config.token_audiences[0].clone(),
        web_identity_audience: config.web_identity_audience.clone(),
        region: None,
        endpoints: StsEndpoints::Legacy,
        token_seconds: TOKEN_SECONDS,
        prefix: config.annotation_prefix.clone(),
        annotated: facts.annotated,
    };
    let none = std::collections::BTreeMap::new();
    let account = facts.account.as_ref().ok().and_then(Option::as_ref);
    let annotations = account.map_or(&none, |meta| &meta.annotations);
    let declared = all.iter().find(|it| it.source != "annotation");
    let declared = match declared.map(|it| &it.says) {
        None => Declared::Nothing,
        Some(Says::Is(association)) => Declared::Is(association),
        Some(Says::Refused(_) | Says::Failing(_) | Says::Unseen(_)) => Declared::Unusable,
    };
    settings.decide(&facts.pod, annotations, declared, Spread::NONE)
}

/// What an addition to a container adds, by name.
fn names(add: &Add) -> Vec<String> {
    let one = |value: &Value| {
        let name = text(&value["name"]);
        match value["mountPath"].as_str() {
            Some(path) => format!("the volume {name} at {path}"),
            None => name.to_owned(),
        }
    };
    match &add.value {
        Value::Array(items) => items.iter().map(one).collect(),
        item @ (Value::Object(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)) => vec![one(item)],
    }
}

fn way(facts: &Facts, caller: &Caller, container: &Value) -> Way {
    let get = |name: &str| variable(container, name);
    let has = |name: &str| get(name).is_some();
    if has("AWS_ACCESS_KEY_ID") && has("AWS_SECRET_ACCESS_KEY") {
        return Way::Keys;
    }
    if let Some(role) = get("AWS_ROLE_ARN").filter(|_| has("AWS_WEB_IDENTITY_TOKEN_FILE")) {
        return Way::Sts {
            role: role.to_owned(),
        };
    }
    if let Some(path) = get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return Way::Elsewhere {
            uri: format!("http://169.254.170.2{path}"),
        };
    }
    if let Some(uri) = get("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        let uri = uri.to_owned();
        return if is_ours(facts, &uri) {
            let token = token(&facts.pod, container);
            Way::Agent { uri, token }
        } else {
            Way::Elsewhere { uri }
        };
    }
    let is_let = match facts.config.imds.pods {
        ImdsPods::All => true,
        ImdsPods::OptedIn => caller.imds() == OptIn::In,
    };
    if is_let && !facts.config.imds_hosts.is_empty() {
        return Way::Metadata;
    }
    Way::Nothing
}

/// `http`, one of the agent's own addresses and its port, and the one path.
fn is_ours(facts: &Facts, uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("http://") else {
        return false;
    };
    let Some(host) = rest.strip_suffix(PATH) else {
        return false;
    };
    let config = &facts.config;
    let hosts = config.bind_hosts.iter();
    let mut ours = hosts.map(|host| std::net::SocketAddr::new(*host, config.port).to_string());
    let with_port = if host.ends_with(']') || !host.contains(':') {
        format!("{host}:80")
    } else {
        host.to_owned()
    };
    ours.any(|it| it == with_port)
}

/// The value of a variable that is set; of one that comes from elsewhere, where from.
fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let mut all = container["env"].as_array().into_iter().flatten().rev();
    let set = all.find(|it| it["name"] == name)?;
    match (set["value"].as_str(), &set["valueFrom"]) {
        (Some(""), _) | (None, Value::Null) => None,
        (Some(value), _) => Some(value),
        (None, _) => Some("(from elsewhere)"),
    }
}

fn unseen(container: &Value) -> Vec<String> {
    let all = container["envFrom"].as_array().into_iter().flatten();
    let of = |from: &Value| {
        let kinds = [("configMapRef", "ConfigMap"), ("secretRef", "Secret")];
        let found = kinds.iter().find(|(key, _)| from[*key].is_object())?;
        Some(format!("{} {}", found.1, text(&from[found.0]["name"])))
    };
    all.filter_map(of).collect()
}

/// Whose file it is that the SDK reads a token from.
fn token(pod: &Value, container: &Value) -> Token {
    if variable(container, "AWS_CONTAINER_AUTHORIZATION_TOKEN").is_some() {
        return Token::Unclear;
    }
    let Some(file) = variable(container, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") else {
        return Token::None;
    };
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    let below = |mount: &Value| {
        let rest = file.strip_prefix(text(&mount["mountPath"]).trim_end_matches('/'))?;
        let rest = rest.strip_prefix('/')?.to_owned();
        Some((text(&mount["name"]).to_owned(), rest))
    };
    // The deepest mount hides those above it.
    let found = mounts.filter_map(below).min_by_key(|(_, rest)| rest.len());
    let Some((volume, path)) = found else {
        return Token::Unclear;
    };
    let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let volume = volumes.find(|it| it["name"] == *volume);
    let sources = volume.map(|it| &it["projected"]["sources"]);
    let mut sources = sources.and_then(Value::as_array).into_iter().flatten();
    let source = sources.find(|it| it["serviceAccountToken"]["path"] == *path);
    source.map_or(Token::Unclear, |it| Token::For {
        audience: text(&it["serviceAccountToken"]["audience"]).to_owned(),
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
