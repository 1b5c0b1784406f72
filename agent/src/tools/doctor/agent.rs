//! Whether the node's agent is there and ready, as it says itself.

use std::net::SocketAddr;
use std::time::Duration;

use super::finding::{Check, Finding};
use super::http;

/// The agent answers in microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// What `/readyz` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// These gates are closed.
    Closed(Vec<String>),
    /// Something that no credlet says.
    Strange(u16),
    /// Nobody answers, and why.
    Silent(String),
}

pub(super) async fn observe(probes: SocketAddr) -> Readiness {
    match http::get(probes, "/readyz", PATIENCE).await {
        Err(why) => Readiness::Silent(why),
        Ok(answer) => read(answer.status, &answer.body),
    }
}

fn read(status: u16, body: &str) -> Readiness {
    let gates = body
        .lines()
        .map(|line| line.strip_prefix("closed: ").map(str::to_owned));
    match (status, gates.collect::<Option<Vec<String>>>()) {
        (200, _) if body == "ok\n" => Readiness::Ready,
        (503, Some(gates)) if !gates.is_empty() => Readiness::Closed(gates),
        (status, _) => Readiness::Strange(status),
    }
}

pub(super) fn judge(all: &[(SocketAddr, Readiness)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (probes, readiness) in all {
        let (says, remedy) = match readiness {
            Readiness::Ready => continue,
            Readiness::Closed(gates) => {
                let says = format!("the agent is not ready: closed: {}", gates.join(", "));
                (says, gates.iter().map(|gate| hint(gate)).collect::<Vec<_>>().join("; "))
            }
            Readiness::Strange(status) => (
                format!("whoever answers at {probes} is not credlet: status {status}"),
                "see what `ports` and `other-agents` say".to_owned(),
            ),
            Readiness::Silent(why) => (
                format!("no agent answers at {probes}: {why}"),
                "see whether its pod runs on this node (`kubectl -n credlet get pods -o wide`) and \
                 what its log says; another --probe-port or --bind-hosts must be given here, too"
                    .to_owned(),
            ),
        };
        findings.push(Finding::failure(Check::Agent, says, remedy));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(Check::Agent, "the agent is ready"));
    }
    findings
}

/// What opens a gate.
fn hint(gate: &str) -> String {
    match gate {
        "network" => "network: see what `link` and `rules` say".to_owned(),
        "pods" => "pods: the first list of this node's pods is missing, see what `api-server`, \
            `permissions` and `pod-watch` say"
            .to_owned(),
        "doors" => "doors: the agent is just starting or ending".to_owned(),
        other => format!("{other}: see the agent's log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_credlet_would_say_counts_as_its_answer() {
        let closed = Readiness::Closed(vec!["network".into(), "pods".into()]);
        for (status, body, wanted) in [
            (200, "ok\n", Readiness::Ready),
            (503, "closed: network\nclosed: pods\n", closed),
            (200, "healthy", Readiness::Strange(200)),
            (503, "", Readiness::Strange(503)),
            (404, "not found\n", Readiness::Strange(404)),
        ] {
            assert_eq!(read(status, body), wanted, "{status} {body}");
        }
    }
}
