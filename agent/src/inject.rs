//! What AWS SDKs in a pod must find in its specification: whether a pod gets it,
//! which of two kinds, and what it lacks of that.
//!
//! Names, paths and annotations are those of EKS's own webhook
//! (`aws/amazon-eks-pod-identity-webhook`), so that whoever looks for them finds
//! them; so is what happens where nothing else is said.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::config::{Annotated, Injection as Wanted};
use crate::model::{Association, Means, StsEndpoints};

mod patch;
#[cfg(test)]
mod tests;

pub use patch::{Add, apply};

/// A pod with this label, whatever its value, gets nothing.
pub const SKIP: &str = "eks.amazonaws.com/skip-pod-identity-webhook";

/// The annotation of an account that says that the agent serves it, and how.
const EXCHANGE: &str = "credlet.dev/exchange";

/// The kubelet's own image of a pod that it runs without the API server.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The lifetimes of tokens that the API server takes begin here, in seconds.
const SHORTEST_TOKEN: u32 = 600;

/// The lifetime that EKS's webhook spreads, so that not all tokens end at once,
/// and by how much, in seconds.
const SPREAD_TOKEN: u32 = 86400;
const SPREAD: u32 = 7200;

/// What holds for all pods.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent's door.
    pub uri: String,
    /// The audience of the tokens that the agent is shown, where no exchange
    /// needs another.
    pub audience: String,
    /// The audience of the tokens that STS is shown.
    pub web_identity_audience: String,
    /// The region, if it is known.
    pub region: Option<String>,
    /// Which STS endpoint the SDKs are to ask.
    pub endpoints: StsEndpoints,
    /// How long tokens live, in seconds.
    pub token_seconds: u32,
    /// What the annotations of accounts and pods begin with, without the slash.
    pub prefix: String,
    /// Who serves annotated accounts.
    pub annotated: Annotated,
}

/// What is declared for the pod's account, other than by annotations.
#[derive(Clone, Copy, Debug)]
pub enum Declared<'a> {
    /// Nothing.
    Nothing,
    /// This.
    Is(&'a Association),
    /// Something that the agent refuses: it tells the pod why, so the pod is to ask.
    Unusable,
}

/// By how much a token's lifetime falls short of the usual, where that is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread(u32);

/// By what the SDKs are to have credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Environment {
    /// They ask the agent, and show it a token.
    PodIdentity {
        /// The agent's door.
        uri: String,
        /// Whom the token is for.
        audience: String,
    },
    /// They ask STS for this role, and show it a token.
    WebIdentity {
        /// The role, as it is written: what is wrong with it is for STS to say,
        /// since a pod that got nothing would use the node's role.
        role: String,
        /// Whom the token is for.
        audience: String,
    },
}

/// What a pod is to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// By what the SDKs are to have credentials.
    pub environment: Environment,
    /// The region, if it is known.
    pub region: Option<String>,
    /// Said to the SDKs only where it is the region's own, as on EKS.
    pub endpoints: StsEndpoints,
    /// How long the token lives, in seconds.
    pub token_seconds: u32,
    /// The names of the containers that get nothing.
    pub skipped: Vec<String>,
}

/// Why a pod gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Left {
    /// It says so.
    #[error("the pod has the label {SKIP}")]
    Skipped,
    /// The API server refuses tokens in it.
    #[error("a static pod has no service account")]
    Static,
    /// Nothing is declared for its account, and nothing annotated.
    #[error("its service account has neither an association nor a role in an annotation")]
    NoRole,
}

impl From<&Wanted> for Settings {
    fn from(wanted: &Wanted) -> Self {
        Self {
            uri: wanted.uri.clone(),
            audience: wanted.audience.clone(),
            web_identity_audience: wanted.web_identity_audience.clone(),
            region: wanted.region.clone(),
            endpoints: wanted.endpoints,
            token_seconds: wanted.token_seconds,
            prefix: wanted.prefix.clone(),
            annotated: wanted.annotated,
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodIdentity { audience, .. } => {
                write!(
                    f,
                    "the environment of Pod Identity, with a token for {audience}"
                )
            }
            Self::WebIdentity { role, .. } => write!(f, "the environment of IRSA, for {role}"),
        }
    }
}

impl Spread {
    /// All tokens live equally long.
    pub const NONE: Self = Self(0);

    /// From any number, of which all are equally likely.
    pub fn of(random: u32) -> Self {
        Self(random % (SPREAD + 1))
    }
}

impl Left {
    /// A bounded label for metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Static => "static",
            Self::NoRole => "no_role",
        }
    }
}

