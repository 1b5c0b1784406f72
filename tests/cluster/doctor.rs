//! `credlet doctor` about a real API server: each finding by a fault that is made on
//! purpose. A cluster of its own, since it looks at all of one.

use std::time::Duration;

use credlet::identity::watch::Client;
use credlet_tests::doctor::{Report, command};
use hyper::Request;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::time::Instant;

use crate::control_plane::{ControlPlane, Settings};
use crate::manifests;

mod admission;
mod nodes;
mod sources;

/// What the API server has to have for `MutatingAdmissionPolicy`.
const WITH_POLICIES: Settings = Settings {
    flags: &[
        "--feature-gates=MutatingAdmissionPolicy=true",
        "--runtime-config=admissionregistration.k8s.io/v1beta1=true",
    ],
    keys: &[crate::control_plane::Key::Rsa],
};

struct Rig {
    cluster: ControlPlane,
    admin: Client,
}

impl Rig {
    /// Looks from outside, as the administrator.
    async fn look(&self, arguments: &str) -> Report {
        self.look_by(&self.cluster.admin_kubeconfig(), arguments)
            .await
    }

    /// Looks as the agent would in its pod.
    async fn look_as_agent(&self, arguments: &str) -> Report {
        let token = manifests::agent_token(&self.admin).await;
        let kubeconfig = self
            .cluster
            .kubeconfig(&token, self.cluster.api_server_at());
        self.look_by(&kubeconfig, arguments).await
    }

    async fn look_by(&self, kubeconfig: &str, arguments: &str) -> Report {
        let file = NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), kubeconfig).expect("written");
        let mut command = command(&format!("--from outside {arguments}"));
        command.env("CREDLET_KUBECONFIG", file.path());
        let output = command.output().await.expect("the binary is there");
        Report::of(&output)
    }

    /// Looks until this is found: what the API server allows follows what is
    /// written somewhat later.
    async fn until(&self, arguments: &str, check: &str, verdict: &str, words: &str) {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let report = self.look(arguments).await;
            if report.says(check, verdict, words) || Instant::now() > deadline {
                report.has(check, verdict, words);
                return;
            }
        }
    }

    async fn create(&self, path: &str, object: Value) {
        let request = Request::post(path).body(object.to_string().into_bytes());
        self.send(request.expect("a path")).await;
    }

    async fn change(&self, path: &str, change: Value) {
        let request = Request::patch(path).header("content-type", "application/merge-patch+json");
        let request = request.body(change.to_string().into_bytes());
        self.send(request.expect("a path")).await;
    }

    async fn delete(&self, path: &str) {
        let now = json!({"gracePeriodSeconds": 0}).to_string().into_bytes();
        self.send(Request::delete(path).body(now).expect("a path"))
            .await;
    }

    async fn send(&self, mut request: Request<Vec<u8>>) {
        let json = "application/json".parse().expect("a header");
        request.headers_mut().entry("content-type").or_insert(json);
        let what = format!("{} {}", request.method(), request.uri());
        let answer = self.admin.request::<Value>(request).await;
        answer.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[tokio::test]
async fn each_fault_of_a_cluster_is_found_and_gone_once_it_is_mended() {
    let cluster = ControlPlane::start(WITH_POLICIES).await;
    let admin = cluster.admin().await;
    let rig = Rig { cluster, admin };
    permissions(&rig).await;
    nodes::agents_and_taints(&rig).await;
    nodes::other_agents(&rig).await;
    nodes::policies(&rig).await;
    nodes::agents_settings(&rig).await;
    sources::of_all_kinds(&rig).await;
    admission::webhook(&rig).await;
    admission::policy(&rig).await;
    // The last: it changes what the API server serves.
    sources::not_installed(&rig).await;
    server(&rig).await;
}

async fn permissions(rig: &Rig) {
    let check = "permissions";
    let all = "the agent may do all that it does";
    rig.until("", check, "ok", all).await;
    let report = rig.look_as_agent("").await;
    report.has(check, "ok", all);
    // It is not the agent's to look at.
    for check in ["nodes", "other-agents", "network-policies", "injection"] {
        report.has(check, "skipped", "forbids");
    }

    let flags = "--request-tokens --association-status on";
    let report = rig.look(flags).await;
    let token = "may not create serviceaccounts/token";
    report.has(check, "failure", token);
    let status = "may not patch podidentityassociations/status.credlet.dev";
    report.has(check, "warning", status);
    for component in [manifests::REQUEST_TOKENS, manifests::ASSOCIATION_STATUS] {
        manifests::apply(&rig.admin, component).await;
    }
    rig.until(flags, check, "ok", all).await;

    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/credlet";
    rig.delete(role).await;
    let pods = "may not get pods: the agent does not know the node's pods";
    rig.until("", check, "failure", pods).await;
    for report in [rig.look("").await, rig.look_as_agent("").await] {
        report.has(check, "failure", pods);
        let declared = "may not watch podidentityassociations.credlet.dev";
        report.has(check, "failure", declared);
        report.has(check, "warning", "may not create events.events.k8s.io");
    }
    let report = rig.look_as_agent("--node-name node-0").await;
    let words = "cannot be listed: the API server forbids it";
    report.has("pod-watch", "failure", words);
    manifests::apply(&rig.admin, manifests::PLAIN).await;
    rig.until("", check, "ok", all).await;
}

async fn server(rig: &Rig) {
    let at = rig.cluster.api_server_at();
    let stranger = rig.cluster.kubeconfig("of-nobody", at);
    let report = rig.look_by(&stranger, "").await;
    report.has("api-server", "failure", "does not know who this is");
    rig.look("")
        .await
        .has("api-server", "ok", "the API server answers: v1.");
    rig.cluster.kill_api_server();
    let report = rig.look("").await;
    report.has("api-server", "failure", "cannot be reached");
    report.has("permissions", "skipped", "the API server does not answer");
    assert_eq!(report.code, Some(1));
    let report = rig.look_by("", "").await;
    report.has("api-server", "failure", "--kubeconfig");
}
