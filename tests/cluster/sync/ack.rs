//! What ACK's objects declare.

use super::*;

/// Of ACK's kinds the names alone: what is in them is nobody's here to check.
async fn install(admin: &Client) {
    for (group, kind) in [
        ("eks.services.k8s.aws", "PodIdentityAssociation"),
        ("eks.services.k8s.aws", "Cluster"),
        ("iam.services.k8s.aws", "Role"),
    ] {
        let singular = kind.to_lowercase();
        let plural = format!("{singular}s");
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": singular},
                "versions": [{
                    "name": "v1alpha1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": schema},
                }],
            },
        });
        let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let api: Api<DynamicObject> = Api::all_with(admin.clone(), &ApiResource::from_gvk(&kind));
        let definition = serde_json::from_value(definition).expect("an object");
        let made = api.create(&PostParams::default(), &definition).await;
        made.expect("a definition");
    }
}

/// Makes an object of ACK's in its own namespace `platform`, when its kind is
/// there, and in any case in the end.
async fn make(admin: &Client, group: &str, kind: &str, name: &str, rest: &Value) {
    let resource = GroupVersionKind::gvk(group, "v1alpha1", kind);
    let api: Api<DynamicObject> =
        Api::namespaced_with(admin.clone(), "platform", &ApiResource::from_gvk(&resource));
    let mut object = json!({
        "apiVersion": format!("{group}/v1alpha1"), "kind": kind, "metadata": {"name": name},
    });
    let rest = rest.as_object().expect("fields").clone();
    object.as_object_mut().expect("fields").extend(rest);
    let object = serde_json::from_value(object).expect("an object");
    let comes = async {
        while let Err(error) = api.create(&PostParams::default(), &object).await {
            let is_new = matches!(&error, kube::Error::Api(status) if status.code == 404);
            assert!(is_new, "{error}");
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, comes)
        .await
        .expect("the kind is established");
}

const EKS: &str = "eks.services.k8s.aws";
const IAM: &str = "iam.services.k8s.aws";

#[tokio::test]
async fn what_ack_declares_is_mirrored_without_aws_by_name_and_by_reference() {
    let rig = Rig::start(&[manifests::SYNC, manifests::SYNC_ACK]).await;
    for namespace in ["platform", "shop", "batch"] {
        rig.add_namespace(namespace).await;
    }
    install(&rig.admin).await;
    let plain = json!({"spec": {
        "clusterName": "blue", "namespace": "shop", "serviceAccount": "cart",
        "roleARN": role("cart"),
    }});
    make(&rig.admin, EKS, "PodIdentityAssociation", "cart", &plain).await;
    let others = json!({"spec": {
        "clusterName": "green", "namespace": "shop", "serviceAccount": "other",
        "roleARN": role("other"),
    }});
    make(&rig.admin, EKS, "PodIdentityAssociation", "other", &others).await;
    let referring = json!({
        "spec": {
            "clusterRef": {"from": {"name": "this"}},
            "namespace": "batch",
            "serviceAccount": "cart",
            "roleRef": {"from": {"name": "batch"}},
            "targetRoleARN": role("target"),
        },
        "status": {"externalID": "it/batch"},
    });
    make(
        &rig.admin,
        EKS,
        "PodIdentityAssociation",
        "batch",
        &referring,
    )
    .await;

    let sync = rig.sync("--source ack --cluster-name blue").await;
    rig.until("shop", &[cart("cart")]).await;
    let status = rig.status(|it| it["feeds"][0]["unusable"] == 1).await;
    let faults = &status["feeds"][0]["faults"];
    let fault = &faults["eks.services.k8s.aws/platform/batch"];
    assert!(fault.to_string().contains("clusterRef"), "{faults}");
    let named = json!({"spec": {"name": "blue"}});
    make(&rig.admin, EKS, "Cluster", "this", &named).await;
    let arn = json!({"status": {"ackResourceMetadata": {"arn": role("batch")}}});
    make(&rig.admin, IAM, "Role", "batch", &arn).await;
    let batch = json!({
        "serviceAccount": "cart",
        "roleArn": role("batch"),
        "targetRoleArn": role("target"),
        "externalId": "it/batch",
    });
    rig.until("batch", &[batch]).await;

    let kind = GroupVersionKind::gvk(EKS, "v1alpha1", "PodIdentityAssociation");
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::namespaced_with(rig.admin.clone(), "platform", &resource);
    let gone = api
        .delete("cart", &kube::api::DeleteParams::default())
        .await;
    gone.expect("it is there");
    rig.until("shop", &[]).await;
    assert!(rig.aws.calls().is_empty());
    sync.leave().await;
}
