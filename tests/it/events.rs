//! Events on pods: what the owners of pods are told, and what becomes of it when
//! the API server takes none.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use credlet::clock::Clock;
use credlet::events::{Limits, Metrics, Notices, Rate, Reason};
use credlet::model::{PodName, PodUid};
use credlet_tests::fake_aws::{Answer, Api, Entry};
use credlet_tests::fake_kube::{FakeKube, Fault, NODE, Pod, Verb};
use hyper::StatusCode;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio::time::{advance, pause, resume, sleep, timeout};

use crate::agent::rig::Rig;

const ROLE: &str = "arn:aws:iam::111122223333:role/pods/checkout";
const NOTE: &str = "AWS refuses the role: AccessDenied";

fn address(pod: u8) -> IpAddr {
    [127, 0, 3, pod].into()
}

fn pod(account: &str, seat: u8) -> Pod {
    let address = address(seat).to_string();
    Pod::new("shop", &format!("{account}-1"))
        .account(account)
        .addresses([address.as_str()])
}

#[tokio::test]
async fn a_role_that_aws_refuses_is_one_event_on_the_pod_that_asks() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(ROLE));
    rig.aws.script_for(Api::AssumeRole, ROLE, Answer::Denied);
    rig.kube.apply(pod("checkout", 1));
    rig.kube.apply(pod("stranger", 2));
    rig.metric("credlet_pods 2").await;
    let told = rig.get(address(1)).await;
    assert_eq!(told.status, StatusCode::FORBIDDEN, "{}", told.text());
    for _ in 0..50 {
        let again = rig.get(address(1)).await;
        assert_eq!(again.status, StatusCode::FORBIDDEN);
    }
    rig.metric("credlet_events_total{outcome=\"Written\"} 1")
        .await;
    // That account's pods are told what they lack, too.
    let without = rig.get(address(2)).await;
    assert_eq!(without.status, StatusCode::NOT_FOUND);
    rig.metric("credlet_events_total{outcome=\"Written\"} 2")
        .await;

    let events = rig.kube.events();
    let [event, stranger] = &events[..] else {
        panic!("{events:#?}");
    };
    assert_eq!(stranger["reason"], "NoAssociation");
    assert_eq!(stranger["regarding"]["name"], "stranger-1");
    let note = stranger["note"].as_str().expect("a text");
    assert!(note.starts_with(&without.field("message")), "{note}");
    assert_eq!(event["regarding"]["kind"], "Pod");
    assert_eq!(event["regarding"]["name"], "checkout-1");
    assert_eq!(event["regarding"]["namespace"], "shop");
    assert!(event["regarding"]["uid"].is_string());
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["reason"], "RoleRefused");
    assert_eq!(event["reportingController"], "credlet");
    assert_eq!(event["reportingInstance"], NODE);
    let note = event["note"].as_str().expect("a text");
    assert!(note.starts_with(&told.field("message")), "{note}");
    assert!(
        note.contains("; let the role's trust policy allow"),
        "{note}"
    );
    rig.leave().await;
}

