//! A webhook's own corner of a control plane that reaches Services by their
//! endpoints, and pods that are made in it.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use credlet::clock::Clock;
use credlet::cluster::webhook::{Error, Outside, Pace, Webhook};
use credlet::config::tools::Command;
use credlet_tests::client;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use nix::ifaddrs::getifaddrs;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::control_plane::{ControlPlane, Settings};
use crate::manifests;
use crate::place::Place;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What is applied for the webhook.
const FOLDERS: [&str; 2] = [
    "manifests/components/webhook",
    "manifests/components/evict-missed",
];

/// What all its objects are called, and begin with.
const NAME: &str = "credlet-webhook";

/// The one that these tests share.
pub(crate) async fn plane() -> Arc<ControlPlane> {
    static SHARED: OnceCell<Arc<ControlPlane>> = OnceCell::const_new();
    let settings = Settings {
        // No kube-proxy has the Services' own addresses lead anywhere.
        flags: &["--enable-aggregator-routing=true"],
        ..Settings::default()
    };
    let start = async || Arc::new(ControlPlane::start(settings).await);
    Arc::clone(SHARED.get_or_init(start).await)
}

/// What becomes of pods without an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Policy {
    Fail,
    Ignore,
}

/// The objects of one webhook, for the pods of one namespace.
pub(crate) struct Stage {
    pub(crate) place: Place,
    name: String,
}

/// A pod as it was made.
#[derive(Debug)]
pub(crate) struct Made(Value);

impl Made {
    /// Whether its container has the variable.
    pub(crate) fn has(&self, variable: &str) -> bool {
        let env = self.0["spec"]["containers"][0]["env"].as_array();
        let mut env = env.into_iter().flatten();
        env.any(|it| it["name"] == variable)
    }
}

