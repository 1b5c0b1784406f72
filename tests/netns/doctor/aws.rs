//! Identity, the ways to STS and EKS, and clocks, each with its faults.

use std::time::{Duration, SystemTime};

use credlet_tests::doctor::{Report, command};
use credlet_tests::fake_aws::{Answer, Api, CLUSTER, Entry};
use credlet_tests::fake_kube::{Fault, Verb};
use credlet_tests::node::Node;
use tokio::net::TcpListener;
use tokio::process::Command;

use super::look_by;
use crate::cluster::Cluster;

const NODES: &str = "arn:aws:sts::111122223333:assumed-role/node/i-0123456789abcdef0";

async fn cluster() -> Cluster {
    let cluster = Cluster::on(Node::new().await.expect("a node")).await;
    cluster.aws.identify(NODES);
    cluster
}

/// With credentials, and the stand-in for all services.
fn asking(cluster: &Cluster, arguments: &str) -> Command {
    let mut command = command(&format!("--from node {arguments}"));
    command
        .env("AWS_ENDPOINT_URL", cluster.aws.url())
        .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "of-the-node");
    command
}

async fn look(cluster: &Cluster, command: Command) -> Report {
    look_by(&cluster.node.ns, command).await
}

#[tokio::test]
async fn whom_aws_takes_this_for_is_told_with_what_is_wrong_with_it() {
    let cluster = cluster().await;
    let check = "aws-identity";
    let report = look(&cluster, asking(&cluster, "")).await;
    report.has(
        check,
        "ok",
        &format!("AWS takes this for {NODES} in eu-central-1"),
    );
    report.has("sts", "ok", "STS answers at 127.0.0.1:");

    cluster
        .aws
        .identify("arn:aws:iam::111122223333:user/somebody");
    let report = look(&cluster, asking(&cluster, "")).await;
    report.has(check, "warning", "by a key that does not end");

    cluster
        .aws
        .identify("arn:aws-cn:sts::111122223333:assumed-role/node/i");
    let report = look(&cluster, asking(&cluster, "")).await;
    report.has(
        check,
        "failure",
        "is of the partition aws-cn, and eu-central-1 of aws",
    );

    let mut regionless = asking(&cluster, "");
    regionless.env_remove("AWS_REGION");
    look(&cluster, regionless)
        .await
        .has(check, "failure", "no AWS region");
}

#[tokio::test]
async fn without_credentials_sts_is_reached_nevertheless() {
    let cluster = Cluster::on(Node::new().await.expect("a node")).await;
    let bare = |arguments: &str| {
        let mut command = asking(&cluster, arguments);
        command.env_remove("AWS_ACCESS_KEY_ID");
        command
    };
    let report = look(&cluster, bare("")).await;
    report.has("aws-identity", "failure", "there are no credentials");
    report.has("sts", "ok", "STS answers at");
    let report = look(&cluster, bare("--exchange web-identity")).await;
    report.has("aws-identity", "ok", "which this exchange does not take");

    // Nobody knows the key.
    let report = look(&cluster, asking(&cluster, "")).await;
    report.has(
        "aws-identity",
        "failure",
        "STS refuses the credentials: InvalidClientTokenId",
    );
    report.has("sts", "ok", "STS answers at");
}

#[tokio::test]
async fn where_the_way_to_sts_ends_is_told() {
    let cluster = cluster().await;
    let bound = async || TcpListener::bind("127.0.0.1:0").await;
    let listener = cluster.node.ns.run(bound).await.expect("a free port");
    let refusing = listener.local_addr().expect("bound");
    drop(listener);
    let bound = async || TcpListener::bind("127.0.0.1:0").await;
    let closing = cluster.node.ns.run(bound).await.expect("a free port");
    let at = closing.local_addr().expect("bound");
    let serving = async move || {
        tokio::task::spawn_local(async move { while closing.accept().await.is_ok() {} });
    };
    cluster.node.ns.run(serving).await;
    for (endpoint, words) in [
        (
            "http://sts.invalid".to_owned(),
            "sts.invalid:80 has no address",
        ),
        (format!("http://{refusing}"), "no connection to"),
        (format!("http://{at}"), "is reached and does not answer"),
    ] {
        let mut command = asking(&cluster, "");
        command.env("AWS_ENDPOINT_URL_STS", endpoint);
        look(&cluster, command).await.has("sts", "failure", words);
    }
    for (proxy, words) in [
        (
            "http://user:hidden@proxy.invalid:3128".to_owned(),
            "proxy.invalid:3128 has no address",
        ),
        (format!("http://{refusing}"), "by the proxy 127.0.0.1:"),
        (
            format!("http://user:hidden@{at}"),
            "is reached and does not answer",
        ),
    ] {
        let mut command = asking(&cluster, "");
        command
            .env_remove("AWS_ENDPOINT_URL")
            .env(
                "AWS_ENDPOINT_URL_STS",
                "https://sts.eu-central-1.amazonaws.com",
            )
            .env("HTTPS_PROXY", &proxy);
        let report = look(&cluster, command).await;
        report.has("sts", "failure", words);
        assert!(!format!("{report:?}").contains("hidden"), "{report:?}");
    }
}

