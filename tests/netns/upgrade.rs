//! An upgrade: two agents on one node, under load, and one of them is killed.
//!
//! What is lost with a killed process is the try that it had taken on; a request
//! is lost only if the tries after it are, too.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use credlet_tests::client::{Answer, Error, Kept};
use credlet_tests::fake_aws::{self, Api};
use credlet_tests::node::{Node, Pod};
use credlet_tests::process::{Agent, DOOR};
use futures::future::join_all;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{DOOR_V6, PATIENCE, ROLE, Shop, owner};

/// How often a request is tried: no SDK gives up earlier.
const TRIES: usize = 3;
/// How long after a failed try the next one comes: no SDK waits less on the average.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a try may take: botocore gives it as much.
const TRY: Duration = Duration::from_secs(2);
/// How often each client is answered between one event and the next.
const SOME: usize = 50;
/// How often an upgrade is gone through.
const ROUNDS: usize = 3;

/// What a client does with a connection once it is answered.
#[derive(Clone, Copy, Debug)]
enum Connections {
    Kept,
    New,
}

/// What became of requests.
#[derive(Default)]
struct Tally {
    over: AtomicBool,
    answered: AtomicUsize,
    hurt: Mutex<Vec<String>>,
    failed: Mutex<Vec<String>>,
    slowest: Mutex<Duration>,
}

impl Tally {
    fn note(list: &Mutex<Vec<String>>, what: String) {
        list.lock().expect("nobody panics with it").push(what);
    }

    fn taken(list: &Mutex<Vec<String>>) -> Vec<String> {
        std::mem::take(&mut list.lock().expect("nobody panics with it"))
    }
}

/// One that asks on and on.
struct Client {
    from: IpAddr,
    to: SocketAddr,
    account: &'static str,
    connections: Connections,
    kept: Option<Kept>,
    tally: Arc<Tally>,
}

impl Client {
    async fn run(mut self) {
        while !self.tally.over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            self.request().await;
            let mut slowest = self.tally.slowest.lock().expect("nobody panics with it");
            *slowest = begun.elapsed().max(*slowest);
        }
    }

    /// As an SDK makes one.
    async fn request(&mut self) {
        let mut why = String::new();
        for _ in 0..TRIES {
            let answer = timeout(TRY, self.attempt()).await;
            why = match answer.map_err(Error::from).flatten().as_ref().map(owner) {
                Ok(owner) if owner == self.account => {
                    self.tally.answered.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Ok(other) => other,
                Err(error) => error.to_string(),
            };
            self.kept = None;
            let who = format!(
                "{} at {}, {:?}: {why}",
                self.account, self.to, self.connections
            );
            Tally::note(&self.tally.hurt, who);
            sleep(PAUSE).await;
        }
        Tally::note(&self.tally.failed, why);
    }

    async fn attempt(&mut self) -> Result<Answer, Error> {
        if let Some(mut kept) = self.kept.take() {
            match kept.get("/v1/credentials", None).await {
                // Closed while nobody used it: whoever pools connections opens another.
                Err(error) if was_never_sent(&error) => {}
                answered => {
                    self.kept = Some(kept);
                    return answered;
                }
            }
        }
        let mut opened = Kept::open(self.from, self.to).await?;
        let answer = opened.get("/v1/credentials", None).await?;
        match self.connections {
            Connections::Kept => self.kept = Some(opened),
            Connections::New => {}
        }
        Ok(answer)
    }
}

fn was_never_sent(error: &Error) -> bool {
    let error = error.downcast_ref::<hyper::Error>();
    error.is_some_and(|error| error.is_closed() || error.is_canceled())
}

struct Rig {
    shop: Shop,
    tally: Arc<Tally>,
}

impl Rig {
    async fn on(node: Node) -> Self {
        Self {
            shop: Shop::on(node).await,
            tally: Arc::default(),
        }
    }

    async fn agent(&self) -> Agent {
        self.shop.ready(self.shop.command()).await
    }

    /// Each pod asks at each address in each way until it is over.
    async fn load(&self) {
        let pods = [
            (&self.shop.checkout, "shop/checkout"),
            (&self.shop.reports, "shop/reports"),
        ];
        let mut clients = Vec::new();
        for (pod, account) in pods {
            for door in [DOOR, DOOR_V6] {
                for connections in [Connections::Kept, Connections::New] {
                    let client = self.client(pod, account, door, connections);
                    clients.push(pod.ns.run(async move || client.run().await));
                }
            }
        }
        join_all(clients).await;
    }

    fn client(
        &self,
        pod: &Pod,
        account: &'static str,
        door: &str,
        connections: Connections,
    ) -> Client {
        let to: SocketAddr = door.parse().expect("an address");
        let from = match to {
            SocketAddr::V4(_) => IpAddr::V4(pod.ipv4),
            SocketAddr::V6(_) => IpAddr::V6(pod.ipv6.expect("it is dual-stack")),
        };
        Client {
            from,
            to,
            account,
            connections,
            kept: None,
            tally: Arc::clone(&self.tally),
        }
    }

