//! The whole agent, from the pod's request to STS and back.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use credlet_tests::fake_aws::{Answer, Api, Entry, issued_to};
use credlet_tests::fake_kube::{Fault, Pod, Verb};
use futures::future::join_all;
use hyper::StatusCode;

pub(crate) mod rig;
use rig::Rig;

const CHECKOUT: &str = "arn:aws:iam::111122223333:role/pods/checkout";
const REPORTS: &str = "arn:aws:iam::111122223333:role/pods/reports";

/// Loopback has as many addresses as a node has pods.
fn address(pod: u8) -> IpAddr {
    [127, 0, 1, pod].into()
}

fn pod(name: &str, account: &str, seat: u8) -> Pod {
    let address = address(seat).to_string();
    Pod::new("shop", name)
        .account(account)
        .addresses([address.as_str()])
}

#[tokio::test]
async fn each_pod_gets_its_own_service_accounts_credentials() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    rig.aws.associate("shop", "reports", Entry::of(REPORTS));
    rig.kube.apply(pod("checkout-1", "checkout", 1));
    rig.kube.apply(pod("reports-1", "reports", 2));

    for (seat, account) in [
        (1, "shop/checkout"),
        (2, "shop/reports"),
        (1, "shop/checkout"),
    ] {
        let answer = rig.get(address(seat)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(
            issued_to(&answer.field("AccessKeyId")).as_deref(),
            Some(account)
        );
        assert_eq!(answer.field("AccountId"), "111122223333");
    }
    assert_eq!(rig.aws.count(Api::AssumeRole), 2);
    rig.leave().await;
}

#[tokio::test]
async fn a_hundred_pods_of_one_account_cost_one_assume_role_however_they_arrive() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    rig.aws
        .script(Api::AssumeRole, Answer::After(Duration::from_millis(100)));
    for seat in 1..=100 {
        rig.kube
            .apply(pod(&format!("checkout-{seat}"), "checkout", seat));
    }

    let answers = join_all((1..=100).map(|seat| rig.get(address(seat)))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    let keys: HashSet<_> = answers
        .iter()
        .map(|answer| answer.field("AccessKeyId"))
        .collect();
    assert_eq!(keys.len(), 1);
    assert_eq!(rig.aws.count(Api::AssumeRole), 1);
    assert_eq!(rig.aws.count(Api::List), 1);
    rig.leave().await;
}

#[tokio::test]
async fn a_pod_that_the_watch_has_seen_is_prefetched() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    rig.kube.apply(
        Pod::new("shop", "checkout-1")
            .account("checkout")
            .phase("Pending"),
    );
    rig.aws.wait_for(Api::AssumeRole, 1).await;

    rig.kube.apply(pod("checkout-1", "checkout", 1));
    assert_eq!(rig.get(address(1)).await.status, StatusCode::OK);
    assert_eq!(rig.aws.count(Api::AssumeRole), 1);
    rig.leave().await;
}

#[tokio::test]
async fn an_address_that_is_published_after_the_request_is_answered_on_that_request() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    let asked = rig.get(address(1));
    let published = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        rig.kube.apply(pod("checkout-1", "checkout", 1));
    };
    let (answer, ()) = tokio::join!(asked, published);
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    rig.leave().await;
}

#[tokio::test]
async fn who_may_not_have_credentials_is_told_why_in_time() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "refused", Entry::of(CHECKOUT));
    rig.aws
        .script_for(Api::AssumeRole, CHECKOUT, Answer::Denied);
    rig.kube.apply(pod("stranger-1", "stranger", 1));
    rig.kube.apply(pod("refused-1", "refused", 2));
    rig.kube.apply(pod("twin-1", "checkout", 3));
    rig.kube.apply(pod("twin-2", "reports", 3));
    rig.metric("credlet_pods 4").await;

    let cases = [
        (address(1), StatusCode::NOT_FOUND, "NoAssociation"),
        (address(2), StatusCode::FORBIDDEN, "Denied"),
        (
            address(3),
            StatusCode::SERVICE_UNAVAILABLE,
            "AmbiguousAddress",
        ),
        (
            address(4),
            StatusCode::SERVICE_UNAVAILABLE,
            "UnknownAddress",
        ),
        (rig.door.ip(), StatusCode::FORBIDDEN, "NodeAddress"),
    ];
    for (from, status, reason) in cases {
        let start = Instant::now();
        let answer = rig.get(from).await;
        assert_eq!(answer.status, status, "{from}: {}", answer.text());
        assert_eq!(answer.field("code"), answer.field("Code"));
        assert!(
            answer.field("code").contains(reason),
            "{from}: {}",
            answer.text()
        );
        assert!(!answer.field("message").is_empty() && !answer.field("Message").is_empty());
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{from} took {:?}",
            start.elapsed()
        );
    }
    rig.leave().await;
}

