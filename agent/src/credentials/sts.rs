//! STS: a role assumed by the agent or for a pod's token, and perhaps another from there.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_sdk_sts::config::endpoint::{DefaultResolver, EndpointFuture, Params, ResolveEndpoint};
use aws_sdk_sts::config::{Builder, Config, Credentials as SdkCredentials};
use aws_sdk_sts::error::BoxError;
use aws_sdk_sts::operation::assume_role::AssumeRoleOutput;
use aws_sdk_sts::types::{self, Tag};

use super::session::Sessions;
use super::{Key, Refusal, Tokens, issued, moment};
use crate::aws::{Api, Failure, Fault, Metrics, SdkConfig};
use crate::model::{Credentials, Grant, Means, RoleArn, Session, StsEndpoints};

#[cfg(test)]
mod tests;

/// The first session of a chain is used once, so it lives as briefly as STS allows.
const SHORTEST_SESSION: Duration = Duration::from_mins(15);

/// The longest that STS allows a session which another session assumes, and the
/// least that every role's maximum is.
const SURE_SESSION: Duration = Duration::from_hours(1);

/// Of the words in which STS refuses a duration, be it beyond the role's own
/// maximum or beyond the hour of a role that a session assumes, as the agent's
/// own identity may be.
const TOO_LONG: &str = "DurationSeconds exceeds the";

/// How many roles are remembered for being granted for less than was asked for.
const MOST_CAPPED: usize = 1024;

/// A session's credentials, and whose they are.
pub(super) type Issued = (types::Credentials, types::AssumedRoleUser);

fn taken(answer: AssumeRoleOutput) -> Option<Issued> {
    Some((answer.credentials?, answer.assumed_role_user?))
}

/// Assumes roles.
pub struct Sts {
    pub(super) clients: Clients,
    pub(super) sessions: Sessions,
    tokens: Arc<dyn Tokens>,
    pub(super) metrics: Metrics,
    /// Roles that STS grants for less than the duration that is asked for.
    capped: Mutex<HashSet<RoleArn>>,
}

impl Sts {
    /// Web identities are taken from `tokens`.
    pub fn new(
        sdk: &SdkConfig,
        endpoints: StsEndpoints,
        sessions: Sessions,
        tokens: Arc<dyn Tokens>,
        metrics: Metrics,
    ) -> Self {
        Self {
            clients: Clients::new(sdk, endpoints),
            sessions,
            tokens,
            metrics,
            capped: Mutex::default(),
        }
    }

    /// The grant's role or, through it, its target role.
    pub(super) async fn assume(&self, key: &Key, grant: &Grant) -> Result<Credentials, Refusal> {
        let first = self.first(key, grant).await?;
        let Some(target) = &grant.target_role else {
            return kept(first);
        };
        let last = self.last(key, grant, target, signer(first)?).await?;
        kept(last)
    }

    /// The grant's own role: the only one, or the first of two.
    async fn first(&self, key: &Key, grant: &Grant) -> Result<Issued, Refusal> {
        let longest = match grant.target_role {
            Some(_) => SHORTEST_SESSION,
            None => self.sessions.duration(grant),
        };
        let is_capped = longest > SURE_SESSION && self.capped().contains(&grant.role);
        let duration = if is_capped { SURE_SESSION } else { longest };
        let failure = match self.first_for(key, grant, duration).await? {
            Ok(got) => return Ok(got),
            Err(failure) => failure,
        };
        if duration <= SURE_SESSION || !failure.message.contains(TOO_LONG) {
            return Err(failure.into());
        }
        if self.cap(&grant.role) {
            tracing::warn!(
                role = %grant.role,
                asked = ?duration,
                why = %failure,
                "the role's sessions cannot last as long; they last an hour"
            );
        }
        Ok(self.first_for(key, grant, SURE_SESSION).await??)
    }

    async fn first_for(
        &self,
        key: &Key,
        grant: &Grant,
        duration: Duration,
    ) -> Result<Result<Issued, Failure>, Refusal> {
        match &grant.means {
            Means::Agent => Ok(self.by_agent(key, grant, duration).await),
            Means::WebIdentity { audience } => {
                let audience = Arc::clone(audience);
                let token = self
                    .tokens
                    .token(key.account.clone(), key.pod.clone(), audience);
                let token = token.await?;
                Ok(self.by_token(key, grant, duration, &token).await)
            }
        }
    }

    async fn by_agent(
        &self,
        key: &Key,
        grant: &Grant,
        duration: Duration,
    ) -> Result<Issued, Failure> {
        let mut call = self
            .clients
            .of(grant)
            .assume_role()
            .role_arn(grant.role.as_str())
            .role_session_name(self.sessions.name(key, grant))
            .duration_seconds(seconds(duration))
            .set_source_identity(self.sessions.source_identity(key));
        for (name, value) in self.tags(key, grant)? {
            call = call.tags(tag(name, value)).transitive_tag_keys(name);
        }
        if grant.target_role.is_none() {
            call = call
                .set_external_id(grant.external_id.clone())
                .set_policy(policy(grant));
        }
        let got = self.metrics.call(Api::AssumeRole, call.send(), taken).await;
        got.map_err(|failure| self.explain(failure, grant))
    }

