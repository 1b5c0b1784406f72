//! The path to a pod: what it proves, and who is asked when it is another.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use credlet::identity::paths::{Change, Counts, Outcome, OutcomeLabels, Path, Port, Shown, Way};
use credlet::identity::{Error, OptIn, Seat, Settings};
use credlet_tests::callers::{self, Callers};
use credlet_tests::fake_kube::{FakeKube, Fault, Pod, Verb};
use tokio::time::timeout;

/// Longer than any of these tests takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// For answers that must not come.
const BRIEF: Duration = Duration::from_millis(300);

const ADDRESS: &str = "10.0.0.1";
/// The links of the pods that have the address one after the other.
const FIRST: u32 = 10;
const SECOND: u32 = 11;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn own(link: u32) -> Shown {
    let port = Port::Own;
    Shown::Path(Path { link, port })
}

fn pod(name: &str) -> Pod {
    Pod::new("shop", name).account(name).addresses([ADDRESS])
}

/// A pod as the kubelet saw it so long after now.
fn pod_seen_after(name: &str, ahead: Duration) -> Pod {
    let seen = jiff::Timestamp::try_from(SystemTime::now() + ahead).unwrap();
    let seen = seen.strftime("%FT%TZ").to_string();
    pod(name).edit(|pod| pod["status"]["conditions"][0]["lastTransitionTime"] = seen.into())
}

struct Fixture {
    kube: FakeKube,
    callers: Callers,
}

impl Fixture {
    /// Pod `a` is known with its address and path.
    async fn start() -> Self {
        Self::with(callers::settings(), own(FIRST)).await
    }

    async fn with(settings: Settings, shown: Shown) -> Self {
        let kube = FakeKube::start().await;
        let callers = Callers::open(&kube, settings);
        callers.kernel.show_silently(ip(ADDRESS), shown);
        kube.apply(pod("a"));
        let fixture = Self { kube, callers };
        fixture
            .until(|counts| counts.known + counts.hidden == 1)
            .await;
        fixture
    }

    async fn until(&self, wanted: impl Fn(Counts) -> bool) {
        let identity = &self.callers.identity;
        let mut changes = identity.changes();
        let comes = async {
            while !wanted(identity.paths()) {
                changes.changed().await.unwrap();
            }
        };
        let came = timeout(PATIENCE, comes).await;
        assert!(came.is_ok(), "{:?}", identity.paths());
    }

    async fn by(&self, link: u32) -> Result<String, Error> {
        self.callers.uid_by(Some(link), ADDRESS, None, BRIEF).await
    }

    /// Another pod has the address now, and only the kernel says so.
    async fn hand_over(&self) {
        let kernel = &self.callers.kernel;
        kernel.tell(Change::Gone(FIRST));
        kernel.tell(Change::Appeared(SECOND));
        kernel.show(ip(ADDRESS), own(SECOND));
        self.until(|counts| counts.unconfirmed == 1).await;
    }

    fn reads(&self) -> usize {
        let calls = self.kube.calls();
        calls.iter().filter(|call| call.verb == Verb::Get).count()
    }

    fn counted(&self, outcome: Outcome) -> u64 {
        let counter = &self.callers.metrics.paths.confirmations;
        counter.get_or_create(&OutcomeLabels { outcome }).get()
    }
}

fn unconfirmed() -> Result<String, Error> {
    Err(Error::Unconfirmed(ip(ADDRESS)))
}

#[tokio::test]
async fn a_pod_is_known_by_its_address_on_its_own_path_and_asks_nobody() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.by(FIRST).await.unwrap(), "uid-of-shop-a");
    assert_eq!(fixture.reads(), 0);
}

#[tokio::test]
async fn a_forged_address_gets_nothing_costs_no_read_and_harms_its_owner_not() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.by(SECOND).await, unconfirmed());
    assert_eq!(fixture.by(FIRST).await.unwrap(), "uid-of-shop-a");
    assert_eq!(fixture.reads(), 0);
}

