//! What kubelets and operators ask: `/healthz`, `/readyz`, `/metrics` and what people look at.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, ready};
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::page::Page;
use crate::serve::Listeners;

/// A kubelet and a scraper need two.
const CONNECTIONS: usize = 64;
const HEAD_WITHIN: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a desk tells.
#[derive(Clone)]
pub enum Desk {
    /// `/healthz`: 200 as long as the process can answer at all. `/readyz`: 200,
    /// or 503 and the names of the closed gates, one a line, as the function
    /// gives them.
    Probes(Arc<dyn Fn() -> Vec<String> + Send + Sync>),
    /// `/metrics`: what the function writes, in the `OpenMetrics` text format.
    /// And the page.
    Metrics(Arc<dyn Fn() -> String + Send + Sync>, Page),
}

/// Answers until dropped, so that a leaving agent still says that it leaves.
pub async fn run(listeners: Listeners, desk: Desk) {
    let desks = listeners.into_inner().into_iter();
    futures::future::join_all(desks.map(|listener| attend(listener, &desk))).await;
}

async fn attend(listener: TcpListener, desk: &Desk) {
    let mut visits = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if visits.len() < CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    visits.spawn(converse(stream, peer.ip(), desk.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(ended) = visits.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a probe's or a scrape's answer panicked");
            },
        }
    }
}

async fn converse(stream: TcpStream, peer: IpAddr, desk: Desk) {
    let service = service_fn(move |request| {
        let response = match desk.asked(&request, peer) {
            Some(later) => Either::Left(later),
            None => Either::Right(ready(desk.answer(&request, peer))),
        };
        response.map(Ok::<_, Infallible>)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a probe or a scrape ended early");
    }
}

impl Desk {
    /// What takes time to answer.
    fn asked<B>(
        &self,
        request: &Request<B>,
        peer: IpAddr,
    ) -> Option<BoxFuture<'static, Response<Full<Bytes>>>> {
        match self {
            Self::Metrics(_, page) if request.method() == Method::GET => page.asked(request, peer),
            Self::Metrics(..) | Self::Probes(_) => None,
        }
    }

    fn answer<B>(&self, request: &Request<B>, peer: IpAddr) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            let headers = response.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let nothing = || (StatusCode::NOT_FOUND, TEXT, "nothing is here\n".into());
        let (status, kind, body) = match (self, request.uri().path()) {
            (Self::Probes(_), "/healthz") => (StatusCode::OK, TEXT, "ok\n".into()),
            (Self::Probes(closed), "/readyz") => match closed() {
                gates if gates.is_empty() => (StatusCode::OK, TEXT, "ok\n".into()),
                gates => {
                    let lines = gates.iter().map(|gate| format!("closed: {gate}\n"));
                    (StatusCode::SERVICE_UNAVAILABLE, TEXT, lines.collect())
                }
            },
            (Self::Metrics(text, _), "/metrics") => (StatusCode::OK, OPEN_METRICS, text()),
            (Self::Probes(_), _) => nothing(),
            (Self::Metrics(_, page), _) => match page.answer(request, peer) {
                Some(response) => return response,
                None => nothing(),
            },
        };
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::config::StatusAccess;

    fn probes(closed: &'static [&str]) -> Desk {
        Desk::Probes(Arc::new(|| {
            closed.iter().map(ToString::to_string).collect()
        }))
    }

    fn metrics() -> Desk {
        let page = Page::new(StatusAccess::Loopback, Arc::new(Vec::new));
        Desk::Metrics(Arc::new(|| "# EOF\n".to_owned()), page)
    }

    async fn ask(desk: &Desk, method: Method, path: &str) -> (u16, Response<()>, String) {
        let request = Request::builder().method(method).uri(path).body(());
        let request = request.expect("a request");
        let response = desk.answer(&request, [127, 0, 0, 1].into());
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("it is whole").to_bytes();
        let text = String::from_utf8(body.to_vec()).expect("text");
        (parts.status.as_u16(), Response::from_parts(parts, ()), text)
    }

    #[tokio::test]
    async fn a_live_process_is_healthy_whatever_is_closed() {
        let (status, _, text) = ask(&probes(&["pods"]), Method::GET, "/healthz").await;
        assert_eq!((status, &*text), (200, "ok\n"));
    }

    #[tokio::test]
    async fn it_is_ready_when_no_gate_is_closed() {
        let (status, _, text) = ask(&probes(&[]), Method::GET, "/readyz").await;
        assert_eq!((status, &*text), (200, "ok\n"));
    }

    #[tokio::test]
    async fn the_closed_gates_are_listed() {
        let (status, _, text) = ask(&probes(&["network", "pods"]), Method::GET, "/readyz").await;
        assert_eq!((status, &*text), (503, "closed: network\nclosed: pods\n"));
    }

    #[tokio::test]
    async fn metrics_say_that_they_are_open_metrics() {
        let (status, head, text) = ask(&metrics(), Method::GET, "/metrics").await;
        assert_eq!((status, &*text), (200, "# EOF\n"));
        let kind = head.headers()[CONTENT_TYPE].to_str().expect("text");
        assert!(kind.starts_with("application/openmetrics-text;"), "{kind}");
    }

    #[tokio::test]
    async fn each_desk_has_its_own_paths_and_no_others() {
        for path in ["/", "/metrics", "/healthz/", "/Readyz"] {
            assert_eq!(ask(&probes(&[]), Method::GET, path).await.0, 404, "{path}");
        }
        for path in ["/healthz", "/readyz", "/metrics/"] {
            assert_eq!(ask(&metrics(), Method::GET, path).await.0, 404, "{path}");
        }
    }

    #[tokio::test]
    async fn only_get_and_head_are_answered() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            for (desk, path) in [(probes(&[]), "/readyz"), (metrics(), "/metrics")] {
                let (status, head, _) = ask(&desk, method.clone(), path).await;
                assert_eq!(status, 405, "{method} {path}");
                assert_eq!(head.headers()[ALLOW], "GET, HEAD");
            }
        }
        assert_eq!(ask(&probes(&[]), Method::HEAD, "/readyz").await.0, 200);
    }
}