impl Stage {
    /// With everything of `manifests/` but what runs it.
    pub(crate) async fn on(cluster: Arc<ControlPlane>, policy: Policy) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let place = Place::on(cluster).await;
        let name = format!("{NAME}-{number}");
        let mut documents = Vec::new();
        for document in FOLDERS.into_iter().flat_map(manifests::documents) {
            let text = document.to_string().replace(NAME, &name);
            let mut document: Value = serde_json::from_str(&text).expect("JSON still");
            let others = ["Component", "Deployment", "PodDisruptionBudget"];
            if others.iter().any(|kind| document["kind"] == *kind) {
                continue;
            }
            if document["kind"] == "MutatingWebhookConfiguration" {
                let webhook = &mut document["webhooks"][0];
                webhook["failurePolicy"] = format!("{policy:?}").into();
                let labels = json!({"kubernetes.io/metadata.name": place.namespace});
                webhook["namespaceSelector"] = json!({"matchLabels": labels});
            }
            documents.push(document);
        }
        let is_last = |it: &Value| it["kind"] == "MutatingWebhookConfiguration";
        documents.sort_by_key(is_last);
        manifests::apply_each(&place.admin, documents).await;
        Self { place, name }
    }

    /// One more replica, on free ports.
    pub(crate) async fn replica(&self, flags: &str, pace: Pace) -> Replica {
        let Self { place, name } = self;
        let line = format!(
            "credlet webhook --port 0 --probe-port 0 --metrics-address 127.0.0.1:0 \
             --namespace credlet --service {name} --secret {name} \
             --webhook-configuration {name} {flags}"
        );
        let parsed = Command::parse(line.split_whitespace().map(OsString::from));
        let Ok(Command::Webhook(config)) = parsed else {
            panic!("the command line is good: {line}: {parsed:?}");
        };
        let token = manifests::own_token(&place.admin, name).await;
        let api_server = place
            .cluster
            .client(&token, place.cluster.api_server_at())
            .await;
        let outside = Outside {
            api_server,
            aws: None,
            clock: Clock::system(),
        };
        let webhook = Webhook::start(&config, outside, pace).expect("everything is there");
        let addresses = webhook.addresses().clone();
        let on = |addresses: &[SocketAddr]| {
            let mut ports = addresses.iter().filter(|it| it.is_ipv4());
            ports.next().expect("an address").port()
        };
        let (stop, stopped) = oneshot::channel();
        Replica {
            port: on(&addresses.reviews),
            probes: on(&addresses.probes),
            metrics: on(&addresses.metrics),
            stop,
            task: tokio::spawn(webhook.run(async move {
                // A replica that was dropped ends as well.
                let _ = stopped.await;
            })),
        }
    }

    /// Has the Service lead to these, as the controller of endpoints does.
    pub(crate) async fn serve_by(&self, replicas: &[&Replica]) {
        let slices = replicas.iter().enumerate().map(|(at, replica)| {
            json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "namespace": "credlet",
                    "name": format!("{}-{at}", self.name),
                    "labels": {"kubernetes.io/service-name": self.name},
                },
                "addressType": "IPv4",
                "endpoints": [{"addresses": [own_address()], "conditions": {"ready": true}}],
                "ports": [{"name": "https", "port": replica.port, "protocol": "TCP"}],
            })
        });
        let mut slices: Vec<Value> = slices.collect();
        if let [only] = &slices[..] {
            let mut none = only.clone();
            none["metadata"]["name"] = format!("{}-1", self.name).into();
            none["endpoints"] = json!([]);
            slices.push(none);
        }
        manifests::apply_each(&self.place.admin, slices).await;
    }

    /// Declares a role for an account of the namespace.
    pub(crate) async fn associate(&self, account: &str) {
        let declared = json!({
            "apiVersion": "credlet.dev/v1alpha1",
            "kind": "PodIdentityAssociation",
            "metadata": {"namespace": self.place.namespace, "name": account},
            "spec": {
                "serviceAccount": account,
                "roleArn": "arn:aws:iam::111122223333:role/pods/cart",
            },
        });
        manifests::apply_each(&self.place.admin, vec![declared]).await;
    }

    /// An account that has an annotation from the start.
    pub(crate) async fn add_annotated(&self, name: &str, key: &str, value: &str) {
        let account = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {
                "namespace": self.place.namespace, "name": name, "annotations": {key: value},
            },
        });
        manifests::apply_each(&self.place.admin, vec![account]).await;
    }

    /// A pod of the account as the API server would make it.
    pub(crate) async fn pod(&self, account: &str) -> kube::Result<Made> {
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let made = self.create("it", account, &json!({}), &dry).await?;
        Ok(Made(serde_json::to_value(made).expect("plain data")))
    }

    /// Makes a pod, with these fields of its metadata.
    pub(crate) async fn make(&self, name: &str, account: &str, metadata: &Value) {
        let for_good = PostParams::default();
        let made = self.create(name, account, metadata, &for_good).await;
        made.expect("a pod");
    }

    async fn create(
        &self,
        name: &str,
        account: &str,
        metadata: &Value,
        how: &PostParams,
    ) -> kube::Result<Pod> {
        let mut pod = json!({
            "metadata": {"name": name},
            "spec": {
                "serviceAccountName": account,
                "containers": [{"name": "it", "image": "localhost/it"}],
            },
        });
        let fields = metadata.as_object().expect("fields").clone();
        pod["metadata"]
            .as_object_mut()
            .expect("fields")
            .extend(fields);
        let pod = serde_json::from_value(pod).expect("a pod");
        self.pods().create(how, &pod).await
    }

    /// A pod of the account, once the API server knows of the webhook, of its
    /// endpoints and of whom to trust.
    pub(crate) async fn until_injected(&self, account: &str) -> Made {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let why = match self.pod(account).await {
                Ok(pod) if pod.0["spec"]["containers"][0]["env"].is_array() => return pod,
                Ok(_) => "nothing is injected".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(Instant::now() < deadline, "{why}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The note of an event on the pod.
    pub(crate) async fn told(&self, pod: &str) -> String {
        let events = Api::<Event>::namespaced(self.place.admin.clone(), &self.place.namespace);
        let of_pod = ListParams::default().fields(&format!("involvedObject.name={pod}"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = events.list(&of_pod).await.expect("a list");
            if let Some(event) = events.items.into_iter().next() {
                assert_eq!(event.reason.as_deref(), Some("NotInjected"));
                return event.message.unwrap_or_default();
            }
            assert!(Instant::now() < deadline, "no event on {pod}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether the pod is there, and not on its way out.
    pub(crate) async fn is_there(&self, name: &str) -> bool {
        let pod = self.pods().get_opt(name).await.expect("an answer");
        pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none())
    }

    /// Whom API servers are told to trust.
    pub(crate) async fn bundle(&self) -> Vec<u8> {
        let configuration = self.configurations().get(&self.name).await;
        let webhooks = configuration.expect("it is there").webhooks;
        let webhook = webhooks.into_iter().flatten().next().expect("one");
        webhook
            .client_config
            .ca_bundle
            .map_or_else(Vec::new, |it| it.0)
    }

    /// As somebody who does not know better.
    pub(crate) async fn set_bundle(&self, bundle: &str) {
        let webhook = json!({"name": "pods.credlet.dev", "clientConfig": {"caBundle": bundle}});
        let patch = Patch::Strategic(json!({"webhooks": [webhook]}));
        let configurations = self.configurations();
        let by = PatchParams::default();
        let set = configurations.patch(&self.name, &by, &patch).await;
        set.expect("a bundle");
    }

    /// The certificate that is served, as the Secret has it.
    pub(crate) async fn served(&self) -> Vec<u8> {
        let secrets = Api::<Secret>::namespaced(self.place.admin.clone(), "credlet");
        let secret = secrets.get(&self.name).await.expect("it is there");
        let data = secret.data.expect("it is filled");
        data["tls.crt"].0.clone()
    }

    fn configurations(&self) -> Api<MutatingWebhookConfiguration> {
        Api::all(self.place.admin.clone())
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.place.admin.clone(), &self.place.namespace)
    }
}

/// One replica, in this process.
pub(crate) struct Replica {
    port: u16,
    probes: u16,
    metrics: u16,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

impl Replica {
    /// Returns once it is ready.
    pub(crate) async fn ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = get(self.probes, "/readyz").await;
            if text == "ok\n" {
                return;
            }
            assert!(Instant::now() < deadline, "{text}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns once a count is not 0.
    pub(crate) async fn metric(&self, line: &str) {
        self.gauge(line, |value| value > 0.0).await;
    }

    /// Returns once a metric is such.
    pub(crate) async fn gauge(&self, line: &str, such: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = get(self.metrics, "/metrics").await;
            let mut lines = text.lines();
            let value = lines.find_map(|it| it.strip_prefix(line)?.trim().parse().ok());
            if value.is_some_and(&such) {
                return;
            }
            assert!(Instant::now() < deadline, "{line} in\n{text}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it, which must go well.
    pub(crate) async fn leave(self) {
        self.stop.send(()).expect("it runs still");
        let ended = timeout(PATIENCE, self.task).await;
        let ended = ended.expect("draining has an end");
        ended.expect("it did not panic").expect("it leaves well");
    }
}

async fn get(port: u16, path: &str) -> String {
    let from = IpAddr::from([127, 0, 0, 1]);
    let stream = client::connect(from, (from, port).into()).await;
    let stream = TokioIo::new(stream.expect("a connection"));
    let (mut sender, connection) = http1::handshake(stream).await.expect("HTTP");
    let request = hyper::Request::get(path).header("host", "it");
    let request = request.body(Empty::<bytes::Bytes>::new()).expect("a path");
    let exchange = async move {
        let response = sender.send_request(request).await.expect("an answer");
        let body = response.into_body().collect().await.expect("a body");
        String::from_utf8(body.to_bytes().to_vec()).expect("text")
    };
    let (text, _) = tokio::join!(exchange, connection);
    text
}

/// An address of this machine's that endpoints may have: not of loopback.
fn own_address() -> IpAddr {
    let interfaces = getifaddrs().expect("interfaces");
    let mut addresses = interfaces.filter_map(|it| {
        let address = IpAddr::from(it.address?.as_sockaddr_in()?.ip());
        let is_usable = !address.is_loopback() && address.is_ipv4();
        is_usable.then_some(address)
    });
    addresses
        .next()
        .expect("this machine has an address but those of loopback")
}
