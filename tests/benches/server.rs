//! What is measured: the front door, the bare server beside it, and the front door alone under stress.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use credlet::model::ServiceAccount;
use credlet::serve::Limits;
use credlet_tests::front::{Front, HOST, Pods, limits};
use credlet_tests::node::netlink;
use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rtnetlink::LinkUnspec;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::load::{self, Target};
use crate::pod;

const IDLE: u16 = 2000;
const NOISE: usize = 64;

/// Something that answers.
pub(crate) trait Server {
    fn address(&self) -> SocketAddr;
}

/// The real front door.
pub(crate) struct CredletServer {
    runtime: Runtime,
    front: Option<Front>,
}

/// hyper and nothing else.
pub(crate) struct BareServer {
    _runtime: Runtime,
    address: SocketAddr,
}

/// One worker: servers have one core here.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

impl CredletServer {
    pub(crate) fn start(pods: u8, accounts: u8) -> Self {
        let limits = Limits {
            connections: 8192,
            connections_per_peer: 4096,
            head: Duration::from_secs(60),
            ..limits()
        };
        let pods: Pods = (1..=pods)
            .map(|index| {
                let name = format!("account-{}", index % accounts);
                (
                    pod(index),
                    ServiceAccount::new("bench", &name).expect("a name"),
                )
            })
            .collect();
        let runtime = runtime();
        let front = async move { Front::open(0, &pods, limits).await };
        let front = runtime.block_on(runtime.spawn(front)).expect("it opens");
        Self {
            runtime,
            front: Some(front),
        }
    }

    fn front(&self) -> &Front {
        self.front.as_ref().expect("only drop takes it")
    }

    /// The body that the first pod gets.
    pub(crate) fn answer(&self) -> Bytes {
        let mut buffer = [0; 8192];
        let target = Target::new(self.address());
        let length = target.ask(&mut target.connect(pod(1)), &mut buffer);
        let head = buffer
            .windows(4)
            .position(|it| it == b"\r\n\r\n")
            .expect("a head")
            + 4;
        Bytes::copy_from_slice(&buffer[head..length])
    }
}

impl Server for CredletServer {
    fn address(&self) -> SocketAddr {
        self.front().address
    }
}

impl Drop for CredletServer {
    fn drop(&mut self) {
        let _within = self.runtime.enter();
        self.front = None;
    }
}

impl BareServer {
    pub(crate) fn start(body: Bytes) -> Self {
        let runtime = runtime();
        let listener = runtime
            .block_on(TcpListener::bind((HOST, 0)))
            .expect("an address");
        let address = listener.local_addr().expect("it is bound");
        runtime.spawn(serve_bare(listener, body));
        Self {
            _runtime: runtime,
            address,
        }
    }
}

impl Server for BareServer {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve_bare(listener: TcpListener, body: Bytes) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("TCP");
        let body = body.clone();
        let service = service_fn(move |_| {
            let response = Response::builder()
                .header("content-type", "application/json")
                .header("cache-control", "no-store")
                .body(Full::new(body.clone()));
            async { Ok::<_, Infallible>(response.expect("a response")) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// What a kept connection that says nothing costs in memory.
pub(crate) fn idle_connections(server: &CredletServer) -> String {
    let target = Target::new(server.address());
    let mut buffer = [0; 8192];
    let connect =
        |index: u16| target.connect(pod(u8::try_from(index % 100).expect("below 100") + 1));
    let empty = resident();
    let silent: Vec<_> = (0..IDLE).map(connect).collect();
    thread::sleep(Duration::from_millis(300));
    let with_silent = resident();
    drop(silent);
    thread::sleep(Duration::from_millis(300));
    let before = resident();
    let mut kept: Vec<_> = (0..IDLE).map(connect).collect();
    for stream in &mut kept {
        target.ask(stream, &mut buffer);
    }
    let with_kept = resident();
    format!(
        "{IDLE} idle connections: {} bytes each before a request, {} after one",
        with_silent.saturating_sub(empty) / usize::from(IDLE),
        with_kept.saturating_sub(before.min(empty)) / usize::from(IDLE),
    )
}

/// Of this process, in bytes.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("proc");
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|it| it.parse().ok())
        .expect("a number");
    pages * 4096
}

/// A quiet pod's 99th percentile at 10 requests a second beside a pod that asks
/// as fast as it can on 64 connections.
pub(crate) fn noisy_neighbour(server: &CredletServer) -> String {
    let target = Target::new(server.address());
    let over = AtomicBool::new(false);
    let mut took = Vec::new();
    let mut noise = 0_u64;
    thread::scope(|scope| {
        let noisy = scope.spawn(|| {
            let mut buffer = [0; 8192];
            let mut streams: Vec<_> = (0..NOISE).map(|_| target.connect(pod(2))).collect();
            let mut asked = 0;
            streams.iter_mut().for_each(|stream| target.send(stream));
            while !over.load(Ordering::Relaxed) {
                for stream in &mut streams {
                    load::receive(stream, &mut buffer);
                    target.send(stream);
                    asked += 1;
                }
            }
            asked
        });
        let mut buffer = [0; 8192];
        for _ in 0..200 {
            thread::sleep(Duration::from_millis(100));
            let begun = Instant::now();
            target.ask(&mut target.connect(pod(1)), &mut buffer);
            took.push(begun.elapsed());
        }
        over.store(true, Ordering::Relaxed);
        noise = noisy.join().expect("no panic");
    });
    format!(
        "a quiet pod beside a noisy one ({} requests/s): p99 {:?} (wanted: at most 10ms)",
        noise / 20,
        load::percentile(&mut took, 99)
    )
}

/// A hundred pods of one account ask at once; the upstream takes 100 ms.
pub(crate) fn cold_burst() -> String {
    const UPSTREAM: Duration = Duration::from_millis(100);
    let server = CredletServer::start(100, 1);
    server.front().upstream.delay(UPSTREAM);
    let target = Target::new(server.address());
    let mut streams: Vec<_> = (1..=100).map(|index| target.connect(pod(index))).collect();
    let mut buffer = [0; 8192];
    let begun = Instant::now();
    streams.iter_mut().for_each(|stream| target.send(stream));
    for stream in &mut streams {
        load::receive(stream, &mut buffer);
    }
    format!(
        "100 pods of one account at once, upstream of {UPSTREAM:?}: {} call, last answer after {:?} (wanted: 1, 110ms)",
        server.front().upstream.calls(),
        begun.elapsed(),
    )
}

/// Brings `lo` up in the calling thread's namespace.
pub(crate) async fn up_lo() -> io::Result<()> {
    let up = LinkUnspec::new_with_name("lo").up().build();
    let change = netlink()?.link().change(up);
    change.execute().await.map_err(io::Error::other)
}
