//! `make bench`: the agent beside a bare hyper server, in one run, as one table.
//!
//! The bare server returns the same bytes on the same runtime settings. Both
//! have the first core and the clients the second; rounds take turns, so that
//! whatever else the machine does hits both. Times are of no use elsewhere:
//! only ratios are, and counts of calls and bytes.
//!
//! `PEER=script` measures another agent too: the script starts it, prints its
//! URL, and is killed at the end.

mod identity;
mod load;
mod process;
mod server;
mod webhook;

use std::io::BufRead;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use credlet_tests::front::{PODS, add_addresses};
use load::{Target, Targets};
use nix::sched::{CloneFlags, unshare};
use process::Figures;
use server::{BareServer, CredletServer, Worker};

const ROUNDS: usize = 16;
const ROUND: Duration = Duration::from_millis(500);
const PODS_ON_NODE: u8 = 110;
const ACCOUNTS: u8 = 30;
const PACE: Duration = Duration::from_millis(2);
const PACED: u32 = 500;
const UPSTREAM: Duration = Duration::from_millis(100);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let figures = runtime.block_on(process::measure());
    drop(runtime);
    let reviews = webhook::measure();
    enter_namespace();
    load::pin(load::SERVER_CORE);
    let credlet = CredletServer::start(PODS_ON_NODE, ACCOUNTS);
    let bare = BareServer::start(credlet.answer());
    let peer = Peer::start();
    load::pin(load::CLIENT_CORE);

    let mut servers = vec![
        Measured::new(
            Target::new(credlet.address()),
            Some(credlet.worker.thread.clone()),
        ),
        Measured::new(Target::new(bare.address), Some(bare.worker.thread.clone())),
    ];
    if let Some(peer) = &peer {
        servers.push(Measured::new(peer.target.clone(), None));
    }
    for _ in 0..ROUNDS {
        for server in &mut servers {
            server.round();
        }
    }
    let tokens = with_tokens(&credlet, &bare);
    let doors = by_turns(&credlet.doors().map(|targets| (targets, &credlet.worker)));
    let quiet = [credlet.address(), bare.address].map(server::noisy_neighbour);
    let burst = server::cold_burst(UPSTREAM);
    let seen: Vec<_> = servers.into_iter().map(Measured::seen).collect();
    print_ratios(&seen, tokens);
    print_doors(doors);
    print_figures(&figures, quiet, burst);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(identity::measure()).print();
    reviews.print();
}

fn enter_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root, or `unshare -rn make bench`");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(tokio::task::LocalSet::new().run_until(async {
            load::raise_file_limit();
            server::up_lo().await.expect("lo comes up");
            add_addresses().await.expect("lo takes addresses");
        }));
}

/// One server and what was seen of it, round by round.
struct Measured {
    target: Target,
    /// Its thread in `/proc`, if it is one of ours.
    thread: Option<PathBuf>,
    rates: [Vec<f64>; 2],
    /// Microseconds on a core for a request.
    costs: [Vec<f64>; 2],
    /// The rounds' 99th percentiles, in microseconds.
    late: Vec<f64>,
}

impl Measured {
    fn new(target: Target, thread: Option<PathBuf>) -> Self {
        Self {
            target,
            thread,
            rates: Default::default(),
            costs: Default::default(),
            late: Vec::new(),
        }
    }

    fn round(&mut self) {
        for (index, ask) in [load::kept, load::fresh].into_iter().enumerate() {
            let on_core = || self.thread.as_deref().map(load::on_core);
            let (begun, idle) = (Instant::now(), on_core());
            let asked = f64::from(ask(&self.target, ROUND));
            self.rates[index].push(asked / begun.elapsed().as_secs_f64());
            let busy = on_core().zip(idle);
            let busy = busy.map(|(after, before)| after.saturating_sub(before));
            self.costs[index].extend(busy.map(|busy| micros(busy) / asked));
        }
        let paced = load::paced(&self.target, PACE, PACED);
        self.late.push(micros(load::percentile(paced, 99)));
    }

    /// The middle rounds of each: what the machine did to the others is not the
    /// server's.
    fn seen(self) -> [Option<f64>; 5] {
        let Self {
            rates: [kept, fresh],
            costs: [kept_cost, fresh_cost],
            late,
            ..
        } = self;
        [kept, fresh, late, kept_cost, fresh_cost]
            .map(|rounds| (!rounds.is_empty()).then(|| load::median(rounds)))
    }
}

/// Requests a second on kept connections, and microseconds of the server on a core
/// for each, of several that are asked in turns.
fn by_turns<const N: usize>(asked: &[(Targets, &Worker); N]) -> [[f64; 2]; N] {
    // The first round has the agent verify tokens.
    let mut seen = [const { [Vec::new(), Vec::new()] }; N];
    for round in 0..=ROUNDS {
        for (index, (targets, worker)) in asked.iter().enumerate() {
            let on_core = || load::on_core(&worker.thread);
            let (begun, idle) = (Instant::now(), on_core());
            let asked = f64::from(load::kept_by_each(targets, ROUND));
            if round > 0 {
                seen[index][0].push(asked / begun.elapsed().as_secs_f64());
                seen[index][1].push(micros(on_core().saturating_sub(idle)) / asked);
            }
        }
    }
    seen.map(|rounds| rounds.map(load::median))
}

