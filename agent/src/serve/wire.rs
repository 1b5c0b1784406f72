//! The JSON of the container credentials endpoint; the only place where a secret is exposed to a pod.

use std::io;
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelValue;
use serde::Serialize;

use crate::aws::Unanswered;
use crate::credentials::NoToken;
use crate::identity::tokens;
use crate::model::{Credentials, Form};
use crate::{associations, broker, cache, credentials, identity};

pub(super) mod imds;

/// Why an answer is what it is: a label, so there are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Reason {
    /// Credentials.
    Ok,
    /// The pods are not known yet.
    NotSynced,
    /// No pod has the caller's address.
    UnknownAddress,
    /// Several pods have it.
    AmbiguousAddress,
    /// It is the node's own.
    NodeAddress,
    /// The pod cannot be used.
    UnusablePod,
    /// Another pod may have the address by now.
    UnconfirmedAddress,
    /// The pods are known from too long ago.
    OutdatedPods,
    /// A token is required and there is none.
    NoToken,
    /// The token is not a good one.
    BadToken,
    /// The token cannot be verified now.
    TokenUnverified,
    /// The token's pod is not known.
    UnknownPod,
    /// The token's pod has gone.
    GonePod,
    /// The token's pod is not the one that calls.
    OtherPod,
    /// The caller is not in the pod that is served.
    Stranger,
    /// There are several tokens, or one that is no text.
    Authorization,
    /// The exchange needs a token, and the API server issues none.
    NoTokenIssued,
    /// The account may use no role.
    NoAssociation,
    /// The role is not one that the account may use.
    RoleNotAllowed,
    /// The account's association cannot be used.
    BadAssociation,
    /// A source of associations failed.
    SourceFailed,
    /// A source of associations was late.
    SourceLate,
    /// AWS refuses the role.
    Denied,
    /// The session's tags and policy are more than STS takes.
    TooLarge,
    /// AWS throttles.
    Throttled,
    /// AWS could not be asked.
    Unavailable,
    /// AWS's answer was of no use.
    Malformed,
    /// Our own fetch broke.
    Broken,
    /// The credentials were not there in time.
    Late,
    /// The request came through a proxy.
    Proxied,
    /// The request was for another host.
    WrongHost,
    /// There is nothing at the path.
    WrongPath,
    /// The method is not GET.
    WrongMethod,
    /// The request had a body.
    Body,
    /// The pod has not asked for instance metadata.
    NotOptedIn,
    /// Instance metadata needs a session token, and there is none.
    NoSessionToken,
    /// The session token is not one of the pod's, or has ended.
    BadSessionToken,
    /// A session token may not live so long.
    BadTtl,
    /// The role is not the pod's.
    OtherRole,
    /// The node's own service does not say where the node is.
    PlaceUnknown,
    /// What came was not an HTTP request within the limits.
    Unparsed,
}

/// Why a request gets no credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Broker(broker::Error),
    #[error("no answer in time")]
    Overdue,
    #[error("the request came through a proxy, which may not speak for a pod")]
    Proxied,
    #[error("the Host header must be, once, the address that was connected to")]
    Host,
    #[error("nothing is here: ask for /v1/credentials")]
    Path,
    #[error("only GET is answered")]
    Method,
    #[error("a request may have no body")]
    Body,
    #[error(
        "this pod has not asked for instance metadata: its label credlet.dev/imds must be enabled"
    )]
    NotOptedIn,
    #[error("a session token is needed: PUT /latest/api/token gives one")]
    NoSession,
    #[error(
        "not a session token of this pod's, or no longer: PUT /latest/api/token gives a new one"
    )]
    Session,
    #[error("X-aws-ec2-metadata-token-ttl-seconds must be, once, a number from 1 to 21600")]
    Life,
    #[error("nothing is here: GET /latest/meta-data/iam/security-credentials/")]
    Metadata,
    #[error("the pod's role is another")]
    Role,
    #[error(transparent)]
    Place(Unanswered),
    #[error("the Authorization header must be, once, a service account token")]
    Authorization,
}

