//! The pod watch and what goes wrong with it.

use std::net::IpAddr;
use std::time::Duration;

use credlet::identity::watch::{Limits, LostLabels, Reason};
use credlet::identity::{Error, Settings};
use credlet_tests::callers::{self, Callers};
use credlet_tests::fake_kube::{FakeKube, Fault, Interruption, NODE, Pod, Verb};
use tokio::time::{sleep, timeout};

/// Longer than any of these tests takes, and short enough to wait for once.
const PATIENCE: Duration = Duration::from_secs(10);
/// A server that says nothing for this long is silent. Only the tests of silence set it.
const SILENCE: Duration = Duration::from_millis(200);

struct Fixture {
    kube: FakeKube,
    callers: Callers,
}

impl Fixture {
    fn with(kube: FakeKube, limits: Limits) -> Self {
        let settings = Settings {
            watch: limits,
            ..callers::settings()
        };
        let callers = Callers::open(&kube, settings);
        Self { kube, callers }
    }

    /// A watch that is open on one pod, `a` at 10.0.0.1.
    async fn watching() -> Self {
        let kube = FakeKube::start().await;
        kube.apply(pod("a", "10.0.0.1"));
        let fixture = Self::with(kube, Limits::default());
        fixture.kube.called(Verb::Watch, 1).await;
        assert_eq!(fixture.uid_at("10.0.0.1").await.unwrap(), "uid-of-shop-a");
        fixture
    }

    async fn caller_within(&self, address: &str, patience: Duration) -> Result<String, Error> {
        self.callers.uid_by(None, address, None, patience).await
    }

    async fn uid_at(&self, address: &str) -> Result<String, Error> {
        self.caller_within(address, PATIENCE).await
    }

    async fn answer_now(&self, address: &str) -> Result<String, Error> {
        self.caller_within(address, Duration::ZERO).await
    }

