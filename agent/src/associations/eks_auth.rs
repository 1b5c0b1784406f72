//! The source `eks` where EKS Auth is asked: whether an account has an association,
//! and which, EKS says when it is asked for credentials.

use std::collections::HashSet;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Error, Health, Known, Level, Source};
use crate::clock::Moment;
use crate::model::{Association, ServiceAccount};

/// Says of every account that EKS knows.
pub struct EksAuth {
    association: Arc<Association>,
    changes: watch::Sender<u64>,
}

impl Default for EksAuth {
    fn default() -> Self {
        Self {
            association: Arc::new(Association::EksAuth),
            changes: watch::Sender::new(0),
        }
    }
}

impl Source for EksAuth {
    fn find<'a>(
        &'a self,
        _account: &'a ServiceAccount,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Arc<Association>>, Error>> {
        future::ready(Ok(Some(Arc::clone(&self.association)))).boxed()
    }

    fn peek(&self, _account: &ServiceAccount) -> Known {
        Known::Is(Arc::clone(&self.association))
    }

    fn prefetch(&self, _account: &ServiceAccount) {}

    fn retain(&self, _accounts: &HashSet<ServiceAccount>) {}

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn name(&self) -> &'static str {
        "eks"
    }

    fn health(&self, _now: Moment) -> Health {
        Health {
            level: Level::Good,
            known: 0,
            as_of: None,
            why: None,
        }
    }
}
