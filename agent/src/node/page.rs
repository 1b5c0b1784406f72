//! What people look at: a page at `/` of the metrics address, and `/status` behind it.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};

use super::asked::{self, Ask};
use crate::config::StatusAccess;

#[cfg(test)]
mod tests;

/// One file, which asks for nothing but `status` beside it.
const PAGE: &str = include_str!("page.html");

/// Tells people how the agent stands.
#[derive(Clone)]
pub struct Page {
    access: StatusAccess,
    status: Arc<dyn Fn() -> Vec<u8> + Send + Sync>,
    ask: Ask,
}

/// Why somebody is told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Denial {
    #[error("the status is not told here: --status-access is none")]
    Off,
    #[error("the status is for processes of this node alone: --status-access any lets others look")]
    Stranger,
    /// A web site whose name leads to loopback would read it in a browser here.
    #[error("ask for localhost, or an address of loopback")]
    Host,
}

impl Page {
    /// `status` writes the JSON.
    pub fn new(access: StatusAccess, status: Arc<dyn Fn() -> Vec<u8> + Send + Sync>) -> Self {
        let ask = Arc::new(|_: &str| None);
        Self {
            access,
            status,
            ask,
        }
    }

    /// With what pods would be answered, which `ask` takes time to say of a path.
    #[must_use]
    pub(super) fn asking(self, ask: Ask) -> Self {
        Self { ask, ..self }
    }

    /// What a pod would be answered, if the path is one of these.
    pub(super) fn asked<B>(
        &self,
        request: &Request<B>,
        peer: IpAddr,
    ) -> Option<BoxFuture<'static, Response<Full<Bytes>>>> {
        let path = request.uri().path();
        // Nothing is begun for who may not ask.
        let answering = self.admit(request, peer).map(|()| (self.ask)(path));
        let answering = answering.ok()??;
        let answer = async {
            if let Some(body) = answering.await {
                return respond(StatusCode::OK, "application/json", body.into());
            }
            let body = Bytes::from_static(b"no such pod lives on this node\n");
            respond(StatusCode::NOT_FOUND, "text/plain", body)
        };
        Some(answer.boxed())
    }

    /// What is told to a peer, if the path is one of these.
    pub(super) fn answer<B>(
        &self,
        request: &Request<B>,
        peer: IpAddr,
    ) -> Option<Response<Full<Bytes>>> {
        const JSON: &str = "application/json";
        const HTML: &str = "text/html; charset=utf-8";
        let path = request.uri().path();
        if !matches!(path, "/" | "/status") && !path.starts_with(asked::FOLDER) {
            return None;
        }
        if let Err(denial) = self.admit(request, peer) {
            let body = format!("{denial}\n").into();
            return Some(respond(StatusCode::FORBIDDEN, "text/plain", body));
        }
        if path.starts_with(asked::FOLDER) {
            return None;
        }
        if path == "/status" {
            return Some(respond(StatusCode::OK, JSON, (self.status)().into()));
        }
        let mut page = respond(StatusCode::OK, HTML, Bytes::from_static(PAGE.as_bytes()));
        let policy = HeaderValue::try_from(policy(PAGE)).expect("letters");
        let name = HeaderName::from_static("content-security-policy");
        page.headers_mut().insert(name, policy);
        Some(page)
    }

    fn admit<B>(&self, request: &Request<B>, peer: IpAddr) -> Result<(), Denial> {
        match self.access {
            StatusAccess::None => Err(Denial::Off),
            StatusAccess::Loopback if !peer.to_canonical().is_loopback() => Err(Denial::Stranger),
            StatusAccess::Loopback if !is_for_loopback(request) => Err(Denial::Host),
            StatusAccess::Loopback | StatusAccess::Any => Ok(()),
        }
    }
}

fn is_for_loopback<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let authority = host.to_str().ok().and_then(|host| host.parse().ok());
    authority.is_some_and(|authority: hyper::http::uri::Authority| {
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
        host.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(is_loopback)
    })
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in [
        (CACHE_CONTROL.as_str(), "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ] {
        let name = HeaderName::from_static(name);
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Nothing runs in the page but what is in it, and it asks nobody but the agent.
fn policy(page: &str) -> String {
    let hash = |tag: &str| {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let text = page
            .split(&open)
            .nth(1)
            .and_then(|it| it.split(&close).next());
        let hash = digest(&SHA256, text.expect("the page has one").as_bytes());
        STANDARD.encode(hash)
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
}