/// Of the agent, and of the bare server that gets the same bytes.
fn with_tokens(credlet: &CredletServer, bare: &BareServer) -> [[f64; 2]; 2] {
    let tokens = credlet.tokens();
    let with_tokens = |address| -> Targets {
        let tokens = tokens.iter();
        tokens
            .map(|token| Target::with_token(address, token))
            .collect()
    };
    by_turns(&[
        (with_tokens(credlet.address()), &credlet.worker),
        (with_tokens(bare.address), &bare.worker),
    ])
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn print_ratios(seen: &[[Option<f64>; 5]], [ours, bare]: [[f64; 2]; 2]) {
    const ROWS: [(&str, &str); 5] = [
        ("requests/s on kept connections", ">= 0.90"),
        ("requests/s on a connection each", ">= 0.90"),
        ("p99 at 500 requests/s, us", "<= 1.10"),
        ("us of a core, on a kept connection", ""),
        ("us of a core, with its connection", ""),
    ];
    row(["", "credlet", "bare hyper", "ratio", "wanted", "peer"]);
    row(["---"; 6]);
    for (index, (name, wanted)) in ROWS.into_iter().enumerate() {
        let value = |server: usize| seen.get(server).and_then(|seen| seen[index]);
        let shown = |server| value(server).map_or(String::new(), |value| format!("{value:.1}"));
        let ratio = value(0).zip(value(1)).map(|(ours, bare)| ours / bare);
        let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        row([name, &shown(0), &shown(1), &ratio, wanted, &shown(2)]);
    }
    let rows = [
        ("requests/s with a remembered token", ">= 0.85"),
        ("us of a core, with a remembered token", ""),
    ];
    for ((name, wanted), (ours, bare)) in rows.into_iter().zip(ours.into_iter().zip(bare)) {
        let [shown, beside] = [ours, bare].map(|value| format!("{value:.1}"));
        row([
            name,
            &shown,
            &beside,
            &format!("{:.2}", ours / bare),
            wanted,
            "",
        ]);
    }
}

/// Instance metadata beside the same credentials at `/v1/credentials`.
fn print_doors([credentials, v1, v2]: [[f64; 2]; 3]) {
    let [beside, cost] = credentials.map(|value| format!("{value:.1}"));
    row(["requests/s for /v1/credentials", &beside, "", "", "", ""]);
    row(["us of a core, for /v1/credentials", &cost, "", "", "", ""]);
    for (version, seen) in [("v1", v1), ("v2 with a session token", v2)] {
        let [rate, cost] = seen.map(|value| format!("{value:.1}"));
        let ratio = format!("{:.2}", seen[0] / credentials[0]);
        let name = format!("requests/s for instance metadata, {version}");
        row([&name, &rate, "", &ratio, ">= 0.90", ""]);
        let name = format!("us of a core, for it, {version}");
        row([&name, &cost, "", "", "", ""]);
    }
}

/// The rest of the table, which has no ratio.
fn print_figures(figures: &Figures, quiet: [Duration; 2], (calls, last): (u64, Duration)) {
    let millis = |duration: Duration| format!("{:.1}", micros(duration) / 1e3);
    let alone = |name: &str, value: &str, wanted: &str| row([name, value, "", "", wanted, ""]);
    let [ours, bare] = quiet.map(millis);
    let name = "p99 of a quiet pod beside a noisy one, ms";
    row([name, &ours, &bare, "", "<= 10", ""]);
    alone(
        "100 pods of one account at once: calls",
        &calls.to_string(),
        "1",
    );
    alone("... last answer, ms", &millis(last), "<= 110");
    alone("start to ready, ms", &millis(figures.ready), "<= 100");
    let (resident, own) = figures.resident;
    let name = format!("resident with {PODS_ON_NODE} pods and {ACCOUNTS} accounts, KiB");
    alone(&name, &kib(resident), "<= 16384");
    alone("... of it not the binary's", &kib(own), "");
    alone(
        "resident of a sidecar, KiB",
        &kib(figures.sidecar),
        "<= 10240",
    );
    alone(
        "idle, ms of a core in a second",
        &format!("{:.2}", micros(figures.idle) / 1e3),
        "about 0",
    );
    alone(
        "KiB for an idle connection before its request",
        &kib(figures.silent),
        "",
    );
    alone("... and after it", &kib(figures.kept), "");
}

fn kib(bytes: usize) -> String {
    bytes.div_ceil(1024).to_string()
}

fn row(cells: [&str; 6]) {
    let [name, ours, bare, ratio, wanted, peer] = cells;
    println!("| {name:<57} | {ours:>9} | {bare:>10} | {ratio:>5} | {wanted:>8} | {peer:>9} |");
}

/// Another agent, killed when dropped.
struct Peer {
    child: Child,
    target: Target,
}

impl Peer {
    fn start() -> Option<Self> {
        let script = std::env::var_os("PEER")?;
        let mut child = Command::new(script)
            .stdout(Stdio::piped())
            .spawn()
            .expect("PEER is a program");
        let mut url = String::new();
        let output = child.stdout.take().expect("it is piped");
        std::io::BufReader::new(output)
            .read_line(&mut url)
            .expect("PEER prints a line");
        let rest = url.trim().strip_prefix("http://").expect("an http URL");
        let (address, path) = rest.split_once('/').expect("a URL with a path");
        let address: SocketAddr = address.parse().expect("an address and a port");
        let target = Target::at(address, &format!("/{path}"), "");
        Some(Self { child, target })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address of the `index`th pod.
fn pod(index: u8) -> std::net::Ipv4Addr {
    let [a, b, _, _] = PODS.octets();
    std::net::Ipv4Addr::new(a, b, 1, index)
}
