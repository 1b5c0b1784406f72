//! The front doors: listeners, limits, deadlines, and leaving without losing a request.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::broker::Answers;
use crate::identity::Origin;

mod container;
mod doors;
mod guests;
mod imds;
mod listen;
mod metrics;
mod told;
mod visit;
mod wire;

pub use doors::{Door, Kind};
pub use guests::Limit;
pub use imds::Metadata;
pub(crate) use listen::close;
pub use listen::{BindError, Ingress, Listeners, Prefer};
pub use metrics::{DoorLabels, Metrics, RefusedLabels, RequestLabels};
pub use told::Told;
pub use wire::Reason;

use guests::{Guest, Guests};
use visit::Visit;

/// A request's head may not be larger, in bytes. Tokens are the largest part of
/// an honest one, at about 2 KiB.
const HEAD_LIMIT: usize = 16 * 1024;
/// A request may not have more headers.
const HEADER_LIMIT: usize = 64;
/// How long to let the kernel recover where accepting fails for want of
/// descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// An answer's last way out once draining is over.
const LAST_CALL: Duration = Duration::from_secs(1);

/// What a client may use, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time, all together.
    pub connections: usize,
    /// Connections at one time from one address.
    pub connections_per_peer: usize,
    /// How long a request's head may take, and how long a kept connection may
    /// say nothing.
    pub head: Duration,
    /// How long an answer may take. The JS and PHP SDKs give up after 1 s.
    pub answer: Duration,
    /// How long a client may leave what was written unacknowledged.
    pub stall: Duration,
    /// How long a leaving agent goes on to accept what the kernel had already
    /// given to it.
    pub settle: Duration,
    /// How long a leaving agent waits, after that, for the next request of a
    /// kept connection: the one that it can tell about its end.
    pub farewell: Duration,
}

impl Limits {
    /// For a process that may open `files` files: a quarter, at least 64, stays
    /// for everything but connections.
    pub fn for_open_files(files: usize) -> Self {
        let connections = files.saturating_sub((files / 4).max(64)).min(8192);
        Self {
            connections,
            connections_per_peer: (connections / 8).max(1),
            head: Duration::from_secs(10),
            answer: Duration::from_millis(900),
            stall: Duration::from_secs(10),
            settle: Duration::from_millis(200),
            farewell: Duration::from_secs(1),
        }
    }
}

/// Answers at all doors until `leave` is cancelled; returns when the last
/// connection has ended, a few seconds later at most.
///
/// A leaving agent steers new connections to its successor, if one listens
/// already, answers all that it has accepted, and closes each kept connection
/// with its next answer.
pub async fn run(
    doors: Vec<(Door, Listeners)>,
    ingress: Ingress,
    answers: Arc<dyn Answers>,
    limits: Limits,
    metrics: Metrics,
    leave: CancellationToken,
) {
    let guests = Guests::new(limits, metrics.clone());
    let counted = Arc::new(metrics::Counted::new(
        &metrics,
        doors.iter().map(|(door, _)| door),
    ));
    let kept = doors.into_iter().flat_map(|(door, listeners)| {
        let house = Arc::new(House {
            door,
            ingress,
            answers: Arc::clone(&answers),
            limits,
            guests: Arc::clone(&guests),
            counted: Arc::clone(&counted),
            leaving: AtomicBool::new(false),
            over: CancellationToken::new(),
        });
        let keep = |listener| keep_door(listener, Arc::clone(&house), &leave);
        let kept: Vec<_> = listeners.into_inner().into_iter().map(keep).collect();
        kept
    });
    futures::future::join_all(kept).await;
}

/// What all connections share that come in by doors of a kind.
struct House {
    door: Door,
    ingress: Ingress,
    answers: Arc<dyn Answers>,
    limits: Limits,
    guests: Arc<Guests>,
    counted: Arc<metrics::Counted>,
    /// Every answer from now on ends its connection.
    leaving: AtomicBool,
    /// Connections without a request under way end now.
    over: CancellationToken,
}

