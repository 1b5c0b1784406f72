//! STS: who has which session, and its query and XML dialect.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use hyper::StatusCode;
use jiff::{SignedDuration, Timestamp};

use super::{Answer, Reply};

/// `sts:AssumeRole`, as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumeRole {
    /// The role's ARN.
    pub role: String,
    /// The session's name.
    pub session_name: String,
    /// How long the session shall last.
    pub duration: Duration,
    /// The session's tags.
    pub tags: BTreeMap<String, String>,
    /// The keys of the tags that go on to sessions assumed from this one.
    pub transitive: BTreeSet<String>,
    /// The external id.
    pub external_id: Option<String>,
    /// The inline policy.
    pub policy: Option<String>,
    /// The access key id that signed.
    pub signer: String,
}

/// The service account, as `namespace/name`, that an access key id was issued
/// to: its session's tags say it or, where there are none, its session's name.
pub fn issued_to(access_key_id: &str) -> Option<String> {
    let mut parts = access_key_id.strip_prefix("ASIA_")?.split('_');
    let (namespace, name) = (parts.next()?, parts.next()?);
    Some(format!("{namespace}/{name}"))
}

/// Every session that was issued, by access key id.
#[derive(Default)]
pub(super) struct Sessions(HashMap<String, Session>);

/// What is remembered of a session.
struct Session {
    role: String,
    arn: String,
    /// The transitive tags.
    tags: BTreeMap<String, String>,
}

impl Sessions {
    /// The role of the session that an access key id was issued for.
    pub(super) fn role(&self, access_key_id: &str) -> Option<String> {
        self.0
            .get(access_key_id)
            .map(|session| session.role.clone())
    }
}

/// Takes what there is; [`reply`] refuses what does not fit.
pub(super) fn parse(body: &[u8], signer: String) -> AssumeRole {
    let form: HashMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
    let get = |name: &str| form.get(name).cloned();
    let list = |prefix: &'static str, suffix: &'static str| {
        (1..).map_while(move |at| get(&format!("{prefix}.member.{at}{suffix}")))
    };
    let duration = get("DurationSeconds").and_then(|seconds| seconds.parse().ok());
    AssumeRole {
        role: get("RoleArn").unwrap_or_default(),
        session_name: get("RoleSessionName").unwrap_or_default(),
        duration: Duration::from_secs(duration.unwrap_or(3600)),
        tags: list("Tags", ".Key").zip(list("Tags", ".Value")).collect(),
        transitive: list("TransitiveTagKeys", "").collect(),
        external_id: get("ExternalId"),
        policy: get("Policy"),
        signer,
    }
}

/// Whether this is `sts:GetCallerIdentity`, which only pods ask.
pub(super) fn asks_who(body: &[u8]) -> bool {
    form_urlencoded::parse(body).any(|pair| pair == ("Action".into(), "GetCallerIdentity".into()))
}

/// Whose session the signer's key is.
pub(super) fn who(signer: &str, sessions: &Sessions) -> Reply {
    match sessions.0.get(signer) {
        Some(Session { arn, .. }) => ok(document(&format!(
            "<GetCallerIdentityResult><Arn>{arn}</Arn></GetCallerIdentityResult>"
        ))),
        None => refuse(
            StatusCode::FORBIDDEN,
            "InvalidClientTokenId",
            "not issued here",
        ),
    }
}

/// The service's words for the scripted answer.
pub(super) fn reply(call: &AssumeRole, answer: Answer, sessions: &mut Sessions) -> Reply {
    match answer {
        Answer::Throttled => refuse(StatusCode::BAD_REQUEST, "Throttling", "Rate exceeded"),
        Answer::Denied => refuse(
            StatusCode::FORBIDDEN,
            "AccessDenied",
            "User: the agent is not authorized to perform: sts:AssumeRole",
        ),
        Answer::Gone => refuse(StatusCode::NOT_FOUND, "NoSuchEntity", "it has gone"),
        Answer::Broken => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalFailure",
            "an internal error",
        ),
        Answer::Malformed => ok("<AssumeRoleResponse><AssumeRoleResult><Cred".to_owned()),
        Answer::Empty => ok(document("<AssumeRoleResult/>")),
        Answer::Expires(seconds) => issue(call, SignedDuration::from_secs(seconds), sessions),
        Answer::Well | Answer::After(_) | Answer::Hang => {
            let life = SignedDuration::try_from(call.duration).expect("hours");
            issue(call, life, sessions)
        }
    }
}

