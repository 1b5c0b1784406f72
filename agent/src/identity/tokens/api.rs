//! What is asked of the API server: its keys, its opinion of a token, and tokens.
//!
//! Through [`Client::send`]: the client's other methods log what they cannot
//! read, and some answers have a token in them; nor do they bound an answer.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use kube::core::Request;
use kube::core::params::{GetParams, PostParams};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Fetched;
use super::keys::{KeySet, Published};
use crate::causes::causes;
use crate::identity::pods::Caller;
use crate::model::Secret;

/// Some keys are 2 KiB, and a review is as long as its token.
const LARGEST: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a requested token lives: no API server signs one for less.
const REQUESTED: Duration = Duration::from_mins(10);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// 401, 403 or 404: not for us.
    Refused(u16),
    Failing(u16),
    Unreachable(String),
    Silent,
    Garbled(&'static str),
}

impl Trouble {
    pub(super) fn outcome(&self) -> Fetched {
        match self {
            Self::Refused(_) => Fetched::Refused,
            Self::Failing(_) => Fetched::Failing,
            Self::Unreachable(_) => Fetched::Unreachable,
            Self::Silent => Fetched::Silent,
            Self::Garbled(_) => Fetched::Garbled,
        }
    }

    /// For people, and never with anything of a token.
    pub(super) fn why(&self) -> String {
        match self {
            Self::Refused(code) | Self::Failing(code) => format!("the API server answers {code}"),
            Self::Unreachable(why) => format!("the API server cannot be reached: {why}"),
            Self::Silent => "the API server did not answer in time".to_owned(),
            Self::Garbled(why) => format!("the API server's answer cannot be used: {why}"),
        }
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

/// The issuer and its keys. `jwks_uri` is not followed: it is an address for
/// others, and may be out of the node's reach; the API server has the same.
pub(super) async fn keys(client: &Client, now: SystemTime) -> Result<KeySet, Trouble> {
    let get = |folder, name| ask(client, Question::Get(folder, name));
    let discovery = get("/.well-known", "openid-configuration").await?;
    let discovery: Discovery = serde_json::from_slice(&discovery)
        .map_err(|_| Trouble::Garbled("no discovery document"))?;
    let published = get("/openid/v1", "jwks").await?;
    let published: Published =
        serde_json::from_slice(&published).map_err(|_| Trouble::Garbled("no set of keys"))?;
    KeySet::new(discovery.issuer, published, now).map_err(Trouble::Garbled)
}

/// What the API server says of a token.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Verdict {
    pub(super) authenticated: bool,
    pub(super) user: User,
    pub(super) audiences: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct User {
    pub(super) username: String,
    extra: HashMap<String, Vec<String>>,
}

impl User {
    /// `authentication.kubernetes.io/WHAT`, if it is there once.
    pub(super) fn extra(&self, what: &str) -> Option<&str> {
        let values = self
            .extra
            .get(&format!("authentication.kubernetes.io/{what}"))?;
        match &values[..] {
            [value] => Some(value),
            [] | [_, _, ..] => None,
        }
    }
}

#[derive(Deserialize)]
struct Reviewed {
    status: Verdict,
}

pub(super) async fn review(
    client: &Client,
    token: &str,
    audiences: &[String],
) -> Result<Verdict, Trouble> {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences},
    });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews".to_owned();
    let question = Question::Create(path, review.to_string().into_bytes());
    let answer = ask(client, question).await?;
    let answer: Reviewed =
        serde_json::from_slice(&answer).map_err(|_| Trouble::Garbled("no TokenReview"))?;
    Ok(answer.status)
}

/// A token for one audience, bound to this very pod, and when it ends. The API
/// server signs it for [`REQUESTED`] at least.
pub(super) async fn request(
    client: &Client,
    pod: &Caller,
    audience: &str,
) -> Result<(Secret, SystemTime), Trouble> {
    let (account, bound) = (pod.account(), pod.pod_name());
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": [audience],
            "expirationSeconds": REQUESTED.as_secs(),
            "boundObjectRef": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": bound.name,
                "uid": bound.uid.to_string(),
            },
        },
    });
    let (namespace, name) = (account.namespace(), account.name());
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
    let question = Question::Create(path, request.to_string().into_bytes());
    let answer = ask(client, question).await?;
    let answer: Requested =
        serde_json::from_slice(&answer).map_err(|_| Trouble::Garbled("no TokenRequest"))?;
    let Granted {
        token,
        expiration_timestamp,
    } = answer.status;
    let token = Secret::new(token);
    let expires: jiff::Timestamp = expiration_timestamp
        .parse()
        .map_err(|_| Trouble::Garbled("no time at which the token ends"))?;
    Ok((token, expires.into()))
}

#[derive(Deserialize)]
struct Requested {
    status: Granted,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Granted {
    token: String,
    expiration_timestamp: String,
}

enum Question {
    /// Folder and name.
    Get(&'static str, &'static str),
    /// Path and body.
    Create(String, Vec<u8>),
}

/// The answer may have a token in it.
async fn ask(client: &Client, question: Question) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let request = match question {
        Question::Get(folder, name) => Request::new(folder).get(name, &GetParams::default()),
        Question::Create(path, body) => Request::new(path).create(&PostParams::default(), body),
    };
    let request = request
        .expect("constants and names are paths")
        .map(Body::from);
    let answer = async {
        let response = client.send(request).await;
        let response = response.map_err(|error| Trouble::Unreachable(causes(&error)))?;
        let status = response.status().as_u16();
        match status {
            200..=299 => {}
            401 | 403 | 404 => return Err(Trouble::Refused(status)),
            _ => return Err(Trouble::Failing(status)),
        }
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| Trouble::Unreachable(causes(&*error)))?;
        Ok(Zeroizing::new(body.to_bytes().to_vec()))
    };
    let answer = timeout(PATIENCE, answer).await;
    answer.unwrap_or(Err(Trouble::Silent))
}
