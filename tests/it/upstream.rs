//! What is asked of AWS, and how its answers are taken.

use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use credlet::aws;
use credlet_tests::fake_aws::{FakeAws, REGION};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

mod eks;
mod sts;

/// The access key id that the agent signs with.
const AGENT: &str = "AKIAAGENT";

/// The agent's settings, but for the stand-ins and with credentials of its own.
pub(super) async fn sdk(aws: &FakeAws) -> SdkConfig {
    let agent = Credentials::new(AGENT, "secret", None, None, "test");
    aws::settings()
        .region(Region::new(REGION))
        .credentials_provider(agent)
        .endpoint_url(aws.url())
        .load()
        .await
}

/// The same with a tenth of a second for a call.
async fn hasty_sdk(aws: &FakeAws) -> SdkConfig {
    let sdk = sdk(aws).await;
    let timeouts = sdk.timeout_config().expect("set").to_builder();
    let timeouts = timeouts.operation_timeout(Duration::from_millis(100));
    sdk.into_builder().timeout_config(timeouts.build()).build()
}

/// What a scrape would say of the calls.
fn scrape(metrics: &aws::Metrics) -> String {
    let mut registry = Registry::default();
    registry.register("calls", "Calls", metrics.calls.clone());
    registry.register("seconds", "Seconds", metrics.seconds.clone());
    let mut text = String::new();
    encode(&mut text, &registry).expect("text");
    text
}
