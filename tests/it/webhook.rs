//! `credlet webhook` between stand-ins: what it answers, and what it does not.

use bytes::Bytes;
use credlet_tests::fake_aws::{CLUSTER, Entry, FakeAws};
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
    // Named in no list, whatever else is in the cluster.
    assert_eq!(aws.count(credlet_tests::fake_aws::Api::List), 1);
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
