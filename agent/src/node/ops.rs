//! What kubelets and operators ask: `/healthz`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

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
    Metrics(Arc<dyn Fn() -> String + Send + Sync>),
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
                Ok((stream, _)) => {
                    visits.spawn(converse(stream, desk.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(ended) = visits.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a probe's or a scrape's answer panicked");
            },
        }
    }
}

async fn converse(stream: TcpStream, desk: Desk) {
    let service = service_fn(move |request| {
        let response = desk.answer(&request);
        async { Ok::<_, Infallible>(response) }
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
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let (status, kind, body) = match (self, request.uri().path()) {
            (Self::Probes(_), "/healthz") => (StatusCode::OK, TEXT, "ok\n".into()),
            (Self::Probes(closed), "/readyz") => match closed() {
                gates if gates.is_empty() => (StatusCode::OK, TEXT, "ok\n".into()),
                gates => {
                    let lines = gates.iter().map(|gate| format!("closed: {gate}\n"));
                    (StatusCode::SERVICE_UNAVAILABLE, TEXT, lines.collect())
                }
            },
            (Self::Metrics(text), "/metrics") => (StatusCode::OK, OPEN_METRICS, text()),
            (Self::Probes(_) | Self::Metrics(_), _) => {
                (StatusCode::NOT_FOUND, TEXT, "nothing is here\n".into())
            }
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            let headers = response.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}
