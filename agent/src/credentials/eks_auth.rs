//! `eks-auth:AssumeRoleForPodIdentity`: what EKS has declared for a pod, for its token.

use std::sync::{Arc, OnceLock};

use aws_sdk_eksauth::Client;
use aws_sdk_eksauth::operation::assume_role_for_pod_identity::AssumeRoleForPodIdentityOutput;

use super::{Key, Refusal, Tokens, issued};
use crate::aws::{Api, Fault, Metrics, SdkConfig};
use crate::model::Credentials;

/// The audience that EKS asks of a token.
pub const AUDIENCE: &str = "pods.eks.amazonaws.com";

/// Asks EKS Auth, as the EKS Pod Identity Agent does.
pub struct EksAuth {
    sdk: SdkConfig,
    /// Made when it is first needed: on most nodes never.
    client: OnceLock<Client>,
    cluster_name: Arc<str>,
    tokens: Arc<dyn Tokens>,
    metrics: Metrics,
}

impl EksAuth {
    /// For the pods of this cluster, by tokens from `tokens`.
    pub fn new(
        sdk: &SdkConfig,
        cluster_name: &str,
        tokens: Arc<dyn Tokens>,
        metrics: Metrics,
    ) -> Self {
        Self {
            sdk: sdk.clone(),
            client: OnceLock::new(),
            cluster_name: cluster_name.into(),
            tokens,
            metrics,
        }
    }

    /// The credentials of the role that EKS associates with the key's account.
    pub(super) async fn assume(&self, key: &Key) -> Result<Credentials, Refusal> {
        let (account, pod) = (key.account.clone(), key.pod.clone());
        let token = self.tokens.token(account, pod, AUDIENCE.into()).await?;
        let client = self.client.get_or_init(|| Client::new(&self.sdk));
        let call = client
            .assume_role_for_pod_identity()
            .cluster_name(&*self.cluster_name)
            .token(token.expose());
        let api = Api::AssumeRoleForPodIdentity;
        match self.metrics.call(api, call.send(), Some).await {
            Ok(answer) => accept(answer, key),
            // The account has no association, or the cluster is not EKS's.
            Err(failure) if failure.fault == Fault::NotFound => Err(Refusal::NotAssociated),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// EKS's answer as ours, if it is about the account that was asked for.
fn accept(answer: AssumeRoleForPodIdentityOutput, key: &Key) -> Result<Credentials, Refusal> {
    let is_asked = answer.subject.is_some_and(|subject| {
        subject.namespace == key.account.namespace()
            && subject.service_account == key.account.name()
    });
    if !is_asked {
        return Err(Refusal::Malformed("credentials of another service account"));
    }
    let got = answer
        .credentials
        .ok_or(Refusal::Malformed("no credentials"))?;
    let user = answer
        .assumed_role_user
        .ok_or(Refusal::Malformed("no role"))?;
    let parts = [got.access_key_id, got.secret_access_key, got.session_token];
    issued(parts, got.expiration, [&user.arn, &user.assume_role_id])
}
