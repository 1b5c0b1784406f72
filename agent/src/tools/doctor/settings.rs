//! The agent's own settings, where it is looked at from elsewhere.

use serde_json::json;

use super::finding::{Check, Finding};
use crate::apiserver::Client;
use crate::apiserver::ask::one;
use crate::config::{Config, Doctor};
use crate::tools::explain::observe;

/// What the agents' `DaemonSet` is called by `manifests/`.
const NAME: &str = "credlet";

/// Whose settings are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Those that were given here.
    Given,
    /// The agents' own: what they name in a pod is not here.
    Agents,
}

/// The agents' settings in place of those given, where they can be read.
pub(super) async fn adopt(client: &Client, given: &Doctor) -> (Doctor, Origin, Finding) {
    let check = Check::Settings;
    let of = format!("the DaemonSet {}/{NAME}", given.namespace);
    match read(client, given).await {
        Ok(config) => {
            let says = format!("the agents' settings are those of {of}");
            let finding = Finding::ok(check, says);
            (with(given, config), Origin::Agents, finding)
        }
        Err(why) => {
            let says =
                format!("the agents' settings are taken to be those given here: {of}: {why}");
            let remedy = "run this as somebody who may get it and its ConfigMap, or give the agents' \
                settings here, too";
            let finding = Finding::skipped(check, says, remedy);
            (given.clone(), Origin::Given, finding)
        }
    }
}

async fn read(client: &Client, given: &Doctor) -> Result<Config, String> {
    let namespace = &given.namespace;
    let folder = format!("/apis/apps/v1/namespaces/{namespace}/daemonsets");
    let mut set = one(client, &folder, NAME)
        .await
        .map_err(|why| why.to_string())?;
    let pod = json!({
        "metadata": {"namespace": namespace},
        "spec": set["spec"]["template"]["spec"].take(),
    });
    observe::settings(client, Some(&pod), "").await
}

/// What of them is looked at.
fn with(given: &Doctor, agents: Config) -> Doctor {
    Doctor {
        network: agents.network.unwrap_or_else(|| given.network.clone()),
        port: agents.port,
        probe_port: agents.probe_port,
        metrics_address: agents.metrics_address,
        cluster_name: agents.cluster_name,
        exchange: agents.exchange,
        sources: agents.sources,
        annotation_prefix: agents.annotation_prefix,
        token_requests: agents.token_requests,
        status_reports: agents.status_reports,
        startup_taint: agents.startup_taint,
        ..given.clone()
    }
}
