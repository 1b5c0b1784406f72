//! Reviews over HTTPS, on connections that are kept as an API server keeps them: what
//! one costs, and how late the last ones are at a steady pace.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use credlet_tests::fake_kube::{FakeKube, Kind};
use credlet_tests::reviewer::{Line, Reviewer, review};
use futures::future::join_all;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::load::{self, CLIENT_CORE, SERVER_CORE};
use crate::row;
use crate::server::Worker;

/// Of which every second one has a role.
const ACCOUNTS: usize = 1000;
const CONNECTIONS: usize = 8;
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
const PACE: Duration = Duration::from_millis(10);
const PACED: u32 = 1000;

/// What was seen.
pub(crate) struct Seen {
    /// A second, of one core that does nothing else.
    rate: f64,
    /// A second, with the client beside it.
    asked: f64,
    late: Duration,
    bytes: usize,
}

/// Has the first core for the webhook, and the second for who asks.
pub(crate) fn measure() -> Seen {
    load::pin(SERVER_CORE);
    let worker = Worker::start();
    let kube = worker.runtime.spawn(async { cluster().await });
    let kube = worker.runtime.block_on(kube).expect("a cluster");
    let reviewer = worker.runtime.spawn(async move {
        let reviewer = Reviewer::start(&kube, None, "").await;
        reviewer.ready().await;
        (kube, reviewer)
    });
    let (kube, reviewer) = worker.runtime.block_on(reviewer).expect("it is ready");
    load::pin(CLIENT_CORE);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let seen = runtime.block_on(ask(&reviewer, &worker.thread));
    worker.runtime.block_on(async { drop((kube, reviewer)) });
    seen
}

async fn ask(reviewer: &Reviewer, thread: &Path) -> Seen {
    let bodies: Vec<Bytes> = (0..ACCOUNTS)
        .map(|number| review("bench", &format!("account-{number}"), &pod()))
        .collect();
    let mut lines = Vec::new();
    for _ in 0..CONNECTIONS {
        lines.push(reviewer.connect().await.expect("it is believed"));
    }
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (begun, idle) = (Instant::now(), load::on_core(thread));
        let asked = join_all(lines.iter_mut().map(|line| keep_asking(line, &bodies))).await;
        let asked: u32 = asked.into_iter().sum();
        let busy = load::on_core(thread).saturating_sub(idle);
        rates.push(f64::from(asked) / begun.elapsed().as_secs_f64());
        costs.push(f64::from(asked) / busy.as_secs_f64());
    }
    let mut late = Vec::new();
    let begun = Instant::now();
    for turn in 0..PACED {
        let due = begun + PACE * turn;
        load::wait_until(due);
        let (line, body) = (turn as usize % CONNECTIONS, turn as usize % ACCOUNTS);
        post(&mut lines[line], &bodies[body]).await;
        late.push(due.elapsed());
    }
    Seen {
        rate: load::median(costs),
        asked: load::median(rates),
        late: load::percentile(late, 99),
        bytes: bodies[0].len(),
    }
}

async fn keep_asking(line: &mut Line, bodies: &[Bytes]) -> u32 {
    let (begun, mut asked) = (Instant::now(), 0);
    for body in bodies.iter().cycle() {
        if begun.elapsed() >= ROUND {
            break;
        }
        post(line, body).await;
        asked += 1;
    }
    asked
}

async fn post(line: &mut Line, body: &Bytes) {
    let answer = line.post("/mutate?timeout=5s", body.clone()).await;
    assert_eq!(answer.status, StatusCode::OK);
}

async fn cluster() -> FakeKube {
    let kube = FakeKube::start().await;
    let kinds = [
        Kind::ServiceAccount,
        Kind::Namespace,
        Kind::Association,
        Kind::ClusterAssociation,
    ];
    kube.offer(&kinds);
    kube.put(Kind::Namespace, json!({"metadata": {"name": "bench"}}));
    for number in 0..ACCOUNTS {
        let name = format!("account-{number}");
        let metadata = json!({"namespace": "bench", "name": name});
        kube.put(Kind::ServiceAccount, json!({"metadata": metadata}));
        if number % 2 == 0 {
            let role = format!("arn:aws:iam::111122223333:role/{name}");
            let spec = json!({"serviceAccount": name, "roleArn": role});
            kube.put(
                Kind::Association,
                json!({"metadata": metadata, "spec": spec}),
            );
        }
    }
    kube
}

/// As long as those of a usual Deployment.
fn pod() -> Value {
    let container = |name: &str| {
        let env = (0..12).map(|at| json!({"name": format!("SETTING_{at}"), "value": "a value"}));
        json!({
            "name": name,
            "image": "registry.example.com/shop/cart@sha256:6d5e2b5c0c1f4b1e",
            "env": env.collect::<Vec<_>>(),
            "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            "volumeMounts": [
                {"name": "data", "mountPath": "/data"},
                {
                    "name": "kube-api-access-x7k2p", "readOnly": true,
                    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                },
            ],
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
            "securityContext": {"allowPrivilegeEscalation": false, "runAsNonRoot": true},
        })
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "cart-7c9d8f6b5-",
            "labels": {"app": "cart", "pod-template-hash": "7c9d8f6b5"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-7c9d8f6b5",
                "uid": "5f0ad4a8-8b2c-4f43-8d0f-0d5c5f7e2f11", "controller": true,
            }],
        },
        "spec": {
            "initContainers": [container("set-up")],
            "containers": [container("cart"), container("proxy")],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
            ],
        },
    })
}

impl Seen {
    pub(crate) fn print(&self) {
        let Self {
            rate,
            asked,
            late,
            bytes,
        } = self;
        let name = format!("webhook: reviews of {bytes} bytes/s of one core");
        row([&name, &format!("{rate:.0}"), "", "", ">= 1000", ""]);
        let name = "webhook: reviews/s, with its client on another core";
        row([name, &format!("{asked:.0}"), "", "", "", ""]);
        let late = format!("{:.2}", late.as_secs_f64() * 1e3);
        let name = "webhook: p99 at 100 reviews/s, ms";
        row([name, &late, "", "", "< 5", ""]);
    }
}
