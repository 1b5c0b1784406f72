//! `sts:AssumeRole`, once or chained.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_sdk_sts::config::endpoint::{DefaultResolver, EndpointFuture, Params, ResolveEndpoint};
use aws_sdk_sts::config::{Builder, Config, Credentials as SdkCredentials};
use aws_sdk_sts::error::BoxError;
use aws_sdk_sts::types::{self, Tag};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Exchange, Key, Refusal};
use crate::aws::{Api, Failure, Fault, Metrics, SdkConfig};
use crate::model::{
    Association, Credentials, Grant, RoleArn, Secret, ServiceAccount, Session, StsEndpoints,
};

#[cfg(test)]
mod tests;

/// The first session of a chain is used once, so it lives as briefly as STS allows.
const SHORTEST_SESSION: Duration = Duration::from_mins(15);

/// The longest that STS allows a session which another session assumes.
const LONGEST_CHAINED_SESSION: Duration = Duration::from_hours(1);

/// The longest session name that STS accepts, in bytes.
const LONGEST_NAME: usize = 64;

/// How many bytes of a hash end a session name that had to be cut.
const HASH_BYTES: usize = 8;

/// Assumes roles. Cheap to clone.
#[derive(Clone)]
pub struct Sts {
    client: aws_sdk_sts::Client,
    cluster_name: Option<Arc<str>>,
    session_duration: Duration,
    metrics: Metrics,
}

impl Sts {
    /// Sessions are tagged with `cluster_name` where there is one, and last
    /// `session_duration` unless they are chained.
    pub fn new(
        sdk: &SdkConfig,
        endpoints: StsEndpoints,
        cluster_name: Option<&str>,
        session_duration: Duration,
        metrics: Metrics,
    ) -> Self {
        let config = Builder::from(sdk);
        let config = match endpoints {
            StsEndpoints::Regional => config,
            StsEndpoints::Legacy => config.endpoint_resolver(Legacy::default()),
        };
        Self {
            client: aws_sdk_sts::Client::from_conf(config.build()),
            cluster_name: cluster_name.map(Arc::from),
            session_duration,
            metrics,
        }
    }

    async fn assume(&self, key: &Key) -> Result<Credentials, Refusal> {
        let Association::Role(grant) = &*key.association else {
            return Err(Refusal::Denied("EKS alone knows the role".to_owned()));
        };
        let Grant {
            role, target_role, ..
        } = grant;
        let Some(target_role) = target_role else {
            let session = Hop {
                key,
                grant,
                role,
                place: Place::Only,
            };
            return self.session(session).await.and_then(|got| kept(got, role));
        };
        let first = Hop {
            key,
            grant,
            role,
            place: Place::First,
        };
        let signer = self.session(first).await.and_then(signer)?;
        let last = Hop {
            key,
            grant,
            role: target_role,
            place: Place::Last(signer),
        };
        let got = self.session(last).await?;
        kept(got, target_role)
    }

    /// One call: STS's words, checked for nothing yet.
    async fn session(&self, hop: Hop<'_>) -> Result<types::Credentials, Refusal> {
        let Hop {
            key,
            grant,
            role,
            place,
        } = hop;
        let duration = match place {
            Place::Only => self.session_duration,
            Place::First => SHORTEST_SESSION,
            Place::Last(_) => self.session_duration.min(LONGEST_CHAINED_SESSION),
        };
        let seconds = i32::try_from(duration.as_secs()).expect("config allows 12 hours at most");
        let mut call = self
            .client
            .assume_role()
            .role_arn(role.as_str())
            .role_session_name(session_name(&key.account))
            .duration_seconds(seconds);
        match place {
            Place::Only | Place::Last(_) => {
                call = call.set_external_id(grant.external_id.clone());
                if let Session::Untagged { policy } = &grant.session {
                    call = call.set_policy(policy.clone());
                }
            }
            Place::First => {}
        }
        match place {
            Place::Only | Place::First => {
                for (name, value) in self.tags(key, grant) {
                    let tag = Tag::builder().key(name).value(value).build();
                    call = call
                        .tags(tag.expect("has a key and a value"))
                        .transitive_tag_keys(name);
                }
            }
            // They come with the first session, and STS refuses a key that is inherited.
            Place::Last(_) => {}
        }
        let mut call = call.customize();
        if let Place::Last(signer) = place {
            call = call.config_override(Config::builder().credentials_provider(signer));
        }
        let got = self
            .metrics
            .call(Api::AssumeRole, call.send(), |answer| answer.credentials);
        Ok(got.await?)
    }

