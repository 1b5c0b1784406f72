//! AWS: whom it takes this for, and the ways to STS and EKS.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_sts::config::{Credentials, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::api::date;
use crate::aws::{Failure, SdkConfig};
use crate::clock::Clock;
use crate::config::Proxy;

/// For a name, and for a connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// A service that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Sts,
    Eks,
    EksAuth,
}

/// How a service was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) service: Service,
    /// `HOST:PORT` of the endpoint; `None` if no request got that far.
    pub(super) endpoint: Option<String>,
    /// `HOST:PORT` of the proxy for it.
    pub(super) proxy: Option<String>,
    pub(super) met: Met,
    /// The service's clock, and this machine's at the same time.
    pub(super) date: Option<(SystemTime, SystemTime)>,
}

/// How far a call got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// It was answered well.
    Answered,
    /// The service refuses this caller; so it is reached.
    Refused(Failure),
    /// The name of the endpoint or the proxy has no address.
    NoName(String),
    /// No connection to it.
    NoConnection(String),
    /// A connection, and no answer over it.
    NoAnswer(Failure),
    /// Nothing was sent.
    NotSent(Failure),
}

/// Whom AWS takes this for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// By the ARN.
    Known(String),
    /// STS refuses the credentials.
    Refused(Failure),
    /// There are none, or STS was not reached.
    None(Failure),
}

/// STS, by the agent's own credentials and by none: it tells the time to anybody.
pub(super) async fn sts(sdk: &SdkConfig, proxy: &Proxy, clock: Clock) -> (Identity, Way) {
    let client = aws_sdk_sts::Client::new(sdk);
    let trace = Trace::new(clock);
    let call = client.get_caller_identity().customize();
    let said = call.interceptor(trace.clone()).send().await;
    let identity = match &said {
        Ok(answer) => Identity::Known(answer.arn().unwrap_or_default().to_owned()),
        Err(error) if trace.was_answered() => Identity::Refused(Failure::of(error)),
        Err(error) => Identity::None(Failure::of(error)),
    };
    if trace.was_answered() || trace.endpoint().is_some() {
        let way = way(Service::Sts, said.map(drop), &trace, proxy).await;
        return (identity, way);
    }
    // Nothing was sent for want of credentials: a stranger's are refused, which will do.
    let stranger = Credentials::new("STRANGER", "none", None, None, "doctor");
    let overridden = aws_sdk_sts::config::Builder::default().credentials_provider(stranger);
    let trace = Trace::new(clock);
    let call = client.get_caller_identity().customize();
    let call = call.config_override(overridden).interceptor(trace.clone());
    let said = call.send().await.map(drop);
    let way = way(Service::Sts, said, &trace, proxy).await;
    (identity, way)
}

/// EKS, by a list of one association; says how many there are in it.
pub(super) async fn eks(
    sdk: &SdkConfig,
    proxy: &Proxy,
    clock: Clock,
    cluster: &str,
) -> (Way, usize) {
    let client = aws_sdk_eks::Client::new(sdk);
    let trace = Trace::new(clock);
    let call = client.list_pod_identity_associations();
    let call = call.cluster_name(cluster).customize();
    let said = call.interceptor(trace.clone()).send().await;
    let listed = said
        .as_ref()
        .map_or(0, |answer| answer.associations().len());
    (
        way(Service::Eks, said.map(drop), &trace, proxy).await,
        listed,
    )
}

/// EKS Auth, with a token that is none: it is refused by whoever is reached.
pub(super) async fn eks_auth(sdk: &SdkConfig, proxy: &Proxy, clock: Clock, cluster: &str) -> Way {
    let client = aws_sdk_eksauth::Client::new(sdk);
    let trace = Trace::new(clock);
    let call = client.assume_role_for_pod_identity();
    let call = call.cluster_name(cluster).token("none").customize();
    let said = call.interceptor(trace.clone()).send().await.map(drop);
    way(Service::EksAuth, said, &trace, proxy).await
}

/// What is behind an answer, or the want of one.
async fn way<E>(
    service: Service,
    said: Result<(), SdkError<E, HttpResponse>>,
    trace: &Trace,
    proxy: &Proxy,
) -> Way
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let endpoint = trace.endpoint();
    let host = endpoint.as_deref().and_then(|it| it.rsplit_once(':'));
    let proxy = host.and_then(|(host, _)| proxy.of(host));
    let failure = said.err().map(|error| Failure::of(&error));
    let met = match (failure, &endpoint) {
        (None, _) => Met::Answered,
        (Some(failure), _) if trace.was_answered() => Met::Refused(failure),
        (Some(failure), None) => Met::NotSent(failure),
        (Some(failure), Some(endpoint)) => {
            reach(proxy.as_deref().unwrap_or(endpoint), failure).await
        }
    };
    Way {
        service,
        endpoint,
        proxy,
        met,
        date: trace.date(),
    }
}

/// Why nothing came back from there.
async fn reach(at: &str, failure: Failure) -> Met {
    let addresses = match timeout(PATIENCE, lookup_host(at)).await {
        Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
        Ok(Err(error)) => return Met::NoName(error.to_string()),
        Err(_) => return Met::NoName(format!("no answer in {PATIENCE:?}")),
    };
    let Some(&first) = addresses.first() else {
        return Met::NoName("it has no address".to_owned());
    };
    match timeout(PATIENCE, TcpStream::connect(&*addresses)).await {
        Ok(Ok(_)) => Met::NoAnswer(failure),
        Ok(Err(error)) => Met::NoConnection(format!("{first}: {error}")),
        Err(_) => Met::NoConnection(format!("{first}: no connection in {PATIENCE:?}")),
    }
}

/// Notes where a call goes, and when it was answered.
#[derive(Clone, Debug)]
struct Trace {
    clock: Clock,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Debug, Default)]
struct Noted {
    endpoint: Option<String>,
    is_answered: bool,
    date: Option<(SystemTime, SystemTime)>,
}

impl Trace {
    fn new(clock: Clock) -> Self {
        Self {
            clock,
            noted: Arc::default(),
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Noted) -> T) -> T {
        look(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn endpoint(&self) -> Option<String> {
        self.with(|noted| noted.endpoint.clone())
    }

    fn was_answered(&self) -> bool {
        self.with(|noted| noted.is_answered)
    }

    fn date(&self) -> Option<(SystemTime, SystemTime)> {
        self.with(|noted| noted.date)
    }
}

impl Intercept for Trace {
    fn name(&self) -> &'static str {
        "Trace"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let endpoint = authority(context.request().uri());
        self.with(|noted| noted.endpoint = endpoint);
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let there = context.response().headers().get("date").and_then(date);
        let here = self.clock.now();
        self.with(|noted| {
            noted.is_answered = true;
            noted.date = there.map(|there| (there, here));
        });
        Ok(())
    }
}

/// `HOST:PORT` of a URL.
fn authority(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?']).next()?;
    let port = if scheme == "http" { 80 } else { 443 };
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    Some(if has_port {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    })
}
