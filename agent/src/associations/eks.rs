//! Associations from EKS: `ListPodIdentityAssociations`, then `DescribePodIdentityAssociation`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_eks::Client;
use aws_sdk_eks::types::{PodIdentityAssociation, PodIdentityAssociationSummary};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Error, Health, Known, Level, Source};
use crate::aws::{Api, Failure, Fault, Metrics, SdkConfig};
use crate::cache::{self, Cache, Fetch, Life, Patience};
use crate::clock::{Clock, Moment};
use crate::model::{Association, Grant, Invalid, Means, ServiceAccount, Session};

#[cfg(test)]
mod tests;

const NAME: &str = "eks";

/// How old an association gets before it is asked for again, give or take a
/// fifth, so that a cluster's agents spread out.
const REFRESH_AFTER: Duration = Duration::from_mins(5);

/// How long «there is none» is believed: an operator who adds one waits that long.
const NONE_FOR: Duration = Duration::from_secs(10);

/// The most pages that one account's list may have. EKS keeps one association
/// an account, so more pages than one are empty ones.
const MOST_PAGES: usize = 10;

/// What EKS says, cached. Cheap to clone.
#[derive(Clone)]
pub struct Eks(Cache<Lookup>);

impl Eks {
    /// Roles are assumed by these `means`. Knows nothing yet; the future asks, refreshes and forgets.
    pub fn new(
        sdk: &SdkConfig,
        cluster_name: &str,
        means: Means,
        metrics: Metrics,
        clock: Clock,
    ) -> (Self, BoxFuture<'static, ()>) {
        let lookup = Lookup {
            client: Client::new(sdk),
            cluster_name: cluster_name.into(),
            means,
            metrics,
        };
        let (cache, scheduler) = Cache::new(lookup, clock);
        (Self(cache), scheduler.run().boxed())
    }

    /// When the association that is known for longest was last confirmed; none
    /// while no association is known.
    pub fn oldest(&self) -> Option<SystemTime> {
        let summaries = self.0.summaries();
        let known = summaries
            .into_iter()
            .filter(|entry| matches!(self.peek(&entry.key), Known::Is(_)));
        known.filter_map(|entry| entry.fetched_at).min()
    }
}

impl Source for Eks {
    fn find<'a>(
        &'a self,
        account: &'a ServiceAccount,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Arc<Association>>, Error>> {
        async move {
            let failed = |why| Error::Source { origin: NAME, why };
            match self.0.get(account, deadline).await {
                Ok(found) => Ok(Option::clone(&found)),
                Err(cache::Error::Fetch(failure)) => Err(failed(failure.message)),
                Err(cache::Error::Broken(why)) => Err(failed(why.to_owned())),
                Err(cache::Error::Deadline) => Err(Error::Deadline { origin: NAME }),
            }
        }
        .boxed()
    }

    fn peek(&self, account: &ServiceAccount) -> Known {
        let Some(found) = self.0.peek(account) else {
            return Known::Unknown;
        };
        Option::clone(&found).map_or(Known::None, Known::Is)
    }

    fn prefetch(&self, account: &ServiceAccount) {
        self.0.prefetch(account);
    }

    fn retain(&self, accounts: &HashSet<ServiceAccount>) {
        self.0.retain(accounts);
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn health(&self, _now: Moment) -> Health {
        let summaries = self.0.summaries();
        let associated = |entry: &&Summary| entry.value.as_ref().is_some_and(|it| it.is_some());
        let failing = summaries.iter().find_map(|entry| entry.failure.clone());
        Health {
            level: failing.as_ref().map_or(Level::Good, |_| Level::Failing),
            known: summaries.iter().filter(associated).count(),
            as_of: summaries.iter().filter_map(|entry| entry.fetched_at).min(),
            why: failing.map(|failing| failing.why),
        }
    }
}

type Summary = cache::Summary<ServiceAccount, Option<Arc<Association>>>;

/// One look-up: how EKS is asked.
#[derive(Clone)]
struct Lookup {
    client: Client,
    cluster_name: Arc<str>,
    means: Means,
    metrics: Metrics,
}

impl Fetch for Lookup {
    type Key = ServiceAccount;
    type Value = Option<Arc<Association>>;
    type Error = Failure;

    fn fetch(&self, account: ServiceAccount) -> BoxFuture<'static, Result<Self::Value, Failure>> {
        let lookup = self.clone();
        async move { lookup.ask(&account).await }.boxed()
    }

    fn life(&self, value: &Self::Value, now: SystemTime) -> Life {
        match value {
            Some(_) => Life {
                refresh_at: Some(now + REFRESH_AFTER.mul_f64(0.8 + 0.4 * fastrand::f64())),
                fresh_until: None,
                usable_until: None,
            },
            None => Life {
                refresh_at: None,
                fresh_until: Some(now + NONE_FOR),
                usable_until: Some(now + NONE_FOR),
            },
        }
    }

    fn patience(&self, error: &Failure) -> Patience {
        match error.fault {
            Fault::Denied | Fault::NotFound | Fault::TooLarge => Patience::Late,
            Fault::Throttled | Fault::TimedOut | Fault::Unavailable | Fault::Malformed => {
                Patience::Soon
            }
        }
    }
}

