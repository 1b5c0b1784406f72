//! One review: read, decided, answered.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::knowledge::{Knowledge, Unknown};
use super::metrics::Metrics;
use super::review::{self, Malformed};
use crate::inject::{Environment, Left, Settings, Spread};

/// Where the API server asks.
pub(super) const PATH: &str = "/mutate";

/// The API server takes objects of 3 MiB; in a review they are a little longer.
const LONGEST: usize = 4 * 1024 * 1024;

/// Reviews whose bodies are in memory at a time.
const AT_A_TIME: usize = 64;

/// How long a body may take, and then its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers reviews.
pub(super) struct Desk {
    knowledge: Knowledge,
    settings: Settings,
    metrics: Metrics,
    reviews: Semaphore,
    leaving: AtomicBool,
}

/// Why a review has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Error {
    #[error("reviews are POSTed to {PATH}")]
    Elsewhere,
    #[error("the body took too long")]
    Slow,
    #[error("the body is longer than {LONGEST} bytes")]
    Long,
    #[error("the body ended early")]
    Short,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Unknown(#[from] Unknown),
}

impl Error {
    fn status(&self) -> StatusCode {
        match self {
            Self::Elsewhere => StatusCode::NOT_FOUND,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Long => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Short | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            // What the API server then does is what its `failurePolicy` says.
            Self::Unknown(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// For metrics.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Elsewhere | Self::Long | Self::Malformed(_) => "malformed",
            Self::Slow | Self::Short => "cut",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// What a pod came to.
fn outcome(decided: &Result<Environment, Left>) -> &'static str {
    match decided {
        Ok(Environment::PodIdentity { .. }) => "pod_identity",
        Ok(Environment::WebIdentity { .. }) => "web_identity",
        Err(left) => left.reason(),
    }
}

impl Desk {
    /// Answers by what is known.
    pub(super) fn new(knowledge: Knowledge, settings: Settings, metrics: Metrics) -> Self {
        Self {
            knowledge,
            settings,
            metrics,
            reviews: Semaphore::new(AT_A_TIME),
            leaving: AtomicBool::new(false),
        }
    }

    /// From now on each answer is the last of its connection.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Answers one request, whatever it is.
    pub(super) async fn answer<B>(
        &self,
        request: Request<B>,
    ) -> Result<Response<Full<Bytes>>, Infallible>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let begun = Instant::now();
        let (status, kind, body) = match self.review(request).await {
            Ok(answer) => (StatusCode::OK, "application/json", answer),
            Err(error) => {
                self.metrics.reviewed(error.outcome());
                tracing::debug!(%error, "a review has no answer");
                let text = format!("{error}\n").into_bytes();
                (error.status(), "text/plain; charset=utf-8", text)
            }
        };
        self.metrics.seconds.observe(begun.elapsed().as_secs_f64());
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if self.leaving.load(Ordering::Relaxed) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    async fn review<B>(&self, request: Request<B>) -> Result<Vec<u8>, Error>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if request.uri().path() != PATH || request.method() != Method::POST {
            return Err(Error::Elsewhere);
        }
        let read = async {
            let permit = self.reviews.acquire().await;
            let body = Box::pin(Limited::new(request.into_body(), LONGEST));
            let body = body.collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Error::Long
                } else {
                    Error::Short
                }
            })?;
            Ok::<_, Error>((permit, body.to_bytes()))
        };
        let (_permit, body) = timeout(PATIENCE, read).await.map_err(|_| Error::Slow)??;
        let request = review::Request::read(&body)?;
        drop(body);
        let facts = self.knowledge.find(&request.account).await?;
        let spread = Spread::of(fastrand::u32(..));
        let annotations = facts.annotations();
        let decided = self
            .settings
            .decide(&request.pod, annotations, facts.declared(), spread);
        let adds = match &decided {
            Ok(injection) => injection.additions(&request.pod),
            Err(_) => Vec::new(),
        };
        let outcome = outcome(&decided.map(|injection| injection.environment));
        self.metrics.reviewed(outcome);
        Ok(request.answer(&adds, outcome))
    }
}
