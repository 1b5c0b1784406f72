//! EKS Auth, and what all of AWS reads in a service account token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::eks::{Table, missing, ok, refuse};
use super::sts::{Sessions, hand_out};
use super::{Answer, CLUSTER, Reply};

/// `eks-auth:AssumeRoleForPodIdentity`, as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodIdentity {
    /// The cluster in the path.
    pub cluster: String,
    /// The token.
    pub token: String,
    /// The access key id that signed.
    pub signer: String,
}

/// What a token says, which nobody verifies here.
pub(super) struct Bearer {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) audience: String,
    pub(super) is_expired: bool,
}

impl Bearer {
    pub(super) fn read(token: &str) -> Option<Self> {
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: Value = serde_json::from_slice(&payload).ok()?;
        let mut subject = claims["sub"].as_str()?.split(':').skip(2);
        let audience = match &claims["aud"] {
            Value::Array(several) => several.first()?,
            one => one,
        };
        Some(Self {
            namespace: subject.next()?.to_owned(),
            name: subject.next()?.to_owned(),
            audience: audience.as_str()?.to_owned(),
            is_expired: claims["exp"].as_i64()? <= Timestamp::now().as_second(),
        })
    }
}

/// The cluster of the path, if it is this API's.
pub(super) fn cluster(path: &str) -> Option<&str> {
    let path = path.strip_prefix("/clusters/")?;
    path.strip_suffix("/assume-role-for-pod-identity")
}

pub(super) fn parse(cluster: &str, body: &[u8], signer: String) -> PodIdentity {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    PodIdentity {
        cluster: cluster.to_owned(),
        token: body["token"].as_str().unwrap_or_default().to_owned(),
        signer,
    }
}

/// `namespace/name`, as the token says.
pub(super) fn subject(call: &PodIdentity) -> String {
    let bearer = Bearer::read(&call.token);
    bearer.map_or_else(String::new, |it| format!("{}/{}", it.namespace, it.name))
}

pub(super) fn reply(
    call: &PodIdentity,
    answer: Answer,
    table: &Table,
    sessions: &mut Sessions,
) -> Reply {
    let bad = |code, message| refuse(StatusCode::BAD_REQUEST, code, message);
    let life = match answer {
        Answer::Well | Answer::After(_) | Answer::Hang | Answer::Longest(_) => {
            SignedDuration::from_hours(6)
        }
        Answer::Expires(seconds) => SignedDuration::from_secs(seconds),
        Answer::Throttled => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            return refuse(status, "ThrottlingException", "Rate exceeded");
        }
        Answer::Denied => return bad("AccessDeniedException", "the agent may not"),
        Answer::Refused(code) => return bad(code, "as it was told"),
        Answer::Error(status, code, message) => {
            let status = StatusCode::from_u16(status).expect("a test scripts real ones");
            return refuse(status, code, message);
        }
        Answer::Gone => return missing("it has gone"),
        Answer::Broken => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return refuse(status, "InternalServerException", "an internal error");
        }
        Answer::Malformed => return ok("{\"subject\": {".to_owned()),
        Answer::Empty => return ok("{}".to_owned()),
    };
    let Some(bearer) = Bearer::read(&call.token) else {
        return bad("InvalidTokenException", "not a token");
    };
    if bearer.is_expired {
        return bad("ExpiredTokenException", "it has expired");
    }
    if bearer.audience != "pods.eks.amazonaws.com" {
        return bad("InvalidTokenException", "another audience");
    }
    let role = table.role_of(&bearer.namespace, &bearer.name);
    let Some(role) = role.filter(|_| call.cluster == CLUSTER) else {
        return missing("No association found");
    };
    let given = hand_out(&role, &bearer.namespace, &bearer.name, life, sessions);
    let subject = json!({"namespace": bearer.namespace, "serviceAccount": bearer.name});
    ok(json!({
        "subject": subject,
        "audience": bearer.audience,
        "podIdentityAssociation": {"associationArn": "arn:fake", "associationId": "a-1"},
        "assumedRoleUser": {"arn": given.arn, "assumeRoleId": "AROAFAKE:eks"},
        "credentials": {
            "accessKeyId": given.key,
            "secretAccessKey": format!("secret-of-{}", given.key),
            "sessionToken": format!("token-of-{}", given.key),
            "expiration": given.expires.as_second(),
        },
    })
    .to_string())
}