/// The name of the service account that a pod, or a template of pods, runs as.
pub fn account(pod: &Value) -> &str {
    let name = pod["spec"]["serviceAccountName"].as_str();
    let name = name.filter(|name| !name.is_empty());
    name.unwrap_or("default")
}

impl Settings {
    /// What a pod, or a template of pods, is to get, or why nothing. `annotations`
    /// are those of its service account.
    pub fn decide(
        &self,
        pod: &Value,
        annotations: &BTreeMap<String, String>,
        declared: Declared<'_>,
        spread: Spread,
    ) -> Result<Injection, Left> {
        let metadata = &pod["metadata"];
        if metadata["labels"].get(SKIP).is_some() {
            return Err(Left::Skipped);
        }
        if metadata["annotations"].get(MIRROR).is_some() {
            return Err(Left::Static);
        }
        let of_account = |what: &str| {
            let text = annotations.get(&self.key(what));
            text.map(|text| text.trim())
        };
        let environment = match declared {
            Declared::Is(association) => self.agent(of_association(association)),
            Declared::Unusable => self.agent(None),
            Declared::Nothing => self.annotated(annotations).ok_or(Left::NoRole)?,
        };
        let of_pod = |what: &str| metadata["annotations"][self.key(what)].as_str();
        let own = of_account("token-expiration").and_then(parse);
        let said = of_pod("token-expiration").and_then(parse).or(own);
        let seconds = said.unwrap_or(self.token_seconds).max(SHORTEST_TOKEN);
        let token_seconds = match environment {
            Environment::PodIdentity { .. } if seconds == SPREAD_TOKEN => seconds - spread.0,
            Environment::PodIdentity { .. } | Environment::WebIdentity { .. } => seconds,
        };
        let endpoints = of_account("sts-regional-endpoints").and_then(endpoints);
        Ok(Injection {
            environment,
            region: self.region.clone(),
            endpoints: endpoints.unwrap_or(self.endpoints),
            token_seconds,
            skipped: names(of_pod("skip-containers").unwrap_or_default()),
        })
    }

    /// What an account gets for its annotations alone.
    fn annotated(&self, annotations: &BTreeMap<String, String>) -> Option<Environment> {
        let get = |key: &str| {
            let text = annotations.get(key).map(|text| text.trim());
            text.filter(|text| !text.is_empty())
        };
        let role = get(&self.key("role-arn"));
        let audience = get(&self.key("audience")).unwrap_or(&self.web_identity_audience);
        let exchange = get(EXCHANGE);
        match (exchange, self.annotated) {
            (Some("eks-auth"), _) => Some(self.agent(None)),
            (Some("web-identity"), _) => role.map(|_| self.agent(Some(audience))),
            // Also what the agent does not know, and says so when asked.
            (Some(_), _) => role.map(|_| self.agent(None)),
            (None, Annotated::Agent) => role.map(|_| self.agent(Some(audience))),
            (None, Annotated::Sts) => role.map(|role| Environment::WebIdentity {
                role: role.to_owned(),
                audience: audience.to_owned(),
            }),
        }
    }

    fn agent(&self, audience: Option<&str>) -> Environment {
        Environment::PodIdentity {
            uri: self.uri.clone(),
            audience: audience.unwrap_or(&self.audience).to_owned(),
        }
    }

    fn key(&self, what: &str) -> String {
        format!("{}/{what}", self.prefix)
    }
}

/// The audience that the exchange of an association needs, if it needs one.
fn of_association(association: &Association) -> Option<&str> {
    match &association.grant()?.means {
        Means::Agent => None,
        Means::WebIdentity { audience } => Some(audience),
    }
}

/// What is no number counts as if it were not there, as with EKS's webhook.
fn parse(text: &str) -> Option<u32> {
    let number: i64 = text.trim().parse().ok()?;
    Some(u32::try_from(number.max(0)).unwrap_or(u32::MAX))
}

/// As Go reads a truth value, and so EKS's webhook.
fn endpoints(text: &str) -> Option<StsEndpoints> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(StsEndpoints::Regional),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(StsEndpoints::Legacy),
        _ => None,
    }
}

/// Parted by commas, perhaps in quotes.
fn names(text: &str) -> Vec<String> {
    let is_around = |letter: char| letter.is_whitespace() || letter == '"';
    let names = text.split(',').map(|name| name.trim_matches(is_around));
    let names = names.filter(|name| !name.is_empty());
    names.map(ToOwned::to_owned).collect()
}
