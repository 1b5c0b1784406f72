//! From facts to explanations.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::facts::{Facts, Here};
use super::{Explanation, Verdict, explain, report};
use crate::associations::file;
use crate::associations::spec::Defaults;
use crate::config::{Annotated, Config};
use crate::identity::pods::Report;
use crate::status::Asked;

mod counted;
mod found;
mod requests;

const ROLE: &str = "arn:aws:iam::111122223333:role/pods/cart";
const OTHER: &str = "arn:aws:iam::111122223333:role/pods/other";
const URI: &str = "http://169.254.170.23/v1/credentials";

/// A pod of `shop/cart` that runs on a node with a ready agent, and asks it with
/// a token for EKS's audience; nothing is declared for it.
#[derive(Clone)]
struct Case {
    pod: Value,
    account: Value,
    namespace: Value,
    local: Vec<Value>,
    cluster: Vec<Value>,
    file: Option<&'static str>,
    flags: Vec<String>,
    here: Here,
    asked: Option<Result<Asked, String>>,
}

impl Case {
    fn plain() -> Self {
        Self {
            pod: json!({
                "metadata": {"namespace": "shop", "name": "cart-0", "uid": "u-0", "labels": {}},
                "spec": {
                    "nodeName": "node-1",
                    "serviceAccountName": "cart",
                    "containers": [{"name": "app"}],
                },
                "status": {"phase": "Running", "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}]},
            }),
            account: json!({"metadata": {"name": "cart"}}),
            namespace: json!({"metadata": {"name": "shop"}}),
            local: Vec::new(),
            cluster: Vec::new(),
            file: None,
            flags: Vec::new(),
            here: Here::Ready("credlet-1".to_owned()),
            asked: None,
        }
    }

    /// As the webhook leaves a pod.
    fn injected() -> Self {
        Self::plain().showing("pods.eks.amazonaws.com")
    }

    fn showing(mut self, audience: &str) -> Self {
        let (path, mount) = ("token", "/var/run/secrets/aws");
        self.pod["spec"]["containers"][0] = json!({
            "name": "app",
            "env": [
                {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": URI},
                {
                    "name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                    "value": format!("{mount}/{path}"),
                },
            ],
            "volumeMounts": [{"name": "aws", "mountPath": mount}],
        });
        let token = json!({"serviceAccountToken": {"audience": audience, "path": path}});
        let volume = json!({"name": "aws", "projected": {"sources": [token]}});
        self.pod["spec"]["volumes"] = json!([volume]);
        self
    }

    fn annotated(mut self, key: &str, value: &str) -> Self {
        self.account["metadata"]["annotations"][key] = value.into();
        self
    }

    fn declared(mut self, name: &str, account: &str, role: &str) -> Self {
        let metadata = json!({"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"});
        let spec = json!({"serviceAccount": account, "roleArn": role});
        self.local.push(json!({"metadata": metadata, "spec": spec}));
        self
    }

    fn run(mut self, flags: &str) -> Self {
        self.flags
            .extend(flags.split_whitespace().map(str::to_owned));
        self
    }

    fn facts(&self) -> Facts {
        let config = Config::of_agent(&self.flags, &BTreeMap::new(), "node-1");
        let config = config.expect("a good configuration");
        let read = |list: &[Value]| {
            let read = list.iter().cloned().map(serde_json::from_value);
            read.collect::<Result<Vec<_>, _>>()
                .expect("any JSON is one")
        };
        let file = self.file.map(|text| {
            let table = file::parse(text, &Defaults::from(&config));
            table.map_err(|why| why.to_string())
        });
        Facts {
            report: Report::deserialize(&self.pod).expect("any JSON is one"),
            pod: self.pod.clone(),
            account: Ok(serde_json::from_value(self.account.clone()).expect("metadata")),
            namespace: Ok(serde_json::from_value(self.namespace.clone()).expect("metadata")),
            local: Ok(Some(read(&self.local))),
            cluster: Ok(Some(read(&self.cluster))),
            file,
            eks: None,
            here: self.here.clone(),
            config,
            assumed: None,
            annotated: Annotated::Sts,
            asked: self.asked.clone(),
        }
    }

    /// What is said of it: as text, as JSON, and whether it has credentials.
    fn said(&self) -> (String, Value, Verdict) {
        let facts = self.facts();
        let of: Explanation<'_> = explain(&facts).expect("the pod can be one");
        (report::text(&of), report::json(&of), of.answer())
    }

    fn json(&self) -> Value {
        self.said().1
    }
}
