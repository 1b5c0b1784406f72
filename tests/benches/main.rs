//! `make bench`: the front door beside a bare hyper server, in one run, as ratios.
//!
//! The bare server returns the same bytes on the same runtime settings. Both
//! have the first core and the clients the second; rounds take turns, so that
//! whatever else the machine does hits both. Times are of no use elsewhere:
//! only ratios are, and the counts of calls and bytes.
//!
//! `PEER=script` measures another agent too: the script starts it, prints its
//! URL, and is killed at the end.

mod load;
mod server;

use std::io::BufRead;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use credlet_tests::front::{PODS, add_addresses};
use load::Target;
use nix::sched::{CloneFlags, unshare};
use server::{BareServer, CredletServer, Server};

const ROUNDS: usize = 8;
const ROUND: Duration = Duration::from_secs(1);
const PODS_ON_NODE: u8 = 110;
const ACCOUNTS: u8 = 30;
const PACE: Duration = Duration::from_millis(2);

fn main() {
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
    load::pin(load::SERVER_CORE);
    let credlet = CredletServer::start(PODS_ON_NODE, ACCOUNTS);
    let bare = BareServer::start(credlet.answer());
    let peer = Peer::start();
    load::pin(load::CLIENT_CORE);

    let mut servers = vec![
        Measured::new("credlet", Target::new(credlet.address())),
        Measured::new("bare hyper", Target::new(bare.address())),
    ];
    if let Some(peer) = &peer {
        servers.push(Measured::new("peer", peer.target.clone()));
    }
    for _ in 0..ROUNDS {
        for server in &mut servers {
            server.kept.push(load::kept(&server.target, ROUND));
            server.fresh.push(load::fresh(&server.target, ROUND));
            let paced = load::paced(&server.target, PACE, ROUND * 2);
            server.paced.extend(paced);
        }
    }
    print_table(&mut servers);
    println!();
    load::pin(load::CLIENT_CORE);
    println!("{}", server::idle_connections(&credlet));
    println!("{}", server::noisy_neighbour(&credlet));
    println!("{}", server::cold_burst());
}

/// One server and what was seen of it.
struct Measured {
    name: &'static str,
    target: Target,
    kept: Vec<f64>,
    fresh: Vec<f64>,
    paced: Vec<Duration>,
}

impl Measured {
    fn new(name: &'static str, target: Target) -> Self {
        Self {
            name,
            target,
            kept: Vec::new(),
            fresh: Vec::new(),
            paced: Vec::new(),
        }
    }
}

fn print_table(servers: &mut [Measured]) {
    let rows = servers.iter_mut().map(|server| {
        let rates = [&mut server.kept, &mut server.fresh].map(|rates| load::median(rates));
        let late = load::percentile(&mut server.paced, 99).as_secs_f64() * 1e6;
        (server.name, rates[0], rates[1], late)
    });
    let rows: Vec<_> = rows.collect();
    let (_, kept, fresh, late) = rows[1];
    println!(
        "| server | kept connections, 1/s | ratio | a connection each, 1/s | ratio | p99 at 500/s, us | ratio |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, its_kept, its_fresh, its_late) in &rows {
        println!(
            "| {name} | {its_kept:.0} | {:.2} | {its_fresh:.0} | {:.2} | {its_late:.0} | {:.2} |",
            its_kept / kept,
            its_fresh / fresh,
            its_late / late,
        );
    }
    println!("wanted: credlet's at least 0.90, at least 0.90, at most 1.10");
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
        let target = Target::new(address).at(&format!("/{path}"));
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
