//! A node whose pods come and go all the time, and their addresses go on within
//! milliseconds: nobody gets another's credentials from the running agent.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use credlet_tests::client::Answer;
use credlet_tests::fake_aws::issued_to;
use credlet_tests::fake_kube::Interruption;
use credlet_tests::node::{Namespace, Node, Pod};
use credlet_tests::process::DOOR;
use fastrand::Rng;
use futures::future::join_all;
use hyper::StatusCode;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::cluster::{
    Cluster, DOOR_V6, addresses, ask_on, connect, reported, try_ask, unaddressed,
};

/// How many pods there are at a time.
const PODS: u8 = 50;
const FIRST_SEAT: u8 = 10;

/// How long a pod may take until it has its credentials, at the worst.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a pod lives for at the least, if it has its credentials by then.
const LIVES: std::ops::Range<u64> = 200..3_000;
/// How long a client rests between two requests.
const RESTS: std::ops::Range<u64> = 20..120;
/// How much later than the kernel the API server speaks, if it does.
const LATE: std::ops::Range<u64> = 0..300;
/// How much later than its sandbox a pod's containers are ready.
const READY: Duration = Duration::from_millis(1_200);

/// When the API server says that the pod which had the address before has gone.
#[derive(Clone, Copy, Debug)]
enum Farewell {
    /// While it is still there.
    Early,
    /// With the news of the next pod.
    Late,
    /// After it.
    Last,
}

/// What was answered.
#[derive(Default)]
struct Tally {
    pods: Cell<usize>,
    served: Cell<usize>,
    refused: RefCell<BTreeMap<String, usize>>,
    /// The longest that a pod went without, from its first request.
    slowest: Cell<Duration>,
    wrong: RefCell<Vec<String>>,
}

/// A node in use.
struct Churn {
    cluster: Cluster,
    idle: RefCell<Vec<Namespace>>,
    until: Instant,
    tally: Tally,
}

