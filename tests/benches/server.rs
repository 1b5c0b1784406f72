//! What is measured: the front door, the bare server beside it, and the front door under stress.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use credlet::config::Imds;
use credlet::model::ServiceAccount;
use credlet::serve::{Limits, Metadata};
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

use crate::load::{self, Target, Targets};
use crate::pod;

const NOISE: usize = 64;
const BURSTS: usize = 5;
/// What the name of a pod's role stands after.
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
/// botocore's sessions.
const LIFE: &str = "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n";

/// Something that answers, on one worker: servers have one core here.
pub(crate) struct Worker {
    pub(crate) runtime: Runtime,
    /// In `/proc`.
    pub(crate) thread: PathBuf,
}

/// The real front door.
pub(crate) struct CredletServer {
    pub(crate) worker: Worker,
    front: Option<Front>,
    pods: Pods,
}

/// hyper and nothing else.
pub(crate) struct BareServer {
    pub(crate) worker: Worker,
    pub(crate) address: SocketAddr,
}

impl Worker {
    pub(crate) fn start() -> Self {
        let id = Arc::new(OnceLock::new());
        let tell = Arc::clone(&id);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .on_thread_start(move || _ = tell.set(nix::unistd::gettid()))
            .enable_all()
            .build()
            .expect("a runtime");
        runtime
            .block_on(runtime.spawn(async {}))
            .expect("the worker has started");
        let id = id.get().expect("it has told");
        let thread = format!("/proc/self/task/{id}").into();
        Self { runtime, thread }
    }
}

impl CredletServer {
    pub(crate) fn start(pods: u8, accounts: u8) -> Self {
        let limits = Limits {
            connections: 8192,
            connections_per_peer: 4096,
            head: Duration::from_mins(1),
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
        let worker = Worker::start();
        let known = pods.clone();
        let metadata = Some(Metadata::new(Imds::default()));
        let front = async move { Front::with(metadata, 0, &known, limits).await };
        let front = worker.runtime.block_on(worker.runtime.spawn(front));
        Self {
            worker,
            front: Some(front.expect("it opens")),
            pods,
        }
    }

    fn front(&self) -> &Front {
        self.front.as_ref().expect("only drop takes it")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.front().address
    }

    /// Tokens of its first pods.
    pub(crate) fn tokens(&self) -> Vec<String> {
        let pods = self.pods.iter().take(load::BATCH.into());
        pods.map(|(address, account)| self.front().token(*address, account))
            .collect()
    }

    /// The body that the first pod gets.
    pub(crate) fn answer(&self) -> Bytes {
        Target::new(self.address()).body(pod(1)).into()
    }

    /// What its first pods ask for the same credentials: at `/v1/credentials`, and
    /// as instance metadata, without a session token and with one.
    pub(crate) fn doors(&self) -> [Targets; 3] {
        let imds = self.front().imds.expect("it is open");
        let credentials = |account: &ServiceAccount| format!("{ROLES}{}", account.name());
        let pods = || self.pods.iter().take(load::BATCH.into());
        let first = pods().map(|_| Target::new(self.address()));
        let second = pods().map(|(_, account)| Target::at(imds, &credentials(account), ""));
        let third = pods().map(|(pod, account)| {
            let session = Target::by("PUT", imds, "/latest/api/token", LIFE).body(*pod);
            let session = String::from_utf8(session).expect("text");
            let header = format!("X-aws-ec2-metadata-token: {session}\r\n");
            Target::at(imds, &credentials(account), &header)
        });
        [first.collect(), second.collect(), third.collect()]
    }
}

impl Drop for CredletServer {
    fn drop(&mut self) {
        let _within = self.worker.runtime.enter();
        self.front = None;
    }
}

impl BareServer {
    pub(crate) fn start(body: Bytes) -> Self {
        let worker = Worker::start();
        let listener = worker.runtime.block_on(TcpListener::bind((HOST, 0)));
        let listener = listener.expect("an address");
        let address = listener.local_addr().expect("it is bound");
        worker.runtime.spawn(serve_bare(listener, body));
        Self { worker, address }
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

/// A quiet pod's 99th percentile at 10 requests a second, on a connection each,
/// beside a pod that asks as fast as it can on 64 connections.
pub(crate) fn noisy_neighbour(server: SocketAddr) -> Duration {
    const PACE: Duration = Duration::from_millis(100);
    const REQUESTS: u32 = 200;
    let target = Target::new(server);
    let over = AtomicBool::new(false);
    let quiet = thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 8192];
            let mut streams: Vec<_> = (0..NOISE).map(|_| target.connect(pod(2))).collect();
            for stream in &mut streams {
                target.send(stream);
            }
            while !over.load(Ordering::Relaxed) {
                for stream in &mut streams {
                    load::receive(stream, &mut buffer);
                    target.send(stream);
                }
            }
        });
        let begun = Instant::now();
        let took = (0..REQUESTS).map(|turn| {
            let due = begun + PACE * turn;
            load::wait_until(due);
            target.ask(&mut target.connect(pod(1)), &mut [0; 8192]);
            due.elapsed()
        });
        let took = took.collect();
        over.store(true, Ordering::Relaxed);
        took
    });
    load::percentile(quiet, 99)
}

/// A hundred pods of one account ask at once, whom the upstream keeps waiting:
/// the calls that it got, and when the last answer was there.
pub(crate) fn cold_burst(upstream: Duration) -> (u64, Duration) {
    let bursts = (0..BURSTS).map(|_| {
        let server = CredletServer::start(100, 1);
        server.front().upstream.delay(upstream);
        let target = Target::new(server.address());
        let mut streams: Vec<_> = (1..=100).map(|index| target.connect(pod(index))).collect();
        let begun = Instant::now();
        for stream in &mut streams {
            target.send(stream);
        }
        for stream in &mut streams {
            load::receive(stream, &mut [0; 8192]);
        }
        (server.front().upstream.calls(), begun.elapsed())
    });
    let (calls, last): (Vec<_>, Vec<_>) = bursts.unzip();
    let most = calls.into_iter().max().expect("there were bursts");
    (most, load::percentile(last, 50))
}

/// Brings `lo` up in the calling thread's namespace.
pub(crate) async fn up_lo() -> io::Result<()> {
    let up = LinkUnspec::new_with_name("lo").up().build();
    let change = netlink()?.link().change(up);
    change.execute().await.map_err(io::Error::other)
}
