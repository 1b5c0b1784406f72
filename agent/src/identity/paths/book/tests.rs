//! Which paths are learnt, kept and confirmed.

use super::*;
use crate::identity::pods::Report;

const ADDRESS: &str = "10.0.0.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn uid(text: &str) -> PodUid {
    PodUid::new(text).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000)
}

/// Half a second after the full one.
fn within(seconds: u64) -> Since {
    Since::Seen(at(seconds) + RESOLUTION / 2)
}

const ALWAYS: Since = Since::Start;

fn pod(name: &str, addresses: &[&str], as_of: Option<SystemTime>) -> Report {
    Report {
        namespace: "shop".into(),
        name: name.into(),
        uid: name.into(),
        account: "cart".into(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        as_of,
        ..Report::default()
    }
}

fn index(reports: impl IntoIterator<Item = Report>) -> PodIndex {
    let mut index = PodIndex::default();
    for report in reports {
        index.apply(report);
    }
    index
}

fn path(link: u32) -> Path {
    let port = Port::Own;
    Path { link, port }
}

fn own(link: u32) -> Shown {
    Shown::Path(path(link))
}

fn bridged(port: u32) -> Shown {
    let mac = [2, 0, 0, 0, 0, 1];
    let port = Port::Bridged { port, mac };
    Shown::Path(Path { link: 5, port })
}

fn by(address: &str, link: u32) -> Origin {
    Origin::new(ip(address), ip("169.254.170.23"), Some(link))
}

/// A book that has learnt the path of pod `a`.
fn learnt(shown: Shown) -> (PodIndex, Book) {
    let pods = index([pod("a", &[ADDRESS], None)]);
    let mut book = Book::default();
    assert_eq!(book.follow(&pods), [ip(ADDRESS)]);
    book.learn(&pods, ip(ADDRESS), shown, ALWAYS);
    (pods, book)
}

fn proof(book: &Book, pod: &str, link: u32) -> Proof {
    book.proof(&by(ADDRESS, link), &uid(pod))
}

#[tokio::test(start_paused = true)]
async fn the_path_that_is_shown_when_the_owner_is_told_is_the_owner_s() {
    let (pods, mut book) = learnt(own(10));
    assert_eq!(proof(&book, "a", 10), Proof::Path);
    assert_eq!(proof(&book, "a", 11), Proof::None);
    assert_eq!(proof(&book, "b", 10), Proof::None);
    assert!(book.follow(&pods).is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_way_to_an_address_is_sure_while_what_was_learnt_is_shown() {
    let way = |book: &Book, pod: &str| book.way(ip(ADDRESS), &uid(pod));
    for (shown, sure) in [
        (own(10), Way::Link(10)),
        // What comes in by a bridge comes in by it, not by one of its ports.
        (bridged(10), Way::Link(5)),
        (Shown::Hidden, Way::Hidden),
        (Shown::Unresolved, Way::Unsure),
    ] {
        let (pods, mut book) = learnt(shown);
        assert_eq!(way(&book, "a"), sure);
        assert_eq!(way(&book, "b"), Way::Unsure);
        book.see(&pods, ip(ADDRESS), own(11), ALWAYS);
        let sure = match sure {
            // It took a while to be shown at all.
            Way::Unsure => Way::Link(11),
            Way::Link(_) | Way::Hidden => Way::Unsure,
        };
        assert_eq!(way(&book, "a"), sure);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_owner_does_not_inherit_the_path() {
    let (_, mut book) = learnt(own(10));
    let pods = index([pod("b", &[ADDRESS], None)]);
    assert_eq!(book.follow(&pods), [ip(ADDRESS)]);
    assert_eq!(proof(&book, "a", 10), Proof::None);
    assert_eq!(proof(&book, "b", 10), Proof::None);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_two_pods_claim_has_no_path() {
    let (_, mut book) = learnt(own(10));
    let pods = index([pod("a", &[ADDRESS], None), pod("b", &[ADDRESS], None)]);
    assert!(book.follow(&pods).is_empty());
    assert_eq!(proof(&book, "a", 10), Proof::None);
}

#[tokio::test(start_paused = true)]
async fn a_path_that_is_not_shown_any_more_proves_nothing_until_it_is_again() {
    let (pods, mut book) = learnt(own(10));
    for other in [own(11), Shown::Hidden, Shown::Unresolved] {
        assert!(book.see(&pods, ip(ADDRESS), other, ALWAYS));
        assert_eq!(proof(&book, "a", 10), Proof::None, "{other:?}");
        assert_eq!(proof(&book, "a", 11), Proof::None, "{other:?}");
        assert!(book.see(&pods, ip(ADDRESS), own(10), ALWAYS));
        assert_eq!(proof(&book, "a", 10), Proof::Path);
    }
    assert!(!book.see(&pods, ip(ADDRESS), own(10), ALWAYS));
}

#[tokio::test(start_paused = true)]
async fn a_network_that_begins_to_show_a_path_is_asked_about_it() {
    let (pods, mut book) = learnt(Shown::Hidden);
    assert_eq!(proof(&book, "a", 3), Proof::Look);
    assert!(book.see(&pods, ip(ADDRESS), own(10), ALWAYS));
    assert_eq!(proof(&book, "a", 10), Proof::None);
    assert_eq!(book.unconfirmed(ip(ADDRESS)), Some((&uid("a"), path(10))));
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_older_than_the_link_does_not_vouch_for_it() {
    for (as_of, proves) in [
        (None, false),
        (Some(9), false),
        (Some(10), true),
        (Some(11), true),
    ] {
        let pods = index([pod("a", &[ADDRESS], as_of.map(at))]);
        let mut book = Book::default();
        book.learn(&pods, ip(ADDRESS), own(10), within(10));
        let wanted = if proves { Proof::Path } else { Proof::None };
        assert_eq!(proof(&book, "a", 10), wanted, "{as_of:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_link_of_another_pod_is_never_learnt() {
    let (_, mut book) = learnt(bridged(20));
    let second = "10.0.0.2";
    let pods = index([pod("a", &[ADDRESS], None), pod("b", &[second], None)]);
    book.learn(&pods, ip(second), bridged(20), ALWAYS);
    assert_eq!(book.proof(&by(second, 5), &uid("b")), Proof::None);
    let Shown::Path(taken) = bridged(20) else {
        unreachable!("it is one");
    };
    assert!(!book.confirm(ip(second), &uid("b"), taken, at(99), ALWAYS));
    assert_eq!(book.holder(20), Some(&uid("a")));
}

#[tokio::test(start_paused = true)]
async fn both_addresses_of_a_pod_have_one_link() {
    let pods = index([pod("a", &[ADDRESS, "fd00::1"], None)]);
    let mut book = Book::default();
    for address in [ADDRESS, "fd00::1"] {
        book.learn(&pods, ip(address), own(10), ALWAYS);
        assert_eq!(book.proof(&by(address, 10), &uid("a")), Proof::Path);
    }
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_answers_at_once_is_believed_and_a_late_one_is_not() {
    for (late, proves) in [(RESOLVES_WITHIN, true), (2 * RESOLVES_WITHIN, false)] {
        let (pods, mut book) = learnt(Shown::Unresolved);
        assert_eq!(proof(&book, "a", 5), Proof::None);
        tokio::time::advance(late).await;
        book.see(&pods, ip(ADDRESS), bridged(20), ALWAYS);
        let wanted = if proves { Proof::Look } else { Proof::None };
        assert_eq!(proof(&book, "a", 5), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_report_confirms_the_path_that_was_shown_all_along() {
    let (pods, mut book) = learnt(own(10));
    book.see(&pods, ip(ADDRESS), own(11), within(20));
    book.lose(10, at(20));
    let confirm = |book: &mut Book, pod, link, as_of| {
        book.confirm(ip(ADDRESS), &uid(pod), path(link), at(as_of), within(20))
    };
    assert!(!confirm(&mut book, "a", 11, 20), "it may be of just before");
    assert!(!confirm(&mut book, "b", 11, 21), "of another pod");
    assert!(!confirm(&mut book, "a", 12, 21), "of another path");
    assert_eq!(proof(&book, "a", 11), Proof::None);
    assert!(confirm(&mut book, "a", 11, 21));
    assert_eq!(proof(&book, "a", 11), Proof::Path);
    assert_eq!(book.unconfirmed(ip(ADDRESS)), None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_confirmed_while_the_pod_s_own_link_is_there() {
    for shown in [own(11), bridged(20)] {
        let (pods, mut book) = learnt(own(10));
        book.see(&pods, ip(ADDRESS), shown, ALWAYS);
        assert_eq!(book.unconfirmed(ip(ADDRESS)), None);
        book.lose(12, at(20));
        assert_eq!(book.unconfirmed(ip(ADDRESS)), None);
        book.lose(10, at(20));
        assert!(book.unconfirmed(ip(ADDRESS)).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_has_gone_proves_nothing_whatever_is_shown() {
    let (_, mut book) = learnt(own(10));
    book.lose(10, at(20));
    assert_eq!(proof(&book, "a", 10), Proof::None);
}

/// A book that is told of pod `a` by a report of second 20, in which its link
/// appeared.
fn told_within_the_second(book: &mut Book, since: Since) -> Proof {
    let pods = index([pod("a", &[ADDRESS], Some(at(20)))]);
    book.follow(&pods);
    book.learn(&pods, ip(ADDRESS), own(11), since);
    proof(book, "a", 11)
}

#[tokio::test(start_paused = true)]
async fn of_two_links_within_the_second_of_the_report_the_second_is_not_believed() {
    let just_before = at(20) + RESOLUTION / 4;
    let long_before = at(19);
    for (went, wanted) in [(just_before, Proof::None), (long_before, Proof::Path)] {
        let mut book = Book::default();
        book.lose(10, went);
        assert_eq!(told_within_the_second(&mut book, within(20)), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn another_pods_link_that_goes_meanwhile_is_no_reason_to_doubt() {
    for (owner, wanted) in [("a", Proof::None), ("b", Proof::Path)] {
        let mut book = Book::default();
        let pods = index([pod(owner, &["10.0.0.2"], None)]);
        book.learn(&pods, ip("10.0.0.2"), own(10), ALWAYS);
        book.lose(10, at(20) + RESOLUTION / 4);
        assert_eq!(told_within_the_second(&mut book, within(20)), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_is_believed_when_it_has_been_told_of() {
    let mut book = Book::default();
    assert_eq!(
        told_within_the_second(&mut book, Since::Untold),
        Proof::None
    );
    let pods = index([pod("a", &[ADDRESS], Some(at(20)))]);
    assert!(book.see(&pods, ip(ADDRESS), own(11), within(20)));
    assert_eq!(proof(&book, "a", 11), Proof::Path);
}

#[tokio::test(start_paused = true)]
async fn a_link_is_one_pods_until_it_goes() {
    let (_, mut book) = learnt(own(10));
    let pods = index([pod("b", &[ADDRESS], None)]);
    book.follow(&pods);
    book.learn(&pods, ip(ADDRESS), own(10), ALWAYS);
    assert_eq!(proof(&book, "b", 10), Proof::None);

    book.lose(10, at(20));
    book.follow(&index([]));
    book.learn(&pods, ip(ADDRESS), own(10), ALWAYS);
    assert_eq!(proof(&book, "b", 10), Proof::Path);
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_when_the_next_owner_is_told_is_not_the_last_one_s() {
    let (_, mut book) = learnt(Shown::Unresolved);
    let pods = index([pod("b", &[ADDRESS], None)]);
    book.see(&pods, ip(ADDRESS), bridged(20), ALWAYS);
    assert_eq!(book.holder(20), None);
    book.follow(&pods);
    book.learn(&pods, ip(ADDRESS), bridged(20), ALWAYS);
    assert_eq!(book.holder(20), Some(&uid("b")));
}

#[tokio::test(start_paused = true)]
async fn a_change_concerns_the_addresses_that_it_may_move() {
    let addresses = [ADDRESS, "10.0.0.2", "10.0.0.3", "10.0.0.4"];
    let names = ["a", "b", "c", "d"];
    let reports = names.iter().zip(addresses);
    let pods = index(reports.map(|(name, address)| pod(name, &[address], None)));
    let mut book = Book::default();
    let shown = [own(10), bridged(20), Shown::Hidden, Shown::Unresolved];
    for (address, shown) in addresses.iter().zip(shown) {
        book.learn(&pods, ip(address), shown, ALWAYS);
    }
    let concerned = |change| {
        let mut concerned = book.concerned(change);
        concerned.sort();
        let last = |address: &IpAddr| address.to_string().pop();
        concerned.iter().filter_map(last).collect::<String>()
    };
    assert_eq!(concerned(Change::Address(ip(ADDRESS))), "1");
    assert_eq!(concerned(Change::Address(ip("10.9.9.9"))), "");
    assert_eq!(concerned(Change::Link(10)), "14");
    assert_eq!(concerned(Change::Gone(20)), "24");
    assert_eq!(concerned(Change::Link(5)), "24");
    assert_eq!(concerned(Change::Mac([2, 0, 0, 0, 0, 1])), "24");
    assert_eq!(concerned(Change::Mac([2, 0, 0, 0, 0, 2])), "4");
    assert_eq!(concerned(Change::Appeared(10)), "14");
    assert_eq!(concerned(Change::Neighbour(ip(ADDRESS))), "");
    assert_eq!(concerned(Change::Neighbour(ip("10.0.0.2"))), "2");
    assert_eq!(concerned(Change::Neighbour(ip("10.0.0.4"))), "4");
    assert_eq!(concerned(Change::Network(ip("0.0.0.0"), 0)), "1234");
    assert_eq!(concerned(Change::Network(ip("10.0.0.0"), 30)), "123");
    assert_eq!(concerned(Change::Network(ip("fe80::"), 64)), "");
    assert_eq!(concerned(Change::Any), "1234");
}

#[tokio::test(start_paused = true)]
async fn addresses_are_counted_by_how_they_stand() {
    let (pods, mut book) = learnt(own(10));
    let counts = |known, hidden, unconfirmed| Counts {
        known,
        hidden,
        unconfirmed,
    };
    assert_eq!(book.counts(), counts(1, 0, 0));
    book.see(&pods, ip(ADDRESS), own(11), ALWAYS);
    assert_eq!(book.counts(), counts(0, 0, 1));
    assert_eq!(learnt(Shown::Hidden).1.counts(), counts(0, 1, 0));
    assert_eq!(learnt(Shown::Unresolved).1.counts(), counts(0, 0, 1));
}
