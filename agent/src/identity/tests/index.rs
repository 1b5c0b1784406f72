//! The index against the model: each look-up, after each event.

use std::cell::Cell;
use std::net::IpAddr;

use proptest::prelude::*;

use super::cluster::{Cluster, Event, Owner, Resident, Told, addresses, history};
use super::search;
use crate::identity::pods::{self, PodIndex};
use crate::model::PodUid;

pub(super) fn hear(index: &mut PodIndex, event: &Event) {
    match event {
        Event::Is(pod) => drop(index.apply(pod.report())),
        Event::Deleted(pod) => drop(index.remove(pod.report())),
        Event::All(pods) => {
            let mut listed = PodIndex::default();
            for pod in pods {
                listed.apply(pod.report());
            }
            listed.succeed(index);
            *index = listed;
        }
    }
}

fn owner(index: &PodIndex, address: IpAddr) -> Owner {
    match index.owner(address) {
        pods::Owner::Nobody => Owner::Nobody,
        pods::Owner::Node => Owner::Node,
        pods::Owner::Pod(_, caller) => {
            Owner::Pod(caller.pod().to_string(), caller.account().to_string())
        }
        pods::Owner::Several => Owner::Several,
        pods::Owner::Unusable(_) => Owner::Unusable,
    }
}

fn resident(index: &PodIndex, uid: &str) -> Resident {
    match index.resident(&PodUid::new(uid).expect("not empty")) {
        pods::Resident::Unknown => Resident::Unknown,
        pods::Resident::Gone => Resident::Gone,
        pods::Resident::Live(_, caller) => {
            assert_eq!(caller.pod().to_string(), uid);
            Resident::Live(caller.account().to_string())
        }
    }
}

#[test]
fn no_look_up_is_answered_with_another_pod_than_the_owner_by_the_events_so_far() {
    let (mut runner, times) = search(file!(), 60, 100);
    let looked = Cell::new(0_u64);
    let outcome = runner.run(&history(120), |steps| {
        let (mut cluster, mut told) = (Cluster::default(), Told::default());
        let mut index = PodIndex::default();
        for step in &steps {
            for event in cluster.step(step) {
                hear(&mut index, &event);
                told.hear(&event);
                for address in addresses() {
                    looked.set(looked.get() + 1);
                    prop_assert_eq!(
                        owner(&index, address),
                        told.owner(address),
                        "at {}",
                        address
                    );
                }
                for uid in cluster.uids() {
                    looked.set(looked.get() + 1);
                    prop_assert_eq!(resident(&index, &uid), told.resident(&uid), "{}", uid);
                }
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let looked = looked.get();
    println!("{looked} look-ups");
    assert!(
        looked >= 10_000 * u64::from(times),
        "only {looked} look-ups"
    );
}
