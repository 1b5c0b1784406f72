//! `GET /v1/credentials`: what the SDKs' container credentials providers ask.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, Request, Response};
use tokio::time::Instant;

use super::visit::{Visit, vet};
use super::wire::{self, Refusal};

pub(super) const PATH: &str = "/v1/credentials";
const BEARER: &str = "Bearer ";

/// The credentials of the account whose pod calls.
pub(super) async fn answer<B: Body>(
    visit: &Visit,
    request: &Request<B>,
    arrived: Instant,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let token = inspect(visit, request)?;
    let now = visit.house.answers.moment(arrived);
    let caller = visit.caller(token, now).await?;
    let credentials = visit.credentials(&caller, now).await?;
    Ok(wire::credentials(&credentials))
}

/// The token that the request brings, if it is one that may be answered.
fn inspect<'a, B: Body>(
    visit: &Visit,
    request: &'a Request<B>,
) -> Result<Option<&'a str>, Refusal> {
    vet(visit, request)?;
    if request.uri().path() != PATH {
        return Err(Refusal::Path);
    }
    if request.method() != Method::GET {
        return Err(Refusal::Method);
    }
    if !request.body().is_end_stream() {
        return Err(Refusal::Body);
    }
    token(request.headers())
}

/// SDKs send the token raw; people add the scheme that they know.
fn token(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().map_err(|_| Refusal::Authorization)?,
        (Some(_), Some(_)) => return Err(Refusal::Authorization),
    };
    let token = match value.split_at_checked(BEARER.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(BEARER) => token,
        Some(_) | None => value,
    };
    // An SDK whose token is set to nothing brings none.
    Ok(Some(token.trim()).filter(|token| !token.is_empty()))
}