#[tokio::test]
async fn what_only_aws_can_end_is_no_event() {
    let rig = Rig::start().await;
    for (seat, answer) in [(1, Answer::Throttled), (2, Answer::Broken)] {
        let (account, role) = (format!("app-{seat}"), format!("{ROLE}-{seat}"));
        rig.aws.associate("shop", &account, Entry::of(&role));
        rig.aws.script_for(Api::AssumeRole, &role, answer);
        rig.kube.apply(pod(&account, seat));
        rig.metric(&format!("credlet_pods {seat}")).await;
        let told = rig.get(address(seat)).await;
        assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(rig.kube.count(Verb::CreateEvent), 0);
    rig.leave().await;
}

#[tokio::test]
async fn an_agent_that_may_not_write_events_answers_all_the_same() {
    let rig = Rig::start().await;
    rig.kube.forbid(Verb::CreateEvent);
    rig.aws.associate("shop", "checkout", Entry::of(ROLE));
    rig.aws.script_for(Api::AssumeRole, ROLE, Answer::Denied);
    rig.kube.apply(pod("checkout", 1));
    rig.metric("credlet_pods 1").await;
    for _ in 0..50 {
        let answer = rig.get(address(1)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text());
    }
    rig.metric("credlet_events_total{outcome=\"Failed\"}").await;
    assert!(rig.kube.count(Verb::CreateEvent) <= 5);
    rig.leave().await;
}

/// The room by itself.
struct Desk {
    kube: FakeKube,
    notices: Notices,
    registry: Registry,
    _writer: JoinSet<()>,
}

impl Desk {
    async fn open(limits: Limits) -> Self {
        let kube = FakeKube::start().await;
        let mut config = kube::Config::new(kube.url().parse().expect("a URL"));
        config.default_retry = false;
        let client = kube::Client::try_from(config).expect("plain HTTP needs nothing");
        let (metrics, clock) = (Metrics::default(), Clock::paused(SystemTime::now()));
        let mut registry = Registry::default();
        registry.register("events", "Events", metrics.events.clone());
        let (notices, task) = Notices::open(client, NODE, limits, metrics, clock);
        let mut writer = JoinSet::new();
        writer.spawn(async move { panic!("the writer ended: {}", task.await) });
        Self {
            kube,
            notices,
            registry,
            _writer: writer,
        }
    }

    fn tell(&self, pod: &str) {
        let pod = PodName {
            uid: PodUid::new(&format!("uid-of-{pod}")).expect("a UID"),
            name: pod.into(),
        };
        self.notices.tell("shop", &pod, Reason::RoleRefused, NOTE);
    }

    fn counted(&self, outcome: &str) -> usize {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a String takes what is written");
        let line = format!("events_total{{outcome=\"{outcome}\"}} ");
        let value = out.lines().find_map(|it| it.strip_prefix(&line));
        value.map_or(0, |value| value.parse().expect("a number"))
    }

    async fn until_counted(&self, outcome: &str, least: usize) {
        let comes = async {
            while self.counted(outcome) < least {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let came = timeout(Duration::from_secs(10), comes).await;
        assert!(came.is_ok(), "{outcome}: {}", self.counted(outcome));
    }
}

/// Makes time pass; not by waiting, and not while a socket is waited for.
async fn pass(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

/// More than any test tells.
const UNLIMITED: Rate = Rate::new(10_000, Duration::from_millis(1));

fn unlimited() -> Limits {
    Limits {
        pod: UNLIMITED,
        node: UNLIMITED,
        ..Limits::default()
    }
}

#[tokio::test]
async fn repeats_are_the_count_of_the_event_that_is_there() {
    let desk = Desk::open(Limits::default()).await;
    for _ in 0..42 {
        desk.tell("cart-1");
    }
    desk.until_counted("Written", 1).await;
    assert!(desk.kube.events()[0]["series"].is_null());
    pass(Duration::from_mins(10)).await;
    desk.until_counted("Written", 2).await;
    desk.tell("cart-1");
    pass(Duration::from_mins(10)).await;
    desk.until_counted("Written", 3).await;
    let events = desk.kube.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["series"]["count"], 43);
    assert!(events[0]["series"]["lastObservedTime"].is_string());
}

#[tokio::test]
async fn an_event_that_the_api_server_has_forgotten_is_written_anew() {
    let desk = Desk::open(Limits::default()).await;
    desk.tell("cart-1");
    desk.until_counted("Written", 1).await;
    desk.tell("cart-1");
    desk.kube.fail_next(Verb::PatchEvent, Fault::Status(404));
    pass(Duration::from_mins(10)).await;
    desk.until_counted("Failed", 1).await;
    desk.tell("cart-1");
    desk.until_counted("Written", 2).await;
    assert_eq!(desk.kube.events().len(), 2);
}

#[tokio::test]
async fn whoever_tells_never_waits_for_an_api_server_that_does_not_answer() {
    let desk = Desk::open(unlimited()).await;
    desk.kube.fail_next(Verb::CreateEvent, Fault::Stall);
    desk.tell("cart-0");
    desk.kube.called(Verb::CreateEvent, 1).await;
    for pod in 1..=100 {
        desk.tell(&format!("cart-{pod}"));
    }
    assert_eq!(desk.counted("Dropped"), 100 - 64);
    pass(Duration::from_secs(5)).await;
    desk.until_counted("Failed", 1).await;
    // What waited meanwhile is not worth another five seconds each.
    desk.until_counted("Dropped", 100).await;
    assert_eq!(desk.kube.count(Verb::CreateEvent), 1);
}

#[tokio::test]
async fn an_api_server_that_is_away_is_asked_ever_more_seldom_and_found_again() {
    let desk = Desk::open(unlimited()).await;
    desk.kube.forbid(Verb::CreateEvent);
    for told in 1..=600 {
        desk.tell("cart-1");
        let lost = async {
            while desk.counted("Dropped") + desk.counted("Failed") < told {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let lost = timeout(Duration::from_secs(10), lost).await;
        assert!(lost.is_ok(), "{told} were told, fewer counted");
        pass(Duration::from_secs(1)).await;
    }
    let asked = desk.kube.count(Verb::CreateEvent);
    assert!((6..=12).contains(&asked), "{asked}");
    desk.kube.permit(Verb::CreateEvent);
    pass(Duration::from_mins(5)).await;
    desk.tell("cart-1");
    desk.until_counted("Written", 1).await;
}

#[tokio::test]
async fn an_event_that_alone_is_refused_keeps_no_other_back() {
    let desk = Desk::open(unlimited()).await;
    for status in [404, 409, 422] {
        desk.kube
            .fail_next(Verb::CreateEvent, Fault::Status(status));
        desk.tell(&format!("odd-{status}"));
    }
    desk.until_counted("Failed", 3).await;
    desk.tell("cart-1");
    desk.until_counted("Written", 1).await;
    assert_eq!(desk.counted("Dropped"), 0);
}
