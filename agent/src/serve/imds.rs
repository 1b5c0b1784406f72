//! The instance metadata service: what pods ask that know of nothing else.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::{Request, Response};
use tokio::time::Instant;

use super::visit::{Visit, vet};
use super::wire::Refusal;
use crate::config;

/// The service, as all its doors share it.
pub struct Metadata {
    settings: config::Imds,
}

impl Metadata {
    /// With a key of its own for session tokens.
    pub fn new(settings: config::Imds) -> Arc<Self> {
        Arc::new(Self { settings })
    }
}

pub(super) async fn answer<B: Body>(
    visit: &Visit,
    _metadata: &Metadata,
    request: &Request<B>,
    _arrived: Instant,
) -> Result<Response<Full<Bytes>>, Refusal> {
    vet(visit, request)?;
    Err(Refusal::Path)
}
