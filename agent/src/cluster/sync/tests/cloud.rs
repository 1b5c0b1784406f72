//! EKS in memory, on the tokio clock: no socket, so that hours can be lived through.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::aws::SdkConfig;

pub(super) const CLUSTER: &str = "blue";

/// What EKS takes of one account, as of the project's stand-in: AWS publishes no
/// figure for these calls.
const RATE: f64 = 10.0;
const BURST: f64 = 20.0;

/// Of one page.
const PAGE: usize = 100;

#[derive(Clone, Debug, Default)]
pub(super) struct Cloud(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(super) struct State {
    /// Roles by number of their association.
    pub(super) roles: BTreeMap<usize, String>,
    pub(super) lists: usize,
    pub(super) describes: usize,
    pub(super) throttled: usize,
    bucket: Option<(f64, Instant)>,
}

impl Cloud {
    pub(super) fn of(associations: usize) -> Self {
        let cloud = Self::default();
        for number in 0..associations {
            cloud.state().roles.insert(number, role(number));
        }
        cloud
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with it")
    }

    pub(super) fn calls(&self) -> usize {
        let state = self.state();
        state.lists + state.describes + state.throttled
    }

    pub(super) async fn sdk(&self) -> SdkConfig {
        crate::aws::settings()
            .region(aws_config::Region::from_static("eu-central-1"))
            .credentials_provider(Credentials::for_tests())
            .http_client(self.clone())
            .load()
            .await
    }
}

impl State {
    fn answer(&mut self, uri: &str) -> (u16, Value) {
        let now = Instant::now();
        let (left, at) = self.bucket.unwrap_or((BURST, now));
        let left = (left + now.duration_since(at).as_secs_f64() * RATE).min(BURST);
        if left < 1.0 {
            self.throttled += 1;
            self.bucket = Some((left, now));
            return (
                429,
                json!({"__type": "ThrottlingException", "message": "slowly"}),
            );
        }
        self.bucket = Some((left - 1.0, now));
        let path = uri.split_once("/pod-identity-associations");
        let (_, rest) = path.expect("one of two calls");
        if let Some(id) = rest.strip_prefix("/a-") {
            self.describes += 1;
            let number: usize = id.parse().expect("a number");
            return match self.roles.get(&number) {
                Some(role) => {
                    let mut described = summary(number);
                    described["roleArn"] = json!(role);
                    (200, json!({"association": described}))
                }
                None => (404, json!({"__type": "ResourceNotFoundException"})),
            };
        }
        self.lists += 1;
        let page = rest.split_once("nextToken=");
        let page: usize = page.map_or(0, |(_, page)| page.parse().expect("a number"));
        let numbers: Vec<usize> = self.roles.keys().copied().collect();
        let pages: Vec<&[usize]> = numbers.chunks(PAGE).collect();
        let on_it = pages.get(page).copied().unwrap_or_default();
        let more = (page + 1 < pages.len()).then(|| (page + 1).to_string());
        let on_it: Vec<Value> = on_it.iter().map(|number| summary(*number)).collect();
        (200, json!({"associations": on_it, "nextToken": more}))
    }
}

pub(super) fn role(number: usize) -> String {
    format!("arn:aws:iam::111122223333:role/role-{number}")
}

pub(super) fn arn(number: usize) -> String {
    format!("arn:aws:eks:eu-central-1:111122223333:podidentityassociation/{CLUSTER}/a-{number}")
}

fn summary(number: usize) -> Value {
    json!({
        "clusterName": CLUSTER,
        "namespace": "shop",
        "serviceAccount": format!("account-{number}"),
        "associationArn": arn(number),
        "associationId": format!("a-{number}"),
    })
}

impl HttpClient for Cloud {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Cloud {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (status, body) = self.state().answer(request.uri());
        let status = status.try_into().expect("a status");
        let body = SdkBody::from(body.to_string());
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, body)))
    }
}
