//! STS: who has which session, and its query and XML dialect.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use hyper::StatusCode;
use jiff::{SignedDuration, Timestamp};

use super::pod_identity::Bearer;
use super::{Answer, Reply};

/// `sts:AssumeRole` or `sts:AssumeRoleWithWebIdentity`, as it was asked.
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
    /// The web identity.
    pub token: Option<String>,
    /// The source identity.
    pub source_identity: Option<String>,
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
        token: get("WebIdentityToken"),
        source_identity: get("SourceIdentity"),
        signer,
    }
}

/// Whether this is `sts:GetCallerIdentity`, which only pods ask.
pub(super) fn asks_who(body: &[u8]) -> bool {
    form_urlencoded::parse(body).any(|pair| pair == ("Action".into(), "GetCallerIdentity".into()))
}

/// Whose session the signer's key is.
pub(super) fn who(signer: &str, sessions: &Sessions, known: Option<&str>) -> Reply {
    let session = sessions.0.get(signer);
    match known.or(session.map(|session| &*session.arn)) {
        Some(arn) => {
            let result =
                format!("<GetCallerIdentityResult><Arn>{arn}</Arn></GetCallerIdentityResult>");
            ok(document_of("GetCallerIdentity", &result))
        }
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
        Answer::Refused(code) => refuse(StatusCode::BAD_REQUEST, code, "as it was told"),
        Answer::Gone => refuse(StatusCode::NOT_FOUND, "NoSuchEntity", "it has gone"),
        Answer::Broken => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalFailure",
            "an internal error",
        ),
        Answer::Error(status, code, message) => {
            let status = StatusCode::from_u16(status).expect("a test scripts real ones");
            refuse(status, code, message)
        }
        Answer::Malformed => ok("<AssumeRoleResponse><AssumeRoleResult><Cred".to_owned()),
        Answer::Empty => ok(document("<AssumeRoleResult/>")),
        Answer::Expires(seconds) => issue(call, SignedDuration::from_secs(seconds), sessions),
        Answer::Longest(seconds) if call.duration.as_secs() > seconds => refuse(
            StatusCode::BAD_REQUEST,
            "ValidationError",
            match call.token {
                Some(_) => {
                    "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
                }
                None => {
                    "The requested DurationSeconds exceeds the 1 hour session limit for roles \
                     assumed by role chaining."
                }
            },
        ),
        Answer::Well | Answer::After(_) | Answer::Hang | Answer::Longest(_) => {
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
    let bearer = call.token.as_deref().map(Bearer::read);
    let bearer = match bearer {
        None => None,
        Some(Some(it)) if it.is_expired => {
            return refuse(
                StatusCode::BAD_REQUEST,
                "ExpiredTokenException",
                "it has expired",
            );
        }
        Some(Some(it)) if it.audience == "sts.amazonaws.com" => Some(it),
        Some(_) => {
            let why = "Incorrect token audience";
            return refuse(StatusCode::BAD_REQUEST, "InvalidIdentityToken", why);
        }
    };
    let from_token = bearer
        .as_ref()
        .map(|it| (it.namespace.as_str(), it.name.as_str()));
    let from_tags = tags
        .get("kubernetes-namespace")
        .zip(tags.get("kubernetes-service-account"));
    let (namespace, name) = from_token
        .or(from_tags.map(|(namespace, name)| (namespace.as_str(), name.as_str())))
        .or_else(|| call.session_name.split_once('.'))
        .unwrap_or(("unknown", &call.session_name));
    let key = format!("ASIA_{namespace}_{name}_{:04}", sessions.0.len());
    let going_on = |key: &String, _: &mut String| {
        call.transitive.contains(key) || inherited.is_some_and(|tags| tags.contains_key(key))
    };
    let arn = arn(&call.role, &call.session_name);
    let remembered = Session {
        role: call.role.clone(),
        arn: arn.clone(),
        tags: tags.clone().extract_if(.., going_on).collect(),
    };
    sessions.0.insert(key.clone(), remembered);

    let (action, session) = match bearer {
        Some(_) => ("AssumeRoleWithWebIdentity", &call.session_name),
        None => ("AssumeRole", &call.session_name),
    };
    let expiration = (Timestamp::now() + life).strftime("%Y-%m-%dT%H:%M:%SZ");
    ok(document_of(
        action,
        &format!(
            "<{action}Result><AssumedRoleUser>\
             <Arn>{arn}</Arn>\
             <AssumedRoleId>AROAFAKE:{session}</AssumedRoleId></AssumedRoleUser>\
             <Credentials><AccessKeyId>{key}</AccessKeyId>\
             <SecretAccessKey>secret-of-{key}</SecretAccessKey>\
             <SessionToken>token-of-{key}</SessionToken>\
             <Expiration>{expiration}</Expiration></Credentials></{action}Result>"
        ),
    ))
}

/// A session that another service hands out.
pub(super) struct Given {
    pub(super) key: String,
    pub(super) arn: String,
    pub(super) expires: Timestamp,
}

pub(super) fn hand_out(
    role: &str,
    namespace: &str,
    name: &str,
    life: SignedDuration,
    sessions: &mut Sessions,
) -> Given {
    let key = format!("ASIA_{namespace}_{name}_{:04}", sessions.0.len());
    let arn = arn(role, "eks");
    let remembered = Session {
        role: role.to_owned(),
        arn: arn.clone(),
        tags: BTreeMap::new(),
    };
    sessions.0.insert(key.clone(), remembered);
    let expires = Timestamp::now() + life;
    Given { key, arn, expires }
}

fn arn(role: &str, session: &str) -> String {
    let account = role.split(':').nth(4).unwrap_or_default();
    let name = role.rsplit('/').next().unwrap_or_default();
    format!("arn:aws:sts::{account}:assumed-role/{name}/{session}")
}

fn document(result: &str) -> String {
    document_of("AssumeRole", result)
}

fn document_of(action: &str, result: &str) -> String {
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">{result}\
         <ResponseMetadata><RequestId>00000000-fake</RequestId></ResponseMetadata>\
         </{action}Response>"
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
