//! Every metric is named, documented and used.

use std::net::IpAddr;

use credlet_tests::client;
use credlet_tests::fake_aws::Entry;
use credlet_tests::fake_kube::{Interruption, Pod, Verb};
use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::agent::rig::Rig;

const ROLE: &str = "arn:aws:iam::111122223333:role/pods/checkout";

/// The names in the first column of the README's table of metrics.
fn documented() -> Vec<String> {
    let section = include_str!("../../README.md")
        .split("## Metrics")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("the README has a section on metrics");
    let names = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `credlet_"));
    let mut names: Vec<String> = names
        .map(|rest| rest.split(['`', '{']).next().unwrap_or_default())
        .map(|name| format!("credlet_{name}"))
        .collect();
    names.sort();
    names
}

/// The value of each line, by its name and labels.
fn value(text: &str, line: &str) -> f64 {
    let value = text
        .lines()
        .find_map(|it| it.strip_prefix(line)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no `{line}` in\n{text}"));
    value.parse().expect("a number")
}

#[tokio::test]
async fn each_counter_counts_and_the_readme_lists_all_that_is_served() {
    let rig = Rig::with_flags("--request-tokens").await;
    let pod = IpAddr::from([127, 0, 2, 1]);
    rig.aws.associate("shop", "checkout", Entry::of(ROLE));
    let object = Pod::new("shop", "checkout-1").account("checkout");
    rig.kube.apply(object.addresses([pod.to_string().as_str()]));
    rig.kube
        .apply(Pod::new("shop", "odd-1").account("Not A Name"));
    assert_eq!(rig.get(pod).await.status, StatusCode::OK);
    let mut stream = client::connect(pod, rig.door).await.expect("accepted");
    let request = format!(
        "GET /v1/credentials HTTP/1.1\r\nHost: {}\r\nAuthorization: none\r\nConnection: close\r\n\r\n",
        rig.door
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.contains("BadToken"), "{answer}");
    rig.kube.interrupt(Interruption::Error(410));
    rig.kube.called(Verb::List, 2).await;
    // More than one address may have open, however many files this process may.
    let mut connections = Vec::new();
    for _ in 0..=1024 {
        connections.push(
            client::connect(pod, rig.door)
                .await
                .expect("the kernel accepts"),
        );
    }
    rig.metric("credlet_connections_refused_total{limit=\"Peer\"}")
        .await;

    let text = rig.metrics().await;
    for counter in [
        "credlet_requests_total{door=\"Container\",code=\"200\",reason=\"Ok\"}",
        "credlet_request_seconds_count{door=\"Container\"}",
        "credlet_connections",
        "credlet_upstream_calls_total{api=\"AssumeRole\",outcome=\"Ok\"}",
        "credlet_upstream_calls_total{api=\"ListPodIdentityAssociations\",outcome=\"Ok\"}",
        "credlet_upstream_seconds_count{api=\"AssumeRole\"}",
        "credlet_pods",
        "credlet_pods_refused_total",
        "credlet_pod_watch_age_seconds",
        "credlet_association_age_seconds",
        "credlet_association_lists{source=\"crd\",state=\"Absent\"}",
        "credlet_association_watch_lost_total{reason=\"Refused\"}",
        "credlet_credentials{state=\"Fresh\"}",
        "credlet_pod_addresses{state=\"Hidden\"}",
        "credlet_token_verifications_total{way=\"Keys\",outcome=\"Malformed\"}",
    ] {
        assert!(value(&text, counter) > 0.0, "{counter} in\n{text}");
    }
    let left = value(&text, "credlet_credentials_shortest_seconds");
    assert!((3500.0..=3600.0).contains(&left), "{left}");

    let mut served: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect();
    served.sort();
    assert_eq!(served, documented());
    rig.leave().await;
}

#[tokio::test]
async fn what_is_served_is_well_formed_open_metrics() {
    let rig = Rig::start().await;
    let text = rig.metrics().await;
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(text.contains(concat!(
        "credlet_build_info{version=\"",
        env!("CARGO_PKG_VERSION"),
        "\"} 1"
    )));
    let (types, helps) = (
        text.matches("# TYPE ").count(),
        text.matches("# HELP ").count(),
    );
    assert_eq!(types, helps, "{text}");
    rig.leave().await;
}