async fn keep_door(listener: TcpListener, house: Arc<House>, leave: &CancellationToken) {
    let mut visits = JoinSet::new();
    admit_until(leave.cancelled(), &listener, &house, &mut visits).await;

    house.leaving.store(true, Ordering::Relaxed);
    listen::prefer_successor(&listener);
    let settled = tokio::time::sleep(house.limits.settle);
    admit_until(settled, &listener, &house, &mut visits).await;
    match close(listener) {
        Ok(queued) => queued
            .into_iter()
            .for_each(|stream| admit(stream, &house, &mut visits)),
        Err(error) => tracing::warn!(%error, "connections may be lost: cannot empty a listener"),
    }

    let farewell = house.limits.farewell;
    if tokio::time::timeout(farewell, end(&mut visits))
        .await
        .is_ok()
    {
        return;
    }
    house.over.cancel();
    let last = house.limits.answer + LAST_CALL;
    if tokio::time::timeout(last, end(&mut visits)).await.is_err() {
        visits.shutdown().await;
    }
}

async fn admit_until(
    until: impl Future<Output = ()>,
    listener: &TcpListener,
    house: &Arc<House>,
    visits: &mut JoinSet<()>,
) {
    let mut until = pin!(until);
    loop {
        tokio::select! {
            () = &mut until => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(stream, house, visits),
                Err(error) if listen::of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = visits.join_next() => observe(ended),
        }
    }
}

async fn end(visits: &mut JoinSet<()>) {
    while let Some(ended) = visits.join_next().await {
        observe(ended);
    }
}

fn observe(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

/// Gives the stream a task of its own, unless its peer or all peers together
/// have too many.
fn admit(stream: TcpStream, house: &Arc<House>, visits: &mut JoinSet<()>) {
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
        return; // reset while it was in the queue
    };
    let visit = Visit {
        house: Arc::clone(house),
        origin: Origin::new(peer.ip(), local.ip(), (house.ingress)(&stream)),
        port: local.port(),
        since: Instant::now(),
        heard: AtomicU64::new(0),
        session: OnceLock::new(),
    };
    if let Some(guest) = house.guests.admit(visit.origin.peer()) {
        visits.spawn(receive(stream, visit, guest));
    }
}

/// A connection that says nothing has no HTTP state yet: that costs 16 KiB.
async fn receive(stream: TcpStream, visit: Visit, _guest: Guest) {
    let head = visit.house.limits.head;
    tokio::select! {
        () = visit.house.over.cancelled() => {}
        spoke = tokio::time::timeout(head, stream.readable()) => {
            if matches!(spoke, Ok(Ok(()))) {
                Box::pin(converse(stream, Arc::new(visit))).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, visit: Arc<Visit>) {
    let house = Arc::clone(&visit.house);
    let asked = Arc::clone(&visit);
    let service = service_fn(move |request| Arc::clone(&asked).answer(request));
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(HEAD_LIMIT)
        .max_headers(HEADER_LIMIT)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut over = pin!(house.over.cancelled());
    // Moved on only when it fires: hyper's own timer is a new one for each request.
    let mut silence = pin!(sleep_until(visit.head_due()));
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            () = silence.as_mut() => {
                let due = visit.head_due();
                if due <= Instant::now() {
                    return;
                }
                silence.as_mut().reset(due);
            }
            () = over.as_mut() => {
                connection.as_mut().graceful_shutdown();
                break connection.await;
            }
        }
    };
    // hyper has answered these itself, with an empty body: nothing of a request
    // was understood, so no SDK sent it.
    if let Err(error) = ended {
        if error.is_parse_too_large() {
            house.counted.of(house.door.kind()).unparsed(431);
        } else if error.is_parse() {
            house.counted.of(house.door.kind()).unparsed(400);
        }
    }
}
