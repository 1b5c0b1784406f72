//! Real AWS SDKs as clients, judged by a third party: moto's STS says whose the
//! credentials are that they got. And what credlet writes into moto's IAM.

mod cluster;
mod trust_policy;

use credlet_tests::moto::installed;
use tokio::process::Command;

use cluster::{Cluster, ENDPOINTS, Exchange, ROOT, SESSION};

#[tokio::test]
async fn boto3_gets_the_role_of_its_pods_account() {
    let python = installed("venv/bin/python");
    each_endpoint(&python, &[&format!("{ROOT}/sdk/client.py")]).await;
}

#[tokio::test]
async fn the_aws_cli_gets_the_role_of_its_pods_account() {
    let aws = installed("venv/bin/aws");
    let arguments = [
        "sts",
        "get-caller-identity",
        "--query",
        "Arn",
        "--output",
        "text",
    ];
    each_endpoint(&aws, &arguments).await;
}

#[tokio::test]
async fn the_sdk_for_javascript_gets_the_role_of_its_pods_account() {
    installed("node/node_modules/@aws-sdk/client-sts");
    each_endpoint("node", &[&format!("{ROOT}/sdk/client.cjs")]).await;
}

#[tokio::test]
async fn the_sdk_for_rust_gets_the_role_of_its_pods_account() {
    each_endpoint(env!("CARGO_BIN_EXE_sdk-client"), &[]).await;
}

/// Runs a program in a pod, once by each exchange and with each of the agent's
/// addresses in its environment.
async fn each_endpoint(program: &str, arguments: &[&str]) {
    for exchange in [Exchange::AssumeRole, Exchange::WebIdentity] {
        let cluster = Cluster::start(exchange).await;
        for endpoint in ENDPOINTS {
            let mut command = Command::new(program);
            command.args(arguments);
            let (output, ended_well) = cluster.run_in_pod(command, endpoint).await;
            let named = output.lines().any(|line| line == SESSION);
            assert!(
                ended_well && named,
                "{program} at {endpoint} by {exchange:?} printed:\n{output}\n\n{}",
                cluster.log()
            );
        }
    }
}
