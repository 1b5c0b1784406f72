//! What every call to AWS shares: client settings, outcomes and their counts.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

pub use aws_config::SdkConfig;
use aws_config::{AppName, BehaviorVersion, ConfigLoader};
use aws_runtime::retries::classifiers::THROTTLING_ERRORS;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use crate::cache::FETCH_TIMEOUT;
use crate::causes::causes;

pub mod pod;
#[cfg(test)]
mod tests;
mod whereabouts;

pub use whereabouts::{Unanswered, Whereabouts};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one call may take, the agent's own credentials included. Two calls,
/// as a chained session or a described association need, fit into one fetch.
const CALL_TIMEOUT: Duration = Duration::from_millis(FETCH_TIMEOUT.as_secs() * 450);

/// The longest message of AWS's that is passed on, in characters.
const LONGEST_MESSAGE: usize = 300;

/// What STS says when it could not get the keys of a token's issuer.
const NO_ISSUER_KEYS: &str = "retrieve verification key";

/// No region is configured, so no endpoint of AWS is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no AWS region: AWS_REGION, the profile and the instance metadata service name none")]
pub struct NoRegion;

/// The AWS SDK's settings from where every SDK takes them: the environment, the
/// profile files and, for a region that neither names, the instance metadata
/// service. That last one costs a few milliseconds on EC2 and seconds elsewhere,
/// so the manifests set `AWS_REGION`. No credentials are asked for yet.
pub async fn load() -> Result<SdkConfig, NoRegion> {
    let config = settings().load().await;
    // The SDK takes an empty variable for a name.
    let is_named = config
        .region()
        .is_some_and(|region| !region.as_ref().is_empty());
    is_named.then_some(config).ok_or(NoRegion)
}

/// The settings that are the agent's own and not the environment's.
///
/// The SDK does not retry: the cache does, and counts on each call ending soon.
pub fn settings() -> ConfigLoader {
    let app = AppName::new(concat!("credlet-", env!("CARGO_PKG_VERSION")));
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .app_name(app.expect("letters, digits, dots and dashes"))
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .http_client(http_client())
}

/// One client for all services and credential providers, so that the roots of
/// trust are in memory once.
///
/// Each SDK client tries its connector when it is built, by asking for one
/// without settings. That one is never used, so it gets no TLS: the roots are
/// read with the first call and not at start.
fn http_client() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = ConnectorBuilder::default();
        let Some(settings) = settings else {
            return connector.build_http();
        };
        connector.set_connector_settings(Some(settings.clone()));
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .build()
    })
}

/// The APIs that are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Api {
    /// `sts:AssumeRole`.
    AssumeRole,
    /// `sts:AssumeRoleWithWebIdentity`.
    AssumeRoleWithWebIdentity,
    /// `eks-auth:AssumeRoleForPodIdentity`.
    AssumeRoleForPodIdentity,
    /// `eks:ListPodIdentityAssociations`.
    ListPodIdentityAssociations,
    /// `eks:DescribePodIdentityAssociation`.
    DescribePodIdentityAssociation,
}

/// How a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Fault {
    /// AWS understood and refuses.
    Denied,
    /// AWS knows no such thing.
    NotFound,
    /// A session's tags and policy together are more than STS takes.
    TooLarge,
    /// AWS asks to come back later.
    Throttled,
    /// No answer in time.
    TimedOut,
    /// AWS could not be reached, or failed itself, or the agent has no valid
    /// credentials of its own.
    Unavailable,
    /// AWS answered what cannot be read.
    Malformed,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How.
    pub fault: Fault,
    /// AWS's code and message, or what kept the call from AWS. Holds no secret.
    pub message: String,
}

/// Calls by API and outcome, and how long they took. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    /// Calls that ended.
    pub calls: Family<CallLabels, Counter>,
    /// Seconds from a call's start to its end.
    pub seconds: Family<ApiLabels, Histogram, fn() -> Histogram>,
}

impl Metrics {
    /// Names both.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "upstream_calls",
            "Calls to AWS that ended by API and outcome",
            self.calls.clone(),
        );
        registry.register_with_unit(
            "upstream",
            "Time that calls to AWS took by API",
            Unit::Seconds,
            self.seconds.clone(),
        );
    }
}

/// What tells calls apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    api: Api,
    outcome: Outcome,
}

/// What tells latencies apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApiLabels {
    api: Api,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Outcome(Option<Fault>);

