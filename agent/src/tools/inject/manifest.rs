//! Manifests as they are read, and the templates of pods in them.

use std::fmt;

use serde_json::Value;

use super::Error;

/// Where kinds keep their template of pods; that of a pod is the pod.
const TEMPLATES: [&str; 3] = [
    "/spec/template",
    "/spec/jobTemplate/spec/template",
    "/template",
];

/// Lists are not nested deeper than this.
const DEEPEST: usize = 8;

/// A file.
pub(super) struct Manifest {
    /// Its name.
    pub(super) origin: String,
    /// What is written.
    pub(super) text: String,
    /// What that says.
    pub(super) documents: Vec<Value>,
}

/// A pod, or a template of pods.
pub(super) struct Template<'a> {
    /// Whose it is.
    pub(super) kind: &'a str,
    /// As above.
    pub(super) name: &'a str,
    /// As above.
    pub(super) namespace: String,
    /// Where in its document.
    pub(super) path: String,
    /// The pod.
    pub(super) pod: &'a Value,
}

impl fmt::Display for Template<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            name,
            namespace,
            ..
        } = self;
        write!(f, "{kind} {namespace}/{name}")
    }
}

impl Manifest {
    pub(super) fn parse(origin: String, text: String) -> Result<Self, Error> {
        match documents(&text) {
            Ok(documents) => Ok(Self {
                origin,
                text,
                documents,
            }),
            Err(why) => Err(Error::Syntax { origin, why }),
        }
    }
}

/// What YAML or JSON says, one document after the other, as Kubernetes reads it.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, String> {
    // As in `defaultMode: 0644`; and errors without the lines around them, which
    // may hold a Secret's.
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    let documents = serde_saphyr::from_multiple_with_options(text, options);
    documents.map_err(|error| error.to_string())
}

/// The objects of a document: itself, or those that it lists.
pub(super) fn objects(document: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    collect(document, String::new(), 0, &mut found);
    found
}

fn collect<'a>(
    object: &'a Value,
    path: String,
    depth: usize,
    found: &mut Vec<(String, &'a Value)>,
) {
    let kind = object["kind"].as_str().unwrap_or_default();
    match object["items"].as_array() {
        Some(items) if kind.ends_with("List") && depth < DEEPEST => {
            for (item, at) in items.iter().zip(0..) {
                collect(item, format!("{path}/items/{at}"), depth + 1, found);
            }
        }
        Some(_) | None => found.push((path, object)),
    }
}

/// The pods and the templates of pods in a document.
pub(super) fn templates<'a>(document: &'a Value, namespace: &str) -> Vec<Template<'a>> {
    let mut templates = Vec::new();
    for (at, object) in objects(document) {
        let own = (object["kind"] == "Pod").then_some("");
        for place in own.into_iter().chain(TEMPLATES) {
            let pod = object.pointer(place);
            if let Some(pod) = pod.filter(|pod| pod["spec"]["containers"].is_array()) {
                let text = |field: &Value| {
                    field
                        .as_str()
                        .filter(|text| !text.is_empty())
                        .map(ToOwned::to_owned)
                };
                templates.push(Template {
                    kind: object["kind"].as_str().unwrap_or("object"),
                    name: object["metadata"]["name"].as_str().unwrap_or_default(),
                    namespace: text(&object["metadata"]["namespace"])
                        .unwrap_or_else(|| namespace.to_owned()),
                    path: format!("{at}{place}"),
                    pod,
                });
            }
        }
    }
    templates
}
