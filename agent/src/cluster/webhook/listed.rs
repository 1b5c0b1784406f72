//! The service accounts for which EKS has associations, listed for the whole
//! cluster at once: for clusters without `credlet sync`.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_sdk_eks::Client;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::apiserver::Backoff;
use crate::aws::{Api, Failure, Fault, Metrics, SdkConfig};
use crate::model::ServiceAccount;

/// How often EKS is asked, give or take a tenth.
const EVERY: Duration = Duration::from_mins(1);

/// A page has a hundred. EKS lets a cluster have a few thousand.
const MOST_PAGES: usize = 200;

/// What EKS said last. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Listed(Arc<RwLock<Option<HashSet<ServiceAccount>>>>);

/// Asks EKS.
pub(super) struct Lister {
    client: Client,
    cluster_name: String,
    metrics: Metrics,
    listed: Listed,
}

impl Listed {
    /// Whether EKS has said anything.
    pub(super) fn is_known(&self) -> bool {
        let listed = self.0.read().unwrap_or_else(PoisonError::into_inner);
        listed.is_some()
    }

    /// Whether EKS has an association for the account.
    pub(super) fn has(&self, account: &ServiceAccount) -> bool {
        let listed = self.0.read().unwrap_or_else(PoisonError::into_inner);
        listed.as_ref().is_some_and(|it| it.contains(account))
    }
}

impl Lister {
    /// Lists the associations of the cluster. Knows nothing yet.
    pub(super) fn new(sdk: &SdkConfig, cluster_name: &str, metrics: Metrics) -> (Listed, Self) {
        let known = Listed::default();
        let lister = Self {
            client: Client::new(sdk),
            cluster_name: cluster_name.to_owned(),
            metrics,
            listed: known.clone(),
        };
        (known, lister)
    }

    /// Asks for the life of the process. What EKS said last outlives its failures.
    pub(super) async fn run(self) -> Infallible {
        let mut backoff = Backoff::default();
        let mut fails = false;
        loop {
            let pause = match self.list().await {
                Ok(accounts) => {
                    if std::mem::take(&mut fails) {
                        info!("EKS lists associations again");
                    }
                    backoff = Backoff::default();
                    *self
                        .listed
                        .0
                        .write()
                        .unwrap_or_else(PoisonError::into_inner) = Some(accounts);
                    EVERY.mul_f64(0.9 + 0.2 * fastrand::f64())
                }
                Err(why) => {
                    if !std::mem::replace(&mut fails, true) {
                        warn!(why = why.message, "EKS does not list associations");
                    }
                    backoff.next()
                }
            };
            sleep(pause).await;
        }
    }

    async fn list(&self) -> Result<HashSet<ServiceAccount>, Failure> {
        let mut accounts = HashSet::new();
        let mut next_token = None;
        for _ in 0..MOST_PAGES {
            let call = self.client.list_pod_identity_associations();
            let call = call
                .cluster_name(&self.cluster_name)
                .set_next_token(next_token);
            let listed =
                self.metrics
                    .call(Api::ListPodIdentityAssociations, call.send(), |answer| {
                        Some((answer.associations?, answer.next_token))
                    });
            let (summaries, more) = listed.await?;
            let named = summaries
                .into_iter()
                .filter_map(|it| ServiceAccount::new(&it.namespace?, &it.service_account?).ok());
            accounts.extend(named);
            next_token = more;
            if next_token.is_none() {
                return Ok(accounts);
            }
        }
        Err(Failure {
            fault: Fault::Malformed,
            message: "EKS answered a list without an end".to_owned(),
        })
    }
}
