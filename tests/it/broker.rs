//! What is kept ready for pods that do not ask.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use credlet::associations::eks::Eks;
use credlet::associations::file::File;
use credlet::associations::spec::Defaults;
use credlet::associations::{Associations, Source};
use credlet::aws;
use credlet::broker::Broker;
use credlet::clock::Clock;
use credlet::credentials::{Standing, Vault};
use credlet::model::{Means, SessionScope};
use credlet_tests::callers::{self, Callers};
use credlet_tests::fake_aws::{Api, CLUSTER, Call, Entry, FakeAws};
use credlet_tests::fake_kube::{FakeKube, Pod};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{advance, pause, resume, sleep, timeout};

use crate::upstream::{by_agent, sdk, sessions};

mod tokens;

const ROLE: &str = "arn:aws:iam::111122223333:role/pods/idle";
const HOUR: Duration = Duration::from_hours(1);

/// Longer than «there is none» is believed.
const NONE: Duration = Duration::from_secs(11);

/// A broker that keeps ready what pods may ask for, over the sources `eks` and `file`.
struct Fixture {
    kube: FakeKube,
    aws: FakeAws,
    eks: Eks,
    vault: Vault,
    _tasks: JoinSet<()>,
    _folder: TempDir,
}

impl Fixture {
    async fn start(file: &str) -> Self {
        Self::with(file, SessionScope::ServiceAccount).await
    }

    async fn with(file: &str, scope: SessionScope) -> Self {
        let (kube, aws) = (FakeKube::start().await, FakeAws::start().await);
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("associations");
        std::fs::write(&path, file).expect("written");
        let callers = Callers::open(&kube, callers::settings());
        let identity = callers.identity.clone();
        let mut tasks = callers.into_tasks();
        let clock = Clock::paused(SystemTime::now());
        let (sdk, metrics) = (sdk(&aws).await, aws::Metrics::default());
        let (eks, scheduler) = Eks::new(&sdk, CLUSTER, Means::Agent, metrics.clone(), clock);
        tasks.spawn(scheduler);
        let (file, reader) = File::load(&path, Defaults::default()).expect("good");
        tasks.spawn(reader);
        let exchanges = by_agent(&sdk, sessions(None, HOUR), &metrics);
        let (vault, scheduler) = Vault::new(Arc::new(exchanges), clock);
        tasks.spawn(scheduler);
        let sources: Vec<Box<dyn Source>> = vec![Box::new(eks.clone()), Box::new(file)];
        let broker = Broker::new(
            identity,
            Associations::new(sources, None),
            vault.clone(),
            scope,
        );
        tasks.spawn(async move { panic!("{}", Arc::new(broker).keep_ready().await) });
        Self {
            kube,
            aws,
            eks,
            vault,
            _tasks: tasks,
            _folder: folder,
        }
    }

    fn pod(&self, account: &str) {
        self.kube.apply(Pod::new("shop", account).account(account));
    }

    fn lists(&self, account: &str) -> usize {
        let calls = self.aws.calls();
        let of_account =
            |call: &&Call| matches!(call, Call::List(list) if list.service_account == account);
        calls.iter().filter(of_account).count()
    }

    /// Makes «there is none» be forgotten, and waits until the broker has looked
    /// again: at a new pod, whose account's list follows any that it asks before.
    async fn forget_none_and_look_again(&self, new: &str) {
        pass(NONE).await;
        self.aws.associate("shop", new, Entry::of(ROLE));
        let sessions = self.aws.count(Api::AssumeRole);
        self.pod(new);
        self.aws.wait_for(Api::AssumeRole, sessions + 1).await;
    }

    async fn until_standing(&self, wanted: impl Fn(Standing) -> bool) {
        let comes = async {
            while !wanted(self.vault.standing()) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let comes = timeout(Duration::from_secs(10), comes).await;
        assert!(comes.is_ok(), "{:?}", self.vault.standing());
    }
}

/// Makes time pass; not by waiting, and not while a socket is waited for.
async fn pass(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn an_idle_pod_without_an_association_costs_one_list_whatever_happens_on_the_node() {
    let fixture = Fixture::start("associations: []").await;
    fixture.pod("idle");
    fixture.aws.wait_for(Api::List, 1).await;
    for new in ["one", "two", "three"] {
        fixture.forget_none_and_look_again(new).await;
    }
    assert_eq!(fixture.lists("idle"), 1);
}

#[tokio::test]
async fn credentials_stay_when_an_earlier_source_has_forgotten_that_it_has_none() {
    let file =
        format!("associations: [{{namespace: shop, serviceAccount: idle, roleArn: \"{ROLE}\"}}]");
    let fixture = Fixture::start(&file).await;
    fixture.pod("idle");
    fixture.until_standing(|standing| standing.fresh == 1).await;
    fixture.forget_none_and_look_again("one").await;
    fixture.until_standing(|standing| standing.fresh == 2).await;
    assert_eq!(fixture.aws.count(Api::AssumeRole), 2);
}

#[tokio::test]
async fn nothing_is_asked_for_an_account_whose_last_pod_has_gone() {
    let fixture = Fixture::start("associations: []").await;
    fixture.aws.associate("shop", "idle", Entry::of(ROLE));
    fixture.pod("idle");
    fixture.until_standing(|standing| standing.fresh == 1).await;
    assert!(fixture.eks.oldest().is_some());
    fixture.kube.delete("shop", "idle");
    fixture
        .until_standing(|standing| standing == Standing::default())
        .await;
    assert_eq!(fixture.eks.oldest(), None);
}

#[tokio::test]
async fn where_sessions_are_the_pods_each_pod_has_its_own_ready_until_it_goes() {
    let file =
        format!("associations: [{{namespace: shop, serviceAccount: cart, roleArn: \"{ROLE}\"}}]");
    let fixture = Fixture::with(&file, SessionScope::Pod).await;
    for pod in ["cart-1", "cart-2", "cart-3"] {
        fixture.kube.apply(Pod::new("shop", pod).account("cart"));
    }
    fixture.until_standing(|standing| standing.fresh == 3).await;
    assert_eq!(fixture.aws.count(Api::AssumeRole), 3);
    fixture.kube.delete("shop", "cart-2");
    fixture.until_standing(|standing| standing.fresh == 2).await;
    // A new pod of the name is another pod.
    fixture
        .kube
        .apply(Pod::new("shop", "cart-2").account("cart").uid("another"));
    fixture.until_standing(|standing| standing.fresh == 3).await;
    assert_eq!(fixture.aws.count(Api::AssumeRole), 4);
}
