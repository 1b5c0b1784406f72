//! Real AWS SDKs as clients, judged by a third party: moto's STS says whose the
//! credentials are that they got. And what credlet writes into moto's IAM.

mod cluster;
mod imds;
mod programs;
mod sidecar;
mod trust_policy;

use cluster::{Cluster, ENDPOINTS, Exchange, SESSION};
use programs::Program;

#[tokio::test]
async fn boto3_gets_the_role_of_its_pods_account() {
    each_endpoint(Program::Boto3).await;
}

#[tokio::test]
async fn the_aws_cli_gets_the_role_of_its_pods_account() {
    each_endpoint(Program::AwsCli).await;
}

#[tokio::test]
async fn the_sdk_for_javascript_gets_the_role_of_its_pods_account() {
    each_endpoint(Program::JavaScript).await;
}

#[tokio::test]
async fn the_sdk_for_rust_gets_the_role_of_its_pods_account() {
    each_endpoint(Program::Rust).await;
}

/// Runs a program in a pod, once by each exchange and with each of the agent's
/// addresses in its environment.
async fn each_endpoint(program: Program) {
    for exchange in [Exchange::AssumeRole, Exchange::WebIdentity] {
        let cluster = Cluster::start(exchange).await;
        for endpoint in ENDPOINTS {
            let (output, ended_well) = cluster.run_in_pod(program, endpoint).await;
            let named = output.lines().any(|line| line == SESSION);
            assert!(
                ended_well && named,
                "{program:?} at {endpoint} by {exchange:?} printed:\n{output}\n\n{}",
                cluster.log()
            );
        }
    }
}
