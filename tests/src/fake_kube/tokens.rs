//! Service account tokens, as the stand-in signs, publishes and reviews them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::signer::{Algorithm, SigningKey};
use super::{FakeKube, Pod, Shared, State};

/// The `iss` of the tokens of every stand-in.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The keys and what was signed with them.
#[derive(Default)]
pub(super) struct Tokens {
    /// The last one signs. Empty until somebody needs one.
    keys: Vec<SigningKey>,
    /// What `TokenReview` knows, and the ids of the keys.
    issued: HashMap<String, (Value, String)>,
}

impl Tokens {
    fn keys(&mut self) -> &[SigningKey] {
        if self.keys.is_empty() {
            self.keys.push(SigningKey::shared());
        }
        &self.keys
    }

    fn signing(&mut self) -> SigningKey {
        self.keys().last().expect("never empty").clone()
    }
}

impl FakeKube {
    /// A token that is bound to the pod, as the kubelet mounts it. The pod need
    /// not be there, except for `TokenReview`.
    pub fn token(&self, pod: &Pod, audience: &str, lifetime: Duration) -> String {
        self.sign(&claims(pod, &[audience], lifetime))
    }

    /// Signs any claims with the present key.
    pub fn sign(&self, claims: &Value) -> String {
        self.shared.state().sign(claims)
    }

    /// The key that signs now.
    pub fn signing_key(&self) -> SigningKey {
        self.shared.state().tokens.signing()
    }

    /// Signs with another key from now on; those before stay published.
    pub fn rotate_keys(&self) {
        self.sign_with(SigningKey::generate(Algorithm::Es256));
    }

    /// As [`Self::rotate_keys`], to a key of the test's choice.
    pub fn sign_with(&self, key: SigningKey) {
        let mut state = self.shared.state();
        state.tokens.keys();
        state.tokens.keys.push(key);
    }

    /// Publishes and accepts the key that signs now, and no other.
    pub fn retire_keys(&self) {
        let mut state = self.shared.state();
        state.tokens.keys = vec![state.tokens.signing()];
    }
}

/// What a token of the pod says: `lifetime` from now on, by the system's clock.
pub fn claims(pod: &Pod, audiences: &[&str], lifetime: Duration) -> Value {
    let now = seconds();
    let pod = pod.json();
    let (metadata, spec) = (&pod["metadata"], &pod["spec"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&metadata["namespace"]);
    let account = text(&spec["serviceAccountName"]);
    let node = text(&spec["nodeName"]);
    json!({
        "aud": audiences,
        "exp": now + lifetime.as_secs(),
        "iat": now,
        "iss": ISSUER,
        "jti": format!("{:032x}", u128::from(now)),
        "kubernetes.io": {
            "namespace": namespace,
            "node": {"name": node, "uid": format!("uid-of-{node}")},
            "pod": {"name": metadata["name"], "uid": metadata["uid"]},
            "serviceaccount": {"name": account, "uid": format!("uid-of-{namespace}-{account}")},
        },
        "nbf": now,
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
    })
}

impl State {
    fn sign(&mut self, claims: &Value) -> String {
        let key = self.tokens.signing();
        let token = key.sign(&key.header(), claims);
        let issued = (claims.clone(), key.kid().to_owned());
        self.tokens.issued.insert(token.clone(), issued);
        token
    }
}

fn seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("the clock is past 1970").as_secs()
}

impl Shared {
    pub(super) fn discovery() -> Value {
        json!({
            "issuer": ISSUER,
            "jwks_uri": format!("{ISSUER}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
    }

    pub(super) fn key_set(&self) -> Value {
        let mut state = self.state();
        let keys: Vec<Value> = state.tokens.keys().iter().map(SigningKey::jwk).collect();
        json!({"keys": keys})
    }

    /// A `TokenReview` with its status.
    pub(super) fn review(&self, mut review: Value) -> Value {
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        let asked = review["spec"]["audiences"].clone();
        review["status"] = match self.authenticate(token, &asked) {
            Ok(status) => status,
            Err(why) => json!({"user": {}, "error": why}),
        };
        review
    }

    /// A `TokenRequest` with its status, or the code of the refusal. As a real API
    /// server, and only for tokens that are bound to a pod by name and UID.
    pub(super) fn grant(
        &self,
        namespace: &str,
        account: &str,
        mut request: Value,
    ) -> Result<Value, u16> {
        let spec = &request["spec"];
        let bound = &spec["boundObjectRef"];
        let audiences: Vec<&str> = spec["audiences"]
            .as_array()
            .map(|them| them.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let seconds = spec["expirationSeconds"].as_u64().unwrap_or(3600);
        let (name, uid) = (bound["name"].as_str(), bound["uid"].as_str());
        let (Some(name), Some(uid), "Pod") =
            (name, uid, bound["kind"].as_str().unwrap_or_default())
        else {
            return Err(422);
        };
        if seconds < 600 || audiences.is_empty() {
            return Err(422);
        }
        let key = (namespace.to_owned(), name.to_owned());
        let pod = self.state().pods.get(&key).cloned().ok_or(404_u16)?;
        if pod.json()["metadata"]["uid"] != uid {
            return Err(409);
        }
        if pod.json()["spec"]["serviceAccountName"] != account {
            return Err(400);
        }
        let claims = claims(&pod, &audiences, Duration::from_secs(seconds));
        let end = claims["exp"].as_i64().expect("seconds");
        let end = jiff::Timestamp::from_second(end).expect("a time");
        request["status"] = json!({
            "token": self.state().sign(&claims),
            "expirationTimestamp": end.to_string(),
        });
        Ok(request)
    }

    fn authenticate(&self, token: &str, asked: &Value) -> Result<Value, &'static str> {
        let state = self.state();
        let issued = state.tokens.issued.get(token);
        let (claims, kid) = issued.ok_or("invalid bearer token")?;
        if !state.tokens.keys.iter().any(|key| key.kid() == kid) {
            return Err("no keys found");
        }
        if claims["exp"].as_u64().is_none_or(|exp| exp <= seconds()) {
            return Err("service account token has expired");
        }
        let bound = &claims["kubernetes.io"];
        let namespace = bound["namespace"].as_str().unwrap_or_default();
        let pod = bound["pod"]["name"].as_str().unwrap_or_default();
        let key = (namespace.to_owned(), pod.to_owned());
        let lives = state.pods.get(&key);
        if !lives.is_some_and(|pod| pod.json()["metadata"]["uid"] == bound["pod"]["uid"]) {
            return Err("service account token has been invalidated");
        }
        let theirs = claims["aud"].as_array().into_iter().flatten();
        let wanted = asked.as_array().into_iter().flatten();
        let wanted: Vec<&Value> = wanted.collect();
        let common: Vec<&Value> = theirs.filter(|it| wanted.contains(it)).collect();
        if common.is_empty() {
            return Err("token audiences do not intersect with those of the review");
        }
        Ok(json!({
            "authenticated": true,
            "user": {
                "username": claims["sub"],
                "uid": bound["serviceaccount"]["uid"],
                "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
                "extra": {
                    "authentication.kubernetes.io/credential-id": ["JTI=7"],
                    "authentication.kubernetes.io/node-name": [bound["node"]["name"]],
                    "authentication.kubernetes.io/node-uid": [bound["node"]["uid"]],
                    "authentication.kubernetes.io/pod-name": [bound["pod"]["name"]],
                    "authentication.kubernetes.io/pod-uid": [bound["pod"]["uid"]],
                },
            },
            "audiences": common,
        }))
    }
}