/// Why STS itself would refuse: the limits of its API reference.
fn fault(call: &AssumeRole, inherited: Option<&BTreeMap<String, String>>) -> Option<&'static str> {
    let named = (2..=64).contains(&call.session_name.len())
        && call
            .session_name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte));
    let longest = if inherited.is_some() { 3600 } else { 12 * 3600 };
    let tags_fit = call
        .tags
        .iter()
        .all(|(key, value)| key.len() <= 128 && value.len() <= 256);
    let overrides =
        inherited.is_some_and(|tags| call.tags.keys().any(|key| tags.contains_key(key)));
    if !named {
        Some("the session name does not fit")
    } else if !(900..=longest).contains(&call.duration.as_secs()) {
        Some("the requested DurationSeconds is out of bounds")
    } else if !tags_fit || call.tags.len() > 50 {
        Some("the tags do not fit")
    } else if overrides {
        Some("a tag has the same key as an inherited tag")
    } else if !call
        .transitive
        .iter()
        .all(|key| call.tags.contains_key(key))
    {
        Some("a transitive tag key has no tag")
    } else {
        None
    }
}

fn issue(call: &AssumeRole, life: SignedDuration, sessions: &mut Sessions) -> Reply {
    let inherited = sessions.0.get(&call.signer).map(|session| &session.tags);
    if let Some(fault) = fault(call, inherited) {
        return refuse(StatusCode::BAD_REQUEST, "ValidationError", fault);
    }
    let mut tags = inherited.cloned().unwrap_or_default();
    tags.extend(call.tags.clone());
    let from_tags = tags
        .get("kubernetes-namespace")
        .zip(tags.get("kubernetes-service-account"));
    let (namespace, name) = from_tags
        .map(|(namespace, name)| (namespace.as_str(), name.as_str()))
        .or_else(|| call.session_name.split_once('.'))
        .unwrap_or(("unknown", &call.session_name));
    let key = format!("ASIA_{namespace}_{name}_{:04}", sessions.0.len());
    let going_on = |key: &String, _: &mut String| {
        call.transitive.contains(key) || inherited.is_some_and(|tags| tags.contains_key(key))
    };
    let account = call.role.split(':').nth(4).unwrap_or_default();
    let role = call.role.rsplit('/').next().unwrap_or_default();
    let session = &call.session_name;
    let arn = format!("arn:aws:sts::{account}:assumed-role/{role}/{session}");
    let remembered = Session {
        role: call.role.clone(),
        arn: arn.clone(),
        tags: tags.clone().extract_if(.., going_on).collect(),
    };
    sessions.0.insert(key.clone(), remembered);

    let expiration = (Timestamp::now() + life).strftime("%Y-%m-%dT%H:%M:%SZ");
    ok(document(&format!(
        "<AssumeRoleResult><AssumedRoleUser>\
         <Arn>{arn}</Arn>\
         <AssumedRoleId>AROAFAKE:{session}</AssumedRoleId></AssumedRoleUser>\
         <Credentials><AccessKeyId>{key}</AccessKeyId>\
         <SecretAccessKey>secret-of-{key}</SecretAccessKey>\
         <SessionToken>token-of-{key}</SessionToken>\
         <Expiration>{expiration}</Expiration></Credentials></AssumeRoleResult>"
    )))
}

fn document(result: &str) -> String {
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">{result}\
         <ResponseMetadata><RequestId>00000000-fake</RequestId></ResponseMetadata>\
         </AssumeRoleResponse>"
    )
}

fn ok(body: String) -> Reply {
    Reply {
        status: StatusCode::OK,
        content_type: "text/xml",
        body,
    }
}

/// An error in the service's dialect.
fn refuse(status: StatusCode, code: &str, message: &str) -> Reply {
    Reply {
        status,
        content_type: "text/xml",
        body: format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
             <Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
             <RequestId>00000000-fake</RequestId></ErrorResponse>"
        ),
    }
}
