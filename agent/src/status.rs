//! What an agent tells of itself to people: the form of `/status`, for who writes it and who reads it.
//!
//! No secret has a field here, nor the id of an access key.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An agent as it stands at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Of credlet.
    pub version: String,
    /// The node, as the API server names it.
    pub node: String,
    /// The cluster, if it has a name.
    pub cluster: Option<String>,
    /// The moment, by the node's clock, which all others here are of, too.
    pub now: Timestamp,
    /// When the process began to serve.
    pub started_at: Timestamp,
    /// All open: the agent is ready.
    pub gates: Vec<Gate>,
    /// The node's pods.
    pub pods: Pods,
    /// Where associations come from, in order of precedence.
    pub sources: Vec<Source>,
    /// Who on the node may have what, by namespace and name.
    pub accounts: Vec<Account>,
}

/// What an agent would answer a pod, but for the secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// The HTTP status.
    pub status: u16,
    /// The code of a refusal.
    pub code: Option<String>,
    /// The words of a refusal.
    pub message: Option<String>,
    /// The session that the credentials are of, as AWS names it.
    pub session: Option<String>,
    /// When they end.
    pub expires_at: Option<Timestamp>,
}

/// What must be so before pods are served well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// As `/readyz` names it.
    pub name: String,
    /// Whether it is so.
    pub open: bool,
}

/// What is known of the node's pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pods {
    /// How many live; `None` before the first list.
    pub known: Option<usize>,
    /// When the API server last said anything of pods.
    pub heard_at: Option<Timestamp>,
    /// When the keys were fetched that tokens are verified by; `None` before.
    pub keys_at: Option<Timestamp>,
}

/// One source of associations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// As `--association-sources` names it.
    pub name: String,
    /// Whether its answers can be had.
    pub state: SourceState,
    /// How many declarations it knows that may concern pods of this node.
    pub known: usize,
    /// When it was last heard.
    pub heard_at: Option<Timestamp>,
    /// What is wrong, where something is.
    pub error: Option<String>,
}

/// Whether a source's answers can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceState {
    /// They can.
    Good,
    /// The cluster does not have it, or not for the agent.
    Absent,
    /// Not heard yet.
    Waiting,
    /// What was known is answered still, and the rest is not.
    Failing,
}

/// The pods of a service account, and their session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Of the service account.
    pub namespace: String,
    /// Of the service account.
    pub service_account: String,
    /// The one pod whose the session is, where each has its own.
    pub pod: Option<String>,
    /// How it stands.
    pub state: State,
    /// The source that names the association, or refuses it, or has not said.
    pub source: Option<String>,
    /// The role; `None` without one, or where only EKS knows it.
    pub role: Option<String>,
    /// The role through which that one is assumed, if it takes two.
    pub via_role: Option<String>,
    /// How the role is had.
    pub exchange: Option<Exchange>,
    /// What the session is called.
    pub session: Option<String>,
    /// When it was last refreshed, well.
    pub refreshed_at: Option<Timestamp>,
    /// When it is refreshed next, or tried again.
    pub next_at: Option<Timestamp>,
    /// When its credentials expire.
    pub expires_at: Option<Timestamp>,
    /// What is wrong, where something is.
    pub trouble: Option<Trouble>,
    /// How many live pods use it.
    pub users: usize,
    /// Their names, the first hundred of them.
    pub pods: Vec<String>,
}

/// How an account stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has credentials, and the last refresh was well.
    Fresh,
    /// It has credentials, but the last refresh failed.
    Stale,
    /// It has none, because fetching them fails.
    Failed,
    /// They are being fetched for the first time.
    Pending,
    /// They are fetched when a pod asks and shows its token.
    OnRequest,
    /// It may use no role.
    NoRole,
    /// Its association is of no use.
    Refused,
    /// The source has not said whether there is an association.
    Unknown,
}

/// How a role is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exchange {
    /// By the agent's own identity.
    AssumeRole,
    /// For a token of the pod's, by STS.
    WebIdentity,
    /// For a token of the pod's, by EKS.
    EksAuth,
}

/// Why an account has no credentials, or no newer ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// For people.
    pub message: String,
    /// When an attempt last failed; `None` where none is made.
    pub at: Option<Timestamp>,
    /// How many failed in a row.
    pub attempts: u32,
}

impl Status {
    /// Whether pods are served well.
    pub fn is_ready(&self) -> bool {
        self.gates.iter().all(|gate| gate.open)
    }
}
