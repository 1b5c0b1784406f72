//! The custom resource definitions, as `manifests/crd.yaml` has them.
//!
//! What an association may be is decided by the agent's own types
//! (`associations::spec`); here it is said to the API server, so that whoever
//! writes a bad one hears of it at once. Tests hold the two to each other.

use credlet::associations::crd::{CLUSTER, GROUP, NAMESPACED, VERSION};
use serde_json::{Value, json};

/// In every partition that there is or will be.
const ROLE: &str = "^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9/+=,.@_-]*[A-Za-z0-9+=,.@_-]$";

/// Both definitions.
pub fn definitions() -> [Value; 2] {
    let shared = ["PodIdentityAssociation", "podidentityassociation"];
    let cluster = [
        "ClusterPodIdentityAssociation",
        "clusterpodidentityassociation",
    ];
    [
        definition(shared, NAMESPACED, "pia", "Namespaced", &namespaced()),
        definition(cluster, CLUSTER, "cpia", "Cluster", &of_the_cluster()),
    ]
}

/// The properties of the namespaced kind's `spec`.
pub fn properties() -> Value {
    json!({
        "serviceAccount": {
            "type": "string",
            "description": "The service account, or a pattern of their names: * is any text.",
            "pattern": "^[a-z0-9.*-]+$",
            "maxLength": 253,
        },
        "roleArn": {
            "type": "string",
            "description": "The role.",
            "pattern": ROLE,
            "maxLength": 640,
        },
        "targetRoleArn": {
            "type": "string",
            "description": "A second role, assumed with the first one's credentials.",
            "pattern": ROLE,
            "maxLength": 640,
        },
        "externalId": {
            "type": "string",
            "description": "Sent to STS with the last assumption.",
            "pattern": "^[A-Za-z0-9_+=,.@:/-]*$",
            "minLength": 2,
            "maxLength": 1224,
        },
        "policy": {
            "type": "string",
            "description": "An IAM policy in JSON that narrows the session; only with disableSessionTags.",
            "maxLength": 2048,
        },
        "disableSessionTags": {
            "type": "boolean",
            "description": "Whether the session has no tags.",
        },
        "exchange": {
            "type": "string",
            "description": "How the role is had; without it as the agent's --exchange says.",
            "enum": ["assume-role", "web-identity", "eks-auth"],
        },
        "sessionName": {
            "type": "string",
            "description": "What the session is called, with the fields of the agent's --session-name.",
            "minLength": 1,
            "maxLength": 256,
        },
        "sessionTags": {
            "type": "object",
            "description": "Further session tags.",
            "additionalProperties": {"type": "string", "maxLength": 256},
            "maxProperties": 44,
        },
        "sessionDuration": {
            "type": "string",
            "description": "How long the session lives: 30m to 12h, with a targetRoleArn 1h at most.",
            "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
            "minLength": 2,
            "maxLength": 16,
        },
    })
}

fn rules() -> Vec<Value> {
    let rule = |rule: &str, message: &str| json!({"rule": rule, "message": message});
    vec![
        rule(
            "has(self.roleArn) || (has(self.exchange) && self.exchange == 'eks-auth')",
            "roleArn is required, except with the exchange eks-auth",
        ),
        rule(
            "!(has(self.exchange) && self.exchange == 'eks-auth') || \
             !(has(self.roleArn) || has(self.targetRoleArn) || has(self.externalId) || \
             has(self.policy) || has(self.disableSessionTags) || has(self.sessionName) || \
             has(self.sessionTags) || has(self.sessionDuration))",
            "with the exchange eks-auth EKS knows the role, so that nothing else may be set",
        ),
        rule(
            "!has(self.policy) || (has(self.disableSessionTags) && self.disableSessionTags)",
            "a policy requires disableSessionTags: true",
        ),
        rule(
            "!has(self.sessionTags) || !has(self.disableSessionTags) || !self.disableSessionTags",
            "sessionTags are set although disableSessionTags is true",
        ),
        rule(
            "!(has(self.exchange) && self.exchange == 'web-identity') || \
             has(self.targetRoleArn) || !(has(self.externalId) || has(self.sessionTags))",
            "web-identity takes externalId and sessionTags only with a targetRoleArn",
        ),
        rule(
            "!has(self.sessionDuration) || (duration(self.sessionDuration) >= duration('30m') && \
             duration(self.sessionDuration) <= duration(has(self.targetRoleArn) ? '1h' : '12h'))",
            "sessionDuration must be 30m to 12h, with a targetRoleArn 1h at most",
        ),
    ]
}

fn namespaced() -> Value {
    json!({
        "type": "object",
        "required": ["serviceAccount"],
        "properties": properties(),
        "x-kubernetes-validations": rules(),
    })
}

fn of_the_cluster() -> Value {
    let mut spec = namespaced();
    let labels = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let requirement = json!({
        "type": "object",
        "required": ["key", "operator"],
        "properties": {
            "key": {"type": "string"},
            "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
            "values": {"type": "array", "items": {"type": "string"}},
        },
    });
    spec["properties"]["namespace"] = json!({
        "type": "string",
        "description": "The namespace, or a pattern of their names: * is any text.",
        "pattern": "^[a-z0-9*-]+$",
        "maxLength": 63,
    });
    spec["properties"]["namespaceSelector"] = json!({
        "type": "object",
        "description": "Labels of the namespaces; with namespace, both must fit.",
        "properties": {
            "matchLabels": labels,
            "matchExpressions": {"type": "array", "items": requirement},
        },
    });
    let rules = spec["x-kubernetes-validations"].as_array_mut();
    rules.expect("a list").push(json!({
        "rule": "has(self.namespace) || has(self.namespaceSelector)",
        "message": "namespace or namespaceSelector is required",
    }));
    spec
}

fn definition(
    [kind, singular]: [&str; 2],
    plural: &str,
    short: &str,
    scope: &str,
    spec: &Value,
) -> Value {
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    let mut columns = vec![
        column("Account", ".spec.serviceAccount"),
        column("Role", ".spec.roleArn"),
        column("Target", ".spec.targetRoleArn"),
        column("Exchange", ".spec.exchange"),
        column(
            "Accepted",
            ".status.conditions[?(@.type==\"Accepted\")].status",
        ),
        json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}),
    ];
    if scope == "Cluster" {
        columns.insert(0, column("Namespace", ".spec.namespace"));
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": singular,
                "shortNames": [short],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": spec,
                        "status": status(),
                    },
                }},
                "subresources": {"status": {}},
            }],
        },
    })
}

/// What the agent says of an association, as Kubernetes has conditions.
fn status() -> Value {
    let text = |longest: u32| json!({"type": "string", "maxLength": longest});
    let condition = json!({
        "type": "object",
        "required": ["type", "status", "reason", "message", "lastTransitionTime"],
        "properties": {
            "type": text(316),
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": text(1024),
            "message": text(32768),
            "observedGeneration": {"type": "integer", "format": "int64"},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
        },
    });
    json!({
        "type": "object",
        "properties": {"conditions": {
            "type": "array",
            "description": "Accepted: True, or False by reason Superseded or Invalid.",
            "items": condition,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        }},
    })
}
