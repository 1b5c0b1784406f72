//! The webhook's own objects: the Secret that keeps certificates, and the
//! configuration that tells API servers whom to trust.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kube::core::Request;
use kube::core::params::{Patch, PatchParams};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::certificate::Issued;
use super::rotation::Kept;
use crate::apiserver::{Client, Object};
use crate::causes::causes;

const PATIENCE: Duration = Duration::from_secs(10);

/// The keys of the Secret, in triples: CA, certificate and its key.
const CURRENT: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];
const NEXT: [&str; 3] = ["next-ca.crt", "next-tls.crt", "next-tls.key"];
const LAST: &str = "last-ca.crt";

/// What is kept in the Secret, as it was at a version.
#[derive(Clone, Deserialize)]
#[serde(from = "Value")]
pub(super) struct Secret {
    /// What is kept.
    pub(super) kept: Kept,
    version: String,
}

/// Whom API servers are told to trust, as it was at a version.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Value")]
pub(super) struct Configuration {
    /// By the webhooks' names.
    bundles: BTreeMap<String, String>,
    version: String,
}

/// An object was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unwritten(String);

impl From<Value> for Secret {
    fn from(object: Value) -> Self {
        let get = |key: &str| {
            let text = object["data"][key].as_str()?;
            let text = BASE64_STANDARD.decode(text).ok()?;
            let text = String::from_utf8(text).ok()?;
            Some(text).filter(|text| !text.is_empty())
        };
        let issued = |[ca, certificate, key]: [&str; 3]| {
            Some(Issued {
                ca: get(ca)?,
                certificate: get(certificate)?,
                key: Zeroizing::new(get(key)?),
            })
        };
        Self {
            kept: Kept {
                current: issued(CURRENT),
                next: issued(NEXT),
                last: get(LAST),
            },
            version: version(&object),
        }
    }
}

impl Object for Secret {
    fn version(&self) -> &str {
        &self.version
    }
}

impl From<Value> for Configuration {
    fn from(object: Value) -> Self {
        let webhooks = object["webhooks"].as_array().into_iter().flatten();
        let bundle = |webhook: &Value| {
            let text = webhook["clientConfig"]["caBundle"].as_str()?;
            String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()
        };
        let named = |webhook: &Value| {
            let name = webhook["name"].as_str()?.to_owned();
            Some((name, bundle(webhook).unwrap_or_default()))
        };
        Self {
            bundles: webhooks.filter_map(named).collect(),
            version: version(&object),
        }
    }
}

impl Object for Configuration {
    fn version(&self) -> &str {
        &self.version
    }
}

impl Configuration {
    /// Whom all its webhooks are told to trust: nobody where they differ, `None`
    /// where there is no webhook.
    pub(super) fn trusted(&self) -> Option<&str> {
        let mut bundles = self.bundles.values();
        let first = bundles.next()?;
        Some(if bundles.all(|it| it == first) {
            first
        } else {
            ""
        })
    }

    /// Has all its webhooks be told to trust `bundle`, unless somebody else has
    /// changed it meanwhile.
    pub(super) async fn trust(
        &self,
        client: &Client,
        name: &str,
        bundle: &str,
    ) -> Result<(), Unwritten> {
        let bundle = BASE64_STANDARD.encode(bundle);
        let told = |name: &String| json!({"name": name, "clientConfig": {"caBundle": bundle}});
        let patch = json!({
            "metadata": {"resourceVersion": self.version},
            "webhooks": self.bundles.keys().map(told).collect::<Vec<_>>(),
        });
        let folder = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
        write(client, folder, name, &Patch::Strategic(patch)).await
    }
}

impl Secret {
    /// Keeps something else in the Secret, unless somebody else has changed it
    /// meanwhile. What else is in it stays.
    pub(super) async fn keep(
        &self,
        client: &Client,
        namespace: &str,
        name: &str,
        kept: &Kept,
    ) -> Result<(), Unwritten> {
        let mut data = Map::new();
        let mut put = |key: &str, text: Option<&str>| {
            let text = text.map(|text| BASE64_STANDARD.encode(text));
            data.insert(key.to_owned(), text.into());
        };
        for (keys, issued) in [(CURRENT, &kept.current), (NEXT, &kept.next)] {
            let issued = issued.as_ref();
            put(keys[0], issued.map(|it| &*it.ca));
            put(keys[1], issued.map(|it| &*it.certificate));
            put(keys[2], issued.map(|it| it.key.as_str()));
        }
        put(LAST, kept.last.as_deref());
        let patch = json!({"metadata": {"resourceVersion": self.version}, "data": data});
        let folder = format!("/api/v1/namespaces/{namespace}/secrets");
        write(client, &folder, name, &Patch::Merge(patch)).await
    }
}

async fn write(
    client: &Client,
    folder: &str,
    name: &str,
    patch: &Patch<Value>,
) -> Result<(), Unwritten> {
    let request = Request::new(folder).patch(name, &PatchParams::default(), patch);
    let request = request.expect("legal names fit a path");
    match timeout(PATIENCE, client.request_text(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Unwritten(causes(&error))),
        Err(_) => Err(Unwritten(format!("no answer for {PATIENCE:?}"))),
    }
}

fn version(object: &Value) -> String {
    let version = object["metadata"]["resourceVersion"].as_str();
    version.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_secret_keeps_nothing_and_half_a_certificate_is_none() {
        let secret = Secret::from(json!({"metadata": {"resourceVersion": "7"}}));
        assert!(secret.kept == Kept::default());
        assert_eq!(secret.version(), "7");
        let half = json!({"data": {"tls.crt": "YQ==", "tls.key": ""}});
        assert!(Secret::from(half).kept == Kept::default());
    }

    #[test]
    fn webhooks_that_trust_different_cas_trust_nobody_in_common() {
        let of = |bundles: &[&str]| {
            let webhooks = bundles.iter().enumerate().map(|(at, bundle)| {
                let bundle = BASE64_STANDARD.encode(bundle);
                json!({"name": at.to_string(), "clientConfig": {"caBundle": bundle}})
            });
            Configuration::from(json!({"webhooks": webhooks.collect::<Vec<_>>()}))
        };
        assert_eq!(of(&[]).trusted(), None);
        assert_eq!(of(&["one"]).trusted(), Some("one"));
        assert_eq!(of(&["one", "one"]).trusted(), Some("one"));
        assert_eq!(of(&["one", "other"]).trusted(), Some(""));
        let without = json!({"webhooks": [{"name": "it", "clientConfig": {}}]});
        assert_eq!(Configuration::from(without).trusted(), Some(""));
    }
}
