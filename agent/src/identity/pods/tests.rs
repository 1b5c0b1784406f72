//! The rules of identity, as data.

use std::collections::HashSet;

use super::*;
use crate::model::{OwnRole, ServiceAccount, Subject};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod(name: &str, addresses: &[&str]) -> Report {
    Report {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-of-{name}"),
        account: "cart".into(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..Report::default()
    }
}

fn accounts(index: &PodIndex) -> HashSet<ServiceAccount> {
    let accounts = index.callers().map(Caller::account);
    accounts.cloned().collect()
}

fn host_pod(name: &str, addresses: &[&str], node_addresses: &[&str]) -> Report {
    Report {
        network: Network::Node,
        node_addresses: node_addresses.iter().map(ToString::to_string).collect(),
        ..pod(name, addresses)
    }
}

fn index(reports: impl IntoIterator<Item = Report>) -> PodIndex {
    let mut index = PodIndex::default();
    for report in reports {
        index.apply(report);
    }
    index
}

fn uid_at<'a>(index: &'a PodIndex, address: &str) -> Result<String, Owner<'a>> {
    match index.owner(ip(address)) {
        Owner::Pod(_, caller) => Ok(caller.pod().to_string()),
        other => Err(other),
    }
}

fn resident(index: &PodIndex, uid: &str) -> &'static str {
    match index.resident(&PodUid::new(uid).unwrap()) {
        Resident::Unknown => "unknown",
        Resident::Gone => "gone",
        Resident::Live(..) => "live",
    }
}

#[test]
fn an_address_names_the_pod_that_owns_it_and_its_account() {
    let index = index([pod("a", &["10.0.0.1"]), pod("b", &["10.0.0.2"])]);
    let Owner::Pod(_, caller) = index.owner(ip("10.0.0.2")) else {
        panic!("one pod owns it");
    };
    assert_eq!(caller.pod().to_string(), "uid-of-b");
    assert_eq!(caller.name(), "b");
    assert_eq!(caller.account().to_string(), "shop/cart");
}

#[test]
fn an_address_that_nobody_owns_is_unknown() {
    let index = index([pod("a", &["10.0.0.1"])]);
    assert_eq!(index.owner(ip("10.0.0.9")), Owner::Nobody);
}

#[test]
fn a_dual_stack_pod_is_found_by_either_address() {
    let index = index([pod("a", &["10.0.0.1", "fd00::1"])]);
    assert_eq!(uid_at(&index, "10.0.0.1"), uid_at(&index, "fd00::1"));
    assert_eq!(uid_at(&index, "fd00::1").unwrap(), "uid-of-a");
}

#[test]
fn an_address_that_is_reported_twice_is_one_claim() {
    let index = index([pod("a", &["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1"])]);
    assert_eq!(uid_at(&index, "10.0.0.1").unwrap(), "uid-of-a");
}

#[test]
fn two_live_pods_at_one_address_are_both_refused_until_one_has_gone() {
    let mut index = index([pod("a", &["10.0.0.1"]), pod("b", &["10.0.0.1"])]);
    assert_eq!(index.owner(ip("10.0.0.1")), Owner::Several);
    index.remove(pod("a", &[]));
    assert_eq!(uid_at(&index, "10.0.0.1").unwrap(), "uid-of-b");
}

#[test]
fn a_pod_whose_life_is_over_gives_its_address_up() {
    let mut index = index([pod("a", &["10.0.0.1"]), pod("b", &["10.0.0.1"])]);
    let over = Report {
        life: Life::Over,
        ..pod("a", &["10.0.0.1"])
    };
    assert_eq!(index.apply(over), Outcome::Changed);
    assert_eq!(uid_at(&index, "10.0.0.1").unwrap(), "uid-of-b");
    assert_eq!(index.len(), 1);
}

#[test]
fn a_pod_on_the_host_network_owns_no_address_and_marks_the_nodes() {
    let index = index([host_pod("proxy", &["192.0.2.1"], &["192.0.2.1", "fd00::a"])]);
    for text in ["192.0.2.1", "fd00::a"] {
        assert_eq!(index.owner(ip(text)), Owner::Node);
    }
    assert_eq!(accounts(&index).len(), 1, "it may call by its token");
    assert_eq!(resident(&index, "uid-of-proxy"), "live");
}

#[test]
fn a_pod_that_claims_the_nodes_address_does_not_get_it() {
    let index = index([
        host_pod("proxy", &["192.0.2.1"], &[]),
        pod("liar", &["192.0.2.1"]),
    ]);
    assert_eq!(index.owner(ip("192.0.2.1")), Owner::Node);
}

