//! What is known of a pod and around it: all that an explanation is made of.

use std::sync::Arc;

use serde_json::Value;

use crate::apiserver::Meta;
use crate::associations::crd::Declaration;
use crate::associations::file::Table;
use crate::config::{Annotated, Config};
use crate::identity::pods::Report;
use crate::model::Association;
use crate::status::Asked;

/// What whoever explains was shown, or why not.
pub(super) type Seen<T> = Result<T, String>;

/// All of it. Sources that the agents do not have are `None`.
pub(super) struct Facts {
    /// As the API server has it.
    pub(super) pod: Value,
    /// What an agent makes of it.
    pub(super) report: Report,
    /// The service account.
    pub(super) account: Seen<Option<Meta>>,
    /// The namespace.
    pub(super) namespace: Seen<Option<Meta>>,
    /// The namespace's declarations; `Ok(None)`: the cluster has no such kind.
    pub(super) local: Seen<Option<Vec<Declaration>>>,
    /// The cluster's.
    pub(super) cluster: Seen<Option<Vec<Declaration>>>,
    /// The agents' file.
    pub(super) file: Option<Seen<Table>>,
    /// EKS's association of the account.
    pub(super) eks: Option<Seen<Option<Arc<Association>>>>,
    /// The agent of the pod's node.
    pub(super) here: Here,
    /// As the agents have it, or as it would be by default.
    pub(super) config: Config,
    /// Why it is the default.
    pub(super) assumed: Option<String>,
    /// Who serves annotated accounts.
    pub(super) annotated: Annotated,
    /// What the agent would answer the pod, if it was asked.
    pub(super) asked: Option<Seen<Asked>>,
}

/// Whether the pod's node has an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Here {
    /// This one, which is ready.
    Ready(String),
    /// This one, which is not.
    Unready(String),
    /// None.
    None,
    /// The pod is on no node yet.
    Nowhere,
    /// It cannot be seen, and why.
    Unseen(String),
}
