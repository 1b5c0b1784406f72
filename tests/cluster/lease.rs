//! Leader election by a Lease of a real API server.

use std::time::Duration;

use credlet::clock::Clock;
use credlet::cluster::lease::store::Lease;
use credlet::cluster::lease::{Candidate, Lead, Terms};
use k8s_openapi::api::coordination::v1::Lease as Object;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::control_plane::ControlPlane;
use crate::follower::PATIENCE;
use crate::place::Place;

const NAME: &str = "credlet-it";

/// As short as the API server's whole seconds allow.
const TERMS: Terms = Terms {
    life: Duration::from_secs(3),
    lead: Duration::from_secs(2),
    every: Duration::from_millis(200),
    answer: Duration::from_secs(1),
};

struct Runner {
    lead: Lead,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn run(place: &Place, name: &str) -> Runner {
    let lease = Lease::new(place.admin.clone(), &place.namespace, NAME);
    let (candidate, lead) = Candidate::new(lease, name, TERMS, Clock::system());
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(candidate.run(async {
        let _ = stopped.await;
    }));
    Runner { lead, stop, task }
}

async fn wins(runner: &mut Runner) {
    let won = timeout(PATIENCE, runner.lead.won()).await;
    won.expect("somebody has to lead");
}

#[tokio::test]
async fn a_lease_goes_from_one_that_leaves_or_dies_to_the_next() {
    let place = Place::on(ControlPlane::shared().await).await;
    let leases = Api::<Object>::namespaced(place.admin.clone(), &place.namespace);
    let seen = async || {
        let lease = leases.get(NAME).await.expect("it is there");
        lease.spec.expect("it says whose it is")
    };
    let mut first = run(&place, "first");
    wins(&mut first).await;
    let lease = seen().await;
    assert_eq!(lease.holder_identity.as_deref(), Some("first"));
    assert_eq!(lease.lease_duration_seconds, Some(3));
    assert_eq!(lease.lease_transitions, Some(0));
    // What others have on it stays.
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "it"}}}));
    let labelled = leases.patch(NAME, &PatchParams::default(), &label).await;
    labelled.expect("a lease");

    let mut second = run(&place, "second");
    first.stop.send(()).expect("it runs");
    first.task.await.expect("it ends well");
    wins(&mut second).await;
    let lease = seen().await;
    assert_eq!(lease.holder_identity.as_deref(), Some("second"));
    assert_eq!(lease.lease_transitions, Some(1));

    let mut third = run(&place, "third");
    second.task.abort();
    wins(&mut third).await;
    assert!(!second.lead.leads());
    let lease = seen().await;
    assert_eq!(lease.holder_identity.as_deref(), Some("third"));
    assert!(lease.acquire_time <= lease.renew_time);
    let labels = leases.get(NAME).await.expect("it is there").metadata.labels;
    assert!(labels.is_some_and(|labels| labels["team"] == "it"));
    third.stop.send(()).expect("it runs");
    third.task.await.expect("it ends well");
    assert_eq!(seen().await.holder_identity, None);
}

#[tokio::test]
async fn of_many_candidates_at_once_one_leads() {
    let place = Place::on(ControlPlane::shared().await).await;
    let mut runners: Vec<_> = (0..8).map(|n| run(&place, &format!("it-{n}"))).collect();
    let mut leads: Vec<Lead> = runners.iter().map(|it| it.lead.clone()).collect();
    let wins = leads.iter_mut().map(|it| Box::pin(it.won()));
    let first = timeout(PATIENCE, futures::future::select_all(wins)).await;
    let ((), which, _) = first.expect("one wins");
    let other = |(at, it): (usize, &Runner)| at != which && it.lead.leads();
    for _ in 0..20 {
        tokio::time::sleep(TERMS.every / 2).await;
        assert!(!runners.iter().enumerate().any(other));
    }
    assert!(runners.remove(which).lead.leads());
    for runner in runners {
        runner.task.abort();
    }
}
