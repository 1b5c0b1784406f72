//! Associations that are declared in a real API server: what it takes, and how
//! soon the agent knows.

use std::sync::Arc;

use credlet::associations::crd::{CLUSTER, GROUP, NAMESPACED, VERSION};
use credlet::identity::watch::Client;
use hyper::StatusCode;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep, timeout};

use crate::agent::Rig;
use crate::control_plane::{ControlPlane, Settings};
use crate::follower::PATIENCE;
use crate::manifests;
use crate::place::Place;

const ROLE: &str = "arn:aws:iam::111122223333:role/pods/cart";
const OTHER: &str = "arn:aws-us-gov:iam::444455556666:role/warehouse";

fn namespaced(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(GROUP, VERSION, "PodIdentityAssociation");
    let resource = ApiResource::from_gvk_with_plural(&kind, NAMESPACED);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

fn of_the_cluster(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(GROUP, VERSION, "ClusterPodIdentityAssociation");
    let resource = ApiResource::from_gvk_with_plural(&kind, CLUSTER);
    Api::all_with(client.clone(), &resource)
}

fn object(kind: &str, name: &str, spec: &Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }))
    .expect("an object")
}

/// Creates it if it is a good one, but does not keep it.
/// As `kubectl apply` does, of the place's namespace.
pub(crate) async fn declare(place: &Place, name: &str, spec: Value) {
    let api = namespaced(&place.admin, &place.namespace);
    let object = object("PodIdentityAssociation", name, &spec);
    let declared = api.create(&PostParams::default(), &object).await;
    declared.expect("an association");
}

async fn offer(api: &Api<DynamicObject>, kind: &str, spec: &Value) -> Result<(), String> {
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let made = api.create(&dry, &object(kind, "it", spec)).await;
    made.map(|_| ()).map_err(|error| error.to_string())
}

fn with(mut spec: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else {
        panic!("no fields: {fields}");
    };
    spec.as_object_mut().expect("a spec").extend(fields);
    spec
}

#[tokio::test]
async fn the_api_server_takes_what_the_agent_can_use_and_says_what_is_wrong_with_the_rest() {
    let place = Place::on(ControlPlane::shared().await).await;
    let api = namespaced(&place.admin, &place.namespace);
    let plain = json!({"serviceAccount": "cart", "roleArn": ROLE});
    for fields in [
        json!({}),
        json!({"serviceAccount": "ca*"}),
        json!({"roleArn": OTHER}),
        json!({"roleArn": "arn:aws-cn:iam::111122223333:role/a"}),
        json!({"roleArn": "arn:aws-iso-b:iam::111122223333:role/a/b"}),
        json!({"targetRoleArn": OTHER, "externalId": "id", "sessionDuration": "1h"}),
        json!({"disableSessionTags": true, "policy": "{}"}),
        json!({"exchange": "web-identity", "sessionDuration": "12h"}),
        json!({"sessionTags": {"team": "a"}, "sessionName": "{namespace}", "sessionDuration": "30m"}),
    ] {
        let spec = with(plain.clone(), fields);
        let answer = offer(&api, "PodIdentityAssociation", &spec).await;
        assert_eq!(answer, Ok(()), "{spec}");
    }
    let eks = json!({"serviceAccount": "cart", "exchange": "eks-auth"});
    assert_eq!(offer(&api, "PodIdentityAssociation", &eks).await, Ok(()));

    for (fields, why) in [
        (json!({"serviceAccount": "Cart"}), "serviceAccount"),
        (json!({"serviceAccount": null}), "serviceAccount"),
        (json!({"roleArn": null}), "roleArn is required"),
        (json!({"roleArn": "cart"}), "roleArn"),
        (json!({"roleArn": "arn:aws:iam::1:role/a"}), "roleArn"),
        (
            json!({"roleArn": "arn:aws:iam::111122223333:user/a"}),
            "roleArn",
        ),
        (
            json!({"roleArn": "arn:aws:iam::111122223333:role/"}),
            "roleArn",
        ),
        (json!({"targetRoleArn": "x"}), "targetRoleArn"),
        (json!({"policy": "{}"}), "disableSessionTags"),
        (
            json!({"policy": "{}", "disableSessionTags": false}),
            "disableSessionTags",
        ),
        (
            json!({"sessionTags": {"a": "b"}, "disableSessionTags": true}),
            "sessionTags",
        ),
        (
            json!({"targetRoleArn": OTHER, "sessionDuration": "2h"}),
            "1h at most",
        ),
        (json!({"sessionDuration": "13h"}), "30m to 12h"),
        (json!({"sessionDuration": "15m"}), "30m to 12h"),
        (json!({"sessionDuration": "soon"}), "sessionDuration"),
        (json!({"exchange": "barter"}), "exchange"),
        (json!({"exchange": "eks-auth"}), "nothing else"),
        (
            json!({"exchange": "web-identity", "externalId": "id"}),
            "web-identity",
        ),
        (json!({"externalId": "1"}), "externalId"),
    ] {
        let spec = with(plain.clone(), fields);
        let answer = offer(&api, "PodIdentityAssociation", &spec).await;
        let refused = answer.expect_err(&format!("must be refused: {spec}"));
        assert!(refused.contains(why), "{spec}: {refused}");
    }

    let api = of_the_cluster(&place.admin);
    let kind = "ClusterPodIdentityAssociation";
    let selector = json!({"matchLabels": {"team": "a"}});
    for fields in [
        json!({"namespace": "shop-*"}),
        json!({"namespaceSelector": selector}),
    ] {
        let spec = with(plain.clone(), fields);
        assert_eq!(offer(&api, kind, &spec).await, Ok(()), "{spec}");
    }
    let nowhere = offer(&api, kind, &plain).await.expect_err("no namespace");
    assert!(
        nowhere.contains("namespace or namespaceSelector"),
        "{nowhere}"
    );
}

