//! `credlet webhook` between stand-ins: what it answers, and what it does not.

use bytes::Bytes;
use credlet_tests::fake_aws::{Api, CLUSTER, Entry, FakeAws};
use credlet_tests::fake_kube::{FakeKube, Fault, Kind, Verb};
use credlet_tests::reviewer::{Reviewer, review};
use hyper::StatusCode;
use serde_json::{Value, json};

const ROLE: &str = "arn:aws:iam::111122223333:role/pods/cart";

fn pod() -> Value {
    json!({"metadata": {"name": "cart-0"}, "spec": {"containers": [{"name": "it"}]}})
}

async fn cluster() -> FakeKube {
    let kube = FakeKube::start().await;
    kube.offer(&[Kind::ServiceAccount, Kind::Namespace]);
    for name in ["cart", "plain"] {
        let account = json!({"metadata": {"namespace": "shop", "name": name}});
        kube.put(Kind::ServiceAccount, account);
    }
    kube.put(Kind::Namespace, json!({"metadata": {"name": "shop"}}));
    kube
}

/// Whether an answer has a patch.
fn is_patched(answer: &Value) -> bool {
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
    answer["response"].get("patch").is_some()
}

#[tokio::test]
async fn an_account_that_eks_lists_has_its_pods_patched() {
    let (kube, aws) = (cluster().await, FakeAws::start().await);
    aws.associate("shop", "cart", Entry::of(ROLE));
    let flags = format!("--eks-cluster {CLUSTER}");
    let reviewer = Reviewer::start(&kube, Some(&aws), &flags).await;
    reviewer.ready().await;
    let mut line = reviewer.connect().await.expect("it is believed");
    for (account, is_given) in [("cart", true), ("plain", false)] {
        let answer = line.post("/mutate", review("shop", account, &pod())).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(is_patched(&answer.json()), is_given, "{account}");
    }
    // However many accounts there are.
    assert_eq!(aws.count(Api::List), 1);
    reviewer.leave().await;
}

#[tokio::test]
async fn what_is_not_known_yet_is_not_answered() {
    let kube = cluster().await;
    kube.fail_next(Verb::ListOther, Fault::Stall);
    let reviewer = Reviewer::start(&kube, None, "").await;
    let mut line = loop {
        match reviewer.connect().await {
            Ok(line) => break line,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let answer = line.post("/mutate", review("shop", "cart", &pod())).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reviewer.readiness().await.starts_with("closed: "));
}

#[tokio::test]
async fn what_is_no_review_is_refused_and_the_connection_kept() {
    let kube = cluster().await;
    let reviewer = Reviewer::start(&kube, None, "").await;
    reviewer.ready().await;
    let mut line = reviewer.connect().await.expect("it is believed");
    let good = review("shop", "cart", &pod());
    for (path, body, status) in [
        (
            "/mutate",
            Bytes::from_static(b"{}"),
            StatusCode::BAD_REQUEST,
        ),
        ("/", good.clone(), StatusCode::NOT_FOUND),
        ("/mutate?timeout=5s", good, StatusCode::OK),
    ] {
        let answer = line.post(path, body).await;
        assert_eq!(answer.status, status, "{path}");
    }
    let long = vec![b' '; 5 * 1024 * 1024];
    let answer = line.post("/mutate", long.into()).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    reviewer.leave().await;
}

#[tokio::test]
async fn another_certificate_in_the_folder_is_served_without_a_restart() {
    let kube = cluster().await;
    let mut reviewer = Reviewer::start(&kube, None, "").await;
    reviewer.ready().await;
    let mut kept = reviewer.connect().await.expect("it is believed");
    reviewer.renew();
    let mut line = loop {
        match reviewer.connect().await {
            Ok(line) => break line,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    };
    for line in [&mut kept, &mut line] {
        let answer = line.post("/mutate", review("shop", "cart", &pod())).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    reviewer.leave().await;
}

#[tokio::test]
async fn the_page_lists_all_metrics_that_are_served() {
    let kube = cluster().await;
    let reviewer = Reviewer::start(&kube, None, "").await;
    let page = include_str!("../../docs/webhook.md");
    let text = reviewer.metrics().await;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.map(|line| match line.split_once(' ') {
        Some((name, "counter")) => format!("`{name}_total"),
        Some((name, _)) => format!("`{name}"),
        None => panic!("{line}"),
    });
    let missing: Vec<String> = names.filter(|name| !page.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    reviewer.leave().await;
}

/// What is in a manifest of the component, by its kind.
fn manifest(file: &str, kind: &str) -> Value {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../manifests/components/webhook"
    );
    let text = std::fs::read_to_string(format!("{folder}/{file}")).expect("readable");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    let mut found = documents.into_iter().filter(|it| it["kind"] == kind);
    found.next().expect("one of the kind")
}

#[test]
fn it_may_write_only_what_is_its_own_by_name_and_events() {
    for kind in ["ClusterRole", "Role"] {
        let role = manifest("rbac.yaml", kind);
        for rule in role["rules"].as_array().expect("rules") {
            let verbs: Vec<_> = rule["verbs"].as_array().expect("verbs").iter().collect();
            let reads =
                |verb: &&Value| ["get", "list", "watch"].contains(&verb.as_str().expect("text"));
            let resource = rule["resources"][0].as_str().expect("text");
            let is_own = rule["resourceNames"] == json!(["credlet-webhook"]);
            // A lease that nobody has made yet has no name to be known by.
            let is_new = resource == "leases" && verbs == ["create"];
            let is_event = resource == "events";
            assert!(
                is_own || is_new || is_event || verbs.iter().all(reads),
                "{rule}"
            );
            assert!(resource != "secrets" || is_own, "{rule}");
        }
    }
}

#[test]
fn pods_are_rather_made_without_it_than_not_at_all_and_two_answer() {
    let webhook = &manifest("webhook.yaml", "MutatingWebhookConfiguration")["webhooks"][0];
    assert_eq!(webhook["failurePolicy"], "Ignore");
    assert_eq!(webhook["reinvocationPolicy"], "IfNeeded");
    assert_eq!(webhook["clientConfig"].get("caBundle"), None);
    let deployment = manifest("deployment.yaml", "Deployment");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(
        pod["containers"][0]["securityContext"]["capabilities"],
        json!({"drop": ["ALL"]})
    );
    let budget = manifest("deployment.yaml", "PodDisruptionBudget");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
}
