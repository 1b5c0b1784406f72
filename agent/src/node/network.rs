//! The node's link and addresses, as this agent wants them.

use netsetup::{Error, Outcome, Spec};
use prometheus_client::metrics::counter::Counter;

use crate::config::{LinkKind, NetsetupAction, Network};

/// Sets the network up. The future keeps it so, counts each repair, and ends
/// only by failing.
pub async fn start(
    network: &Network,
    repairs: Counter,
) -> Result<impl Future<Output = Error> + Send + use<>, Error> {
    let spec = spec(network);
    let outcome = netsetup::ensure(&spec).await?;
    log("the network is set up", &outcome);
    Ok(async move {
        let report = |outcome: &Outcome| {
            if !outcome.steps.is_empty() {
                repairs.inc();
            }
            log("the network has changed", outcome);
        };
        netsetup::keep(&spec, outcome, report).await
    })
}

/// Sets the network up or takes it away, and tells what was done.
pub async fn once(network: &Network, action: NetsetupAction) -> Result<String, Error> {
    let spec = spec(network);
    let steps = match action {
        NetsetupAction::Ensure => netsetup::ensure(&spec).await?.steps,
        NetsetupAction::Remove => netsetup::remove(&spec).await?,
    };
    if steps.is_empty() {
        return Ok("nothing to do".to_owned());
    }
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    Ok(steps.join("\n"))
}

fn spec(network: &Network) -> Spec {
    let kind = match network.link_kind {
        LinkKind::Auto => netsetup::LinkKind::Auto,
        LinkKind::Dummy => netsetup::LinkKind::Dummy,
        LinkKind::Lo => netsetup::LinkKind::Lo,
    };
    Spec {
        kind,
        ..Spec::new(network.addresses.clone())
    }
}

fn log(what: &str, outcome: &Outcome) {
    let Outcome {
        link,
        addresses,
        ipv6,
        steps,
    } = outcome;
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    tracing::info!(?link, ?addresses, ?ipv6, ?steps, "{what}");
}
