//! A node as a person may find it: most is well, and some is not.

use std::time::SystemTime;

use credlet::status::{Account, Exchange, Gate, Pods, Source, SourceState, State, Status, Trouble};
use jiff::{SignedDuration, Timestamp};

/// Some seconds before (or after) now.
fn at(seconds: i64) -> Timestamp {
    let now = Timestamp::try_from(SystemTime::now()).expect("a date");
    now + SignedDuration::from_secs(seconds)
}

pub(super) fn status() -> Status {
    let gate = |name: &str| Gate {
        name: name.to_owned(),
        open: true,
    };
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: "ip-10-0-12-7.eu-central-1.compute.internal".to_owned(),
        cluster: Some("blue".to_owned()),
        now: at(0),
        started_at: at(-3 * 24 * 3600 - 5 * 3600),
        gates: ["network", "pods", "doors"].map(gate).to_vec(),
        pods: Pods {
            known: Some(38),
            heard_at: Some(at(-14)),
            keys_at: Some(at(-51 * 60)),
        },
        sources: vec![
            source("crd", SourceState::Good, 6, Some(-21), None),
            source("eks", SourceState::Good, 2, Some(-190), None),
            source(
                "annotation",
                SourceState::Absent,
                0,
                None,
                Some("serviceaccounts is forbidden: cannot list resource \"serviceaccounts\""),
            ),
        ],
        accounts: accounts(),
    }
}

fn source(
    name: &str,
    state: SourceState,
    known: usize,
    heard: Option<i64>,
    error: Option<&str>,
) -> Source {
    Source {
        name: name.to_owned(),
        state,
        known,
        heard_at: heard.map(at),
        error: error.map(str::to_owned),
    }
}

/// One that is well: refreshed so many minutes ago, for so many minutes.
fn well(namespace: &str, name: &str, role: &str, [age, life]: [i64; 2], users: usize) -> Account {
    Account {
        namespace: namespace.to_owned(),
        service_account: name.to_owned(),
        pod: None,
        state: State::Fresh,
        source: Some("crd".to_owned()),
        role: Some(format!("arn:aws:iam::111122223333:role/{role}")),
        via_role: None,
        exchange: Some(Exchange::AssumeRole),
        session: Some(format!("{namespace}.{name}")),
        refreshed_at: Some(at(-60 * age)),
        next_at: Some(at(60 * (life * 45 / 100 - age).max(1))),
        expires_at: Some(at(60 * (life - age))),
        trouble: None,
        users,
        pods: (0..users).map(|it| format!("{name}-{it}")).collect(),
    }
}

fn accounts() -> Vec<Account> {
    let denied = "AWS refuses the role: AccessDenied: User: \
        arn:aws:sts::111122223333:assumed-role/node/i-0abc1234def567890 is not authorized to perform: \
        sts:AssumeRole on resource: arn:aws:iam::111122223333:role/batch/nightly";
    let troubled = |message: &str, ago: i64, attempts: u32| {
        Some(Trouble {
            message: message.to_owned(),
            at: Some(at(-ago)),
            attempts,
        })
    };
    let nightly = Account {
        state: State::Failed,
        session: Some("batch.nightly".to_owned()),
        refreshed_at: None,
        next_at: Some(at(41)),
        expires_at: None,
        trouble: troubled(denied, 19, 12),
        ..well("batch", "nightly", "batch/nightly", [0, 60], 3)
    };
    let api = Account {
        state: State::Stale,
        source: Some("eks".to_owned()),
        next_at: Some(at(23)),
        trouble: troubled("AWS throttles", 5, 9),
        ..well("payments", "api", "payments/api", [49, 60], 6)
    };
    let far = Account {
        via_role: Some("arn:aws:iam::111122223333:role/data/hop".to_owned()),
        role: Some("arn:aws:iam::444455556666:role/lake-reader".to_owned()),
        exchange: Some(Exchange::WebIdentity),
        ..well("data", "lake", "data/hop", [8, 60], 2)
    };
    let none = Account {
        state: State::NoRole,
        source: None,
        role: None,
        exchange: None,
        session: None,
        refreshed_at: None,
        next_at: None,
        expires_at: None,
        ..well("kube-system", "default", "none", [0, 60], 11)
    };
    vec![
        nightly,
        far,
        none,
        well("observability", "logs", "platform/logs", [26, 720], 1),
        api,
        well("shop", "carts", "pods/carts", [22, 60], 4),
        well("shop", "checkout", "pods/checkout", [15, 60], 8),
        well("shop", "reports", "pods/reports", [3, 60], 1),
        well("web", "images", "pods/images", [19, 120], 2),
    ]
}
