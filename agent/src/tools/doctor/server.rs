//! The API server and the clocks.

use std::time::{Duration, SystemTime};

use super::api::{Api, Lack};
use super::finding::{Check, Finding};

/// A server's `Date` has whole seconds, and the answer was under way.
const UNSURE: Duration = Duration::from_secs(2);

/// From here on tokens count as not yet valid, or as ended.
const NOTICED: Duration = Duration::from_secs(10);

/// AWS refuses a request whose date is five minutes off (`SigV4`); what is
/// [`UNSURE`] is given to it.
const REFUSED: Duration = Duration::from_secs(5 * 60 - UNSURE.as_secs());

/// Somebody's clock beside this machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Skew {
    /// Whose.
    pub(super) whose: &'static str,
    pub(super) off: Off,
}

/// By how much this machine's clock is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Off {
    Ahead(Duration),
    Behind(Duration),
}

impl Skew {
    /// Between this machine's clock when an answer came, and the answer's date.
    pub(super) fn of(whose: &'static str, here: SystemTime, there: SystemTime) -> Self {
        let off = match here.duration_since(there) {
            Ok(ahead) => Off::Ahead(ahead),
            Err(behind) => Off::Behind(behind.duration()),
        };
        Self { whose, off }
    }
}

/// Asks for the version, which anybody may.
pub(super) async fn observe(
    api: &Api,
    now: impl Fn() -> SystemTime,
) -> (Result<String, Lack>, Option<Skew>) {
    match api.get("", "version").await {
        Ok(said) => {
            let skew = said
                .date
                .map(|date| Skew::of("the API server", now(), date));
            let version = super::api::text(&said.value, "/gitVersion").to_owned();
            (Ok(version), skew)
        }
        Err(lack) => (Err(lack), None),
    }
}

pub(super) fn judge(version: &Result<String, Lack>) -> Finding {
    let lack = match version {
        Ok(version) => {
            return Finding::ok(
                Check::ApiServer,
                format!("the API server answers: {version}"),
            );
        }
        Err(lack) => lack,
    };
    let remedy = match lack {
        Lack::Unreachable(_) | Lack::Silent => {
            "see whether its address is right (KUBERNETES_SERVICE_HOST, or the server of the \
             kubeconfig), is reached from here (kube-proxy, security groups, a proxy without \
             NO_PROXY for it), and has a certificate for that name"
        }
        Lack::Unknown(_) => {
            "have a kubeconfig whose credentials hold; in the agent's pod, see that \
             automountServiceAccountToken is true and the node's clock is right"
        }
        Lack::Forbidden(_) => "let this user read /version (the role system:public-info-viewer)",
        Lack::Absent | Lack::Garbled | Lack::Unasked => {
            "see whether a Kubernetes API server answers there at all"
        }
        Lack::Failing(..) => "see the API server's own log and health (/livez?verbose)",
    };
    Finding::failure(Check::ApiServer, lack.why(), remedy)
}

/// What to do about a clock.
const SYNCHRONISE: &str = "synchronise this machine's clock, by chrony with 169.254.169.123 on EC2";

pub(super) fn judge_clocks(skews: &[Skew]) -> Vec<Finding> {
    if skews.is_empty() {
        return vec![Finding::skipped(
            Check::Clock,
            "nobody told the time: neither the API server nor STS answered",
            "see what `api-server` and `sts` say",
        )];
    }
    let mut all = Vec::new();
    for Skew { whose, off } in skews {
        let (by, word) = match off {
            Off::Ahead(by) => (*by, "ahead of"),
            Off::Behind(by) => (*by, "behind"),
        };
        let says = format!(
            "this machine's clock is {} s {word} that of {whose}",
            by.as_secs()
        );
        if by >= REFUSED {
            let says = format!("{says}: AWS refuses requests that are 5 minutes off");
            all.push(Finding::failure(Check::Clock, says, SYNCHRONISE));
        } else if by >= NOTICED + UNSURE {
            let says = format!("{says}: tokens and sessions seem to begin or end at other times");
            all.push(Finding::warning(Check::Clock, says, SYNCHRONISE));
        }
    }
    if all.is_empty() {
        let names: Vec<&str> = skews.iter().map(|skew| skew.whose).collect();
        let says = format!(
            "this machine's clock agrees with that of {}",
            names.join(" and ")
        );
        all.push(Finding::ok(Check::Clock, says));
    }
    all
}