#[test]
fn a_pod_that_changed_its_address_is_not_found_by_the_old_one() {
    let mut index = index([pod("a", &["10.0.0.1"])]);
    index.apply(pod("a", &["10.0.0.2"]));
    assert_eq!(index.owner(ip("10.0.0.1")), Owner::Nobody);
    assert_eq!(uid_at(&index, "10.0.0.2").unwrap(), "uid-of-a");
}

#[test]
fn a_namesake_takes_the_place_of_the_pod_before_it() {
    let mut index = index([pod("a", &["10.0.0.1"])]);
    let namesake = Report {
        uid: "second".into(),
        ..pod("a", &["10.0.0.1"])
    };
    assert_eq!(index.apply(namesake), Outcome::Changed);
    assert_eq!(uid_at(&index, "10.0.0.1").unwrap(), "second");
    assert_eq!(resident(&index, "second"), "live");
    assert_eq!(resident(&index, "uid-of-a"), "gone");
}

#[test]
fn a_pod_that_was_deleted_finished_or_is_not_listed_again_has_gone() {
    let mut before = index([pod("a", &[]), pod("b", &[]), pod("c", &[]), pod("d", &[])]);
    before.remove(pod("a", &[]));
    before.apply(Report {
        life: Life::Over,
        ..pod("b", &[])
    });
    let mut listed = index([pod("d", &[])]);
    listed.succeed(&before);
    for gone in ["uid-of-a", "uid-of-b", "uid-of-c"] {
        assert_eq!(resident(&listed, gone), "gone", "{gone}");
    }
    assert_eq!(resident(&listed, "uid-of-d"), "live");
    assert_eq!(resident(&listed, "uid-of-e"), "unknown");
}

#[test]
fn a_pod_that_changes_has_not_gone() {
    let mut index = index([pod("a", &[])]);
    index.apply(pod("a", &["10.0.0.1"]));
    assert_eq!(resident(&index, "uid-of-a"), "live");
    assert!(!index.gone.contains(&PodUid::new("uid-of-a").unwrap()));
}

#[test]
fn a_terminating_pod_lives() {
    let terminating = Report {
        life: Life::Terminating,
        ..pod("a", &["10.0.0.1"])
    };
    assert_eq!(
        uid_at(&index([terminating]), "10.0.0.1").unwrap(),
        "uid-of-a"
    );
}

#[test]
fn namesakes_in_two_namespaces_are_two_pods() {
    let other = Report {
        namespace: "bank".into(),
        ..pod("a", &["10.0.0.2"])
    };
    let mut index = index([pod("a", &["10.0.0.1"]), other]);
    index.remove(pod("a", &[]));
    let Owner::Pod(_, caller) = index.owner(ip("10.0.0.2")) else {
        panic!("one pod owns it");
    };
    assert_eq!(caller.account().to_string(), "bank/cart");
}

#[test]
fn a_report_that_says_nothing_new_is_no_change() {
    let mut index = index([pod("a", &["10.0.0.1"])]);
    assert_eq!(index.apply(pod("a", &["10.0.0.1"])), Outcome::Same);
    assert_eq!(index.remove(pod("b", &[])), Outcome::Same);
}

#[test]
fn when_a_report_is_of_is_kept_and_is_no_change() {
    let mut index = index([pod("a", &["10.0.0.1"])]);
    let as_of = Some(SystemTime::UNIX_EPOCH);
    let later = Report {
        as_of,
        ..pod("a", &["10.0.0.1"])
    };
    assert_eq!(index.apply(later), Outcome::Same);
    let Owner::Pod(pod, _) = index.owner(ip("10.0.0.1")) else {
        panic!("one pod owns it");
    };
    assert_eq!(pod.as_of(), as_of);
}

#[test]
fn a_pod_that_opts_in_or_out_is_the_same_pod_and_known_so_at_once() {
    let mut index = index([pod("a", &["10.0.0.1"])]);
    let labelled = Report {
        imds: OptIn::In,
        ..pod("a", &["10.0.0.1"])
    };
    let caller = |index: &PodIndex| match index.owner(ip("10.0.0.1")) {
        Owner::Pod(_, caller) => caller.clone(),
        other => panic!("{other:?}"),
    };
    let before = caller(&index);
    assert_eq!(before.imds(), OptIn::Out);
    assert_eq!(index.apply(labelled.clone()), Outcome::Changed);
    assert_eq!(index.apply(labelled.clone()), Outcome::Same);
    assert_eq!(caller(&index).imds(), OptIn::In);
    let annotated = Report {
        own_role: "arn".into(),
        ..labelled
    };
    assert_eq!(index.apply(annotated.clone()), Outcome::Changed);
    assert_eq!(index.apply(annotated), Outcome::Same);
    assert!(caller(&index).is(&before));
    assert_eq!(resident(&index, "uid-of-a"), "live");
    assert_eq!(index.apply(pod("a", &["10.0.0.1"])), Outcome::Changed);
    assert_eq!(caller(&index).imds(), OptIn::Out);
}

