//! What `manifests/` gives the agent, applied as a person would, and the agent's token.

use std::fs;
use std::path::Path;
use std::time::Duration;

use credlet::associations::crd::{CLUSTER, GROUP, NAMESPACED, VERSION};
use credlet::identity::watch::Client;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Who the agent is to the API server.
pub(crate) const AGENT: &str = "system:serviceaccount:credlet:credlet";

/// What is applied to every cluster.
pub(crate) const PLAIN: &str = "manifests";

/// What makes up for it where the agent may not read the cluster's public keys.
pub(crate) const TOKEN_REVIEW: &str = "manifests/components/token-review";

/// What lets the agent request tokens of pods.
pub(crate) const REQUEST_TOKENS: &str = "manifests/components/request-tokens";

/// What lets the agent write the status of associations.
pub(crate) const ASSOCIATION_STATUS: &str = "manifests/components/association-status";

/// What lets the agent take the start-up taint from its node.
pub(crate) const STARTUP_TAINT: &str = "manifests/components/startup-taint";

/// What keeps an agent to the pods of its node.
pub(crate) const AGENT_WRITES: &str = "manifests/components/agent-writes";

/// What mirrors associations of EKS's, and of ACK's.
pub(crate) const SYNC: &str = "manifests/components/sync";
/// As [`SYNC`].
pub(crate) const SYNC_ACK: &str = "manifests/components/sync-ack";

/// The kinds that say what the agent may do, and what they need, and those that
/// it reads.
const KINDS: [&str; 9] = [
    "CustomResourceDefinition",
    "Namespace",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

/// Applies what says who the agent is and what it may do.
pub(crate) async fn apply(client: &Client, folder: &str) {
    let mut documents = documents(folder);
    documents.retain(|document| KINDS.iter().any(|kind| document["kind"] == *kind));
    // What lies in a namespace comes after it.
    documents.sort_by_key(|document| KINDS.iter().position(|kind| document["kind"] == *kind));
    apply_each(client, documents).await;
}

/// Applies these objects, in their order.
pub(crate) async fn apply_each(client: &Client, documents: Vec<Value>) {
    for document in documents {
        let object: DynamicObject = serde_json::from_value(document).expect("a manifest");
        let types = object.types.as_ref().expect("a manifest has a kind");
        let kind = GroupVersionKind::try_from(types).expect("a version");
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let name = object
            .metadata
            .name
            .as_ref()
            .expect("a manifest has a name");
        let by = PatchParams::apply("tests");
        let applied = api.patch(name, &by, &Patch::Apply(&object)).await;
        applied.unwrap_or_else(|error| panic!("{} {name}: {error}", kind.kind));
    }
}

/// Returns once the API server serves the custom resources, which it does
/// somewhat later than it takes their definitions.
pub(crate) async fn until_established(admin: &Client) {
    for plural in [NAMESPACED, CLUSTER] {
        let path = format!("/apis/{GROUP}/{VERSION}/{plural}");
        let deadline = Instant::now() + Duration::from_secs(30);
        let list = || hyper::Request::get(&path).body(Vec::new()).expect("a path");
        while let Err(error) = admin.request_text(list()).await {
            assert!(Instant::now() < deadline, "{plural}: {error}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The rules of every role in a folder of `manifests/`.
pub(crate) fn rules(folder: &str) -> Vec<Value> {
    documents(folder)
        .into_iter()
        .filter(|document| document["kind"] == "ClusterRole" || document["kind"] == "Role")
        .flat_map(|role| role["rules"].as_array().expect("a role has rules").clone())
        .collect()
}

/// Takes the permission to read the cluster's public keys from the agent: what
/// the API server lets every service account do, and what `manifests/` adds.
pub(crate) async fn forbid_discovery(admin: &Client) {
    let bindings = Api::<ClusterRoleBinding>::all(admin.clone());
    let binding = "system:service-account-issuer-discovery";
    let deleted = bindings.delete(binding, &DeleteParams::default()).await;
    deleted.expect("the API server makes it at its first start");
    let roles = Api::<ClusterRole>::all(admin.clone());
    let mut role = roles.get("credlet").await.expect("the agent's role");
    let granted = role.rules.as_mut().expect("rules");
    granted.retain(|rule| rule.non_resource_urls.is_none());
    let replaced = roles
        .replace("credlet", &PostParams::default(), &role)
        .await;
    replaced.expect("a role");
}

/// A token of the agent's own service account, as the kubelet would mount it.
pub(crate) async fn agent_token(admin: &Client) -> String {
    own_token(admin, "credlet").await
}

/// A token of a service account of credlet's.
pub(crate) async fn own_token(admin: &Client, account: &str) -> String {
    let accounts = Api::<ServiceAccount>::namespaced(admin.clone(), "credlet");
    let request: TokenRequest =
        serde_json::from_value(json!({"spec": {"audiences": []}})).expect("a token request");
    let as_usual = PostParams::default();
    let answer = accounts.create_token_request(account, &as_usual, &request);
    let answer = answer.await.expect("the account is there");
    let token = answer.status.and_then(|status| status.token);
    token.expect("an answer has one")
}

/// All that there is in a folder; some of it runs the agent, which no cluster of
/// these tests does.
pub(crate) fn documents(folder: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder);
    let entries = fs::read_dir(&folder);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut documents = Vec::new();
    for entry in entries {
        let path = entry.expect("readable").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = fs::read_to_string(&path).expect("readable");
            let parsed = serde_saphyr::from_multiple::<Value>(&text);
            documents.extend(parsed.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        }
    }
    documents
}
