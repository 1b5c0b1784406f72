//! How soon the agents of many nodes know of a change in EKS: the agents' own
//! source of associations, one a node, on one API server.

use credlet::apiserver::{Limits, Losses};
use credlet::associations::Source;
use credlet::associations::crd::Crd;
use credlet::associations::namespaces::Namespaces;
use credlet::associations::spec::Defaults;
use credlet::config::Presence;
use credlet::model::ServiceAccount;
use credlet_tests::fake_aws::Api as AwsApi;
use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

/// Of all associations; EKS keeps as many in one cluster.
const ASSOCIATIONS: usize = 1000;
const NAMESPACES: usize = 20;
const NODES: usize = 200;

/// The source `crd` of one node's agent.
struct Agent {
    source: Box<dyn Source>,
    _tasks: JoinSet<&'static str>,
}

impl Agent {
    fn start(client: &Client) -> Self {
        let changes = Arc::new(watch::Sender::new(0));
        let losses = Losses::default();
        let namespaces = Namespaces::new(Arc::clone(&changes), losses.clone());
        let shelf = namespaces.shelf();
        let (_, source, lists) = Crd::open(
            client,
            Defaults::default(),
            Presence::Required,
            namespaces,
            changes,
            &losses,
        );
        let mut tasks: JoinSet<_> = JoinSet::new();
        for list in lists {
            tasks.spawn(list);
        }
        tasks.spawn(shelf.tend(client.clone(), Limits::default(), Namespaces::place));
        Self {
            source: Box::new(source),
            _tasks: tasks,
        }
    }

    /// What it knows now, or will when it has asked.
    async fn role(&self, account: &ServiceAccount) -> Result<Option<String>, String> {
        let deadline = Instant::now() + PATIENCE;
        let found = self.source.find(account, deadline).await;
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.and_then(|it| it.grant().map(|grant| grant.role.as_str().to_owned())))
    }

    /// When it knows that the account has the role.
    async fn knows(&self, account: &ServiceAccount, role: Option<&str>) -> Instant {
        let mut told = self.source.changes();
        loop {
            told.mark_unchanged();
            let knows = self.role(account).await;
            if knows.as_ref().is_ok_and(|it| it.as_deref() == role) {
                return Instant::now();
            }
            let more = timeout(2 * PATIENCE, told.changed()).await;
            let more = more.unwrap_or_else(|_| panic!("{knows:?} and not {role:?}"));
            more.expect("it is followed");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Amend,
    Remove,
    Add,
}

/// The account `cart-0` of the first namespace, which pods of all nodes have.
fn everybodys() -> ServiceAccount {
    ServiceAccount::new("shop-0", "cart-0").expect("legal")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_nodes_know_of_a_change_soon_after_the_one_that_asks_eks() {
    let rig = Rig::start(&[manifests::SYNC]).await;
    // As of the project's stand-in: AWS publishes no figure for these calls.
    rig.aws.limit(100.0, 100.0);
    for number in 0..NAMESPACES {
        rig.add_namespace(&format!("shop-{number}")).await;
    }
    for number in 0..ASSOCIATIONS {
        let namespace = format!("shop-{}", number % NAMESPACES);
        let account = format!("cart-{}", number / NAMESPACES);
        rig.aws.associate(&namespace, &account, entry("cart"));
    }
    let start = Instant::now();
    let second = Duration::from_secs(1);
    let sync = rig.sync_by(&of_eks(), second, 20 * second).await;
    let comes = async {
        while rig.count().await < ASSOCIATIONS {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(8 * PATIENCE, comes)
        .await
        .expect("all are mirrored");
    println!(
        "{ASSOCIATIONS} associations were mirrored within {:.1?}",
        start.elapsed()
    );

    let client = rig.cluster.agent().await;
    let agents: Vec<Agent> = (0..NODES).map(|_| Agent::start(&client)).collect();
    let account = everybodys();
    let old = role("cart");
    join_all(agents.iter().map(|it| it.knows(&account, Some(&old)))).await;

    for change in [Change::Amend, Change::Remove, Change::Add] {
        let seen = rig.aws.count(AwsApi::Describe);
        let role = (change != Change::Remove).then(|| role("new"));
        let at = Instant::now();
        match change {
            Change::Amend => rig.aws.amend("shop-0", "cart-0", entry("new")),
            Change::Remove => rig.aws.dissociate("shop-0", "cart-0"),
            Change::Add => rig.aws.associate("shop-0", "cart-0", entry("new")),
        }
        let knows = agents.iter().map(|it| it.knows(&account, role.as_deref()));
        let mut knew = join_all(knows).await;
        knew.sort();
        let (first, last) = (knew[0], knew[NODES - 1]);
        let spread = last.duration_since(first);
        println!(
            "{change:?}: the first of {NODES} nodes knew after {:.2?}, the last {spread:.0?} later, \
             with {} descriptions meanwhile",
            first.duration_since(at),
            rig.aws.count(AwsApi::Describe) - seen,
        );
        assert!(spread < 5 * second, "{spread:?}");
    }
    assert_eq!(rig.aws.throttled(), 0);
    sync.leave().await;
}