#[test]
fn a_role_that_a_pod_names_for_itself_counts_only_if_it_has_opted_in() {
    let account = ServiceAccount::new("shop", "cart").unwrap();
    let subject = |imds, text: &str| {
        let index = index([Report {
            imds,
            own_role: text.into(),
            ..pod("a", &["10.0.0.1"])
        }]);
        let caller = index.callers().next().expect("it is the one");
        assert_eq!(*caller.account(), account);
        caller.subject().clone()
    };
    let own = Subject::Own(OwnRole::new(account.clone(), "arn"));
    let none = Subject::Account(account.clone());
    assert_eq!(subject(OptIn::In, " arn "), own);
    assert_eq!(subject(OptIn::In, " "), none);
    assert_eq!(subject(OptIn::Out, "arn"), none);
}

#[test]
fn the_account_of_a_pod_without_an_address_is_known_already() {
    let index = index([pod("a", &[])]);
    let accounts: Vec<String> = accounts(&index).iter().map(ToString::to_string).collect();
    assert_eq!(accounts, ["shop/cart"]);
}

#[test]
fn a_pod_with_illegal_names_is_refused_with_its_reason_and_the_rest_is_served() {
    let bad = |change: fn(&mut Report)| {
        let mut report = pod("bad", &["10.0.0.2"]);
        change(&mut report);
        report
    };
    let cases = [
        (bad(|pod| pod.uid.clear()), Invalid::PodUid),
        (bad(|pod| pod.namespace = "A b".into()), Invalid::Namespace),
        (
            bad(|pod| pod.account = "../x".into()),
            Invalid::ServiceAccountName,
        ),
        (bad(|pod| pod.account.clear()), Invalid::ServiceAccountName),
    ];
    for (report, why) in cases {
        let mut index = index([pod("good", &["10.0.0.1"])]);
        assert_eq!(
            index.apply(report.clone()),
            Outcome::Flawed(Flaw::Invalid(why))
        );
        let flaw = Flaw::Invalid(why);
        assert_eq!(index.owner(ip("10.0.0.2")), Owner::Unusable(flaw));
        assert_eq!(uid_at(&index, "10.0.0.1").unwrap(), "uid-of-good");
        assert_eq!(accounts(&index).len(), 1);
        assert_eq!(index.apply(report), Outcome::Same, "refused once");
    }
}

#[test]
fn a_pod_whose_network_is_unclear_gets_nothing() {
    let report = Report {
        network: Network::Unclear,
        ..pod("a", &["10.0.0.1"])
    };
    let index = index([report]);
    let flaw = Flaw::Network;
    assert_eq!(index.owner(ip("10.0.0.1")), Owner::Unusable(flaw));
}

#[test]
fn a_pod_that_cannot_be_used_still_makes_its_address_ambiguous() {
    let unusable = Report {
        uid: String::new(),
        ..pod("bad", &["10.0.0.1"])
    };
    let index = index([unusable, pod("good", &["10.0.0.1"])]);
    assert_eq!(index.owner(ip("10.0.0.1")), Owner::Several);
}

#[test]
fn an_address_that_is_none_is_refused_and_the_others_are_kept() {
    let mut index = PodIndex::default();
    let report = pod("a", &["10.0.0.1.", "", "10.0.0.1"]);
    assert_eq!(index.apply(report), Outcome::Flawed(Flaw::Address));
    assert_eq!(uid_at(&index, "10.0.0.1").unwrap(), "uid-of-a");
}

/// Any order of events ends in what a list of the survivors would say.
#[test]
fn the_index_depends_on_the_pods_and_not_on_how_they_came() {
    let addresses = ["10.0.0.1", "10.0.0.2", "fd00::1"];
    let mut random = fastrand::Rng::with_seed(2703);
    for _ in 0..200 {
        let mut survivors = HashMap::default();
        let mut seen = PodIndex::default();
        for step in 0..40 {
            let name = random.choice(["a", "b", "c", "d"]).unwrap();
            let mut report = match random.u8(..5) {
                0 => host_pod(name, &[random.choice(addresses).unwrap()], &[]),
                1 => pod(name, &[]),
                2 => pod(name, &addresses[..2]),
                _ => pod(name, &[random.choice(addresses).unwrap()]),
            };
            report.uid = format!("{name}-{step}");
            if random.u8(..4) == 0 {
                survivors.remove(name);
                seen.remove(report);
            } else {
                survivors.insert(name, report.clone());
                seen.apply(report);
            }
        }
        let listed = index(survivors.into_values());
        for address in addresses.map(ip) {
            assert_eq!(seen.owner(address), listed.owner(address));
        }
        assert_eq!(seen.uids, listed.uids);
        assert_eq!(accounts(&seen), accounts(&listed));
        assert_eq!(seen.claims.len(), listed.claims.len());
    }
}