impl Refusal {
    /// SDKs try again after a 5xx. They do not after a 4xx, 429 included (Java,
    /// Rust), so nothing that passes by itself may be one.
    pub(super) fn verdict(&self) -> (StatusCode, Reason) {
        const LATER: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        match self {
            Self::Broker(error) => match error {
                broker::Error::Identity(error) => match error {
                    identity::Error::NotSynced => (LATER, Reason::NotSynced),
                    identity::Error::Unknown(_) => (LATER, Reason::UnknownAddress),
                    identity::Error::Ambiguous(_) => (LATER, Reason::AmbiguousAddress),
                    identity::Error::Node(_) => (StatusCode::FORBIDDEN, Reason::NodeAddress),
                    identity::Error::Unusable(..) => (StatusCode::FORBIDDEN, Reason::UnusablePod),
                    identity::Error::Unconfirmed(_) => (LATER, Reason::UnconfirmedAddress),
                    identity::Error::Outdated(_) => (LATER, Reason::OutdatedPods),
                    identity::Error::NoToken => (StatusCode::FORBIDDEN, Reason::NoToken),
                    identity::Error::Token(error) => match error {
                        tokens::Error::Refused(_) => (StatusCode::FORBIDDEN, Reason::BadToken),
                        tokens::Error::Unavailable(_) => (LATER, Reason::TokenUnverified),
                    },
                    identity::Error::UnknownPod(_) => (LATER, Reason::UnknownPod),
                    identity::Error::GonePod(_) => (StatusCode::FORBIDDEN, Reason::GonePod),
                    identity::Error::Stranger(_) => (StatusCode::FORBIDDEN, Reason::Stranger),
                    identity::Error::Elsewhere(_) => (StatusCode::FORBIDDEN, Reason::OtherPod),
                },
                broker::Error::Association(error) => match error {
                    associations::Error::None(_) => (StatusCode::NOT_FOUND, Reason::NoAssociation),
                    associations::Error::Refused(why) => match **why {
                        associations::Refused::NotAllowed { .. } => {
                            (StatusCode::FORBIDDEN, Reason::RoleNotAllowed)
                        }
                        associations::Refused::Unusable { .. } => {
                            (StatusCode::FORBIDDEN, Reason::BadAssociation)
                        }
                    },
                    associations::Error::Source { .. } => (LATER, Reason::SourceFailed),
                    associations::Error::Deadline { .. } => (LATER, Reason::SourceLate),
                },
                broker::Error::Credentials(error) => match error {
                    cache::Error::Fetch(refusal) => match refusal {
                        credentials::Refusal::NoToken(none) => match none {
                            NoToken::NoneShown(_) => (StatusCode::FORBIDDEN, Reason::NoToken),
                            NoToken::Refused(_) | NoToken::Unavailable(_) => {
                                (LATER, Reason::NoTokenIssued)
                            }
                        },
                        credentials::Refusal::NotAssociated => {
                            (StatusCode::NOT_FOUND, Reason::NoAssociation)
                        }
                        credentials::Refusal::Denied(_) => (StatusCode::FORBIDDEN, Reason::Denied),
                        credentials::Refusal::TooLarge(_) => {
                            (StatusCode::FORBIDDEN, Reason::TooLarge)
                        }
                        credentials::Refusal::Throttled => (LATER, Reason::Throttled),
                        credentials::Refusal::Unavailable(_) => (LATER, Reason::Unavailable),
                        credentials::Refusal::Malformed(_) => (LATER, Reason::Malformed),
                    },
                    cache::Error::Broken(_) => (LATER, Reason::Broken),
                    cache::Error::Deadline => (LATER, Reason::Late),
                },
            },
            Self::Overdue => (LATER, Reason::Late),
            Self::Proxied => (StatusCode::FORBIDDEN, Reason::Proxied),
            Self::Host => (StatusCode::BAD_REQUEST, Reason::WrongHost),
            Self::Path | Self::Metadata => (StatusCode::NOT_FOUND, Reason::WrongPath),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, Reason::WrongMethod),
            Self::Body => (StatusCode::PAYLOAD_TOO_LARGE, Reason::Body),
            Self::NotOptedIn => (StatusCode::FORBIDDEN, Reason::NotOptedIn),
            Self::NoSession => (StatusCode::UNAUTHORIZED, Reason::NoSessionToken),
            Self::Session => (StatusCode::UNAUTHORIZED, Reason::BadSessionToken),
            Self::Life => (StatusCode::BAD_REQUEST, Reason::BadTtl),
            Self::Place(_) => (LATER, Reason::PlaceUnknown),
            Self::Role => (StatusCode::NOT_FOUND, Reason::OtherRole),
            Self::Authorization => (StatusCode::BAD_REQUEST, Reason::Authorization),
        }
    }

    /// As it stands in the body.
    pub(super) fn message(&self) -> String {
        format!("{self}{}", self.advice())
    }

    /// What the caller can do about it, where that is not plain from the error.
    fn advice(&self) -> &'static str {
        match self {
            Self::Broker(broker::Error::Identity(
                identity::Error::Node(_) | identity::Error::NoToken,
            )) => {
                "; mount a projected service account token and name its file by \
                 AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
            }
            Self::Broker(_)
            | Self::Overdue
            | Self::Proxied
            | Self::Host
            | Self::Path
            | Self::Method
            | Self::Body
            | Self::NotOptedIn
            | Self::NoSession
            | Self::Session
            | Self::Life
            | Self::Metadata
            | Self::Role
            | Self::Place(_)
            | Self::Authorization => "",
        }
    }
}

/// Java reads `code` and `message`, JS `Code` and `Message`, Go either.
#[derive(Serialize)]
struct Failure<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(rename = "Code")]
    upper_code: &'a str,
    #[serde(rename = "Message")]
    upper_message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Success<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    expiration: String,
    account_id: &'a str,
}

/// 200, with the body that was rendered for the first who asked.
pub(super) fn credentials(credentials: &Credentials) -> Response<Full<Bytes>> {
    respond(
        StatusCode::OK,
        JSON,
        credentials.body(Form::Container, render),
    )
}

/// The refusal as every SDK can read it.
pub(super) fn refusal(refusal: &Refusal) -> Response<Full<Bytes>> {
    let (status, reason) = refusal.verdict();
    let (code, message) = (format!("{reason:?}"), refusal.message());
    let body = serde_json::to_vec(&Failure {
        code: &code,
        message: &message,
        upper_code: &code,
        upper_message: &message,
    });
    let mut response = respond(status, JSON, body.expect("strings serialize").into());
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let get = HeaderValue::from_static("GET");
        response.headers_mut().insert(ALLOW, get);
    }
    response
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn respond(status: StatusCode, kind: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn render(credentials: &Credentials) -> Vec<u8> {
    measured(&Success {
        access_key_id: &credentials.access_key_id,
        secret_access_key: credentials.secret_access_key.expose(),
        token: credentials.session_token.expose(),
        expiration: date(credentials.expires_at),
        account_id: credentials.role.account_id(),
    })
}

/// Measured before it is written: a buffer that grows leaves its old self, and
/// the secrets in it, behind on the heap.
fn measured(body: &impl Serialize) -> Vec<u8> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, body).expect("strings serialize");
    let mut written = Vec::with_capacity(length.0);
    serde_json::to_writer(&mut written, body).expect("strings serialize");
    written
}

/// botocore parses nothing but this.
fn date(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::MAX);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Counts what is written to it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