impl Churn {
    async fn on(node: Node, lasts: Duration) -> Self {
        let new = |_| Namespace::new().expect("a namespace");
        Self {
            cluster: Cluster::on(node).await,
            idle: RefCell::new((0..PODS).map(new).collect()),
            until: Instant::now() + lasts,
            tally: Tally::default(),
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() > self.until
    }

    /// The pods that have one address after the other.
    async fn seat(&self, seat: u8, mut rng: Rng) {
        let (ipv4, ipv6) = addresses(seat);
        let mut before = None;
        for number in 0.. {
            if self.is_over() {
                break;
            }
            let account = format!("seat{seat}-{number}");
            self.cluster.associate(&account);
            let ns = self.idle.borrow_mut().pop().expect("one for each seat");
            let pod = self.cluster.node.add_pod_in(ns, ipv4, Some(ipv6));
            let pod = pod.await.expect("it can be joined");
            let farewell = match rng.u8(..3) {
                0 => Farewell::Early,
                1 => Farewell::Late,
                _ => Farewell::Last,
            };
            let told = self.tell(&account, seat, before.take(), rng.fork());
            let lived = self.live(&pod, &account, seat, rng.fork());
            tokio::join!(told, lived);
            match farewell {
                Farewell::Early => self.cluster.kube.delete("shop", &format!("{account}-1")),
                Farewell::Late | Farewell::Last => before = Some((account, farewell)),
            }
            let unplugged = self.cluster.node.unplug(&pod).await;
            unplugged.expect("it was there");
            self.idle.borrow_mut().push(pod.ns);
        }
    }

    /// What the API server says of the pod and of the one before it, and when.
    async fn tell(
        &self,
        account: &str,
        seat: u8,
        before: Option<(String, Farewell)>,
        mut rng: Rng,
    ) {
        let kube = &self.cluster.kube;
        let delete = |account: &str| kube.delete("shop", &format!("{account}-1"));
        // As the kubelet sees it now, whenever that is told.
        let report = reported(account, seat);
        if rng.bool() {
            kube.apply(unaddressed(account).phase("Pending"));
        }
        if rng.u8(..4) > 0 {
            sleep(Duration::from_millis(rng.u64(LATE))).await;
        }
        match before {
            None => kube.apply(report),
            Some((before, Farewell::Early | Farewell::Late)) => {
                delete(&before);
                kube.apply(report);
            }
            Some((before, Farewell::Last)) => {
                kube.apply(report);
                sleep(Duration::from_millis(rng.u64(LATE))).await;
                delete(&before);
            }
        }
    }

    /// The pod asks all the time, until it has lived long enough.
    async fn live(&self, pod: &Pod, account: &str, seat: u8, mut rng: Rng) {
        let born = Instant::now();
        let served = Cell::new(None);
        let record = |answer: &Answer| {
            if self.record(answer, account) && served.get().is_none() {
                served.set(Some(born.elapsed()));
            }
        };
        let enough = born + Duration::from_millis(rng.u64(LIVES));
        let life = async {
            sleep_until(enough).await;
            while served.get().is_none() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let rest = |rng: &mut Rng| sleep(Duration::from_millis(rng.u64(RESTS)));
        let mut of_them = rng.fork();
        let on_new = async {
            loop {
                let door = if of_them.bool() { DOOR } else { DOOR_V6 };
                if let Ok(answer) = try_ask(pod, door).await {
                    record(&answer);
                }
                rest(&mut of_them).await;
            }
        };
        let on_kept = async {
            loop {
                let door = if rng.bool() { DOOR } else { DOOR_V6 };
                if let Ok(mut kept) = connect(pod, door).await {
                    while let Ok(answer) = ask_on(&mut kept, None).await {
                        record(&answer);
                        rest(&mut rng).await;
                    }
                }
            }
        };
        // Its containers are ready a little later, or start again.
        let reported_anew = async {
            loop {
                sleep(READY).await;
                self.cluster.kube.apply(reported(account, seat));
            }
        };
        let lived = async {
            tokio::select! {
                never = reported_anew => never,
                never = on_new => never,
                never = on_kept => never,
                () = life => {}
            }
        };
        let lived = timeout(PATIENCE, lived).await;
        assert!(
            lived.is_ok(),
            "{account} never got its credentials: {:?}",
            self.tally.refused
        );
        let tally = &self.tally;
        tally.pods.set(tally.pods.get() + 1);
        tally
            .slowest
            .set(tally.slowest.get().max(served.get().unwrap_or_default()));
    }

    /// Whether the answer was the account's own credentials.
    fn record(&self, answer: &Answer, account: &str) -> bool {
        let tally = &self.tally;
        if answer.status != StatusCode::OK {
            let code = answer.field("code");
            *tally.refused.borrow_mut().entry(code).or_default() += 1;
            return false;
        }
        tally.served.set(tally.served.get() + 1);
        let owner = issued_to(&answer.field("AccessKeyId")).unwrap_or_else(|| answer.text());
        let is_own = owner == format!("shop/{account}");
        if !is_own {
            let wrong = format!("{account} got the credentials of {owner}");
            tally.wrong.borrow_mut().push(wrong);
        }
        is_own
    }

    /// What goes wrong between the agent and the API server.
    async fn weather(&self, mut rng: Rng) {
        let kube = &self.cluster.kube;
        while !self.is_over() {
            sleep(Duration::from_millis(rng.u64(300..1_500))).await;
            let ends = match rng.u8(..5) {
                0 => Interruption::Error(410),
                1 => Interruption::Cut,
                2 => Interruption::End,
                3 => Interruption::Bookmark,
                _ => {
                    kube.down().await;
                    sleep(Duration::from_millis(rng.u64(LATE))).await;
                    self.cluster.kube_up().await;
                    continue;
                }
            };
            if ends != Interruption::Bookmark {
                kube.interrupt(Interruption::Silence);
                sleep(Duration::from_millis(rng.u64(LATE))).await;
            }
            kube.interrupt(ends);
        }
    }
}

async fn nobody_gets_anothers(node: Node, lasts: Duration) {
    let seed = fastrand::u64(..);
    let mut rng = Rng::with_seed(seed);
    let churn = Churn::on(node, lasts).await;
    let _agent = churn.cluster.ready(churn.cluster.command()).await;
    let seats = FIRST_SEAT..FIRST_SEAT + PODS;
    let seats = join_all(seats.map(|seat| churn.seat(seat, rng.fork())));
    let weather = churn.weather(Rng::with_seed(!seed));
    tokio::join!(seats, weather);

    let Tally {
        pods,
        served,
        refused,
        slowest,
        wrong,
    } = &churn.tally;
    let (pods, served, refused) = (pods.get(), served.get(), refused.borrow());
    let answers = served + refused.values().sum::<usize>();
    println!(
        "{pods} pods, {answers} answers, {served} of them credentials, {} another's; \
         refused: {refused:?}; the slowest pod waited {:?} (seed {seed})",
        wrong.borrow().len(),
        slowest.get(),
    );
    assert_eq!(*wrong.borrow(), Vec::<String>::new());
    assert!(served * 3 >= answers * 2, "few were served");
}

/// How long to go on: some seconds, or ten minutes where that is asked for.
fn lasts() -> Duration {
    match env::var_os("CREDLET_SOAK") {
        None => Duration::from_secs(15),
        Some(_) => Duration::from_mins(10),
    }
}

#[tokio::test]
async fn while_pods_with_links_of_their_own_come_and_go_nobody_gets_anothers_credentials() {
    nobody_gets_anothers(Node::new().await.expect("a node"), lasts()).await;
}

#[tokio::test]
async fn while_pods_on_a_bridge_come_and_go_nobody_gets_anothers_credentials() {
    nobody_gets_anothers(Node::bridged().await.expect("a node"), lasts()).await;
}
