//! Where this node is, as its own instance metadata service says.

use std::time::Duration;

use aws_config::imds::Client;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;
use tokio::sync::OnceCell;

use super::SdkConfig;
use crate::causes::causes;
use crate::config::Place;

/// How long the service may take. It is the machine's own, and a pod waits.
const PATIENCE: Duration = Duration::from_millis(700);

/// Asks the node's service, once for each place: a node does not move.
pub struct Whereabouts {
    sdk: SdkConfig,
    endpoint: Option<String>,
    client: OnceCell<Client>,
    /// `None`: the service knows no such place.
    known: [OnceCell<Option<String>>; 3],
}

/// The node's service cannot be asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the node's own instance metadata service: {0}")]
pub struct Unanswered(String);

impl Whereabouts {
    /// Asks where every SDK does, or at `endpoint`. Nothing is asked yet.
    pub fn new(sdk: &SdkConfig, endpoint: Option<String>) -> Self {
        Self {
            sdk: sdk.clone(),
            endpoint,
            client: OnceCell::new(),
            known: [const { OnceCell::const_new() }; 3],
        }
    }

    /// The place's name; `None` if the service knows none.
    pub async fn ask(&self, place: Place) -> Result<Option<&str>, Unanswered> {
        let (known, path) = match place {
            Place::Region => (&self.known[0], "/latest/meta-data/placement/region"),
            Place::Zone => (
                &self.known[1],
                "/latest/meta-data/placement/availability-zone",
            ),
            Place::ZoneId => (
                &self.known[2],
                "/latest/meta-data/placement/availability-zone-id",
            ),
        };
        let answer = known.get_or_try_init(|| self.fetch(path)).await?;
        Ok(answer.as_deref())
    }

    async fn fetch(&self, path: &str) -> Result<Option<String>, Unanswered> {
        let client = self.client.get_or_try_init(|| async { self.connect() });
        match client.await?.get(path).await {
            Ok(text) => Ok(Some(text.into())),
            Err(ImdsError::ErrorResponse(answer)) if answer.response().status().as_u16() == 404 => {
                Ok(None)
            }
            Err(error) => Err(Unanswered(causes(&error))),
        }
    }

    fn connect(&self) -> Result<Client, Unanswered> {
        let mut settings = ProviderConfig::default();
        if let Some(http) = self.sdk.http_client() {
            settings = settings.with_http_client(http);
        }
        let mut client = Client::builder()
            .configure(&settings)
            .operation_timeout(PATIENCE)
            .max_attempts(1);
        if let Some(endpoint) = &self.endpoint {
            client = client
                .endpoint(endpoint)
                .map_err(|error| Unanswered(error.to_string()))?;
        }
        Ok(client.build())
    }
}