#[tokio::test]
async fn what_eks_says_is_told_with_what_it_takes() {
    let cluster = cluster().await;
    let entry = Entry::of("arn:aws:iam::111122223333:role/pods/cart");
    cluster.aws.associate("shop", "cart", entry);
    let flags = format!("--cluster-name {CLUSTER} --association-sources eks");
    let report = look(&cluster, asking(&cluster, &flags)).await;
    report.has("eks", "ok", "EKS answers at");
    report.has("sources", "ok", "EKS lists 1 associations");
    for (answer, words) in [
        (Answer::Denied, "AccessDenied"),
        (Answer::Gone, "ResourceNotFound"),
        (Answer::Throttled, "Throttling"),
        (Answer::Broken, "EKS answers at"),
    ] {
        cluster.aws.script(Api::List, answer);
        let report = look(&cluster, asking(&cluster, &flags)).await;
        report.has("eks", "failure", words);
        report.has("sources", "skipped", "EKS did not list");
    }
    let flags = format!("--cluster-name {CLUSTER} --association-sources eks --exchange eks-auth");
    let report = look(&cluster, asking(&cluster, &flags)).await;
    report.has("eks", "ok", "EKS Auth answers at");
    report.has("sources", "ok", "EKS Auth answers for every account");
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_by_both_others() {
    let cluster = cluster().await;
    let kubeconfig = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(kubeconfig.path(), cluster.kube.kubeconfig()).expect("written");
    let asking = || {
        let mut command = asking(&cluster, "");
        command.env("CREDLET_KUBECONFIG", kubeconfig.path());
        command
    };
    let report = look(&cluster, asking()).await;
    report.has("clock", "ok", "agrees with that of the API server and STS");
    let now = SystemTime::now();
    cluster.kube.date(now - Duration::from_mins(1));
    cluster.aws.date(now + Duration::from_mins(10));
    let report = look(&cluster, asking()).await;
    report.has("clock", "warning", "s ahead of that of the API server");
    report.has("clock", "failure", "s behind that of STS");

    // A watch that never ends, as behind what holds it back.
    cluster.kube.apply(crate::cluster::reported("checkout", 2));
    let mut watching = asking();
    watching.args(["--node-name", "node-1"]);
    let report = look(&cluster, watching).await;
    report.has(
        "pod-watch",
        "failure",
        "cannot be watched: the API server said nothing",
    );
    cluster.kube.fail_next(Verb::Watch, Fault::Status(403));
    let mut watching = asking();
    watching.args(["--node-name", "node-1"]);
    let report = look(&cluster, watching).await;
    report.has(
        "pod-watch",
        "failure",
        "cannot be watched: the API server forbids it",
    );

    cluster.kube.fail_next(Verb::Version, Fault::Cut);
    let report = look(&cluster, asking()).await;
    report.has("api-server", "failure", "cannot be reached");
    cluster.kube.fail_next(Verb::Version, Fault::Status(500));
    let report = look(&cluster, asking()).await;
    report.has("api-server", "failure", "answers 500");
    cluster.kube.down().await;
    let mut offline = asking();
    offline.env("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9");
    let report = look(&cluster, offline).await;
    report.has("clock", "skipped", "nobody told the time");
    report.has("permissions", "skipped", "the API server does not answer");
}
