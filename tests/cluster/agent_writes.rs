//! What an agent writes is about its own node's pods, by the component `agent-writes`.

use std::sync::Arc;

use credlet::associations::crd::{GROUP, NAMESPACED, VERSION};
use credlet::identity::watch::Client;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{Duration, sleep, timeout};

use crate::agent::Rig;
use crate::control_plane::{ControlPlane, Settings};
use crate::follower::PATIENCE;
use crate::manifests;
use crate::place::Place;

/// A node with a pod of `cart`, and a client that is its agent.
struct Node {
    place: Place,
    agent: Client,
    uid: String,
}

impl Node {
    async fn on(cluster: &Arc<ControlPlane>) -> Self {
        let place = Place::on(Arc::clone(cluster)).await;
        let uid = place.add_pod("cart-0").await;
        let agent = agent(cluster, &place).await;
        Self { place, agent, uid }
    }

    /// Its agent's event on a pod.
    fn event(&self, pod: &Value) -> Value {
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": "it-", "namespace": pod["namespace"]},
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "type": "Warning",
            "reason": "RoleRefused",
            "action": "ServeCredentials",
            "regarding": pod,
            "reportingController": "credlet",
            "reportingInstance": self.place.node,
        })
    }

    /// Its pod, as an event names it.
    fn pod(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "name": "cart-0",
            "namespace": self.place.namespace, "uid": self.uid,
        })
    }

    async fn tells(&self, event: &Value) -> bool {
        let namespace = event["metadata"]["namespace"].as_str().expect("a text");
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        may(&self.agent, Method::POST, &path, event).await
    }

    /// A request for a token of the account that pods here have.
    async fn requests(&self, namespace: &str, spec: &Value) -> bool {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/cart/token");
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec,
        });
        may(&self.agent, Method::POST, &path, &request).await
    }
}

/// With a token that says on which node its pod is.
async fn agent(cluster: &ControlPlane, place: &Place) -> Client {
    let (pod, own) = (format!("agent-of-{}", place.node), place.beside("credlet"));
    let spec = json!({"nodeName": place.node, "serviceAccountName": "credlet"});
    own.add_pod_as(&pod, spec).await;
    let audience = "https://kubernetes.default.svc";
    let token = own.token_of("credlet", audience, Some(&pod)).await;
    cluster.client(&token, cluster.api_server_at()).await
}

async fn may(client: &Client, method: Method, path: &str, body: &Value) -> bool {
    let kind = if method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(body.to_string().into_bytes())
        .expect("a request");
    match client.request_text(request).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) => {
            assert!(matches!(status.code, 403 | 422), "{status}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

fn token(pod: &str, uid: &str, audiences: &[&str]) -> Value {
    json!({
        "audiences": audiences,
        "expirationSeconds": 600,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid},
    })
}

const AWS: &str = "sts.amazonaws.com";

async fn with_component() -> Arc<ControlPlane> {
    let cluster = Arc::new(ControlPlane::start(Settings::default()).await);
    let admin = cluster.admin().await;
    for component in [
        manifests::REQUEST_TOKENS,
        manifests::ASSOCIATION_STATUS,
        manifests::AGENT_WRITES,
    ] {
        manifests::apply(&admin, component).await;
    }
    cluster
}

/// Policies take effect somewhat after they are there, and know pods so.
async fn until_bound(node: &Node, other: &Node) {
    let bound = async {
        let theirs = token("cart-0", &other.uid, &[AWS]);
        while node.tells(&node.event(&other.pod())).await
            || node.requests(&other.place.namespace, &theirs).await
            || !node.tells(&node.event(&node.pod())).await
        {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, bound)
        .await
        .expect("the policies are bound");
}

#[tokio::test]
async fn an_agent_tells_of_its_own_nodes_pods_and_changes_its_own_events_alone() {
    let cluster = with_component().await;
    let (node, other) = (Node::on(&cluster).await, Node::on(&cluster).await);
    // One of the other node's in the same namespace.
    let spec = json!({"nodeName": other.place.node});
    let stranger = node.place.add_pod_as("cart-1", spec).await;
    until_bound(&node, &other).await;

    assert!(node.tells(&node.event(&node.pod())).await);
    let named = |name: &str, uid: &str| {
        let mut pod = node.pod();
        pod["name"] = json!(name);
        pod["uid"] = json!(uid);
        pod
    };
    let comes = async {
        while node.tells(&node.event(&named("cart-1", &stranger))).await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, comes).await.expect("the pod is known");
    for pod in [named("cart-1", &node.uid), named("cart-0", &stranger)] {
        assert!(!node.tells(&node.event(&pod)).await, "{pod}");
    }
    let mut service = node.pod();
    service["kind"] = json!("Service");
    assert!(!node.tells(&node.event(&service)).await);
    for (field, value) in [
        ("reportingInstance", &*other.place.node),
        ("reportingController", "kubelet"),
    ] {
        let mut event = node.event(&node.pod());
        event[field] = json!(value);
        assert!(!node.tells(&event).await, "{event}");
    }

    // Another agent's event, and one's own.
    let events = format!(
        "/apis/events.k8s.io/v1/namespaces/{}/events",
        node.place.namespace
    );
    let mut event = node.event(&node.pod());
    event["metadata"]["name"] = json!("own");
    assert!(node.tells(&event).await);
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}});
    let path = format!("{events}/own");
    assert!(!may(&other.agent, Method::PATCH, &path, &series).await);
    assert!(may(&node.agent, Method::PATCH, &path, &series).await);
}

