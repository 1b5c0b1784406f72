//! The rules of what is held.

use std::time::Duration;

use super::*;
use crate::identity::pods::{OptIn, Owner, PodIndex, Report};

const AWS: &str = "sts.amazonaws.com";

fn caller(name: &str, account: &str) -> Caller {
    labelled(name, account, OptIn::Out)
}

fn labelled(name: &str, account: &str, imds: OptIn) -> Caller {
    let mut index = PodIndex::default();
    index.apply(Report {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-of-{name}"),
        account: account.into(),
        addresses: vec!["10.0.0.1".into()],
        imds,
        ..Report::default()
    });
    match index.owner("10.0.0.1".parse().unwrap()) {
        Owner::Pod(_, caller) => caller.clone(),
        other => panic!("{other:?}"),
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn put(shelf: &Shelf, caller: &Caller, audience: &str, end: u64) {
    let text = format!("{}-{audience}-{end}", caller.name());
    shelf.put(
        caller,
        &audience.into(),
        &Arc::new(Secret::new(text)),
        at(end),
    );
}

/// The token for a pod of `cart` or for that very one, good after the hundredth
/// second.
fn found(shelf: &Shelf, pod: Option<&Caller>, lives: impl Fn(&Caller) -> bool) -> Option<String> {
    let account = ServiceAccount::new("shop", "cart").unwrap();
    let held = shelf.find(&account, pod.map(Caller::pod), AWS, at(100), lives)?;
    let text = held.token.expose().to_owned();
    assert!(text.starts_with(&*held.pod.name), "{text}");
    Some(text)
}

#[test]
fn of_each_pod_and_audience_the_token_that_ends_last_is_kept() {
    let (shelf, a) = (Shelf::default(), caller("a", "cart"));
    for (audience, end) in [
        (AWS, 300),
        (AWS, 500),
        (AWS, 400),
        ("pods.eks.amazonaws.com", 900),
    ] {
        put(&shelf, &a, audience, end);
    }
    let kept = found(&shelf, None, |_| true);
    assert_eq!(kept.unwrap(), "a-sts.amazonaws.com-500");
    assert_eq!(shelf.pods().values().next().unwrap().tokens.len(), 2);
}

#[test]
fn a_token_serves_its_own_account_and_where_one_is_named_its_own_pod() {
    let shelf = Shelf::default();
    let [a, b] = ["a", "b"].map(|name| caller(name, "cart"));
    put(&shelf, &caller("other", "reports"), AWS, 900);
    assert_eq!(found(&shelf, None, |_| true), None);
    put(&shelf, &a, AWS, 300);
    put(&shelf, &b, AWS, 400);
    let text = |pod: Option<&Caller>| found(&shelf, pod, |_| true).unwrap();
    assert_eq!(text(None), "b-sts.amazonaws.com-400");
    assert_eq!(text(Some(&a)), "a-sts.amazonaws.com-300");
    let stranger = caller("stranger", "cart");
    assert_eq!(found(&shelf, Some(&stranger), |_| true), None);
    let but_b = found(&shelf, None, |pod| *pod != b);
    assert_eq!(but_b.unwrap(), "a-sts.amazonaws.com-300");
}

#[test]
fn a_token_that_ends_too_soon_is_not_found() {
    let (shelf, a) = (Shelf::default(), caller("a", "cart"));
    put(&shelf, &a, AWS, 100);
    assert_eq!(found(&shelf, None, |_| true), None);
    put(&shelf, &a, AWS, 101);
    assert!(found(&shelf, None, |_| true).is_some());
}

#[test]
fn the_same_uid_with_another_account_inherits_nothing() {
    let shelf = Shelf::default();
    put(&shelf, &caller("a", "cart"), AWS, 300);
    put(&shelf, &caller("a", "reports"), "another", 300);
    assert_eq!(found(&shelf, None, |_| true), None);
}

#[test]
fn a_pod_whose_labels_change_keeps_its_tokens() {
    let shelf = Shelf::default();
    put(&shelf, &caller("a", "cart"), AWS, 300);
    put(&shelf, &labelled("a", "cart", OptIn::In), "another", 300);
    assert!(found(&shelf, None, |_| true).is_some());
}

#[test]
fn what_has_expired_and_what_is_of_no_live_pod_goes() {
    let shelf = Shelf::default();
    let [a, b] = ["a", "b"].map(|name| caller(name, "cart"));
    put(&shelf, &a, AWS, 300);
    put(&shelf, &a, "another", 200);
    put(&shelf, &b, AWS, 150);
    assert_eq!(shelf.prune(at(120), |_| true), Some(at(150)));
    assert_eq!(shelf.prune(at(150), |_| true), Some(at(200)));
    assert_eq!(shelf.pods().len(), 1);
    assert_eq!(shelf.prune(at(150), |_| false), None);
    assert!(shelf.pods().is_empty());
}

#[test]
fn a_pod_with_too_many_audiences_loses_the_token_that_ends_first() {
    let (shelf, a) = (Shelf::default(), caller("a", "cart"));
    put(&shelf, &a, AWS, 200);
    for number in 0..MOST_OF_A_POD {
        put(&shelf, &a, &number.to_string(), 900);
    }
    assert_eq!(found(&shelf, None, |_| true), None);
    assert_eq!(
        shelf.pods().values().next().unwrap().tokens.len(),
        MOST_OF_A_POD
    );
}