    async fn until_unknown(&self, address: &str) {
        let mut changes = self.callers.identity.changes();
        let gone = async {
            while self.answer_now(address).await != Err(Error::Unknown(ip(address))) {
                changes.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, gone).await.expect("the pod goes");
    }

    /// The pod from before is served now, and one that is added is served, too.
    async fn still_follows(&self) {
        assert_eq!(self.answer_now("10.0.0.1").await.unwrap(), "uid-of-shop-a");
        self.kube.apply(pod("later", "10.0.0.2"));
        assert_eq!(self.uid_at("10.0.0.2").await.unwrap(), "uid-of-shop-later");
        assert_eq!(self.answer_now("10.0.0.1").await.unwrap(), "uid-of-shop-a");
    }

    /// A counter tells nobody that it counts, so this looks often.
    async fn until_lost(&self, reason: Reason) {
        let lost = async {
            while self.lost(reason) == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, lost).await.expect("the watch is lost");
    }

    fn lost(&self, reason: Reason) -> u64 {
        self.callers
            .metrics
            .pods
            .lost
            .get_or_create(&LostLabels { reason })
            .get()
    }

    fn count(&self, verb: Verb) -> usize {
        let calls = self.kube.calls();
        calls.iter().filter(|call| call.verb == verb).count()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod(name: &str, address: &str) -> Pod {
    Pod::new("shop", name).account("cart").addresses([address])
}

#[tokio::test]
async fn nothing_is_answered_before_the_first_list_and_callers_wait_for_it() {
    let kube = FakeKube::start().await;
    kube.apply(pod("a", "10.0.0.1"));
    kube.fail_next(Verb::List, Fault::Slow(SILENCE));
    let fixture = Fixture::with(kube, Limits::default());
    assert_eq!(fixture.answer_now("10.0.0.1").await, Err(Error::NotSynced));
    assert_eq!(fixture.callers.identity.pods(), None);
    assert_eq!(fixture.callers.identity.watch_age(), None);
    assert_eq!(fixture.uid_at("10.0.0.1").await.unwrap(), "uid-of-shop-a");
    fixture.callers.identity.synced().await;
    assert_eq!(fixture.callers.identity.pods(), Some(1));
}

#[tokio::test]
async fn the_node_s_own_addresses_are_refused_without_waiting() {
    let fixture = Fixture::watching().await;
    for own in ["169.254.170.23", "::ffff:169.254.170.23"] {
        let canonical = ip(own).to_canonical();
        assert_eq!(fixture.uid_at(own).await, Err(Error::Node(canonical)));
    }
}

#[tokio::test]
async fn an_ipv4_mapped_peer_is_the_pod_of_its_ipv4_address() {
    let fixture = Fixture::watching().await;
    let uid = fixture.answer_now("::ffff:10.0.0.1").await;
    assert_eq!(uid.unwrap(), "uid-of-shop-a");
}

#[tokio::test]
async fn an_unknown_address_is_served_as_soon_as_the_watch_tells_of_it() {
    let fixture = Fixture::watching().await;
    let (uid, ()) = tokio::join!(fixture.uid_at("10.0.0.7"), async {
        fixture.kube.apply(pod("new", "10.0.0.6"));
        fixture.kube.apply(pod("new", "10.0.0.7"));
    });
    assert_eq!(uid.unwrap(), "uid-of-shop-new");
}

#[tokio::test]
async fn an_address_that_stays_unknown_is_refused_at_the_deadline() {
    let fixture = Fixture::watching().await;
    let answer = fixture.caller_within("10.0.0.7", SILENCE).await;
    assert_eq!(answer, Err(Error::Unknown(ip("10.0.0.7"))));
}

#[tokio::test]
async fn a_deleted_pod_and_one_that_has_finished_are_no_longer_served() {
    let fixture = Fixture::watching().await;
    fixture.kube.apply(pod("job", "10.0.0.2"));
    assert!(fixture.uid_at("10.0.0.2").await.is_ok());
    fixture
        .kube
        .apply(pod("job", "10.0.0.2").phase("Succeeded"));
    fixture.until_unknown("10.0.0.2").await;
    fixture.kube.delete("shop", "a");
    fixture.until_unknown("10.0.0.1").await;
}

#[tokio::test]
async fn a_terminating_pod_is_still_served() {
    let fixture = Fixture::watching().await;
    fixture.kube.apply(pod("a", "10.0.0.1").terminating());
    fixture.still_follows().await;
}

#[tokio::test]
async fn a_pod_of_another_node_never_enters() {
    let fixture = Fixture::watching().await;
    fixture.kube.apply(pod("far", "10.0.0.8").node("node-2"));
    fixture.still_follows().await;
    let answer = fixture.answer_now("10.0.0.8").await;
    assert_eq!(answer, Err(Error::Unknown(ip("10.0.0.8"))));
    let selector = format!("spec.nodeName={NODE}");
    let mut calls = fixture.kube.calls();
    calls.retain(|call| matches!(call.verb, Verb::List | Verb::Watch));
    for call in calls {
        assert_eq!(call.query["fieldSelector"], selector);
    }
}

#[tokio::test]
async fn a_list_is_served_from_the_cache_of_the_api_server() {
    let fixture = Fixture::watching().await;
    let calls = fixture.kube.calls();
    let list = calls.iter().find(|call| call.verb == Verb::List).unwrap();
    assert!(!list.query.contains_key("limit"), "{list:?}");
    assert!(!list.query.contains_key("resourceVersion"), "{list:?}");
}

#[tokio::test]
async fn a_watch_that_the_server_ends_or_cuts_resumes_where_it_stopped() {
    for interruption in [Interruption::End, Interruption::Cut] {
        let fixture = Fixture::watching().await;
        fixture.kube.interrupt(interruption);
        fixture.kube.called(Verb::Watch, 2).await;
        fixture.still_follows().await;
        assert_eq!(fixture.count(Verb::List), 1, "{interruption:?}");
    }
}

#[tokio::test]
async fn a_pod_that_came_while_the_watch_was_down_is_seen_by_the_next() {
    let fixture = Fixture::watching().await;
    fixture.kube.down().await;
    fixture.until_lost(Reason::Unreachable).await;
    assert_eq!(
        fixture.answer_now("10.0.0.1").await.unwrap(),
        "uid-of-shop-a"
    );
    fixture.kube.apply(pod("b", "10.0.0.3"));
    fixture.kube.delete("shop", "a");
    fixture.kube.up().await;
    assert_eq!(fixture.uid_at("10.0.0.3").await.unwrap(), "uid-of-shop-b");
    fixture.until_unknown("10.0.0.1").await;
}

#[tokio::test]
async fn an_expired_watch_lists_again_and_drops_what_was_deleted_meanwhile() {
    let fixture = Fixture::watching().await;
    fixture.kube.apply(pod("b", "10.0.0.3"));
    assert!(fixture.uid_at("10.0.0.3").await.is_ok());
    fixture.kube.down().await;
    fixture.kube.delete("shop", "b");
    fixture.kube.compact();
    fixture.kube.up().await;
    fixture.until_unknown("10.0.0.3").await;
    assert_eq!(fixture.lost(Reason::Expired), 1);
    fixture.still_follows().await;
}

#[tokio::test]
async fn an_expired_version_that_is_refused_by_http_status_lists_again() {
    let fixture = Fixture::watching().await;
    fixture.kube.fail_next(Verb::Watch, Fault::Status(410));
    fixture.kube.interrupt(Interruption::End);
    fixture.kube.called(Verb::List, 2).await;
    fixture.still_follows().await;
}

#[tokio::test]
async fn the_index_lives_on_through_a_list_that_fails_and_then_is_slow() {
    let fixture = Fixture::watching().await;
    for fault in [
        Fault::Status(500),
        Fault::Garbage,
        Fault::Cut,
        Fault::Slow(SILENCE),
    ] {
        fixture.kube.fail_next(Verb::List, fault);
    }
    fixture.kube.interrupt(Interruption::Error(410));
    for lists in 2..=5 {
        fixture.kube.called(Verb::List, lists).await;
        assert_eq!(
            fixture.answer_now("10.0.0.1").await.unwrap(),
            "uid-of-shop-a"
        );
    }
    fixture.still_follows().await;
    assert_eq!(fixture.lost(Reason::Garbled), 1);
}

#[tokio::test]
async fn an_overloaded_server_is_a_failure_that_is_told_at_once() {
    for status in [429, 503, 504] {
        let kube = FakeKube::start().await;
        kube.apply(pod("a", "10.0.0.1"));
        kube.fail_next(Verb::List, Fault::Status(status));
        let fixture = Fixture::with(kube, Limits::default());
        fixture.callers.identity.synced().await;
        fixture.still_follows().await;
        assert_eq!(fixture.lost(Reason::Failing), 1, "{status}");
    }
}

#[tokio::test]
async fn a_failing_watch_is_opened_again_without_a_list() {
    let fixture = Fixture::watching().await;
    fixture.kube.fail_next(Verb::Watch, Fault::Status(500));
    fixture.kube.fail_next(Verb::Watch, Fault::Cut);
    fixture.kube.interrupt(Interruption::Cut);
    fixture.kube.called(Verb::Watch, 4).await;
    fixture.still_follows().await;
    assert_eq!(fixture.count(Verb::List), 1);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_costs_a_list() {
    for interruption in [Interruption::Garbage, Interruption::Error(500)] {
        let fixture = Fixture::watching().await;
        fixture.kube.interrupt(interruption);
        fixture.kube.called(Verb::Watch, 2).await;
        fixture.still_follows().await;
    }
}

#[tokio::test]
async fn a_server_that_stalls_is_asked_again() {
    let kube = FakeKube::start().await;
    kube.apply(pod("a", "10.0.0.1"));
    kube.fail_next(Verb::List, Fault::Stall);
    kube.fail_next(Verb::Watch, Fault::Stall);
    let limits = Limits {
        answer: SILENCE,
        silence: PATIENCE,
    };
    let fixture = Fixture::with(kube, limits);
    fixture.kube.called(Verb::Watch, 2).await;
    fixture.still_follows().await;
    assert_eq!(fixture.lost(Reason::Silent), 2);
}

#[tokio::test]
async fn a_watch_that_falls_silent_resumes_on_another_connection() {
    let kube = FakeKube::start().await;
    kube.apply(pod("a", "10.0.0.1"));
    let limits = Limits {
        silence: SILENCE,
        ..Limits::default()
    };
    let fixture = Fixture::with(kube, limits);
    fixture.kube.called(Verb::Watch, 2).await;
    fixture.still_follows().await;
    assert_eq!(fixture.count(Verb::List), 1);
}

#[tokio::test]
async fn a_malformed_pod_harms_only_itself_and_is_counted_once() {
    let kube = FakeKube::start().await;
    kube.apply(pod("a", "10.0.0.1"));
    kube.apply(pod("bad", "10.0.0.5").edit(|pod| pod["metadata"]["uid"] = 7.into()));
    kube.apply(pod("worse", "10.0.0.6").edit(|pod| pod["status"] = "gone".into()));
    kube.apply(pod("odd", "10.0.0.4").edit(|pod| pod["spec"]["hostNetwork"] = "no".into()));
    let fixture = Fixture::with(kube, Limits::default());
    fixture.callers.identity.synced().await;
    fixture.still_follows().await;
    for address in ["10.0.0.4", "10.0.0.5"] {
        let answer = fixture.answer_now(address).await;
        assert!(matches!(answer, Err(Error::Unusable(..))), "{answer:?}");
    }
    fixture.kube.interrupt(Interruption::Error(410));
    fixture.kube.called(Verb::Watch, 2).await;
    assert_eq!(fixture.callers.metrics.pods.refused_pods.get(), 2);
    fixture.kube.apply(pod("bad", "10.0.0.5"));
    let mut changes = fixture.callers.identity.changes();
    let healed = async {
        while fixture.answer_now("10.0.0.5").await.is_err() {
            changes.changed().await.unwrap();
        }
    };
    timeout(PATIENCE, healed).await.expect("the pod is mended");
}

#[tokio::test]
async fn a_bookmark_moves_the_place_to_resume_at_and_is_no_change() {
    let fixture = Fixture::watching().await;
    let changes = fixture.callers.identity.changes();
    fixture.kube.interrupt(Interruption::Bookmark);
    fixture.kube.interrupt(Interruption::End);
    fixture.kube.called(Verb::Watch, 2).await;
    let calls = fixture.kube.calls();
    let versions: Vec<&str> = calls
        .iter()
        .filter(|call| call.verb == Verb::Watch)
        .map(|call| call.query["resourceVersion"].as_str())
        .collect();
    assert_eq!(versions, ["1", "2"]);
    assert!(!changes.has_changed().unwrap());
    assert!(fixture.callers.identity.watch_age().unwrap() < PATIENCE);
}