#[tokio::test]
async fn an_agent_requests_tokens_of_its_own_nodes_pods_and_for_aws_alone() {
    let cluster = with_component().await;
    let (node, other) = (Node::on(&cluster).await, Node::on(&cluster).await);
    until_bound(&node, &other).await;
    let (ours, theirs) = (&node.place.namespace, &other.place.namespace);
    assert!(
        node.requests(ours, &token("cart-0", &node.uid, &[AWS]))
            .await
    );
    for (namespace, spec) in [
        (theirs, token("cart-0", &other.uid, &[AWS])),
        (ours, token("cart-0", &node.uid, &[])),
        (
            ours,
            token("cart-0", &node.uid, &["https://kubernetes.default.svc"]),
        ),
        (
            ours,
            token(
                "cart-0",
                &node.uid,
                &[AWS, "https://kubernetes.default.svc"],
            ),
        ),
        (ours, json!({"audiences": [AWS]})),
        (
            ours,
            json!({"audiences": [AWS], "boundObjectRef": {
                "apiVersion": "v1", "kind": "Pod", "name": "cart-0",
            }}),
        ),
    ] {
        assert!(!node.requests(namespace, &spec).await, "{namespace} {spec}");
    }
    // A token that does not say where its pod is.
    let nowhere = Node {
        agent: node.place.agent().await,
        place: node.place.beside(ours),
        uid: node.uid.clone(),
    };
    let spec = token("cart-0", &node.uid, &[AWS]);
    assert!(!nowhere.requests(ours, &spec).await);
    assert!(!nowhere.tells(&nowhere.event(&nowhere.pod())).await);
}

#[tokio::test]
async fn an_agent_goes_on_saying_what_becomes_of_associations_and_nothing_else() {
    let cluster = with_component().await;
    let (node, other) = (Node::on(&cluster).await, Node::on(&cluster).await);
    until_bound(&node, &other).await;
    let folder = format!(
        "/apis/{GROUP}/{VERSION}/namespaces/{}/{NAMESPACED}",
        node.place.namespace
    );
    let role = "arn:aws:iam::111122223333:role/pods/cart";
    let object = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "PodIdentityAssociation",
        "metadata": {"name": "it"}, "spec": {"serviceAccount": "cart", "roleArn": role},
    });
    assert!(may(&node.place.admin, Method::POST, &folder, &object).await);
    let path = format!("{folder}/it/status");
    let condition = |kind: &str| {
        let condition = json!({
            "type": kind, "status": "True", "reason": "It", "message": "it",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        json!({"status": {"conditions": [condition]}})
    };
    assert!(!may(&node.agent, Method::PATCH, &path, &condition("Ready")).await);

    let flags = "--association-status on";
    let rig = Rig::serve_as(&node.place, node.agent.clone(), flags).await;
    let says = async {
        loop {
            let request = hyper::Request::get(format!("{folder}/it")).body(Vec::new());
            let request = request.expect("a path");
            let text = node.place.admin.request_text(request).await;
            let object: Value = serde_json::from_str(&text.expect("it is there")).expect("JSON");
            if object["status"]["conditions"][0]["reason"] == "Accepted" {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(3 * PATIENCE, says)
        .await
        .expect("the agent says it");
    rig.leave().await;
}
