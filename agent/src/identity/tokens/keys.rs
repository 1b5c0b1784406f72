//! The cluster's public keys.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jsonwebtoken::DecodingKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

/// An API server signs with one key and publishes a few more.
const MOST: usize = 64;

/// What API servers sign with (`signerFromPrivateKey` in Kubernetes'
/// pkg/serviceaccount), and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    Es384,
    /// Not verified here, but by the API server: jsonwebtoken has no P-521.
    Es512,
}

impl Algorithm {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "ES384" => Some(Self::Es384),
            "ES512" => Some(Self::Es512),
            _ => None,
        }
    }
}

/// The keys that one issuer publishes, and when it was asked.
pub(super) struct KeySet {
    issuer: String,
    keys: HashMap<String, Key>,
    fetched: SystemTime,
    /// When this process got them, from wherever.
    since: Instant,
}

/// One key.
pub(super) enum Key {
    Local(Arc<LocalKey>),
    /// One that this cannot verify with.
    Foreign,
}

/// A key, and the one thing that it is good for.
pub(super) struct LocalKey {
    pub(super) algorithm: Algorithm,
    pub(super) how: jsonwebtoken::Algorithm,
    pub(super) public: DecodingKey,
    jwk: Jwk,
}

/// A key as it is published (RFC 7517): the members of public keys, so that
/// nothing else gets onto a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Jwk {
    kid: String,
    kty: String,
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
}

/// The document `/openid/v1/jwks`. A key that is not understood spoils no other.
#[derive(Deserialize)]
pub(super) struct Published {
    keys: Vec<Value>,
}

impl Published {
    pub(super) fn of(keys: Vec<Value>) -> Self {
        Self { keys }
    }
}

impl KeySet {
    /// The keys that can be used; what is wrong if there are none.
    pub(super) fn new(
        issuer: String,
        published: Published,
        fetched: SystemTime,
    ) -> Result<Self, &'static str> {
        if issuer.is_empty() {
            return Err("no issuer");
        }
        if published.keys.len() > MOST {
            return Err("too many keys");
        }
        let mut keys = HashMap::new();
        for value in published.keys {
            let Ok(jwk) = serde_json::from_value::<Jwk>(value) else {
                continue;
            };
            let kid = jwk.kid.clone();
            let Some(key) = jwk.read() else {
                continue;
            };
            match keys.entry(kid) {
                Entry::Vacant(free) => {
                    free.insert(key);
                }
                // A key may be published twice. Of two keys, nobody could say
                // which one a token means.
                Entry::Occupied(other) if other.get().is(&key) => {}
                Entry::Occupied(_) => return Err("two keys of one id"),
            }
        }
        if keys.is_empty() {
            return Err("no key that can be used");
        }
        let since = Instant::now();
        Ok(Self {
            issuer,
            keys,
            fetched,
            since,
        })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn find(&self, kid: &str) -> Option<&Key> {
        self.keys.get(kid)
    }

    /// When the issuer was asked.
    pub(super) fn fetched(&self) -> SystemTime {
        self.fetched
    }

    /// The time since then, by whichever clock has gone further.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        let wall = now.duration_since(self.fetched).unwrap_or_default();
        wall.max(self.since.elapsed())
    }

    /// Whether this very key is among them.
    pub(super) fn has(&self, key: &LocalKey) -> bool {
        match self.keys.get(&key.jwk.kid) {
            Some(Key::Local(ours)) => ours.jwk == key.jwk,
            Some(Key::Foreign) | None => false,
        }
    }

    /// Those that can be verified with, sorted.
    pub(super) fn published(&self) -> Vec<&Jwk> {
        let keys = self.keys.values().filter_map(|key| match key {
            Key::Local(key) => Some(&key.jwk),
            Key::Foreign => None,
        });
        let mut keys: Vec<&Jwk> = keys.collect();
        keys.sort_by(|one, other| one.kid.cmp(&other.kid));
        keys
    }
}

impl Key {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Local(one), Self::Local(other)) => one.jwk == other.jwk,
            (Self::Foreign, Self::Foreign) => true,
            (Self::Local(_), Self::Foreign) | (Self::Foreign, Self::Local(_)) => false,
        }
    }
}

impl Jwk {
    /// `None` for a key that signs no token or contradicts itself.
    fn read(self) -> Option<Key> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let (algorithm, how, length) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => (Algorithm::Rs256, jsonwebtoken::Algorithm::RS256, None),
            ("EC", Some("P-256")) => (Algorithm::Es256, jsonwebtoken::Algorithm::ES256, Some(32)),
            ("EC", Some("P-384")) => (Algorithm::Es384, jsonwebtoken::Algorithm::ES384, Some(48)),
            ("EC", Some("P-521")) => return Some(Key::Foreign),
            _ => return None,
        };
        let named = self.alg.as_deref().map(Algorithm::named);
        if named.is_some_and(|named| named != Some(algorithm)) {
            return None;
        }
        let public = match length {
            None => DecodingKey::from_rsa_components(self.n.as_deref()?, self.e.as_deref()?),
            Some(_) => DecodingKey::from_ec_components(self.x.as_deref()?, self.y.as_deref()?),
        };
        let public = public.ok()?;
        // A point is one byte that says so, and two coordinates.
        let fits = |length: usize| {
            public
                .try_get_as_bytes()
                .is_ok_and(|it| it.len() == 1 + 2 * length)
        };
        if !length.is_none_or(fits) {
            return None;
        }
        Some(Key::Local(Arc::new(LocalKey {
            algorithm,
            how,
            public,
            jwk: self,
        })))
    }
}
