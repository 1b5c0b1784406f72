//! What the real binary's environment says of AWS, by each exchange that takes a token.

use std::fs;

use credlet_tests::fake_aws::{Api, Call};
use credlet_tests::process::DOOR;

use crate::cluster::{ROLE, Shop, ask, owner};

/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:9";

#[tokio::test]
async fn eks_auth_is_asked_where_its_own_variable_says() {
    let cluster = Shop::new().await;
    let mut command = cluster.command();
    command
        .args(["--exchange", "eks-auth", "--request-tokens"])
        .env("AWS_ENDPOINT_URL", NOWHERE)
        .env("AWS_ENDPOINT_URL_EKS_AUTH", cluster.aws.url());
    let _agent = cluster.ready(command).await;
    assert_eq!(owner(&ask(&cluster.checkout, DOOR).await), "shop/checkout");
    let is_eks_auths = |call: &Call| matches!(call, Call::PodIdentity(_));
    assert!(cluster.aws.calls().iter().all(is_eks_auths));
}

#[tokio::test]
async fn an_agent_without_credentials_in_its_environment_serves_web_identities() {
    let cluster = Shop::new().await;
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("associations.yaml");
    let entry = format!(
        "associations:\n- namespace: shop\n  serviceAccount: checkout\n  roleArn: {ROLE}checkout\n"
    );
    fs::write(&file, entry).expect("written");
    let mut command = cluster.command();
    command
        .args(["--exchange", "web-identity", "--request-tokens"])
        .args(["--association-sources", "file", "--association-file"])
        .arg(&file)
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    let _agent = cluster.ready(command).await;
    assert_eq!(owner(&ask(&cluster.checkout, DOOR).await), "shop/checkout");
    assert_eq!(cluster.aws.count(Api::WebIdentity), 1);
    for call in cluster.aws.calls() {
        assert!(
            matches!(&call, Call::WebIdentity(call) if call.signer.is_empty()),
            "{call:?}"
        );
    }
}
