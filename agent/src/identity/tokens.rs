//! Service account tokens. Not verified yet, so all are refused.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::watch::Client;
use crate::clock::Clock;
use crate::model::{PodUid, ServiceAccount};

/// To come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// To come.
    pub pod: PodUid,
    /// To come.
    pub pod_name: String,
    /// To come.
    pub account: ServiceAccount,
    /// To come.
    pub node: Option<String>,
}
/// To come.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// To come.
    #[error("{0}")]
    Refused(Flaw),
    /// To come.
    #[error("{0}")]
    Unavailable(String),
}
/// To come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// To come.
    #[error("malformed")]
    Malformed,
}
/// To come.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// To come.
    pub audiences: Vec<String>,
    /// To come.
    pub state_dir: Option<PathBuf>,
}
/// To come.
#[derive(Clone, Debug, Default)]
pub struct Metrics;
/// To come.
#[derive(Clone)]
pub struct Tokens;
impl Tokens {
    /// To come.
    pub fn new(
        _: Client,
        _: Settings,
        _: Metrics,
        _: Clock,
    ) -> (Self, impl Future<Output = Infallible> + Send) {
        (Self, std::future::pending())
    }
    /// To come.
    pub async fn verify(&self, _: &str, _: Instant) -> Result<Arc<Claims>, Error> {
        std::future::ready(Err(Error::Refused(Flaw::Malformed))).await
    }
    /// To come.
    pub fn keys_age(&self) -> Option<Duration> {
        None
    }
}
