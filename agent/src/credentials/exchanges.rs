//! Which exchange an association takes.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::eks_auth::EksAuth;
use super::sts::Sts;
use super::{Exchange, Key, Refusal};
use crate::model::{Association, Credentials};

/// All that there are. Cheap to clone.
#[derive(Clone)]
pub struct Exchanges {
    sts: Arc<Sts>,
    eks_auth: Option<Arc<EksAuth>>,
}

impl Exchanges {
    /// EKS Auth takes a cluster's name, so it may be missing.
    pub fn new(sts: Sts, eks_auth: Option<EksAuth>) -> Self {
        Self {
            sts: Arc::new(sts),
            eks_auth: eks_auth.map(Arc::new),
        }
    }
}

impl Exchange for Exchanges {
    fn exchange(&self, key: Key) -> BoxFuture<'static, Result<Credentials, Refusal>> {
        let Self { sts, eks_auth } = self.clone();
        async move {
            match (&*key.association, eks_auth) {
                (Association::Role(grant), _) => sts.assume(&key, grant).await,
                (Association::EksAuth, Some(eks_auth)) => eks_auth.assume(&key).await,
                (Association::EksAuth, None) => Err(Refusal::Denied(
                    "the exchange eks-auth needs --cluster-name".to_owned(),
                )),
            }
        }
        .boxed()
    }
}
