//! Agents that are killed, that start, and that run two at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use credlet_tests::process::Agent;
use futures::future::join;
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::*;

/// How often a client is answered between one event and the next.
const SOME: usize = 5;

/// Clients that ask on and on, and how often each was answered by whom it should be.
#[derive(Default)]
struct Load {
    opted: AtomicUsize,
    plain: AtomicUsize,
    node: AtomicUsize,
}

impl Load {
    /// Panics as soon as one meets whom it should not.
    async fn run(&self, rig: &Rig, others: &Met) {
        let opted = role("opted");
        let node = rig.node();
        let clients = [
            (&rig.opted.ns, &opted, &self.opted),
            (&rig.plain.ns, others, &self.plain),
        ];
        let pods = clients.map(|(ns, wanted, count)| async move {
            loop {
                for at in IMDS {
                    let met = meets(ns, at).await;
                    // Who is let go does not notice agents.
                    let may_wait = *wanted != Met::Real && is_between_agents(&met);
                    assert!(
                        met == *wanted || may_wait,
                        "{at}: {met:?} instead of {wanted:?}"
                    );
                    if met == *wanted {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        let of_the_node = async {
            loop {
                for at in IMDS {
                    assert_eq!(meets(node, at).await, Met::Real, "{at}");
                    self.node.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let [opted, plain] = pods;
        join(join(opted, plain), of_the_node).await;
    }

    /// Waits until each client was answered some times more.
    async fn more(&self) {
        let all = [&self.opted, &self.plain, &self.node];
        let before = all.map(|count| count.load(Ordering::Relaxed));
        let enough = async {
            while all
                .iter()
                .zip(before)
                .any(|(count, before)| count.load(Ordering::Relaxed) < before + SOME)
            {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let came = timeout(PATIENCE, enough).await;
        assert!(came.is_ok(), "a client is not answered");
    }
}

/// While an agent ends or starts there may be nobody, or one that does not know the
/// pod yet.
fn is_between_agents(met: &Met) -> bool {
    match met {
        Met::Nobody | Met::Refused(503) => true,
        Met::Refused(_) | Met::Role(_) | Met::Real => false,
    }
}

async fn kill(mut agent: Agent) {
    agent.signal(Signal::SIGKILL);
    agent.ended().await;
}

async fn through_all(others: &str, of_others: Met) {
    for rig in Rig::both().await {
        let start = || rig.cluster.ready(rig.command(others));
        let first = start().await;
        for at in IMDS {
            rig.comes_to_meet(&rig.opted.ns, at, &role("opted")).await;
            rig.comes_to_meet(&rig.plain.ns, at, &of_others).await;
        }
        let load = Load::default();
        let agents = async {
            load.more().await;
            kill(first).await;
            let killed = start().await;
            load.more().await;
            kill(killed).await;
            let second = start().await;
            load.more().await;
            let third = start().await;
            load.more().await;
            kill(second).await;
            load.more().await;
            let fourth = start().await;
            load.more().await;
            assert_eq!(third.terminate().await, Some(0));
            load.more().await;
            fourth
        };
        let last = tokio::select! {
            last = agents => last,
            () = load.run(&rig, &of_others) => unreachable!("it goes on"),
        };
        assert_eq!(rig.fell_through(&rig.opted), [] as [IpAddr; 0]);
        if of_others != Met::Real {
            assert_eq!(rig.fell_through(&rig.plain), [] as [IpAddr; 0]);
        }
        assert_eq!(last.terminate().await, Some(0));
    }
}

#[tokio::test]
async fn blocked_pods_and_those_that_have_asked_never_meet_the_real_service_between_agents() {
    through_all("block", Met::Refused(403)).await;
}

#[tokio::test]
async fn who_has_asked_never_meets_the_real_service_between_agents_that_let_others_go() {
    through_all("real", Met::Real).await;
}

#[tokio::test]
async fn a_successor_takes_over_instance_metadata_without_a_failed_request() {
    for rig in Rig::both().await {
        let old = rig.cluster.ready(rig.command("block")).await;
        for at in IMDS {
            rig.comes_to_meet(&rig.opted.ns, at, &role("opted")).await;
        }
        let answered = AtomicUsize::new(0);
        let asking = async {
            loop {
                for at in IMDS {
                    let met = rig.meets(&rig.opted.ns, at).await;
                    assert_eq!(met, role("opted"), "{at}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let more = async || {
            let enough = answered.load(Ordering::Relaxed) + 50;
            while answered.load(Ordering::Relaxed) < enough {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let agents = async {
            more().await;
            let new = rig.cluster.ready(rig.command("block")).await;
            more().await;
            assert_eq!(old.terminate().await, Some(0));
            more().await;
            new
        };
        let new = tokio::select! {
            new = agents => new,
            () = asking => unreachable!("it goes on"),
        };
        assert_eq!(new.terminate().await, Some(0));
    }
}
