//! HTTPS for the API server: bounded connections, and leaving without losing a review.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::metrics::Metrics;
use crate::serve::{Listeners, close};

/// An API server opens one for each review that waits, and keeps some.
const CONNECTIONS: usize = 512;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Longer than API servers keep idle connections (90 s, `SetTransportDefaults` in
/// k8s.io/apimachinery), so that they end them and lose no review.
const HEAD_WITHIN: Duration = Duration::from_mins(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a leaving replica takes its time.
#[derive(Clone, Copy, Debug)]
pub struct Farewell {
    /// How long it goes on to accept, until API servers know that it leaves.
    pub linger: Duration,
    /// How long what was accepted may take, after that.
    pub drain: Duration,
}

impl Default for Farewell {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(5),
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves reviews.
#[derive(Clone)]
pub(super) struct Server {
    /// Answers.
    pub(super) desk: Arc<Desk>,
    /// With which certificate, and how.
    pub(super) tls: Arc<ServerConfig>,
    /// How it leaves.
    pub(super) farewell: Farewell,
    /// Counts.
    pub(super) metrics: Metrics,
}

impl Server {
    /// Answers until `leave` is cancelled; returns when the last connection has
    /// ended, some seconds later.
    pub(super) async fn run(self, listeners: Listeners, leave: CancellationToken) {
        let doors = listeners.into_inner().into_iter();
        let doors = doors.map(|listener| self.clone().keep(listener, leave.clone()));
        futures::future::join_all(doors).await;
    }

    async fn keep(self, listener: TcpListener, leave: CancellationToken) {
        let over = CancellationToken::new();
        let mut visits = JoinSet::new();
        let closing = async {
            leave.cancelled().await;
            self.desk.leave();
            sleep(self.farewell.linger).await;
        };
        tokio::pin!(closing);
        loop {
            tokio::select! {
                () = &mut closing => break,
                accepted = listener.accept(), if visits.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        visits.spawn(self.clone().counted(stream, over.clone()));
                    }
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                },
                Some(ended) = visits.join_next() => judge(ended),
            }
        }
        for stream in close(listener).unwrap_or_default() {
            visits.spawn(self.clone().counted(stream, over.clone()));
        }
        over.cancel();
        let drained = async {
            while let Some(ended) = visits.join_next().await {
                judge(ended);
            }
        };
        if timeout(self.farewell.drain, drained).await.is_err() {
            tracing::warn!(left = visits.len(), "connections are cut");
        }
    }

    async fn counted(self, stream: TcpStream, over: CancellationToken) {
        let open = self.metrics.connections.clone();
        open.inc();
        self.converse(stream, over).await;
        open.dec();
    }

    async fn converse(self, stream: TcpStream, over: CancellationToken) {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls));
        let stream = match timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a handshake failed");
                return;
            }
            Err(_) => return,
        };
        let desk = &self.desk;
        let service = service_fn(move |request| desk.answer(request));
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(served);
        let served = tokio::select! {
            served = served.as_mut() => served,
            () = over.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

fn judge(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task panicked");
    }
}
