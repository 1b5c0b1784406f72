//! A test's own corner of a cluster: a namespace, and a node that runs its pods.
//!
//! There is no scheduler and no kubelet: a test binds its pods and sets their
//! status, through the requests that those would send.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use credlet::identity::watch::Client;
use k8s_openapi::api::core::v1::{Binding, Namespace, Node, Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;

/// Its objects go with the store.
pub(crate) struct Place {
    pub(crate) cluster: Arc<ControlPlane>,
    pub(crate) namespace: String,
    pub(crate) node: String,
    pub(crate) admin: Client,
}

impl Place {
    /// With the service accounts `default` and `cart`.
    pub(crate) async fn on(cluster: Arc<ControlPlane>) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let place = Self {
            admin: cluster.admin().await,
            cluster,
            namespace: format!("shop-{number}"),
            node: format!("node-{number}"),
        };
        let namespace = of(json!({"metadata": {"name": place.namespace}}));
        let namespaces = Api::<Namespace>::all(place.admin.clone());
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .expect("a namespace");
        for account in ["default", "cart"] {
            place.add_account(account).await;
        }
        place.add_node(&place.node).await;
        place
    }

    /// The same node's corner in another namespace, which is there.
    pub(crate) fn beside(&self, namespace: &str) -> Self {
        Self {
            cluster: Arc::clone(&self.cluster),
            namespace: namespace.to_owned(),
            node: self.node.clone(),
            admin: self.admin.clone(),
        }
    }

    /// A client that is the agent.
    pub(crate) async fn agent(&self) -> Client {
        self.cluster.agent().await
    }

    /// As a kubelet registers itself.
    pub(crate) async fn add_node(&self, name: &str) {
        let node = of(json!({"metadata": {"name": name}}));
        let nodes = Api::<Node>::all(self.admin.clone());
        nodes
            .create(&PostParams::default(), &node)
            .await
            .expect("a node");
    }

    pub(crate) async fn add_account(&self, name: &str) {
        let account = of(json!({"metadata": {"name": name}}));
        let created = self
            .accounts()
            .create(&PostParams::default(), &account)
            .await;
        created.expect("a service account");
    }

    /// As `kubectl annotate serviceaccount` does.
    pub(crate) async fn annotate_account(&self, name: &str, key: &str, value: &str) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {key: value}}}));
        let accounts = self.accounts();
        let annotated = accounts.patch(name, &PatchParams::default(), &patch).await;
        annotated.expect("an annotation");
    }

    /// As `kubectl label` and `annotate` do.
    pub(crate) async fn mark_pod(&self, name: &str, metadata: Value) {
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let pods = self.pods();
        let marked = pods.patch(name, &PatchParams::default(), &patch).await;
        marked.expect("a pod");
    }

    /// Creates a pod of `cart` that waits for this node's kubelet. Returns its UID.
    pub(crate) async fn add_pod(&self, name: &str) -> String {
        self.add_pod_as(name, json!({"nodeName": self.node})).await
    }

    /// As [`Self::add_pod`], with these fields of its `spec`.
    pub(crate) async fn add_pod_as(&self, name: &str, spec: Value) -> String {
        let mut pod = json!({
            "metadata": {"name": name},
            "spec": {
                "serviceAccountName": "cart",
                "containers": [{"name": "it", "image": "localhost/it"}],
            },
        });
        let fields = spec.as_object().expect("fields").clone();
        pod["spec"].as_object_mut().expect("fields").extend(fields);
        let created = self.pods().create(&PostParams::default(), &of(pod)).await;
        created
            .expect("a pod")
            .metadata
            .uid
            .expect("the API server gives one")
    }

    /// As the scheduler does.
    pub(crate) async fn bind(&self, name: &str, node: &str) {
        let binding: Binding = of(json!({
            "metadata": {"name": name},
            "target": {"kind": "Node", "name": node},
        }));
        let bound: Result<Value, _> = self
            .pods()
            .create_subresource("binding", name, &PostParams::default(), &binding)
            .await;
        bound.expect("a binding");
    }

    /// As the kubelet tells of a pod that runs at these addresses.
    pub(crate) async fn runs_at(&self, name: &str, addresses: &[&str]) {
        let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let since = jiff::Timestamp::now();
        let status = json!({
            "phase": "Running",
            "podIP": addresses[0],
            "podIPs": ips,
            "conditions": [{"type": "Initialized", "status": "True", "lastTransitionTime": since}],
        });
        self.set_status(name, status).await;
    }

    /// As the kubelet tells of the end of all containers.
    pub(crate) async fn ends(&self, name: &str, phase: &str) {
        self.set_status(name, json!({"phase": phase})).await;
    }

    async fn set_status(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        let set = self
            .pods()
            .patch_status(name, &PatchParams::default(), &patch)
            .await;
        set.expect("a status");
    }

    /// Asks for the end of a pod, which its kubelet has still to bring about.
    pub(crate) async fn terminate(&self, name: &str) {
        let asked = self.pods().delete(name, &DeleteParams::default()).await;
        let pod = asked
            .expect("a deletion")
            .left()
            .expect("the kubelet has not confirmed it");
        assert!(pod.metadata.deletion_timestamp.is_some());
    }

    /// As the kubelet does when a pod's last process has ended.
    pub(crate) async fn remove(&self, name: &str) {
        let now = DeleteParams::default().grace_period(0);
        self.pods().delete(name, &now).await.expect("a deletion");
    }

    /// A token of a pod of `cart`, as the kubelet asks for it and the agent
    /// wants it.
    pub(crate) async fn token(&self, pod: &str) -> String {
        self.token_for("pods.eks.amazonaws.com", Some(pod)).await
    }

    /// A token of `cart` for an audience, bound to a pod or to none.
    pub(crate) async fn token_for(&self, audience: &str, pod: Option<&str>) -> String {
        self.token_of("cart", audience, pod).await
    }

    /// A token of any account for an audience, bound to a pod or to none.
    pub(crate) async fn token_of(
        &self,
        account: &str,
        audience: &str,
        pod: Option<&str>,
    ) -> String {
        let bound = pod.map(|pod| json!({"kind": "Pod", "apiVersion": "v1", "name": pod}));
        let request = of(json!({"spec": {
            "audiences": [audience],
            // As short as may be.
            "expirationSeconds": 600,
            "boundObjectRef": bound,
        }}));
        let as_usual = PostParams::default();
        let accounts = self.accounts();
        let answer = accounts
            .create_token_request(account, &as_usual, &request)
            .await;
        let status = answer.expect("a token").status;
        status
            .and_then(|status| status.token)
            .expect("an answer has one")
    }

    /// The code by which a token of `cart` for this very pod is refused, if it is.
    pub(crate) async fn token_refusal(&self, pod: &str, uid: &str) -> Option<u16> {
        let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid});
        let request = of(json!({"spec": {"audiences": ["it"], "boundObjectRef": bound}}));
        let as_usual = PostParams::default();
        let accounts = self.accounts();
        let answer = accounts
            .create_token_request("cart", &as_usual, &request)
            .await;
        match answer {
            Ok(_) => None,
            Err(kube::Error::Api(status)) => Some(status.code),
            Err(error) => panic!("{error}"),
        }
    }

    /// The version of the whole store, as of a list.
    pub(crate) async fn version(&self) -> String {
        let list = self.pods().list(&kube::api::ListParams::default()).await;
        list.expect("a list")
            .metadata
            .resource_version
            .expect("lists have one")
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    fn accounts(&self) -> Api<ServiceAccount> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }
}

/// An object of the API from its JSON.
fn of<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("the object of this type")
}