impl Lookup {
    async fn ask(&self, account: &ServiceAccount) -> Result<Option<Arc<Association>>, Failure> {
        let Some(summary) = self.list(account).await? else {
            return Ok(None);
        };
        let id = summary
            .association_id
            .ok_or_else(|| malformed("an association without an id"))?;
        let call = self
            .client
            .describe_pod_identity_association()
            .cluster_name(&*self.cluster_name)
            .association_id(id);
        let described =
            self.metrics
                .call(Api::DescribePodIdentityAssociation, call.send(), |answer| {
                    answer.association
                });
        let association = match described.await {
            Ok(association) => association,
            // Deleted since it was listed.
            Err(failure) if failure.fault == Fault::NotFound => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let grant = Grant {
            means: self.means.clone(),
            ..accept(association, account)?
        };
        Ok(Some(Arc::new(Association::Role(grant))))
    }

    /// The account's one association, or none.
    async fn list(
        &self,
        account: &ServiceAccount,
    ) -> Result<Option<PodIdentityAssociationSummary>, Failure> {
        let mut found = None;
        let mut next_token = None;
        for _ in 0..MOST_PAGES {
            let call = self
                .client
                .list_pod_identity_associations()
                .cluster_name(&*self.cluster_name)
                .namespace(account.namespace())
                .service_account(account.name())
                .set_next_token(next_token);
            let listed =
                self.metrics
                    .call(Api::ListPodIdentityAssociations, call.send(), |answer| {
                        Some((answer.associations?, answer.next_token))
                    });
            let (summaries, more) = listed.await.map_err(|failure| self.explain(failure))?;
            for summary in summaries {
                if found.replace(summary).is_some() {
                    return Err(malformed("more than one association"));
                }
            }
            next_token = more;
            if next_token.is_none() {
                return Ok(found);
            }
        }
        Err(malformed("a list without an end"))
    }

    /// A list knows no other thing than the cluster.
    fn explain(&self, failure: Failure) -> Failure {
        match failure.fault {
            Fault::NotFound => Failure {
                message: format!(
                    "EKS does not know the cluster {} in this region and account ({})",
                    self.cluster_name, failure.message
                ),
                ..failure
            },
            Fault::Denied
            | Fault::TooLarge
            | Fault::Throttled
            | Fault::TimedOut
            | Fault::Unavailable
            | Fault::Malformed => failure,
        }
    }
}

/// EKS's description as ours, if it can be used and is of the account that was
/// asked for.
fn accept(described: PodIdentityAssociation, account: &ServiceAccount) -> Result<Grant, Failure> {
    let is_asked = described.namespace.as_deref() == Some(account.namespace())
        && described.service_account.as_deref() == Some(account.name());
    if !is_asked {
        return Err(malformed("an association of another service account"));
    }
    let role = described.role_arn.unwrap_or_default();
    let role = role.parse().map_err(|why| unusable("roleArn", why))?;
    let target_role = described.target_role_arn.as_deref().map(str::parse);
    let target_role = target_role
        .transpose()
        .map_err(|why| unusable("targetRoleArn", why))?;
    let session = if described.disable_session_tags.unwrap_or_default() {
        let policy = described.policy;
        Session::Untagged { policy }
    } else if described.policy.is_some() {
        // Dropping it would widen what the pod may do.
        return Err(malformed("a policy although session tags are on"));
    } else {
        let arn = described.association_arn.as_deref();
        let cluster_arn = arn.and_then(cluster_arn).map(Arc::from);
        let extra = BTreeMap::new();
        Session::Tagged { cluster_arn, extra }
    };
    Ok(Grant {
        target_role,
        external_id: described.external_id,
        session,
        ..Grant::of(role)
    })
}

/// `arn:P:eks:R:A:podidentityassociation/CLUSTER/ID` is in `arn:P:eks:R:A:cluster/CLUSTER`.
fn cluster_arn(association_arn: &str) -> Option<String> {
    let (scope, resource) = association_arn.split_once(":podidentityassociation/")?;
    let (cluster, _id) = resource.split_once('/')?;
    Some(format!("{scope}:cluster/{cluster}"))
}

fn malformed(what: &str) -> Failure {
    Failure {
        fault: Fault::Malformed,
        message: format!("EKS answered {what}"),
    }
}

fn unusable(field: &str, why: Invalid) -> Failure {
    malformed(&format!("with a {field} that cannot be used: {why}"))
}
