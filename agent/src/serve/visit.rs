//! One connection: what is asked by it, at which door, and what no door answers.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{CONNECTION, FORWARDED, HOST, HeaderName, HeaderValue, VIA};
use hyper::{Request, Response};
use tokio::time::Instant;

use super::wire::{self, Refusal};
use super::{House, Kind, LAST_CALL, container, imds};
use crate::broker;
use crate::clock::Moment;
use crate::identity::{Caller, Origin};
use crate::model::Credentials;

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

/// One connection's ends, and the house.
pub(super) struct Visit {
    pub(super) house: Arc<House>,
    pub(super) origin: Origin,
    pub(super) port: u16,
    pub(super) since: Instant,
    /// When the last request's head was there, in milliseconds after `since`.
    pub(super) heard: AtomicU64,
    /// Of the first request with a good session token.
    pub(super) session: OnceLock<Box<imds::Session>>,
}

impl Visit {
    /// A request's head is there.
    fn hear(&self, now: Instant) {
        let after = now.duration_since(self.since).as_millis();
        let after = u64::try_from(after).expect("no process runs for so long");
        self.heard.store(after, Ordering::Relaxed);
    }

    /// When the next request's head is due.
    pub(super) fn head_due(&self) -> Instant {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.since + heard + self.house.limits.head
    }

    /// Answers one request; refusals and failures are answers too.
    pub(super) async fn answer<B: Body>(
        self: Arc<Self>,
        request: Request<B>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let arrived = Instant::now();
        self.hear(arrived);
        let house = &self.house;
        let is_whole = request.body().is_end_stream();
        let (kind, answered) = match house.door.metadata(request.uri().path()) {
            None => (
                Kind::Container,
                container::answer(&self, &request, arrived).await,
            ),
            Some(metadata) => (
                Kind::Imds,
                imds::answer(&self, metadata, &request, arrived).await,
            ),
        };
        let counted = house.counted.of(kind);
        let mut response = match answered {
            Ok(response) => {
                counted.ok(arrived.elapsed());
                response
            }
            Err(refusal) => {
                let (status, reason) = refusal.verdict();
                let peer = self.origin.peer();
                tracing::debug!(%peer, %refusal, "refused");
                counted.refused(status.as_u16(), reason, arrived.elapsed());
                match kind {
                    Kind::Container => wire::refusal(&refusal),
                    Kind::Imds => wire::imds::refusal(&refusal),
                }
            }
        };
        if house.leaving.load(Ordering::Relaxed) || !is_whole {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        Ok(response)
    }

    /// Who calls: at once if that is known, as it is for nearly all requests.
    pub(super) async fn caller(&self, token: Option<&str>, now: Moment) -> Result<Caller, Refusal> {
        let answers = &self.house.answers;
        if let Some(caller) = answers.caller_at_once(&self.origin, token, now) {
            return Ok(caller);
        }
        let deadline = now.at + self.house.limits.answer;
        in_time(deadline, answers.caller(&self.origin, token, deadline)).await
    }

    /// What the caller gets: at once if that is there, as it is for nearly all
    /// requests.
    pub(super) async fn credentials(
        &self,
        caller: &Caller,
        now: Moment,
    ) -> Result<Arc<Credentials>, Refusal> {
        let answers = &self.house.answers;
        if let Some(credentials) = answers.credentials_at_once(caller, now) {
            return Ok(credentials);
        }
        let deadline = now.at + self.house.limits.answer;
        in_time(deadline, answers.credentials(caller, deadline)).await
    }
}

/// The deadline is for those to keep who answer; if they do not, the caller gets
/// its answer all the same. Boxed, so that requests that wait for nothing have no
/// room for it.
fn in_time<T>(
    deadline: Instant,
    asked: impl Future<Output = Result<T, broker::Error>>,
) -> std::pin::Pin<Box<impl Future<Output = Result<T, Refusal>>>> {
    Box::pin(async move {
        match tokio::time::timeout_at(deadline + LAST_CALL / 20, asked).await {
            Ok(answered) => answered.map_err(Refusal::Broker),
            Err(_) => Err(Refusal::Overdue),
        }
    })
}

/// Refuses what comes through a proxy or is meant for another host.
pub(super) fn vet<B>(visit: &Visit, request: &Request<B>) -> Result<(), Refusal> {
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
    Ok(())
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
