//! Who mirrors, and how it goes on after it.

use credlet_tests::client;
use credlet_tests::fake_aws::Api as AwsApi;

use super::*;

#[tokio::test]
async fn one_of_two_mirrors_and_the_other_goes_on_with_what_it_finds() {
    let rig = Rig::start(&[manifests::SYNC]).await;
    rig.add_namespace("shop").await;
    for number in 0..20 {
        rig.aws
            .associate("shop", &format!("cart-{number}"), entry("cart"));
    }
    rig.aws.associate("shop", "cart", entry("cart"));
    let hour = Duration::from_hours(1);
    let mut first = rig.sync_by(&of_eks(), QUICK, hour).await;
    timeout(PATIENCE, first.lead.won()).await.expect("it leads");
    let mut second = rig.sync_by(&of_eks(), QUICK, hour).await;
    rig.status(|it| it["objects"]["mirrored"] == 21).await;
    let uids = |objects: Vec<DynamicObject>| -> Vec<_> {
        objects.into_iter().map(|it| it.metadata.uid).collect()
    };
    let before = uids(rig.list("shop").await);
    let described = rig.aws.count(AwsApi::Describe);
    assert_eq!(described, 21);
    assert!(!second.lead.leads());

    first.leave().await;
    timeout(PATIENCE, second.lead.won())
        .await
        .expect("it leads");
    let lists = rig.aws.count(AwsApi::List);
    rig.aws.wait_for(AwsApi::List, lists + 2).await;
    assert_eq!(uids(rig.list("shop").await), before);
    // What is there need not be described at once.
    let again = rig.aws.count(AwsApi::Describe) - described;
    assert!(again <= 2, "{again}");
    // What has gone meanwhile is found to be, and what is new is described.
    rig.aws.dissociate("shop", "cart");
    rig.aws.associate("shop", "new", entry("new"));
    let comes = async {
        loop {
            let objects = rig.list("shop").await;
            let has = |account: &str| {
                let is_its = |it: &DynamicObject| it.data["spec"]["serviceAccount"] == account;
                objects.iter().any(is_its)
            };
            if has("new") && !has("cart") {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, comes).await.expect("both come");

    rig.status(|it| it["objects"]["mirrored"] == 21 && it["feeds"][0]["associations"] == 21)
        .await;
    let text = client::get([127, 0, 0, 1].into(), second.metrics, "/metrics")
        .await
        .text();
    for line in [
        "credlet_sync_leads 1",
        "credlet_sync_associations{feed=\"blue\"} 21",
        "credlet_sync_objects{state=\"Mirrored\"} 21",
        "credlet_sync_writes_total{verb=\"Create\",outcome=\"Ok\"} 1",
        "credlet_upstream_calls_total{api=\"ListPodIdentityAssociations\",outcome=\"Ok\"}",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    let mut served: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect();
    // Nothing is served of what has not happened.
    served.push("credlet_sync_watch_lost_total".to_owned());
    served.sort();
    assert_eq!(served, documented());
    second.leave().await;
}

/// The names in the page's table of metrics.
fn documented() -> Vec<String> {
    let page = include_str!("../../../docs/sync.md");
    let table = page
        .split("## Metrics")
        .nth(1)
        .expect("a section on metrics");
    let cells = table.lines().filter(|line| line.starts_with("| `credlet_"));
    let cells = cells.filter_map(|line| line.split(" | ").next());
    let names = cells.flat_map(|cell| cell.split('`').filter(|it| it.starts_with("credlet_")));
    let mut names: Vec<String> = names
        .map(|name| name.split('{').next().unwrap_or_default().to_owned())
        .collect();
    names.sort();
    names
}
