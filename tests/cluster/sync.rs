//! Associations of EKS's and of ACK's, mirrored into a real API server.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use credlet::associations::crd::{GROUP, NAMESPACED, VERSION};
use credlet::clock::Clock;
use credlet::cluster::lease::Terms;
use credlet::cluster::sync::{self, Outside, Sync};
use credlet::config::tools::Command;
use credlet::identity::watch::Client;
use credlet_tests::fake_aws::{CLUSTER, Entry, FakeAws, REGION};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::control_plane::{ControlPlane, Settings};
use crate::follower::PATIENCE;
use crate::manifests;

mod ack;
mod eks;
mod leaders;
mod spread;

/// A role by its name.
fn role(name: &str) -> String {
    format!("arn:aws:iam::111122223333:role/pods/{name}")
}

/// A control plane with the component, and clients of it.
struct Rig {
    cluster: Arc<ControlPlane>,
    admin: Client,
    aws: FakeAws,
}

/// How quickly a test wants to be told.
const QUICK: Duration = Duration::from_millis(300);

impl Rig {
    async fn start(components: &[&str]) -> Self {
        let cluster = Arc::new(ControlPlane::start(Settings::default()).await);
        let admin = cluster.admin().await;
        for component in components {
            manifests::apply(&admin, component).await;
        }
        let aws = FakeAws::start().await;
        Self {
            cluster,
            admin,
            aws,
        }
    }

    /// Mirrors under the component's own service account.
    async fn sync(&self, flags: &str) -> Running {
        self.sync_by(flags, QUICK, QUICK).await
    }

    /// As [`Self::sync`], that lists and describes so often.
    async fn sync_by(&self, flags: &str, interval: Duration, refresh: Duration) -> Running {
        let line = format!(
            "credlet sync --max-rate 50 --probe-port 0 --metrics-address 127.0.0.1:0 {flags}"
        );
        let words = line.split_whitespace().map(OsString::from);
        let Ok(Command::Sync(mut config)) = Command::parse(words) else {
            panic!("the command line is good: {line}");
        };
        config.interval = interval;
        config.refresh = refresh;
        let token = manifests::own_token(&self.admin, "credlet-sync").await;
        let server = self.cluster.api_server_at();
        let sdk = credlet::aws::settings()
            .region(aws_config::Region::from_static(REGION))
            .endpoint_url(self.aws.url())
            .credentials_provider(Credentials::for_tests());
        let outside = Outside {
            api_server: self.cluster.client(&token, server).await,
            aws: Some(sdk.load().await),
            clock: Clock::system(),
            terms: Terms {
                life: Duration::from_secs(3),
                lead: Duration::from_secs(2),
                every: Duration::from_millis(200),
                answer: Duration::from_secs(1),
            },
        };
        let sync = Sync::start(*config, outside).expect("it can listen");
        let lead = sync.lead();
        let metrics = sync.metrics()[0];
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(sync.run(async {
            let _ = stopped.await;
        }));
        Running {
            lead,
            metrics,
            stop,
            task,
        }
    }

    async fn add_namespace(&self, name: &str) {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}}));
        let namespaces = Api::<Namespace>::all(self.admin.clone());
        let namespace = namespace.expect("a namespace");
        let made = namespaces.create(&PostParams::default(), &namespace).await;
        made.expect("a namespace");
    }

    fn objects(&self, namespace: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(GROUP, VERSION, "PodIdentityAssociation");
        let resource = ApiResource::from_gvk_with_plural(&kind, NAMESPACED);
        Api::namespaced_with(self.admin.clone(), namespace, &resource)
    }

    /// How many objects there are in all namespaces.
    async fn count(&self) -> usize {
        let kind = GroupVersionKind::gvk(GROUP, VERSION, "PodIdentityAssociation");
        let resource = ApiResource::from_gvk_with_plural(&kind, NAMESPACED);
        let all: Api<DynamicObject> = Api::all_with(self.admin.clone(), &resource);
        let list = all.list_metadata(&ListParams::default()).await;
        list.expect("a list").items.len()
    }

    async fn list(&self, namespace: &str) -> Vec<DynamicObject> {
        let list = self.objects(namespace).list(&ListParams::default()).await;
        list.expect("a list").items
    }

    /// The specifications of a namespace's objects, once they are these.
    async fn until(&self, namespace: &str, wanted: &[Value]) {
        let mut seen = Vec::new();
        let comes = async {
            loop {
                seen = self.list(namespace).await;
                let mut specs: Vec<Value> = seen.iter().map(|it| it.data["spec"].clone()).collect();
                specs.sort_by_key(ToString::to_string);
                if specs == wanted {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let came = timeout(PATIENCE, comes).await.is_ok();
        assert!(came, "{wanted:#?} and not {seen:#?}");
    }

    /// The status, once it says this.
    async fn status(&self, says: impl Fn(&Value) -> bool) -> Value {
        let maps = Api::<ConfigMap>::namespaced(self.admin.clone(), "credlet");
        let mut seen = Value::Null;
        let comes = async {
            loop {
                if let Some(map) = maps.get_opt(sync::status::NAME).await.expect("readable") {
                    let text = &map.data.expect("data")[sync::status::KEY];
                    seen = serde_json::from_str(text).expect("JSON");
                    if says(&seen) {
                        return;
                    }
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        let came = timeout(PATIENCE, comes).await.is_ok();
        assert!(came, "{seen:#}");
        seen
    }
}

/// One `credlet sync`.
struct Running {
    lead: credlet::cluster::lease::Lead,
    metrics: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), sync::Error>>,
}

impl Running {
    async fn leave(self) {
        self.stop.send(()).expect("it runs");
        let ended = timeout(PATIENCE, self.task).await.expect("it has an end");
        ended.expect("it did not panic").expect("it leaves well");
    }
}

/// What an association of the cart's declares.
fn cart(role_name: &str) -> Value {
    json!({"serviceAccount": "cart", "roleArn": role(role_name)})
}

/// As an operator gives it.
fn entry(role_name: &str) -> Entry {
    Entry::of(&role(role_name))
}

/// The flags of most tests.
fn of_eks() -> String {
    format!("--cluster-name {CLUSTER}")
}
