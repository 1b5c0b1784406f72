//! Answers as the instance metadata service gives them, headers included: there
//! are programs that know it by its `Server`.

use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderValue, SERVER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::{Refusal, date, measured};
use crate::model::{Credentials, Form};
use crate::serve::imds::LIFE;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Success<'a> {
    code: &'a str,
    last_updated: String,
    r#type: &'a str,
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    expiration: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Info<'a> {
    code: &'a str,
    last_updated: String,
    instance_profile_arn: String,
    instance_profile_id: &'a str,
}

/// A session token, and how many seconds it lives.
pub(in crate::serve) fn session(token: String, seconds: u32) -> Response<Full<Bytes>> {
    let mut response = respond(StatusCode::OK, token.into());
    response.headers_mut().insert(LIFE, seconds.into());
    response
}

/// The role's name and not a byte more: botocore makes it part of a path.
pub(in crate::serve) fn role(credentials: &Credentials) -> Response<Full<Bytes>> {
    let name = credentials.role.name().to_owned();
    respond(StatusCode::OK, name.into())
}

/// The credentials, with the body that was rendered for the first who asked.
pub(in crate::serve) fn credentials(
    credentials: &Credentials,
    now: SystemTime,
) -> Response<Full<Bytes>> {
    let body = credentials.body(Form::Imds, |credentials| render(credentials, now));
    respond(StatusCode::OK, body)
}

/// Whose they are. A pod's role is in no instance profile; one of its name
/// stands for it, as mostly on instances, with the role's own id.
pub(in crate::serve) fn info(credentials: &Credentials, now: SystemTime) -> Response<Full<Bytes>> {
    let role = &credentials.role;
    let (partition, account, name) = (role.partition(), role.account_id(), role.name());
    let info = Info {
        code: "Success",
        last_updated: date(now),
        instance_profile_arn: format!("arn:{partition}:iam::{account}:instance-profile/{name}"),
        instance_profile_id: role.id(),
    };
    let body = serde_json::to_vec_pretty(&info).expect("strings serialize");
    respond(StatusCode::OK, body.into())
}

/// What the node's own service answered of the node.
pub(in crate::serve) fn text(text: &str) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, text.to_owned().into())
}

/// The refusal as people can read it; SDKs read the status alone.
pub(in crate::serve) fn refusal(refusal: &Refusal) -> Response<Full<Bytes>> {
    let (status, reason) = refusal.verdict();
    let body = format!("{reason:?}: {refusal}\n");
    respond(status, body.into())
}

fn respond(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = super::respond(status, HeaderValue::from_static("text/plain"), body);
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("EC2ws"));
    response
}

fn render(credentials: &Credentials, now: SystemTime) -> Vec<u8> {
    measured(&Success {
        code: "Success",
        last_updated: date(now),
        r#type: "AWS-HMAC",
        access_key_id: &credentials.access_key_id,
        secret_access_key: credentials.secret_access_key.expose(),
        token: credentials.session_token.expose(),
        expiration: date(credentials.expires_at),
    })
}
