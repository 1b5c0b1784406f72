//! One token: what it claims, and whether its signature and its claims hold.

use std::time::{Duration, SystemTime};

use jsonwebtoken::dangerous::insecure_decode_claims;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::keys::{Algorithm, LocalKey};
use super::{Claims, Flaw};
use crate::model::{PodName, PodUid, ServiceAccount};

/// How far the clocks of a node and of the API server may be apart.
const LEEWAY: Duration = Duration::from_secs(10);

/// A token of the right form. Nothing that it says is verified.
pub(super) struct Jwt<'a> {
    header: Header,
    algorithm: Algorithm,
    payload: Payload,
    /// What is signed: the token up to its last dot.
    message: &'a str,
    signature: &'a str,
}

/// Claims that agree with each other, with the clock and with what was asked
/// for; and when they end.
pub(super) struct Vetted {
    pub(super) claims: Claims,
    pub(super) expires: SystemTime,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    /// Extensions that must be understood, of which none is (RFC 7515, 4.1.11).
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Payload {
    iss: Option<String>,
    aud: Option<Audiences>,
    exp: Option<u64>,
    nbf: Option<u64>,
    sub: Option<String>,
    #[serde(rename = "kubernetes.io")]
    bound: Option<Bound>,
    /// What the tokens in secrets have instead.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    legacy: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Object,
    pod: Option<Object>,
    node: Option<Object>,
}

#[derive(Deserialize)]
struct Object {
    name: String,
    /// Only a node may be without: an API server that does not find it names it
    /// all the same.
    uid: Option<String>,
}

impl<'a> Jwt<'a> {
    pub(super) fn read(token: &'a str) -> Result<Self, Flaw> {
        let (message, signature) = token.rsplit_once('.').ok_or(Flaw::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Flaw::Malformed)?;
        if payload.contains('.') {
            return Err(Flaw::Malformed);
        }
        let header: Header = part(header)?;
        let algorithm = Algorithm::named(&header.alg).ok_or(Flaw::Algorithm)?;
        if header.crit.is_some() {
            return Err(Flaw::Malformed);
        }
        Ok(Self {
            header,
            algorithm,
            payload: part(payload)?,
            message,
            signature,
        })
    }

    /// Names the key that it should be signed with.
    pub(super) fn kid(&self) -> &str {
        &self.header.kid
    }

    /// Whether the key signed it. How is the key's to say: what the header says
    /// must only agree.
    pub(super) fn verify(&self, key: &LocalKey) -> Result<(), Flaw> {
        if self.algorithm != key.algorithm {
            return Err(Flaw::Algorithm);
        }
        let message = self.message.as_bytes();
        let how = key.how;
        match jsonwebtoken::crypto::verify(self.signature, message, &key.public, how) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Flaw::Signature),
        }
    }

    /// What it says, if that can be accepted now. `issuer` is `None` where the
    /// API server will judge that.
    pub(super) fn vet(
        &self,
        now: SystemTime,
        audiences: &[String],
        issuer: Option<&str>,
    ) -> Result<Vetted, Flaw> {
        let Payload {
            iss,
            aud,
            exp,
            nbf,
            sub,
            bound,
            legacy,
        } = &self.payload;
        let bound = match (bound, legacy) {
            (Some(bound), _) => bound,
            (None, Some(_)) => return Err(Flaw::Unbound),
            (None, None) => return Err(Flaw::Malformed),
        };
        let pod = bound.pod.as_ref().ok_or(Flaw::Unbound)?;
        let present = (iss.as_deref(), aud, exp, nbf, sub.as_deref());
        let (Some(iss), Some(aud), Some(exp), Some(nbf), Some(sub)) = present else {
            return Err(Flaw::Malformed);
        };
        let account = ServiceAccount::new(&bound.namespace, &bound.serviceaccount.name)
            .map_err(|_| Flaw::Malformed)?;
        // Who has these UIDs, only the API server could say.
        bound.serviceaccount.uid()?;
        if let Some(node) = bound.node.as_ref().filter(|node| node.uid.is_some()) {
            node.uid()?;
        }
        let at = |seconds: &u64| {
            let since = Duration::from_secs(*seconds);
            SystemTime::UNIX_EPOCH.checked_add(since)
        };
        let (nbf, exp) = (at(nbf), at(exp));
        let expires = exp.and_then(|exp| exp.checked_add(LEEWAY));
        let (Some(nbf), Some(exp), Some(expires)) = (nbf, exp, expires) else {
            return Err(Flaw::Malformed);
        };
        let claims = Claims {
            pod: pod.uid()?,
            pod_name: pod.name()?.to_owned(),
            node: match &bound.node {
                Some(node) => Some(node.name()?.to_owned()),
                None => None,
            },
            account,
            audiences: aud.all().to_vec(),
            expires: exp,
        };
        if sub != subject(&claims.account) {
            return Err(Flaw::Malformed);
        }
        if issuer.is_some_and(|issuer| issuer != iss) {
            return Err(Flaw::Issuer);
        }
        if !aud.meet(audiences) {
            return Err(Flaw::Audience);
        }
        if now + LEEWAY < nbf {
            return Err(Flaw::NotYetValid);
        }
        if now >= expires {
            return Err(Flaw::Expired);
        }
        Ok(Vetted { claims, expires })
    }
}

/// Whose a token says that it is, and of which pod. Nothing of it is verified:
/// this is for a pod that wants to know what its own token says.
pub fn holder(token: &str) -> Result<(ServiceAccount, Option<PodName>), Flaw> {
    let payload: Payload = Jwt::read(token)?.payload;
    let bound = payload.bound.ok_or(Flaw::Malformed)?;
    let account = ServiceAccount::new(&bound.namespace, &bound.serviceaccount.name);
    let account = account.map_err(|_| Flaw::Malformed)?;
    let pod = bound.pod.map(|pod| {
        let (uid, name) = (pod.uid()?, pod.name()?.into());
        Ok(PodName { uid, name })
    });
    Ok((account, pod.transpose()?))
}

/// The user name of a service account.
pub(super) fn subject(account: &ServiceAccount) -> String {
    let (namespace, name) = (account.namespace(), account.name());
    format!("system:serviceaccount:{namespace}:{name}")
}

/// One part of a token. The crate reads, of three parts, the middle one only.
fn part<T: DeserializeOwned>(part: &str) -> Result<T, Flaw> {
    insecure_decode_claims(format!(".{part}.")).map_err(|_| Flaw::Malformed)
}

impl Audiences {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    fn meet(&self, ours: &[String]) -> bool {
        self.all().iter().any(|it| ours.contains(it))
    }
}

impl Object {
    /// Printable, so that no later use has to escape it.
    fn uid(&self) -> Result<PodUid, Flaw> {
        let uid = self.uid.as_deref().ok_or(Flaw::Malformed)?;
        if uid.len() > 128 || !uid.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Flaw::Malformed);
        }
        PodUid::new(uid).map_err(|_| Flaw::Malformed)
    }

    /// As pods and nodes may be called (RFC 1123 subdomain), roughly.
    fn name(&self) -> Result<&str, Flaw> {
        let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        let name = self.name.as_str();
        if name.is_empty() || name.len() > 253 || !name.bytes().all(fits) {
            return Err(Flaw::Malformed);
        }
        Ok(name)
    }
}
