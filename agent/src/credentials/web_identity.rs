//! `sts:AssumeRoleWithWebIdentity`: a role for a service account token.

use std::time::Duration;

use super::Key;
use super::sts::{Issued, Sts, policy, seconds};
use crate::aws::{Api, Failure};
use crate::model::{Grant, Secret};

impl Sts {
    /// The role's trust policy sees the token's subject and audience, and STS
    /// takes neither tags nor an external id; nobody signs.
    pub(super) async fn by_token(
        &self,
        key: &Key,
        grant: &Grant,
        duration: Duration,
        token: &Secret,
    ) -> Result<Issued, Failure> {
        let mut call = self
            .clients
            .of(grant)
            .assume_role_with_web_identity()
            .role_arn(grant.role.as_str())
            .role_session_name(self.sessions.name(key, grant))
            .duration_seconds(seconds(duration))
            .web_identity_token(token.expose());
        if grant.target_role.is_none() {
            call = call.set_policy(policy(grant));
        }
        let got = self
            .metrics
            .call(Api::AssumeRoleWithWebIdentity, call.send(), |answer| {
                Some((answer.credentials?, answer.assumed_role_user?))
            });
        got.await.map_err(|failure| self.explain(failure, grant))
    }
}
