//! The association that counts: its role, and the session that AWS would be asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::facts::Facts;
use crate::credentials::Key;
use crate::credentials::session::Sessions;
use crate::identity::Caller;
use crate::model::{Association, Means, Session, SessionScope};

/// As it is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Described {
    /// `None` where only EKS knows it.
    pub(super) role: Option<String>,
    /// Assumed with the first one's session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target_role: Option<String>,
    /// By which exchange, as `--exchange` names it.
    pub(super) exchange: &'static str,
    /// Of the token that AWS is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audience: Option<String>,
    /// What the session is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_name: Option<String>,
    /// What it carries through all later roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source_identity: Option<String>,
    /// Its tags.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tags: BTreeMap<String, String>,
    /// How long it is asked for, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seconds: Option<u64>,
    /// Whether an external id goes with the last role.
    pub(super) external_id: bool,
    /// Whether a policy narrows it.
    pub(super) policy: bool,
}

/// What STS allows of a session that another session asks for.
const CHAINED: Duration = Duration::from_hours(1);

/// What the agents would ask AWS for.
pub(super) fn role(facts: &Facts, caller: &Caller, association: &Arc<Association>) -> Described {
    let Association::Role(grant) = &**association else {
        return Described {
            role: None,
            target_role: None,
            exchange: "eks-auth",
            audience: Some(crate::credentials::eks_auth::AUDIENCE.to_owned()),
            session_name: None,
            source_identity: None,
            tags: BTreeMap::new(),
            seconds: None,
            external_id: false,
            policy: false,
        };
    };
    let key = Key {
        account: caller.account().clone(),
        pod: match facts.config.session_scope {
            SessionScope::ServiceAccount => None,
            SessionScope::Pod => Some(caller.pod_name().clone()),
        },
        association: Arc::clone(association),
    };
    let sessions = Sessions::from(&facts.config);
    let (exchange, audience, described) = match &grant.means {
        Means::Agent => ("assume-role", None, true),
        // STS takes tags from who has credentials, and so on the way to a target.
        Means::WebIdentity { audience } => (
            "web-identity",
            Some(audience.to_string()),
            grant.target_role.is_some(),
        ),
    };
    let tags = if described {
        sessions.tags(&key, grant).unwrap_or_default()
    } else {
        BTreeMap::new()
    };
    let duration = sessions.duration(grant);
    let duration = match grant.target_role {
        Some(_) => duration.min(CHAINED),
        None => duration,
    };
    Described {
        role: Some(grant.role.to_string()),
        target_role: grant.target_role.as_ref().map(ToString::to_string),
        exchange,
        audience,
        session_name: Some(sessions.name(&key, grant)),
        source_identity: sessions.source_identity(&key).filter(|_| described),
        tags: tags
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
        seconds: Some(duration.as_secs()),
        external_id: grant.external_id.is_some(),
        policy: match &grant.session {
            Session::Untagged { policy } => policy.is_some(),
            Session::Tagged { .. } => false,
        },
    }
}