    /// Waits until each was answered some times more, on the average.
    async fn more(&self) {
        self.answers(8 * SOME).await;
    }

    async fn answers(&self, count: usize) {
        let enough = self.tally.answered.load(Ordering::Relaxed) + count;
        let came = async {
            while self.tally.answered.load(Ordering::Relaxed) < enough {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, came).await.expect("pods are answered");
    }

    /// No request was lost; returns the tries that were.
    fn hurt(&self) -> Vec<String> {
        assert_eq!(Tally::taken(&self.tally.failed), Vec::<String>::new());
        Tally::taken(&self.tally.hurt)
    }

    fn unhurt(&self) {
        assert_eq!(self.hurt(), Vec::<String>::new());
    }

    /// Lets this happen to agents under load, and says how it went. The event has
    /// the agent that serves, and returns the one that does then.
    async fn under_load(&self, what: &str, event: impl AsyncFn(Agent) -> Agent) {
        let first = self.agent().await;
        self.shop.settle().await;
        let events = async {
            let (mut serves, mut hurt) = (first, 0);
            for _ in 0..ROUNDS {
                self.more().await;
                serves = event(serves).await;
                hurt += self.hurt().len();
            }
            self.more().await;
            self.tally.over.store(true, Ordering::Relaxed);
            (serves, hurt)
        };
        let ((), (last, hurt)) = tokio::join!(self.load(), events);
        self.unhurt();
        let answered = self.tally.answered.load(Ordering::Relaxed);
        let slowest = *self.tally.slowest.lock().expect("nobody panics with it");
        println!(
            "{what}: {answered} requests, {hurt} tries lost, the slowest answer after {slowest:?}"
        );
        assert_eq!(last.terminate().await, Some(0));
    }
}

async fn kill(mut agent: Agent) {
    agent.signal(Signal::SIGKILL);
    agent.ended().await;
}

async fn both() -> [Rig; 2] {
    let nodes = [Node::new().await, Node::bridged().await];
    let [ptp, bridge] = nodes.map(|node| node.expect("a node"));
    [Rig::on(ptp).await, Rig::on(bridge).await]
}

#[tokio::test]
async fn an_upgrade_under_load_costs_no_try() {
    for rig in both().await {
        let upgrade = async |old: Agent| {
            let new = rig.agent().await;
            rig.more().await;
            assert_eq!(old.terminate().await, Some(0));
            rig.more().await;
            rig.unhurt();
            new
        };
        rig.under_load("upgraded", upgrade).await;
    }
}

#[tokio::test]
async fn an_agent_that_is_killed_beside_its_successor_costs_no_request() {
    for rig in both().await {
        let killed = async |old: Agent| {
            let new = rig.agent().await;
            rig.more().await;
            rig.unhurt();
            kill(old).await;
            rig.more().await;
            new
        };
        rig.under_load("the old agent killed", killed).await;
    }
}

#[tokio::test]
async fn an_agent_that_is_killed_as_it_leaves_costs_no_request() {
    for rig in both().await {
        let killed = async |old: Agent| {
            let new = rig.agent().await;
            old.signal(Signal::SIGTERM);
            // Fewer than it takes to leave.
            rig.answers(1).await;
            kill(old).await;
            rig.more().await;
            new
        };
        rig.under_load("the old agent killed as it leaves", killed)
            .await;
    }
}

#[tokio::test]
async fn a_successor_that_is_killed_costs_no_try() {
    for rig in both().await {
        let killed = async |old: Agent| {
            let new = rig.agent().await;
            rig.more().await;
            kill(new).await;
            rig.more().await;
            rig.unhurt();
            old
        };
        rig.under_load("the new agent killed", killed).await;
    }
}

#[tokio::test]
async fn a_request_that_waits_for_aws_as_its_agent_is_killed_is_answered_by_the_successor() {
    let rig = Rig::on(Node::new().await.expect("a node")).await;
    let aws = &rig.shop.aws;
    let of_checkout = |answer| aws.script_for(Api::AssumeRole, &format!("{ROLE}checkout"), answer);
    of_checkout(fake_aws::Answer::Hang);
    let old = rig.agent().await;
    aws.wait_for(Api::AssumeRole, 2).await;
    of_checkout(fake_aws::Answer::Well);
    // Else it would be asked for the other's metrics.
    let mut command = rig.shop.command();
    command.args(["--metrics-address", ""]);
    let new = rig.shop.ready(command).await;

    let pod = &rig.shop.checkout;
    let mut client = rig.client(pod, "shop/checkout", DOOR, Connections::New);
    let request = pod.ns.run(async move || client.request().await);
    let killed = async {
        rig.shop.shows("credlet_connections 1").await;
        kill(old).await;
    };
    tokio::join!(request, killed);
    assert!(!rig.hurt().is_empty(), "it was not asked");
    assert_eq!(new.terminate().await, Some(0));
}
