//! Every SDK in a pod with a sidecar, without an agent on the node.

use credlet_tests::moto::Moto;
use credlet_tests::process::Agent;
use credlet_tests::sidecar::{Capability, Lone};
use futures::future::join_all;

use crate::cluster::SESSION;
use crate::programs::{Program, run};

/// A pod with its sidecar, and moto for STS.
struct Shop {
    lone: Lone,
    sts: Moto,
    sidecar: Agent,
}

impl Shop {
    /// As on Fargate: nothing may be changed about the pod's network.
    async fn on_loopback() -> Self {
        let lone = Lone::start().await;
        let sts = Moto::start(&lone.node).await;
        let mut command = lone.command(&sts.url());
        command.args(["--bind", "127.0.0.1:8181"]);
        let sidecar = lone.serve(command).await;
        Self { lone, sts, sidecar }
    }

    /// With the addresses that SDKs know, from an init container.
    async fn set_up() -> Self {
        let lone = Lone::start().await;
        let sts = Moto::start(&lone.node).await;
        let (went_well, said) = lone.set_up(&[Capability::NetAdmin]).await;
        assert!(went_well, "{said}");
        lone.let_anybody_bind_port_80().await;
        let sidecar = lone.serve(lone.command(&sts.url())).await;
        Self { lone, sts, sidecar }
    }

    /// Every SDK finds the pod's role by itself, with this environment.
    async fn each_sdk_gets_the_role(&self, environment: &[(&str, &str)]) {
        let run = async |program: Program| {
            let (ns, home, sts) = (&self.lone.pod.ns, self.lone.home(), self.sts.url());
            let command = program.command();
            let (output, ended_well) = run(command, ns, home, &sts, environment).await;
            let named = output.lines().any(|line| line == SESSION);
            assert!(
                ended_well && named,
                "{program:?} with {environment:?} printed:\n{output}\n\n{}",
                self.sidecar.log()
            );
        };
        join_all(Program::ALL.map(run)).await;
    }
}

#[tokio::test]
async fn on_loopback_each_sdk_asks_where_its_container_endpoint_is_said_to_be() {
    let shop = Shop::on_loopback().await;
    let uri = "http://127.0.0.1:8181/v1/credentials";
    shop.each_sdk_gets_the_role(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ])
    .await;
}

#[tokio::test]
async fn at_its_own_address_each_sdk_asks_the_container_endpoint() {
    let shop = Shop::set_up().await;
    let uri = "http://169.254.170.23/v1/credentials";
    shop.each_sdk_gets_the_role(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ])
    .await;
}

#[tokio::test]
async fn on_loopback_each_sdk_asks_for_instance_metadata_where_that_is_said_to_be() {
    let shop = Shop::on_loopback().await;
    let uri = "http://127.0.0.1:8181/";
    shop.each_sdk_gets_the_role(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", uri)])
        .await;
}

#[tokio::test]
async fn after_a_set_up_each_sdk_finds_instance_metadata_with_nothing_configured() {
    let shop = Shop::set_up().await;
    shop.each_sdk_gets_the_role(&[]).await;
}
