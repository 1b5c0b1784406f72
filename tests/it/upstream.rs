//! What is asked of AWS, and how its answers are taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credlet::aws;
use credlet::credentials::eks_auth::EksAuth;
use credlet::credentials::exchanges::Exchanges;
use credlet::credentials::session::Sessions;
use credlet::credentials::sts::Sts;
use credlet::credentials::{NoToken, Tokens};
use credlet::model::{PodName, Secret, ServiceAccount, StsEndpoints};
use credlet_tests::fake_aws::{CLUSTER, FakeAws, REGION};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

mod eks;
mod pod_identity;
mod sts;
mod web_identity;

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

/// A pod's token or none, whatever is asked for.
struct Shown(Option<String>);

impl Shown {
    /// One of this account, for this audience, that ends in so many seconds.
    fn token(account: &str, audience: &str, seconds: i64) -> Self {
        let claims = serde_json::json!({
            "sub": format!("system:serviceaccount:shop:{account}"),
            "aud": [audience],
            "exp": jiff::Timestamp::now().as_second() + seconds,
        });
        let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
        Self(Some(format!("eyJoZWFkZXI.{claims}.c2lnbmF0dXJl")))
    }
}

impl Tokens for Shown {
    fn token(
        &self,
        _account: ServiceAccount,
        _pod: Option<PodName>,
        audience: Arc<str>,
    ) -> BoxFuture<'static, Result<Secret, NoToken>> {
        let token = self.0.clone().map(Secret::new);
        ready(token.ok_or(NoToken::NoneShown(audience))).boxed()
    }
}

/// Sessions without anything that a flag would add.
pub(super) fn sessions(cluster: Option<&str>, duration: Duration) -> Sessions {
    Sessions {
        cluster_name: cluster.map(Arc::from),
        cluster_arn: None,
        node: "node-1".into(),
        duration,
        name: None,
        source_identity: None,
        tags: BTreeMap::new(),
    }
}

/// All exchanges, with this token or none.
fn exchanges(
    sdk: &SdkConfig,
    sessions: Sessions,
    shown: Shown,
    metrics: &aws::Metrics,
) -> Exchanges {
    let tokens: Arc<dyn Tokens> = Arc::new(shown);
    let eks_auth = EksAuth::new(sdk, CLUSTER, Arc::clone(&tokens), metrics.clone());
    let endpoints = StsEndpoints::Regional;
    let sts = Sts::new(sdk, endpoints, sessions, tokens, metrics.clone());
    Exchanges::new(sts, Some(eks_auth))
}

/// Those of the agent's own identity.
pub(super) fn by_agent(sdk: &SdkConfig, sessions: Sessions, metrics: &aws::Metrics) -> Exchanges {
    exchanges(sdk, sessions, Shown(None), metrics)
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