    fn tags<'a>(&'a self, key: &'a Key, grant: &'a Grant) -> Vec<(&'a str, &'a str)> {
        let (cluster_arn, extra) = match &grant.session {
            Session::Untagged { .. } => return Vec::new(),
            Session::Tagged { cluster_arn, extra } => (cluster_arn, extra),
        };
        let cluster = [
            ("eks-cluster-arn", cluster_arn),
            ("eks-cluster-name", &self.cluster_name),
        ];
        let cluster = cluster
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let account = [
            ("kubernetes-namespace", key.account.namespace()),
            ("kubernetes-service-account", key.account.name()),
        ];
        let extra = extra.iter().map(|(name, value)| (&**name, &**value));
        cluster.chain(account).chain(extra).collect()
    }
}

impl Exchange for Sts {
    fn exchange(&self, key: Key) -> BoxFuture<'static, Result<Credentials, Refusal>> {
        let sts = self.clone();
        async move { sts.assume(&key).await }.boxed()
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure.fault {
            Fault::Denied | Fault::NotFound => Self::Denied(failure.message),
            Fault::Throttled => Self::Throttled,
            Fault::TimedOut | Fault::Unavailable => Self::Unavailable(failure.message),
            Fault::Malformed => Self::Malformed("no whole credentials"),
        }
    }
}

/// One assumption of one or two.
struct Hop<'a> {
    key: &'a Key,
    grant: &'a Grant,
    role: &'a RoleArn,
    place: Place,
}

enum Place {
    Only,
    First,
    /// Signed with the first hop's credentials.
    Last(SdkCredentials),
}

/// The first hop's credentials, for the second.
fn signer(got: types::Credentials) -> Result<SdkCredentials, Refusal> {
    let expires_at = SystemTime::try_from(got.expiration)
        .map_err(|_| Refusal::Malformed("an impossible expiration"))?;
    Ok(SdkCredentials::new(
        got.access_key_id,
        got.secret_access_key,
        Some(got.session_token),
        Some(expires_at),
        "AssumeRole",
    ))
}

/// STS's credentials as ours, if they can be used.
fn kept(got: types::Credentials, role: &RoleArn) -> Result<Credentials, Refusal> {
    if got.access_key_id.is_empty()
        || got.secret_access_key.is_empty()
        || got.session_token.is_empty()
    {
        return Err(Refusal::Malformed("empty credentials"));
    }
    let expires_at = SystemTime::try_from(got.expiration)
        .map_err(|_| Refusal::Malformed("an impossible expiration"))?;
    Ok(Credentials::new(
        got.access_key_id,
        Secret::new(got.secret_access_key),
        Secret::new(got.session_token),
        expires_at,
        role.account_id().to_owned(),
    ))
}

/// `namespace.name`: a namespace has no dot, so no two accounts share one. What
/// STS would find too long is cut and ends in `=` and a hash of the whole; no
/// account's own name has a `=`. Depends on nothing else, so that `CloudTrail`
/// and policies see one name over restarts and nodes.
fn session_name(account: &ServiceAccount) -> String {
    let whole = format!("{}.{}", account.namespace(), account.name());
    if whole.len() <= LONGEST_NAME {
        return whole;
    }
    let digest = digest(&SHA256, whole.as_bytes());
    let hash = digest.as_ref()[..HASH_BYTES]
        .iter()
        .fold(0, |hash, byte| hash << 8 | u64::from(*byte));
    let kept = LONGEST_NAME - 1 - 2 * HASH_BYTES;
    format!("{}={hash:016x}", &whole[..kept])
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
