//! What AWS SDKs in a pod must find in its specification, as a JSON patch that
//! adds what is missing and changes nothing that is there.
//!
//! Names and paths are those of EKS's own webhook
//! (`aws/amazon-eks-pod-identity-webhook`), so that whoever looks for them finds them.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Value, json};

use crate::model::{RoleArn, StsEndpoints};

#[cfg(test)]
mod tests;

/// A pod with this label, whatever its value, gets nothing.
const SKIP: &str = "eks.amazonaws.com/skip-pod-identity-webhook";

/// The lifetimes of tokens that the API server takes begin here, in seconds.
const SHORTEST_TOKEN: u32 = 600;

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
        /// The role.
        role: RoleArn,
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
    /// How long the token lives unless the pod says it, in seconds. Whoever
    /// injects into many pods spreads it, so that not all tokens end at once.
    pub token_seconds: u32,
    /// What the pod's annotations begin with, without the slash.
    pub prefix: String,
}

/// One operation of a JSON patch (RFC 6902): always `add`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename = "add")]
pub struct Add {
    /// Where, as a JSON pointer.
    pub path: String,
    /// What.
    pub value: Value,
}

/// A token's volume.
struct Volume {
    name: &'static str,
    mount: &'static str,
    file: &'static str,
}

impl Environment {
    fn volume(&self) -> Volume {
        match self {
            Self::PodIdentity { .. } => Volume {
                name: "eks-pod-identity-token",
                mount: "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount",
                file: "eks-pod-identity-token",
            },
            Self::WebIdentity { .. } => Volume {
                name: "aws-iam-token",
                mount: "/var/run/secrets/eks.amazonaws.com/serviceaccount",
                file: "token",
            },
        }
    }

    fn audience(&self) -> &str {
        match self {
            Self::PodIdentity { audience, .. } | Self::WebIdentity { audience, .. } => audience,
        }
    }

    /// Two variables of which a container has both from here, or none.
    fn pair<'a>(&'a self, token_file: &'a str) -> [(&'static str, &'a str); 2] {
        match self {
            Self::PodIdentity { uri, .. } => [
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token_file),
            ],
            Self::WebIdentity { role, .. } => [
                ("AWS_ROLE_ARN", role.as_str()),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", token_file),
            ],
        }
    }
}

impl Injection {
    /// What a pod, or a template of pods, lacks; nothing if it has it all.
    pub fn additions(&self, pod: &Value) -> Vec<Add> {
        let mut adds = Vec::new();
        if pod["metadata"]["labels"].get(SKIP).is_some() {
            return adds;
        }
        let volume = self.environment.volume();
        if !named(&pod["spec"]["volumes"], "name", volume.name) {
            let token = json!({"serviceAccountToken": {
                "audience": self.environment.audience(),
                "expirationSeconds": self.token_seconds(pod),
                "path": volume.file,
            }});
            let whole = json!({"name": volume.name, "projected": {"sources": [token]}});
            append(&mut adds, "/spec/volumes", &pod["spec"]["volumes"], [whole]);
        }
        let token_file = token_file(pod, &volume);
        let skipped = self.skipped(pod);
        for kind in ["initContainers", "containers"] {
            let containers = pod["spec"][kind].as_array();
            for (at, container) in containers.into_iter().flatten().enumerate() {
                let name = container["name"].as_str().unwrap_or_default();
                if !skipped.contains(name) {
                    let path = format!("/spec/{kind}/{at}");
                    self.fill(&mut adds, &path, container, &volume, &token_file);
                }
            }
        }
        adds
    }