#[tokio::test]
async fn what_is_declared_holds_at_once() {
    let place = Place::on(ControlPlane::shared().await).await;
    place.add_pod("cart-0").await;
    let address = "127.0.1.9";
    place.runs_at("cart-0", &[address]).await;
    let rig = Rig::serve(&place).await;
    let until = async |status: StatusCode, code: &str| {
        let comes = async {
            loop {
                let answer = rig.get(address, None).await;
                let is_it = answer.status == status
                    && (status == StatusCode::OK || answer.field("code") == code);
                if is_it {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let came = timeout(PATIENCE, comes).await;
        assert!(came.is_ok(), "{status} {code} never came");
    };
    until(StatusCode::OK, "").await;

    // A custom resource counts before EKS, which has a role for the account.
    let spec = json!({"serviceAccount": "c*", "roleArn": ROLE});
    let made = object("PodIdentityAssociation", "it", &spec);
    let api = namespaced(&place.admin, &place.namespace);
    let as_usual = PostParams::default();
    api.create(&as_usual, &made).await.expect("a good one");
    let patch =
        |annotations: Value| Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    let namespaces = Api::<Namespace>::all(place.admin.clone());
    let bounds = patch(json!({"credlet.dev/allowed-roles": "arn:aws:iam::*:role/shop/*"}));
    let by = PatchParams::default();
    let bounded = namespaces.patch(&place.namespace, &by, &bounds).await;
    bounded.expect("a namespace");
    until(StatusCode::FORBIDDEN, "RoleNotAllowed").await;
    let unbounded = patch(json!({"credlet.dev/allowed-roles": null}));
    let unbounded = namespaces.patch(&place.namespace, &by, &unbounded).await;
    unbounded.expect("a namespace");
    until(StatusCode::OK, "").await;
    rig.leave().await;
}

#[tokio::test]
async fn an_annotation_of_a_service_account_is_seen_as_it_is_written() {
    let place = Place::on(ControlPlane::shared().await).await;
    place.add_account("lone").await;
    let pod = json!({"nodeName": place.node, "serviceAccountName": "lone"});
    place.add_pod_as("lone-0", pod).await;
    let address = "127.0.1.10";
    place.runs_at("lone-0", &[address]).await;
    let rig = Rig::serve(&place).await;
    let until = async |status: StatusCode, what: &str| {
        let comes = async {
            loop {
                let answer = rig.get(address, None).await;
                if answer.status == status && answer.text().contains(what) {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let came = timeout(PATIENCE, comes).await;
        assert!(came.is_ok(), "{status} {what} never came");
    };
    until(StatusCode::NOT_FOUND, "NoAssociation").await;
    let accounts = Api::<ServiceAccount>::namespaced(place.admin.clone(), &place.namespace);
    let annotate = async |annotations: Value| {
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let patched = accounts
            .patch("lone", &PatchParams::default(), &patch)
            .await;
        patched.expect("an account");
    };
    annotate(json!({
        "eks.amazonaws.com/role-arn": ROLE,
        "credlet.dev/exchange": "assume-role",
    }))
    .await;
    until(StatusCode::OK, "AccessKeyId").await;
    annotate(json!({"eks.amazonaws.com/role-arn": "cart"})).await;
    until(StatusCode::FORBIDDEN, "BadAssociation").await;
    annotate(json!({"eks.amazonaws.com/role-arn": null})).await;
    until(StatusCode::NOT_FOUND, "NoAssociation").await;
    rig.leave().await;
}

/// The reason of the condition `Accepted`, once an agent has written it.
async fn reason(api: &Api<DynamicObject>, name: &str, wanted: &str) -> Value {
    let comes = async {
        loop {
            let object = api.get(name).await.expect("it is there");
            let said = object.data["status"]["conditions"][0].clone();
            if said["reason"] == wanted {
                return said;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let came = timeout(3 * PATIENCE, comes).await;
    came.unwrap_or_else(|_| panic!("{name} is never {wanted}"))
}

#[tokio::test]
async fn an_agent_that_may_says_which_association_counts_and_which_does_not() {
    let cluster = Arc::new(ControlPlane::start(Settings::default()).await);
    let place = Place::on(cluster).await;
    manifests::apply(&place.admin, manifests::ASSOCIATION_STATUS).await;
    place.add_pod("cart-0").await;
    let api = namespaced(&place.admin, &place.namespace);
    let spec = json!({"serviceAccount": "cart", "roleArn": ROLE});
    let make = async |name: &str| {
        let made = api
            .create(
                &PostParams::default(),
                &object("PodIdentityAssociation", name, &spec),
            )
            .await;
        made.expect("a good one")
    };
    make("a").await;
    make("b").await;
    let rig = Rig::serve_with(&place, "--association-status on").await;
    let accepted = reason(&api, "a", "Accepted").await;
    assert_eq!(
        (&accepted["type"], &accepted["status"]),
        (&json!("Accepted"), &json!("True"))
    );
    assert_eq!(accepted["observedGeneration"], 1);
    let superseded = reason(&api, "b", "Superseded").await;
    assert_eq!(superseded["status"], "False");
    assert_eq!(
        superseded["message"],
        "a is older and for the same service accounts"
    );
    api.delete("a", &DeleteParams::default())
        .await
        .expect("it is there");
    reason(&api, "b", "Accepted").await;
    rig.leave().await;
}
