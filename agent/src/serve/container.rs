//! `GET /v1/credentials`: what the SDKs' container credentials providers ask.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{
    AUTHORIZATION, CONNECTION, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, VIA,
};
use hyper::{Method, Request, Response};
use tokio::time::Instant;

use super::wire::{self, Refusal};
use super::{LAST_CALL, Visit};
use crate::model::Credentials;

const PATH: &str = "/v1/credentials";
const BEARER: &str = "Bearer ";

/// What an open proxy adds, and an SDK never. Whoever sends one is not the pod
/// that the address says.
const PROXIES: [HeaderName; 7] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-envoy-external-address"),
];

/// Answers one request; refusals and failures are answers too.
pub(super) async fn answer<B: Body>(
    visit: Arc<Visit>,
    request: Request<B>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let arrived = Instant::now();
    visit.hear(arrived);
    let house = &visit.house;
    let credentials = match inspect(&visit, &request) {
        Ok(token) => match look(&visit, token, arrived) {
            Some(credentials) => Ok(credentials),
            // Boxed, so that requests that wait for nothing have no room for it.
            None => Box::pin(ask(&visit, token, arrived)).await,
        },
        Err(refusal) => Err(refusal),
    };
    let mut response = match credentials {
        Ok(credentials) => {
            let response = wire::credentials(&credentials);
            house.counted.ok(arrived.elapsed());
            response
        }
        Err(refusal) => {
            let (status, reason) = refusal.verdict();
            let peer = visit.origin.peer();
            tracing::debug!(%peer, %refusal, "refused");
            house
                .counted
                .refused(status.as_u16(), reason, arrived.elapsed());
            wire::refusal(&refusal)
        }
    };
    if house.leaving.load(Ordering::Relaxed) || !request.body().is_end_stream() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    Ok(response)
}

/// The credentials, if all about the caller is known: what nearly all requests get.
fn look(visit: &Visit, token: Option<&str>, arrived: Instant) -> Option<Arc<Credentials>> {
    let answers = &visit.house.answers;
    let now = answers.moment(arrived);
    let caller = answers.caller_at_once(&visit.origin, token, now)?;
    answers.credentials_at_once(&caller, now)
}

/// The deadline is for those to keep who answer; if they do not, the caller gets
/// its answer all the same.
async fn ask(
    visit: &Visit,
    token: Option<&str>,
    arrived: Instant,
) -> Result<Arc<Credentials>, Refusal> {
    let deadline = arrived + visit.house.limits.answer;
    let answers = &visit.house.answers;
    let asked = async {
        let caller = answers.caller(&visit.origin, token, deadline).await?;
        answers.credentials(&caller, deadline).await
    };
    match tokio::time::timeout_at(deadline + LAST_CALL / 20, asked).await {
        Ok(answered) => answered.map_err(Refusal::Broker),
        Err(_) => Err(Refusal::Overdue),
    }
}

/// The token that the request brings, if it is one that may be answered.
fn inspect<'a, B: Body>(
    visit: &Visit,
    request: &'a Request<B>,
) -> Result<Option<&'a str>, Refusal> {
    let headers = request.headers();
    if headers.keys().any(|name| PROXIES.contains(name)) {
        return Err(Refusal::Proxied);
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refusal::Host);
    };
    let ours = |host: &str| is_local(host, visit.origin.local(), visit.port);
    // In absolute form the authority is what counts (RFC 9112, 3.2.2); both
    // must be ours.
    let authority = request.uri().authority();
    if !host.to_str().is_ok_and(ours) || !authority.is_none_or(|it| ours(it.as_str())) {
        return Err(Refusal::Host);
    }
    if request.uri().path() != PATH {
        return Err(Refusal::Path);
    }
    if request.method() != Method::GET {
        return Err(Refusal::Method);
    }
    if !request.body().is_end_stream() {
        return Err(Refusal::Body);
    }
    token(headers)
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

/// Whether `host` is the address that the connection was made to, with its port
/// or without any. A name is never ours: it may be a page's own, made to resolve
/// to our address (DNS rebinding).
fn is_local(host: &str, local: IpAddr, port: u16) -> bool {
    let (address, given) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address.parse().map(IpAddr::V6), None),
            Some((address, rest)) => (
                address.parse().map(IpAddr::V6),
                rest.strip_prefix(':').or(Some("")),
            ),
            None => return false,
        },
        None => match host.split_once(':') {
            Some((address, given)) => (address.parse().map(IpAddr::V4), Some(given)),
            None => (host.parse().map(IpAddr::V4), None),
        },
    };
    address == Ok(local) && given.is_none_or(|given| given.parse() == Ok(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_ours_only_as_the_address_that_was_connected_to() {
        let v4: IpAddr = "169.254.170.23".parse().unwrap();
        let v6: IpAddr = "fd00:ec2::23".parse().unwrap();
        let ours = [
            ("169.254.170.23", v4),
            ("169.254.170.23:80", v4),
            ("[fd00:ec2::23]", v6),
            ("[FD00:EC2:0::23]:80", v6),
        ];
        for (host, local) in ours {
            assert!(is_local(host, local, 80), "{host}");
        }
        let foreign = [
            ("", v4),
            ("evil.example", v4),
            ("169.254.170.23.evil.example", v4),
            ("169.254.170.23:8080", v4),
            ("169.254.170.23:", v4),
            ("169.254.170.24", v4),
            ("user@169.254.170.23", v4),
            ("[fd00:ec2::23]", v4),
            ("fd00:ec2::23", v6),
            ("[fd00:ec2::23", v6),
            ("[fd00:ec2::23]80", v6),
            ("[fd00:ec2::23]:", v6),
        ];
        for (host, local) in foreign {
            assert!(!is_local(host, local, 80), "{host}");
        }
    }
}
