//! What a pod lacks of what it is to get, as a JSON patch that adds it and changes
//! nothing that is there.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Environment, Injection};
use crate::model::StsEndpoints;

/// What EKS's webhook labels pods with that ask the agent.
const LABEL: (&str, &str) = ("eks.amazonaws.com/pod-identity", "enabled");

/// By what a container has credentials of its own.
const CREDENTIALS: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
];

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
                ("AWS_ROLE_ARN", role),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", token_file),
            ],
        }
    }
}

impl Injection {
    /// What the pod, or a template of pods, lacks; nothing if it has it all.
    pub fn additions(&self, pod: &Value) -> Vec<Add> {
        let mut adds = Vec::new();
        match self.environment {
            Environment::PodIdentity { .. } => label(&mut adds, &pod["metadata"]),
            Environment::WebIdentity { .. } => {}
        }
        let volume = self.environment.volume();
        if !named(&pod["spec"]["volumes"], volume.name) {
            let token = json!({"serviceAccountToken": {
                "audience": self.environment.audience(),
                "expirationSeconds": self.token_seconds,
                "path": volume.file,
            }});
            let whole = json!({"name": volume.name, "projected": {"sources": [token]}});
            append(&mut adds, "/spec/volumes", &pod["spec"]["volumes"], [whole]);
        }
        let token_file = token_file(pod, &volume);
        for (path, container) in self.containers(pod) {
            self.fill(&mut adds, &path, container, &volume, &token_file);
        }
        adds
    }

    /// The containers that find no credentials in their environment, by name: the
    /// SDKs in them go on to the node's role. None once the pod has been injected.
    pub fn bare<'a>(&'a self, pod: &'a Value) -> impl Iterator<Item = &'a str> {
        let containers = self.containers(pod).map(|(_, container)| container);
        let is_bare = |container: &&Value| lacks(&container["env"], &CREDENTIALS);
        let bare = containers.filter(is_bare);
        bare.map(|container| container["name"].as_str().unwrap_or_default())
    }

    /// Those that are not to be skipped, and where they are.
    fn containers<'a>(&'a self, pod: &'a Value) -> impl Iterator<Item = (String, &'a Value)> {
        let kinds = ["initContainers", "containers"].into_iter();
        let all = kinds.flat_map(|kind| {
            let containers = pod["spec"][kind].as_array().into_iter().flatten();
            let placed = containers.enumerate();
            placed.map(move |(at, container)| (format!("/spec/{kind}/{at}"), container))
        });
        all.filter(|(_, container)| !self.skipped.iter().any(|name| container["name"] == **name))
    }

    fn fill(&self, adds: &mut Vec<Add>, path: &str, it: &Value, volume: &Volume, file: &str) {
        let env = &it["env"];
        let mut wanted = Vec::new();
        match self.endpoints {
            StsEndpoints::Regional if lacks(env, &["AWS_STS_REGIONAL_ENDPOINTS"]) => {
                wanted.push(("AWS_STS_REGIONAL_ENDPOINTS", "regional"));
            }
            StsEndpoints::Regional | StsEndpoints::Legacy => {}
        }
        let regions = ["AWS_DEFAULT_REGION", "AWS_REGION"];
        if let Some(region) = self.region.as_deref().filter(|_| lacks(env, &regions)) {
            wanted.extend(regions.map(|name| (name, region)));
        }
        let mounts = &it["volumeMounts"];
        let is_mounted = named(mounts, volume.name);
        // The API server refuses two mounts at one path.
        let is_taken = mounts.as_array().into_iter().flatten().any(|mount| {
            let path = mount["mountPath"].as_str().unwrap_or_default();
            path.trim_end_matches('/') == volume.mount
        });
        let pair = self.environment.pair(file);
        if lacks(env, &pair.map(|(name, _)| name)) && (is_mounted || !is_taken) {
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
}

fn label(adds: &mut Vec<Add>, metadata: &Value) {
    let (key, value) = LABEL;
    let add = match metadata {
        Value::Object(fields) => match fields.get("labels") {
            Some(Value::Object(labels)) if labels.contains_key(key) => return,
            Some(Value::Object(_)) => Add {
                path: format!("/metadata/labels/{}", key.replace('/', "~1")),
                value: value.into(),
            },
            Some(_) | None => Add {
                path: "/metadata/labels".to_owned(),
                value: json!({key: value}),
            },
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Add {
                path: "/metadata".to_owned(),
                value: json!({"labels": {key: value}}),
            }
        }
    };
    adds.push(add);
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

fn named(list: &Value, name: &str) -> bool {
    let mut items = list.as_array().into_iter().flatten();
    items.any(|item| item["name"] == name)
}

fn lacks(env: &Value, names: &[&str]) -> bool {
    names.iter().all(|name| !named(env, name))
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
            other => other[last.replace("~1", "/")] = value,
        }
    }
}