    /// The second role of two.
    async fn last(
        &self,
        key: &Key,
        grant: &Grant,
        target: &RoleArn,
        signer: SdkCredentials,
    ) -> Result<Issued, Refusal> {
        let duration = self.sessions.duration(grant).min(SURE_SESSION);
        let mut call = self
            .clients
            .of(grant)
            .assume_role()
            .role_arn(target.as_str())
            .role_session_name(self.sessions.name(key, grant))
            .duration_seconds(seconds(duration))
            .set_external_id(grant.external_id.clone())
            .set_policy(policy(grant));
        match grant.means {
            // Tags and source identity come with the first session, and STS
            // refuses a key that is inherited.
            Means::Agent => {}
            Means::WebIdentity { .. } => {
                for (name, value) in self.tags(key, grant)? {
                    call = call.tags(tag(name, value)).transitive_tag_keys(name);
                }
                call = call.set_source_identity(self.sessions.source_identity(key));
            }
        }
        let by_first = Config::builder().credentials_provider(signer);
        let call = call.customize().config_override(by_first);
        let got = self.metrics.call(Api::AssumeRole, call.send(), taken);
        Ok(got.await.map_err(|failure| self.explain(failure, grant))?)
    }

    fn tags<'a>(
        &'a self,
        key: &'a Key,
        grant: &'a Grant,
    ) -> Result<BTreeMap<&'a str, String>, Failure> {
        let tags = self.sessions.tags(key, grant);
        tags.map_err(|failure| self.explain(failure, grant))
    }

    /// With what to drop, which STS does not know.
    pub(super) fn explain(&self, failure: Failure, grant: &Grant) -> Failure {
        if failure.fault != Fault::TooLarge {
            return failure;
        }
        let advice = self.sessions.advice(grant);
        let message = format!("{}; {advice}", failure.message);
        Failure { message, ..failure }
    }

    fn capped(&self) -> std::sync::MutexGuard<'_, HashSet<RoleArn>> {
        self.capped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is news.
    fn cap(&self, role: &RoleArn) -> bool {
        let mut capped = self.capped();
        if capped.len() >= MOST_CAPPED {
            capped.clear();
        }
        capped.insert(role.clone())
    }
}

/// A client for each kind of endpoint, made when it is first needed.
pub(super) struct Clients {
    sdk: SdkConfig,
    default: StsEndpoints,
    regional: OnceLock<aws_sdk_sts::Client>,
    legacy: OnceLock<aws_sdk_sts::Client>,
}

impl Clients {
    fn new(sdk: &SdkConfig, default: StsEndpoints) -> Self {
        Self {
            sdk: sdk.clone(),
            default,
            regional: OnceLock::new(),
            legacy: OnceLock::new(),
        }
    }

    pub(super) fn of(&self, grant: &Grant) -> &aws_sdk_sts::Client {
        let config = || Builder::from(&self.sdk);
        match grant.endpoints.unwrap_or(self.default) {
            StsEndpoints::Regional => self
                .regional
                .get_or_init(|| aws_sdk_sts::Client::from_conf(config().build())),
            StsEndpoints::Legacy => self.legacy.get_or_init(|| {
                let config = config().endpoint_resolver(Legacy::default());
                aws_sdk_sts::Client::from_conf(config.build())
            }),
        }
    }
}

pub(super) fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).expect("config allows 12 hours at most")
}

fn tag(name: &str, value: String) -> Tag {
    let tag = Tag::builder().key(name).value(value).build();
    tag.expect("has a key and a value")
}

pub(super) fn policy(grant: &Grant) -> Option<String> {
    match &grant.session {
        Session::Untagged { policy } => policy.clone(),
        Session::Tagged { .. } => None,
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure.fault {
            Fault::Denied | Fault::NotFound => Self::Denied(failure.message),
            Fault::TooLarge => Self::TooLarge(failure.message),
            Fault::Throttled => Self::Throttled,
            Fault::TimedOut | Fault::Unavailable => Self::Unavailable(failure.message),
            Fault::Malformed => Self::Malformed("no whole credentials"),
        }
    }
}

/// The first hop's credentials, for the second.
fn signer((got, _): Issued) -> Result<SdkCredentials, Refusal> {
    let expires_at = moment(got.expiration)?;
    Ok(SdkCredentials::new(
        got.access_key_id,
        got.secret_access_key,
        Some(got.session_token),
        Some(expires_at),
        "AssumeRole",
    ))
}

/// STS's credentials as ours, if they can be used.
fn kept((got, user): Issued) -> Result<Credentials, Refusal> {
    let parts = [got.access_key_id, got.secret_access_key, got.session_token];
    issued(parts, got.expiration, [&user.arn, &user.assumed_role_id])
}

/// `AWS_STS_REGIONAL_ENDPOINTS=legacy`, which the SDK for Rust does not read:
/// its own rules know the regions that then use the global endpoint.
#[derive(Debug, Default)]
struct Legacy(DefaultResolver);

impl ResolveEndpoint for Legacy {
    fn resolve_endpoint<'a>(&'a self, params: &'a Params) -> EndpointFuture<'a> {
        EndpointFuture::new(async move {
            let params = Params::builder()
                .set_region(params.region().map(str::to_owned))
                .set_use_dual_stack(params.use_dual_stack())
                .set_use_fips(params.use_fips())
                .set_endpoint(params.endpoint().map(str::to_owned))
                .use_global_endpoint(true)
                .build()
                .map_err(BoxError::from)?;
            self.0.resolve_endpoint(&params).await
        })
    }
}