impl Metrics {
    /// Runs one call to its end, and counts it. Its success is what `take` finds
    /// in the answer; an answer without it is malformed.
    pub async fn call<A, T, E>(
        &self,
        api: Api,
        call: impl Future<Output = Result<A, SdkError<E, HttpResponse>>>,
        take: impl FnOnce(A) -> Option<T>,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let start = Instant::now();
        let result = match call.await {
            Ok(answer) => take(answer).ok_or_else(Failure::incomplete),
            Err(error) => Err(Failure::of(&error)),
        };
        let outcome = Outcome(result.as_ref().err().map(|failure| failure.fault));
        self.calls.get_or_create(&CallLabels { api, outcome }).inc();
        self.seconds
            .get_or_create(&ApiLabels { api })
            .observe(start.elapsed().as_secs_f64());
        result
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0]);
        Self {
            calls: Family::default(),
            seconds: Family::new_with_constructor(seconds),
        }
    }
}

impl Failure {
    fn incomplete() -> Self {
        Self {
            fault: Fault::Malformed,
            message: "an incomplete answer".to_owned(),
        }
    }

    /// In bounded words without secrets.
    pub(crate) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let (fault, message) = match error {
            SdkError::TimeoutError(_) => (Fault::TimedOut, "no answer in time".to_owned()),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                (Fault::TimedOut, "no connection in time".to_owned())
            }
            SdkError::ResponseError(_) => (Fault::Malformed, "an unreadable answer".to_owned()),
            SdkError::ServiceError(answer) => {
                of_answer(answer.raw().status().as_u16(), answer.err())
            }
            // A foreign enum that may grow: what is not an answer is an outage.
            _ => (Fault::Unavailable, causes(error)),
        };
        Self {
            fault,
            message: harmless(&message),
        }
    }
}

/// An answer that is not a success, or is one that the SDK cannot read.
fn of_answer(status: u16, error: &impl ProvideErrorMetadata) -> (Fault, String) {
    let Some(code) = error.code() else {
        return match status {
            200..300 => (Fault::Malformed, "an unreadable answer".to_owned()),
            429 => (Fault::Throttled, "status 429".to_owned()),
            _ => (
                Fault::Unavailable,
                format!("status {status} without a reason"),
            ),
        };
    };
    let fault = fault_of(status, code, error.message());
    // AWS explains a signature by quoting the signed request, session token included.
    let message = match code {
        "IncompleteSignature" | "SignatureDoesNotMatch" => None,
        _ => error.message(),
    };
    match message {
        Some(message) => (fault, format!("{code}: {message}")),
        None => (fault, code.to_owned()),
    }
}

/// Whose fault it is that AWS refuses. What may pass without a change of the
/// role, the pod or what is declared for it is an outage, as is what the agent
/// itself does wrong. Services spell codes with and without `Exception`.
fn fault_of(status: u16, code: &str, message: Option<&str>) -> Fault {
    if status == 429 || THROTTLING_ERRORS.contains(&code) {
        return Fault::Throttled;
    }
    if status >= 500 {
        return Fault::Unavailable;
    }
    match code.strip_suffix("Exception").unwrap_or(code) {
        // The agent's own credentials or clock, or a pod's token: the next ones
        // will do. Or STS could not ask the token's issuer for its keys.
        "ExpiredToken"
        | "IDPCommunicationError"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "InvalidSignature"
        | "MissingAuthenticationToken"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClient" => Fault::Unavailable,
        // It may say so in these words, too: the SDKs for PHP and Ruby try again.
        "InvalidIdentityToken" if message.is_some_and(|it| it.contains(NO_ISSUER_KEYS)) => {
            Fault::Unavailable
        }
        "PackedPolicyTooLarge" => Fault::TooLarge,
        "NoSuchEntity" | "ResourceNotFound" => Fault::NotFound,
        _ => Fault::Denied,
    }
}

/// One line of bounded length without access key ids and tokens.
fn harmless(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line: String = line.chars().take(LONGEST_MESSAGE).collect();
    let words = line.split(' ').map(|word| {
        match word {
            _ if word.contains("AKIA") || word.contains("ASIA") => "(access key)",
            // A JSON Web Token begins with `{"` in base64url.
            _ if word.contains("eyJ") => "(token)",
            _ => word,
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        match &self.0 {
            None => EncodeLabelValue::encode(&"Ok", encoder),
            Some(fault) => fault.encode(encoder),
        }
    }
}