    fn fill(&self, adds: &mut Vec<Add>, path: &str, it: &Value, volume: &Volume, file: &str) {
        let env = &it["env"];
        let lacks = |names: &[&str]| names.iter().all(|name| !named(env, "name", name));
        let mut wanted = Vec::new();
        match self.endpoints {
            StsEndpoints::Regional if lacks(&["AWS_STS_REGIONAL_ENDPOINTS"]) => {
                wanted.push(("AWS_STS_REGIONAL_ENDPOINTS", "regional"));
            }
            StsEndpoints::Regional | StsEndpoints::Legacy => {}
        }
        let regions = ["AWS_DEFAULT_REGION", "AWS_REGION"];
        if let Some(region) = self.region.as_deref().filter(|_| lacks(&regions)) {
            wanted.extend(regions.map(|name| (name, region)));
        }
        let mounts = &it["volumeMounts"];
        let is_mounted = named(mounts, "name", volume.name);
        // The API server refuses two mounts at one path.
        let is_taken = mounts.as_array().into_iter().flatten().any(|mount| {
            let path = mount["mountPath"].as_str().unwrap_or_default();
            path.trim_end_matches('/') == volume.mount
        });
        let pair = self.environment.pair(file);
        if lacks(&pair.map(|(name, _)| name)) && (is_mounted || !is_taken) {
            wanted.extend(pair);
        }
        let variables = wanted.into_iter();
        let variables = variables.map(|(name, value)| json!({"name": name, "value": value}));
        append(adds, &format!("{path}/env"), env, variables);
        if !is_mounted && !is_taken {
            let mount = json!({"name": volume.name, "mountPath": volume.mount, "readOnly": true});
            append(adds, &format!("{path}/volumeMounts"), mounts, [mount]);
        }
    }

    /// The pod's own word counts, if it is a number.
    fn token_seconds(&self, pod: &Value) -> u32 {
        let own = self.annotation(pod, "token-expiration");
        let own = own.and_then(|text| text.trim().parse().ok());
        own.unwrap_or(self.token_seconds).max(SHORTEST_TOKEN)
    }

    fn skipped<'a>(&self, pod: &'a Value) -> HashSet<&'a str> {
        let names = self.annotation(pod, "skip-containers").unwrap_or_default();
        let is_around = |letter: char| letter.is_whitespace() || letter == '"';
        let names = names.split(',').map(|name| name.trim_matches(is_around));
        names.filter(|name| !name.is_empty()).collect()
    }

    fn annotation<'a>(&self, pod: &'a Value, what: &str) -> Option<&'a str> {
        pod["metadata"]["annotations"][format!("{}/{what}", self.prefix)].as_str()
    }
}

/// As the containers of the pod's operating system write paths.
fn token_file(pod: &Value, volume: &Volume) -> String {
    let path = format!("{}/{}", volume.mount, volume.file);
    let selector = &pod["spec"]["nodeSelector"];
    let keys = ["kubernetes.io/os", "beta.kubernetes.io/os"];
    let is_windows = keys.iter().any(|key| selector[*key] == "windows");
    if is_windows || pod["spec"]["os"]["name"] == "windows" {
        return format!("C:{}", path.replace('/', "\\"));
    }
    path
}

fn named(list: &Value, field: &str, name: &str) -> bool {
    let mut items = list.as_array().into_iter().flatten();
    items.any(|item| item[field] == name)
}

/// One operation an item, or one for all where there is no list yet.
fn append(adds: &mut Vec<Add>, path: &str, list: &Value, items: impl IntoIterator<Item = Value>) {
    let items: Vec<Value> = items.into_iter().collect();
    if items.is_empty() {
        return;
    }
    if list.is_array() {
        adds.extend(items.into_iter().map(|value| Add {
            path: format!("{path}/-"),
            value,
        }));
    } else {
        adds.push(Add {
            path: path.to_owned(),
            value: items.into(),
        });
    }
}

/// Does to `pod` what the API server would do with the patch.
///
/// # Panics
/// If the patch is not for this pod.
pub fn apply(pod: &mut Value, adds: Vec<Add>) {
    for Add { path, value } in adds {
        let (parent, last) = path.rsplit_once('/').expect("a pointer has a slash");
        let parent = pod.pointer_mut(parent).expect("made for this pod");
        match parent {
            Value::Array(items) => items.push(value),
            other => other[last] = value,
        }
    }
}
