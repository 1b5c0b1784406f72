//! An association as people write it, in the names of the EKS API and some more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::config::{Config, Exchange};
use crate::model::{
    Association, Grant, Invalid, Means, RoleArn, Session, SessionName, SessionScope,
    check_session_tags,
};

#[cfg(test)]
mod tests;

/// The longest external id that STS takes.
const LONGEST_EXTERNAL_ID: usize = 1224;

/// The longest inline policy that STS takes.
const LONGEST_POLICY: usize = 2048;

/// The most tags that STS takes, less those that credlet sets.
const MOST_TAGS: usize = 50 - 6;

/// As for `--session-duration`; a chained session lasts an hour at most.
const SHORTEST: Duration = Duration::from_mins(30);
const LONGEST: Duration = Duration::from_hours(12);
const LONGEST_CHAINED: Duration = Duration::from_hours(1);

/// What holds for associations that do not say it themselves.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// By what a role is assumed; `None`: each must say it.
    pub means: Option<Means>,
    /// The audience of tokens for web identities.
    pub audience: Arc<str>,
    /// Whose a session is, and so whether its name may be the pod's.
    pub scope: SessionScope,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            means: Some(Means::Agent),
            audience: "sts.amazonaws.com".into(),
            scope: SessionScope::ServiceAccount,
        }
    }
}

impl From<&Config> for Defaults {
    fn from(config: &Config) -> Self {
        let audience: Arc<str> = config.web_identity_audience.as_str().into();
        let means = match config.exchange {
            Exchange::AssumeRole => Some(Means::Agent),
            Exchange::WebIdentity => Some(Means::WebIdentity {
                audience: Arc::clone(&audience),
            }),
            Exchange::EksAuth => None,
        };
        Self {
            means,
            audience,
            scope: config.session_scope,
        }
    }
}

/// What is declared for a service account.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Spec {
    role_arn: Option<String>,
    target_role_arn: Option<String>,
    external_id: Option<String>,
    policy: Option<String>,
    disable_session_tags: bool,
    exchange: Option<Exchange>,
    session_name: Option<String>,
    session_tags: BTreeMap<String, String>,
    session_duration: Option<jiff::SignedDuration>,
}

/// What is wrong with a declaration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A name, an ARN, a template or a tag.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// There is no role.
    #[error("roleArn is missing")]
    NoRole,
    /// EKS knows the role, and how.
    #[error("with the exchange eks-auth EKS knows the role, so that nothing else may be set")]
    EksAuth,
    /// Where pods share a session, it has no pod's name.
    #[error("sessionName names the pod, which takes --session-scope pod")]
    SharedName,
    /// Neither the declaration nor the agent says how.
    #[error("exchange must say assume-role or web-identity, since --exchange is eks-auth")]
    NoExchange,
    /// Dropping the policy would widen what the pod may do.
    #[error("a policy requires disableSessionTags: true")]
    PolicyWithTags,
    /// There are none.
    #[error("sessionTags are set although disableSessionTags is true")]
    TagsDisabled,
    /// STS takes them only from who assumes a role with credentials.
    #[error("web-identity takes externalId and sessionTags only with a targetRoleArn")]
    WebIdentity,
    /// STS would refuse it.
    #[error("externalId must have 2 to 1224 characters")]
    ExternalId,
    /// STS would refuse it.
    #[error("policy must be JSON of at most 2048 characters")]
    Policy,
    /// STS would refuse them.
    #[error("there may be 44 sessionTags at most")]
    Tags,
    /// STS would refuse it, or the session be over too soon.
    #[error("sessionDuration must be 30m to 12h, with a targetRoleArn 1h at most")]
    Duration,
}

impl Spec {
    /// The association, if it is one that AWS can be asked for.
    pub fn accept(self, defaults: &Defaults) -> Result<Association, Fault> {
        let Self {
            role_arn,
            target_role_arn,
            external_id,
            policy,
            disable_session_tags,
            exchange,
            session_name,
            session_tags,
            session_duration,
        } = self;
        let web_identity = || Means::WebIdentity {
            audience: Arc::clone(&defaults.audience),
        };
        let means = match exchange {
            Some(Exchange::EksAuth) => {
                let is_bare = role_arn.is_none()
                    && target_role_arn.is_none()
                    && external_id.is_none()
                    && policy.is_none()
                    && !disable_session_tags
                    && session_name.is_none()
                    && session_tags.is_empty()
                    && session_duration.is_none();
                return is_bare
                    .then_some(Association::EksAuth)
                    .ok_or(Fault::EksAuth);
            }
            Some(Exchange::AssumeRole) => Means::Agent,
            Some(Exchange::WebIdentity) => web_identity(),
            None => defaults.means.clone().ok_or(Fault::NoExchange)?,
        };
        let role: RoleArn = role_arn.as_deref().ok_or(Fault::NoRole)?.parse()?;
        let target_role = target_role_arn.as_deref().map(str::parse::<RoleArn>);
        let target_role = target_role.transpose()?;
        if !external_id
            .as_ref()
            .is_none_or(|id| (2..=LONGEST_EXTERNAL_ID).contains(&id.len()))
        {
            return Err(Fault::ExternalId);
        }
        let is_sent = match means {
            Means::Agent => true,
            Means::WebIdentity { .. } => target_role.is_some(),
        };
        if !is_sent && (external_id.is_some() || !session_tags.is_empty()) {
            return Err(Fault::WebIdentity);
        }
        Ok(Association::Role(Grant {
            duration: duration(session_duration, target_role.as_ref())?,
            target_role,
            external_id,
            means,
            session: session(disable_session_tags, policy, session_tags)?,
            name: name(session_name.as_deref(), defaults.scope)?,
            ..Grant::of(role)
        }))
    }
}

fn name(given: Option<&str>, scope: SessionScope) -> Result<Option<SessionName>, Fault> {
    let name: Option<SessionName> = given.map(str::parse).transpose()?;
    match scope {
        SessionScope::ServiceAccount if name.as_ref().is_some_and(SessionName::names_pod) => {
            Err(Fault::SharedName)
        }
        SessionScope::ServiceAccount | SessionScope::Pod => Ok(name),
    }
}

fn duration(
    given: Option<jiff::SignedDuration>,
    target_role: Option<&RoleArn>,
) -> Result<Option<Duration>, Fault> {
    let Some(given) = given else { return Ok(None) };
    let longest = target_role.map_or(LONGEST, |_| LONGEST_CHAINED);
    let duration = Duration::try_from(given).map_err(|_| Fault::Duration)?;
    let fits = (SHORTEST..=longest).contains(&duration) && duration.subsec_nanos() == 0;
    fits.then_some(Some(duration)).ok_or(Fault::Duration)
}

fn session(
    disable_session_tags: bool,
    policy: Option<String>,
    extra: BTreeMap<String, String>,
) -> Result<Session, Fault> {
    let policy_fits = policy.as_ref().is_none_or(|policy| {
        policy.len() <= LONGEST_POLICY
            && serde_json::from_str::<serde::de::IgnoredAny>(policy).is_ok()
    });
    if !policy_fits {
        return Err(Fault::Policy);
    }
    if disable_session_tags {
        if !extra.is_empty() {
            return Err(Fault::TagsDisabled);
        }
        return Ok(Session::Untagged { policy });
    }
    if policy.is_some() {
        return Err(Fault::PolicyWithTags);
    }
    if extra.len() > MOST_TAGS {
        return Err(Fault::Tags);
    }
    check_session_tags(&extra)?;
    let cluster_arn = None;
    Ok(Session::Tagged { cluster_arn, extra })
}
