//! Clients: blocking sockets and as little else as possible, so that the server is what is measured.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::pod;

/// Where servers run.
pub(crate) const SERVER_CORE: usize = 0;
/// Where clients run.
pub(crate) const CLIENT_CORE: usize = 1;

/// Connections that are asked on at a time, so that the server has work while
/// the client looks at answers.
pub(crate) const BATCH: u8 = 32;

/// Whom to ask for what.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    request: Vec<u8>,
}

/// Whom to ask as each of a few pods.
pub(crate) type Targets = Vec<Target>;

impl Target {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self::at(address, "/v1/credentials", "")
    }

    /// With a token as an SDK sends it.
    pub(crate) fn with_token(address: SocketAddr, token: &str) -> Self {
        let header = format!("Authorization: {token}\r\n");
        Self::at(address, "/v1/credentials", &header)
    }

    pub(crate) fn at(address: SocketAddr, path: &str, header: &str) -> Self {
        Self::by("GET", address, path, header)
    }

    pub(crate) fn by(method: &str, address: SocketAddr, path: &str, header: &str) -> Self {
        // What botocore sends.
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept-Encoding: identity\r\n\
             Accept: application/json\r\n{header}User-Agent: Botocore/1.40 Python/3.13\r\n\r\n",
        );
        let request = request.into_bytes();
        Self { address, request }
    }

    /// A connection from a pod's address.
    pub(crate) fn connect(&self, from: Ipv4Addr) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        nix::sys::socket::setsockopt(
            &socket,
            nix::sys::socket::sockopt::IpBindAddressNoPort,
            &true,
        )
        .expect("a port is chosen with the destination known");
        let from = SocketAddr::from((from, 0));
        socket.bind(&from.into()).expect("a pod's address");
        socket.connect(&self.address.into()).expect("a server");
        socket.set_tcp_nodelay(true).expect("TCP");
        socket.into()
    }

    pub(crate) fn send(&self, stream: &mut TcpStream) {
        stream.write_all(&self.request).expect("it is read");
    }

    /// Asks and waits.
    pub(crate) fn ask(&self, stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
        self.send(stream);
        receive(stream, buffer)
    }

    /// The body that is answered to a pod.
    pub(crate) fn body(&self, from: Ipv4Addr) -> Vec<u8> {
        let mut buffer = [0; 8192];
        let length = self.ask(&mut self.connect(from), &mut buffer);
        let head = buffer.windows(4).position(|it| it == b"\r\n\r\n");
        buffer[head.expect("a head") + 4..length].to_vec()
    }
}

/// Reads one answer; its head and body fit the buffer, and it is a 200.
pub(crate) fn receive(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).expect("an answer");
        assert_ne!(read, 0, "the connection was closed");
        filled += read;
        if let Some(length) = length(&buffer[..filled])
            && filled >= length
        {
            assert!(
                buffer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&buffer[..filled])
            );
            return filled;
        }
    }
}

/// Of the whole answer, once its head is there.
fn length(answer: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"ontent-length: ";
    const NAME_GO: &[u8] = b"ontent-Length: ";
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = &answer[..end];
    let at = head
        .windows(NAME.len())
        .position(|it| it == NAME || it == NAME_GO)?
        + NAME.len();
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let body = digits.fold(0, |value, digit| value * 10 + usize::from(digit - b'0'));
    Some(end + body)
}

/// How many requests were answered, on connections that are kept.
pub(crate) fn kept(target: &Target, round: Duration) -> u32 {
    kept_by_each(&vec![target.clone(); BATCH.into()], round)
}

/// As [`kept`], with a request of its own for each of the first pods.
pub(crate) fn kept_by_each(targets: &Targets, round: Duration) -> u32 {
    let connections = targets.iter().zip(1..);
    let mut streams: Vec<_> = connections
        .map(|(target, index)| (target, target.connect(pod(index))))
        .collect();
    let mut buffer = [0; 8192];
    let (begun, mut asked) = (Instant::now(), 0);
    while begun.elapsed() < round {
        for (target, stream) in &mut streams {
            target.send(stream);
        }
        for (_, stream) in &mut streams {
            receive(stream, &mut buffer);
            asked += 1;
        }
    }
    asked
}

/// How many requests were answered, on a connection each, which the client closes.
pub(crate) fn fresh(target: &Target, round: Duration) -> u32 {
    let mut buffer = [0; 8192];
    let (begun, mut asked) = (Instant::now(), 0);
    while begun.elapsed() < round {
        let open = (1..=BATCH).map(|index| {
            let mut stream = target.connect(pod(index));
            target.send(&mut stream);
            stream
        });
        for mut stream in open.collect::<Vec<_>>() {
            receive(&mut stream, &mut buffer);
            asked += 1;
        }
    }
    asked
}

/// How long each answer took that was asked for at a steady pace, from when it
/// was due: an answer that comes late delays the next request too.
pub(crate) fn paced(target: &Target, pace: Duration, requests: u32) -> Vec<Duration> {
    let mut streams: Vec<_> = (1..=BATCH)
        .map(|index| target.connect(pod(index)))
        .collect();
    let mut buffer = [0; 8192];
    let begun = Instant::now();
    let turns = (0..requests).zip((0..usize::from(BATCH)).cycle());
    turns
        .map(|(turn, stream)| {
            let due = begun + pace * turn;
            wait_until(due);
            target.ask(&mut streams[stream], &mut buffer);
            due.elapsed()
        })
        .collect()
}

/// Awake when it comes: what the machine oversleeps is not the server's.
pub(crate) fn wait_until(due: Instant) {
    const AWAKE: Duration = Duration::from_micros(300);
    thread::sleep(due.saturating_duration_since(Instant::now() + AWAKE));
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

/// The time that a thread has been on a core, by its folder in `/proc`.
pub(crate) fn on_core(task: &Path) -> Duration {
    let stat = fs::read_to_string(task.join("schedstat")).expect("CONFIG_SCHED_INFO");
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

/// Keeps this thread, and those that it starts, on one core.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core).expect("a small number");
    sched_setaffinity(Pid::from_raw(0), &set).expect("two cores");
}

/// As many connections as the machine allows.
pub(crate) fn raise_file_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The smallest one that this many of a hundred do not exceed.
pub(crate) fn percentile(mut values: Vec<Duration>, percent: usize) -> Duration {
    values.sort();
    values[(values.len() * percent).div_ceil(100) - 1]
}
