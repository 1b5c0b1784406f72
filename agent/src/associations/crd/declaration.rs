//! One declaration, taken as it comes: what is wrong in it is wrong for the
//! accounts that it names, and fails no list.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::status::Said;
use crate::apiserver::{Named, Object};
use crate::associations::spec::{Defaults, Spec};
use crate::model::{Association, Glob};

/// What is kept of such an object.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Value")]
pub struct Declaration {
    /// Its name.
    pub name: String,
    /// `metadata.creationTimestamp`, whose text sorts by time.
    pub created: String,
    /// `spec.serviceAccount`, or why it names none.
    pub accounts: Result<Glob, String>,
    /// `spec.namespace`; of the cluster's kind only.
    pub namespaces: Result<Option<Glob>, String>,
    /// `spec.namespaceSelector`; of the cluster's kind only.
    pub labels: Option<Selector>,
    /// What the accounts get, or why nothing.
    pub spec: Result<Spec, String>,
    /// `metadata.generation`: counts the changes of the specification.
    pub(super) generation: i64,
    /// What its status says already.
    pub(super) said: Option<Said>,
    pub(super) version: String,
}

/// A label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Selector {
    match_labels: BTreeMap<String, String>,
    match_expressions: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Requirement {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Whether these labels are selected, by all of the selector.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let wanted = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        let fits = |it: &Requirement| {
            let value = labels.get(&it.key);
            let listed = value.is_some_and(|value| it.values.contains(value));
            match it.operator {
                Operator::In => listed,
                Operator::NotIn => !listed,
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        };
        self.match_labels.iter().all(wanted) && self.match_expressions.iter().all(fits)
    }
}

impl From<Value> for Declaration {
    fn from(mut object: Value) -> Self {
        let mut fields = match object["spec"].take() {
            Value::Object(fields) => fields,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Map::new(),
        };
        let accounts = match fields.remove("serviceAccount") {
            Some(Value::String(text)) => glob("serviceAccount", &text),
            Some(_) | None => Err("serviceAccount is missing, or no text".to_owned()),
        };
        let mut namespaces = match fields.remove("namespace") {
            None => Ok(None),
            Some(Value::String(text)) => glob("namespace", &text).map(Some),
            Some(_) => Err("namespace is no text".to_owned()),
        };
        let labels = fields.remove("namespaceSelector");
        let labels = labels.map(serde_json::from_value::<Selector>).transpose();
        let labels = labels.unwrap_or_else(|error| {
            namespaces = Err(format!("namespaceSelector: {error}"));
            None
        });
        let spec = serde_json::from_value(Value::Object(fields)).map_err(|it| it.to_string());
        let metadata = &object["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        Self {
            name: text("name"),
            created: text("creationTimestamp"),
            accounts,
            namespaces,
            labels,
            spec,
            generation: metadata["generation"].as_i64().unwrap_or_default(),
            said: Said::read(&object["status"]),
            version: text("resourceVersion"),
        }
    }
}

impl Declaration {
    /// By what the oldest is found: since when it is there, and then its name.
    pub fn since(&self) -> (&str, &str) {
        (&self.created, &self.name)
    }

    /// What is declared, or why it cannot be used.
    pub fn association(&self, defaults: &Defaults) -> Result<Association, String> {
        let spec = self.spec.clone()?;
        spec.accept(defaults).map_err(|it| it.to_string())
    }
}

impl Object for Declaration {
    fn version(&self) -> &str {
        &self.version
    }
}

impl Named for Declaration {
    fn name(&self) -> &str {
        &self.name
    }
}

fn glob(field: &str, text: &str) -> Result<Glob, String> {
    text.parse().map_err(|why| format!("{field}: {why}"))
}