#[tokio::test]
async fn a_slow_upstream_costs_the_first_caller_a_retry_and_nobody_the_fetch() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    rig.aws
        .script(Api::AssumeRole, Answer::After(Duration::from_millis(1500)));
    rig.kube.apply(pod("checkout-1", "checkout", 1));

    let start = Instant::now();
    let first = rig.get(address(1)).await;
    assert_eq!(first.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(start.elapsed() < Duration::from_secs(1));
    let second = rig.get(address(1)).await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.text());
    assert_eq!(rig.aws.count(Api::AssumeRole), 1);
    rig.leave().await;
}

#[tokio::test]
async fn credentials_are_dropped_with_the_last_pod_of_their_account() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    rig.kube.apply(pod("checkout-1", "checkout", 1));
    rig.kube.apply(pod("checkout-2", "checkout", 2));
    rig.metric("credlet_credentials{state=\"Fresh\"} 1").await;

    rig.kube.delete("shop", "checkout-1");
    rig.metric("credlet_pods 1").await;
    assert!(
        rig.metrics()
            .await
            .contains("credlet_credentials{state=\"Fresh\"} 1")
    );
    rig.kube.delete("shop", "checkout-2");
    rig.metric("credlet_credentials{state=\"Fresh\"} 0").await;

    assert_eq!(
        rig.get(address(1)).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    rig.leave().await;
}

#[tokio::test]
async fn a_changed_association_drops_the_old_roles_credentials_at_once() {
    let file = |role: &str| {
        format!("associations: [{{namespace: shop, serviceAccount: checkout, roleArn: {role}}}]")
    };
    let rig = Rig::with_file(&file(CHECKOUT)).await;
    rig.kube.apply(pod("checkout-1", "checkout", 1));
    let before = rig.get(address(1)).await;
    assert_eq!(before.status, StatusCode::OK, "{}", before.text());

    rig.write_file(&file(REPORTS));
    rig.aws.wait_for(Api::AssumeRole, 2).await;
    let after = rig.get(address(1)).await;
    assert_ne!(after.field("AccessKeyId"), before.field("AccessKeyId"));
    assert_eq!(rig.aws.assume_roles()[1].role, REPORTS);
    rig.metric("credlet_credentials{state=\"Fresh\"} 1").await;
    rig.leave().await;
}

#[tokio::test]
async fn nothing_is_answered_before_the_first_list_of_pods() {
    let rig = Rig::with_faults(&[(Verb::List, Fault::Slow(Duration::from_millis(1500)))]).await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    rig.kube.apply(pod("checkout-1", "checkout", 1));

    let early = rig.get(address(1)).await;
    assert_eq!(early.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        early.field("code").contains("NotSynced"),
        "{}",
        early.text()
    );
    let probe = rig.probe("/readyz").await;
    assert_eq!(probe.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(probe.text().trim(), "closed: pods");
    assert_eq!(rig.probe("/healthz").await.status, StatusCode::OK);

    rig.synced().await;
    assert_eq!(rig.get(address(1)).await.status, StatusCode::OK);
    rig.leave().await;
}

#[tokio::test]
async fn an_api_server_outage_is_unnoticed_by_pods_that_are_known() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    rig.kube.apply(pod("checkout-1", "checkout", 1));
    assert_eq!(rig.get(address(1)).await.status, StatusCode::OK);

    rig.kube.down().await;
    assert_eq!(rig.get(address(1)).await.status, StatusCode::OK);
    assert_eq!(rig.probe("/readyz").await.status, StatusCode::OK);
    rig.kube.up().await;
    rig.kube.apply(pod("checkout-2", "checkout", 2));
    rig.metric("credlet_pods 2").await;
    assert_eq!(rig.get(address(2)).await.status, StatusCode::OK);
    rig.leave().await;
}

#[tokio::test]
async fn clients_that_all_hang_up_leave_the_credentials_to_the_next() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    rig.aws
        .script(Api::AssumeRole, Answer::After(Duration::from_millis(300)));
    rig.kube.apply(pod("checkout-1", "checkout", 1));
    for _ in 0..5 {
        let asked = rig.get(address(1));
        assert!(
            tokio::time::timeout(Duration::from_millis(20), asked)
                .await
                .is_err()
        );
    }
    assert_eq!(rig.get(address(1)).await.status, StatusCode::OK);
    assert_eq!(rig.aws.count(Api::AssumeRole), 1);
    rig.leave().await;
}

#[tokio::test]
async fn what_is_malformed_in_pods_and_associations_harms_only_itself() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    rig.aws
        .associate("shop", "reports", Entry::of("not-a-role"));
    rig.kube.apply(pod("odd-1", "Not A Name", 3));
    rig.kube.apply(pod("checkout-1", "checkout", 1));
    rig.kube.apply(pod("reports-1", "reports", 2));

    assert_eq!(rig.get(address(1)).await.status, StatusCode::OK);
    assert_eq!(
        rig.get(address(2)).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(rig.get(address(3)).await.status, StatusCode::FORBIDDEN);
    rig.metric("credlet_pods_refused_total 1").await;
    rig.leave().await;
}
