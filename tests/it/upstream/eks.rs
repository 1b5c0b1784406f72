//! Associations: what EKS is asked, and what becomes of its answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use credlet::associations::eks::Eks;
use credlet::associations::{Error, Known, Source};
use credlet::aws;
use credlet::clock::Clock;
use credlet::model::{Association, Grant, Means, ServiceAccount, Session};
use credlet_tests::fake_aws::{
    Answer, Api, CLUSTER, CLUSTER_ARN, Call, Describe, Entry, FakeAws, List,
};
use futures::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, pause, resume, timeout};

use super::{AGENT, sdk};

const ROLE: &str = "arn:aws:iam::111122223333:role/pods/checkout";
const OTHER: &str = "arn:aws:iam::111122223333:role/pods/other";

/// Longer than an association goes without a refresh.
const REFRESH: Duration = Duration::from_secs(6 * 60 + 1);

struct Fixture {
    aws: FakeAws,
    eks: Eks,
    _scheduler: JoinSet<()>,
}

async fn fixture() -> Fixture {
    fixture_of(CLUSTER).await
}

async fn fixture_of(cluster: &str) -> Fixture {
    let aws = FakeAws::start().await;
    let clock = Clock::paused(SystemTime::now());
    let metrics = aws::Metrics::default();
    let (eks, scheduler) = Eks::new(&sdk(&aws).await, cluster, Means::Agent, metrics, clock);
    let mut tasks = JoinSet::new();
    tasks.spawn(scheduler);
    Fixture {
        aws,
        eks,
        _scheduler: tasks,
    }
}

fn role_of(association: &Association) -> Option<String> {
    association.grant().map(|grant| grant.role.to_string())
}

fn account(name: &str) -> ServiceAccount {
    ServiceAccount::new("shop", name).expect("valid")
}

impl Fixture {
    fn associate(&self, role: &str) {
        self.aws.associate("shop", "checkout", Entry::of(role));
    }

    async fn find_of(&self, name: &str) -> Result<Option<Arc<Association>>, Error> {
        let deadline = Instant::now() + Duration::from_secs(10);
        self.eks.find(&account(name), deadline).await
    }

    async fn find(&self) -> Result<Option<Arc<Association>>, Error> {
        self.find_of("checkout").await
    }

    async fn role(&self) -> String {
        let found = self.find().await.expect("an answer");
        role_of(&found.expect("an association")).expect("EKS names a role")
    }

    async fn failure(&self) -> String {
        self.find().await.expect_err("a failure").to_string()
    }

    /// Waits until the source says this of the account without being asked.
    async fn until(&self, wanted: impl Fn(&Known) -> bool) {
        let mut changes = self.eks.changes();
        let known = changes.wait_for(|_| wanted(&self.eks.peek(&account("checkout"))));
        let known = timeout(Duration::from_secs(10), known).await;
        known
            .expect("the change was never announced")
            .expect("the source lives");
    }
}

