//! Tokens for exchanges: one that a pod has shown, else one that is requested.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::credentials::{NoToken, Tokens};
use crate::identity::tokens::NotRequested;
use crate::identity::{Identity, lending};
use crate::model::{PodName, Secret, ServiceAccount};

/// What the identity room lends to exchanges.
pub struct Lent(Identity);

impl Lent {
    /// From this room.
    pub fn new(identity: Identity) -> Self {
        Self(identity)
    }
}

impl Tokens for Lent {
    fn token(
        &self,
        account: ServiceAccount,
        pod: Option<PodName>,
        audience: Arc<str>,
    ) -> BoxFuture<'static, Result<Secret, NoToken>> {
        let identity = self.0.clone();
        async move {
            let pod = pod.as_ref().map(|pod| &pod.uid);
            if let Some(held) = identity.held(&account, pod, &audience) {
                return Ok((*held.token).clone());
            }
            match identity.request(&account, pod, &audience).await {
                Ok(held) => Ok((*held.token).clone()),
                Err(error) => Err(no_token(error, audience)),
            }
        }
        .boxed()
    }
}

fn no_token(error: lending::Error, audience: Arc<str>) -> NoToken {
    match error {
        lending::Error::Off
        | lending::Error::NoPod(_)
        | lending::Error::NotRequested(NotRequested::Gone) => NoToken::NoneShown(audience),
        lending::Error::NotRequested(NotRequested::Refused(why)) => NoToken::Refused(why),
        lending::Error::NotRequested(NotRequested::Unavailable(why)) => NoToken::Unavailable(why),
    }
}