#[tokio::test]
async fn the_next_pod_of_an_address_never_is_the_one_before_it_while_the_api_server_is_silent() {
    let fixture = Fixture::start().await;
    fixture.hand_over().await;
    // The API server still says that `a` has the address: it said so too early.
    assert_eq!(fixture.by(SECOND).await, unconfirmed());
    assert_eq!(fixture.by(FIRST).await, unconfirmed());
    assert_eq!(fixture.reads(), 1);
    assert_eq!(fixture.counted(Outcome::Refuted), 1);
}

#[tokio::test]
async fn nor_while_the_api_server_is_cut_off() {
    let fixture = Fixture::start().await;
    fixture.kube.down().await;
    fixture.hand_over().await;
    assert_eq!(fixture.by(SECOND).await, unconfirmed());
    assert_eq!(fixture.counted(Outcome::Failed), 1);
    fixture.kube.delete("shop", "a");
    fixture.kube.apply(pod("b"));
    fixture.kube.up().await;
    let served = fixture
        .callers
        .uid_by(Some(SECOND), ADDRESS, None, PATIENCE);
    assert_eq!(served.await.unwrap(), "uid-of-shop-b");
}

#[tokio::test]
async fn it_is_served_on_the_request_that_waits_as_soon_as_the_api_server_speaks() {
    let fixture = Fixture::start().await;
    fixture.hand_over().await;
    let waits = fixture
        .callers
        .uid_by(Some(SECOND), ADDRESS, None, PATIENCE);
    let speaks = async {
        fixture.kube.called(Verb::Get, 1).await;
        fixture.kube.delete("shop", "a");
        fixture.kube.apply(pod("b"));
    };
    let (uid, ()) = tokio::join!(waits, speaks);
    assert_eq!(uid.unwrap(), "uid-of-shop-b");
    assert_eq!(fixture.by(FIRST).await, unconfirmed());
}

#[tokio::test]
async fn a_pod_that_got_a_new_sandbox_with_its_old_address_is_confirmed_by_a_fresh_read() {
    let fixture = Fixture::start().await;
    fixture.hand_over().await;
    fixture
        .kube
        .apply(pod_seen_after("a", Duration::from_secs(5)));
    assert_eq!(fixture.by(SECOND).await.unwrap(), "uid-of-shop-a");
    assert_eq!(fixture.by(FIRST).await, unconfirmed());
    assert_eq!(fixture.counted(Outcome::Confirmed), 1);
}

#[tokio::test]
async fn a_terminating_pod_is_not_confirmed_and_neither_is_a_namesake() {
    let later = || pod_seen_after("a", Duration::from_secs(5));
    for other in [later().terminating(), later().uid("another")] {
        let fixture = Fixture::start().await;
        fixture.hand_over().await;
        // The watch does not tell, so that only the read could.
        fixture.kube.fail_next(Verb::Watch, Fault::Stall);
        fixture
            .kube
            .interrupt(credlet_tests::fake_kube::Interruption::Cut);
        fixture.kube.called(Verb::Watch, 2).await;
        fixture.kube.apply(other);
        assert_eq!(fixture.by(SECOND).await, unconfirmed());
        assert_eq!(fixture.counted(Outcome::Refuted), 1);
    }
}

#[tokio::test]
async fn a_pod_whose_report_is_older_than_its_link_waits_for_a_newer_one() {
    let kube = FakeKube::start().await;
    let callers = Callers::open(&kube, callers::settings());
    let fixture = Fixture { kube, callers };
    fixture.callers.identity.synced().await;
    fixture
        .callers
        .kernel
        .show_silently(ip(ADDRESS), own(FIRST));
    fixture.callers.kernel.tell(Change::Appeared(FIRST));
    let report = pod("a").edit(|pod| {
        pod["status"]["conditions"][0]["lastTransitionTime"] = "2026-01-01T00:00:00Z".into();
    });
    fixture.kube.apply(report);
    fixture.until(|counts| counts.unconfirmed == 1).await;
    assert_eq!(fixture.by(FIRST).await, unconfirmed());
    fixture
        .kube
        .apply(pod_seen_after("a", Duration::from_secs(5)));
    let served = fixture.callers.uid_by(Some(FIRST), ADDRESS, None, PATIENCE);
    assert_eq!(served.await.unwrap(), "uid-of-shop-a");
}