/// Makes time pass; not by waiting, and not while a socket is waited for.
async fn pass(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn an_association_costs_one_list_and_one_description() {
    let fixture = fixture().await;
    let entry = Entry {
        target_role_arn: Some(OTHER.to_owned()),
        external_id: Some("us/them".to_owned()),
        ..Entry::of(ROLE)
    };
    fixture.aws.associate("shop", "checkout", entry);
    let found = join_all((0..10).map(|_| fixture.find())).await;
    let wanted = Association::Role(Grant {
        target_role: Some(OTHER.parse().expect("valid")),
        external_id: Some("us/them".to_owned()),
        session: Session::Tagged {
            cluster_arn: Some(CLUSTER_ARN.into()),
            extra: BTreeMap::new(),
        },
        ..Grant::of(ROLE.parse().expect("valid"))
    });
    for found in found {
        assert_eq!(found.expect("an answer").as_deref(), Some(&wanted));
    }
    let list = List {
        cluster: CLUSTER.to_owned(),
        namespace: "shop".to_owned(),
        service_account: "checkout".to_owned(),
        next_token: None,
        signer: AGENT.to_owned(),
    };
    let describe = Describe {
        cluster: CLUSTER.to_owned(),
        id: "a-00000000000000001".to_owned(),
        signer: AGENT.to_owned(),
    };
    assert_eq!(
        fixture.aws.calls(),
        [Call::List(list), Call::Describe(describe)]
    );
}

#[tokio::test]
async fn an_association_behind_empty_pages_is_found() {
    let fixture = fixture().await;
    fixture.aws.page_sizes(&[0, 0]);
    fixture.associate(ROLE);
    assert_eq!(fixture.role().await, ROLE);
    assert_eq!(fixture.aws.count(Api::List), 3);
}

#[tokio::test]
async fn a_list_without_an_end_is_given_up() {
    let fixture = fixture().await;
    fixture.aws.page_sizes(&[0; 50]);
    fixture.associate(ROLE);
    assert!(fixture.failure().await.contains("without an end"));
    assert_eq!(fixture.aws.count(Api::List), 10);
}

#[tokio::test]
async fn two_associations_of_one_account_are_a_failure() {
    let fixture = fixture().await;
    fixture.aws.page_sizes(&[1]);
    fixture.associate(ROLE);
    fixture
        .aws
        .associate_also("shop", "checkout", Entry::of(OTHER));
    assert!(
        fixture
            .failure()
            .await
            .contains("more than one association")
    );
}

#[tokio::test]
async fn that_there_is_none_is_believed_for_ten_seconds() {
    let fixture = fixture().await;
    assert_eq!(fixture.find().await.expect("an answer"), None);
    fixture.associate(ROLE);
    assert_eq!(fixture.find().await.expect("an answer"), None);
    assert_eq!(fixture.eks.peek(&account("checkout")), Known::None);
    assert_eq!(fixture.aws.count(Api::List), 1);

    pass(Duration::from_secs(11)).await;
    assert_eq!(fixture.eks.peek(&account("checkout")), Known::Unknown);
    assert_eq!(fixture.role().await, ROLE);
}

#[tokio::test]
async fn that_there_is_none_is_not_believed_through_an_outage() {
    let fixture = fixture().await;
    assert_eq!(fixture.find().await.expect("an answer"), None);
    fixture.aws.script(Api::List, Answer::Broken);
    pass(Duration::from_secs(11)).await;
    assert!(fixture.failure().await.contains("ServerException"));
}

#[tokio::test]
async fn an_association_that_goes_between_list_and_description_is_none() {
    let fixture = fixture().await;
    fixture.associate(ROLE);
    fixture.aws.script(Api::Describe, Answer::Gone);
    assert_eq!(fixture.find().await.expect("an answer"), None);
}

#[tokio::test]
async fn an_answer_that_says_nothing_is_a_failure_and_not_none() {
    for (api, answer, why) in [
        (Api::List, Answer::Denied, "AccessDeniedException"),
        (Api::List, Answer::Throttled, "ThrottlingException"),
        (Api::List, Answer::Malformed, "unreadable"),
        (Api::List, Answer::Empty, "incomplete"),
        (Api::Describe, Answer::Denied, "AccessDeniedException"),
        (Api::Describe, Answer::Empty, "incomplete"),
    ] {
        let fixture = fixture().await;
        fixture.associate(ROLE);
        fixture.aws.script(api, answer);
        let failure = fixture.failure().await;
        assert!(failure.contains(why), "{api:?} {answer:?}: {failure}");
        assert_eq!(fixture.eks.peek(&account("checkout")), Known::Unknown);
    }
}

#[tokio::test]
async fn a_cluster_that_eks_does_not_know_is_a_failure_that_names_it() {
    let fixture = fixture_of("green").await;
    let failure = fixture.failure().await;
    assert!(
        failure.contains("does not know the cluster green"),
        "{failure}"
    );
}

#[tokio::test]
async fn one_accounts_bad_role_is_no_other_accounts_trouble() {
    let fixture = fixture().await;
    fixture.associate(ROLE);
    fixture
        .aws
        .associate("shop", "refund", Entry::of("not-an-arn"));
    let failure = fixture.find_of("refund").await.expect_err("a failure");
    assert!(failure.to_string().contains("roleArn"), "{failure}");
    assert_eq!(fixture.role().await, ROLE);
}

#[tokio::test]
async fn a_change_is_announced_with_the_next_refresh() {
    let fixture = fixture().await;
    fixture.associate(ROLE);
    assert_eq!(fixture.role().await, ROLE);

    fixture.associate(OTHER);
    pass(REFRESH).await;
    fixture
        .until(|known| matches!(known, Known::Is(now) if role_of(now).as_deref() == Some(OTHER)))
        .await;

    fixture.aws.dissociate("shop", "checkout");
    pass(REFRESH).await;
    fixture.until(|known| *known == Known::None).await;
}

#[tokio::test]
async fn an_outage_leaves_what_was_known_and_its_age() {
    let fixture = fixture().await;
    assert_eq!(fixture.eks.oldest(), None);
    fixture.associate(ROLE);
    assert_eq!(fixture.role().await, ROLE);
    let confirmed = fixture.eks.oldest().expect("one is known");

    fixture.aws.script(Api::List, Answer::Broken);
    for hour in 1..=3 {
        pass(Duration::from_hours(1)).await;
        fixture.aws.wait_for(Api::List, 1 + hour).await;
        assert_eq!(fixture.role().await, ROLE);
    }
    assert_eq!(fixture.eks.oldest(), Some(confirmed));
}