#[tokio::test]
async fn old_pods_are_no_longer_known_by_an_address_whose_path_is_not_shown() {
    for (shown, link) in [(Shown::Hidden, 3), (own(FIRST), FIRST)] {
        let settings = Settings {
            max_pod_staleness: Duration::ZERO,
            ..callers::settings()
        };
        let fixture = Fixture::with(settings, shown).await;
        match (shown, fixture.by(link).await) {
            (Shown::Hidden, Err(Error::Outdated(_))) | (Shown::Path(_), Ok(_)) => {}
            (_, answer) => panic!("{shown:?}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn nobody_is_known_while_a_link_may_have_gone_untold() {
    let fixture = Fixture::start().await;
    let kernel = &fixture.callers.kernel;
    kernel.set_heard(false);
    assert_eq!(fixture.by(FIRST).await, unconfirmed());
    let served = fixture.callers.uid_by(Some(FIRST), ADDRESS, None, PATIENCE);
    let hears = async {
        tokio::task::yield_now().await;
        kernel.set_heard(true);
    };
    let (uid, ()) = tokio::join!(served, hears);
    assert_eq!(uid.unwrap(), "uid-of-shop-a");
}

#[tokio::test]
async fn a_link_with_the_index_of_one_that_has_gone_is_another() {
    let fixture = Fixture::start().await;
    let kernel = &fixture.callers.kernel;
    kernel.tell(Change::Gone(FIRST));
    kernel.tell(Change::Appeared(FIRST));
    fixture.until(|counts| counts.unconfirmed == 1).await;
    assert_eq!(fixture.by(FIRST).await, unconfirmed());
}

#[tokio::test]
async fn changes_that_were_missed_are_looked_up() {
    let fixture = Fixture::start().await;
    fixture
        .callers
        .kernel
        .show_silently(ip(ADDRESS), own(SECOND));
    fixture.callers.kernel.tell(Change::Any);
    fixture.until(|counts| counts.unconfirmed == 1).await;
    assert_eq!(fixture.by(SECOND).await, unconfirmed());
}

#[tokio::test]
async fn where_pods_sit_and_whether_they_opted_in_is_told_of_at_each_change() {
    let fixture = Fixture::start().await;
    let Fixture { kube, callers } = &fixture;
    let until = async |wanted: &[(&str, Way, OptIn)]| {
        let seat = |(address, way, imds): &(&str, Way, OptIn)| Seat {
            address: ip(address),
            way: *way,
            imds: *imds,
        };
        let wanted: Vec<Seat> = wanted.iter().map(seat).collect();
        let mut changes = callers.identity.changes();
        let comes = async {
            loop {
                let mut seats = callers.identity.seats();
                seats.sort_by_key(|seat| seat.address);
                if seats == wanted {
                    return;
                }
                changes.changed().await.unwrap();
            }
        };
        let came = timeout(PATIENCE, comes).await;
        assert!(came.is_ok(), "{wanted:?} of {:?}", callers.identity.seats());
    };
    let at_first = (ADDRESS, Way::Link(FIRST), OptIn::Out);
    until(&[at_first]).await;
    kube.apply(pod("a").opted_in());
    until(&[(ADDRESS, Way::Link(FIRST), OptIn::In)]).await;
    kube.apply(pod("a"));
    // Two at one address sit nowhere, and nobody sits at the node's own.
    kube.apply(pod("c").addresses(["10.0.0.3"]));
    kube.apply(pod("d").addresses(["10.0.0.3"]).opted_in());
    let on_host = pod("e").addresses(["192.0.2.1"]).host_network();
    kube.apply(on_host.opted_in());
    kube.apply(pod("b").addresses(["10.0.0.2"]).opted_in());
    until(&[at_first, ("10.0.0.2", Way::Hidden, OptIn::In)]).await;
    callers.kernel.show(ip(ADDRESS), own(SECOND));
    let at_second = (ADDRESS, Way::Unsure, OptIn::Out);
    until(&[at_second, ("10.0.0.2", Way::Hidden, OptIn::In)]).await;
    kube.delete("shop", "b");
    until(&[at_second]).await;
}
