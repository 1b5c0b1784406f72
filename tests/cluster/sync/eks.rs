//! What becomes of EKS's associations.

use credlet_tests::fake_aws::{Answer, Api as AwsApi};
use kube::api::{DeleteParams, Patch, PatchParams};

use super::*;

#[tokio::test]
async fn what_eks_has_is_mirrored_changed_and_removed_and_what_people_do_to_it_is_undone() {
    let rig = Rig::start(&[manifests::SYNC]).await;
    rig.add_namespace("shop").await;
    rig.aws.associate("shop", "cart", entry("cart"));
    let narrow = Entry {
        target_role_arn: Some(role("target")),
        external_id: Some("it/shop".to_owned()),
        policy: Some("{}".to_owned()),
        disable_session_tags: true,
        ..entry("report")
    };
    rig.aws.associate("shop", "report", narrow);
    rig.aws.associate("later", "cart", entry("later"));
    // A person's own stays as it is, whatever EKS says.
    let own = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "PodIdentityAssociation",
        "metadata": {"name": "own"},
        "spec": {"serviceAccount": "own", "roleArn": role("own")},
    });
    let own_spec = own["spec"].clone();
    let own = serde_json::from_value(own).expect("an object");
    let shop = rig.objects("shop");
    let made = shop.create(&PostParams::default(), &own).await;
    made.expect("a good one");

    let sync = rig.sync(&of_eks()).await;
    let report = json!({
        "serviceAccount": "report",
        "roleArn": role("report"),
        "targetRoleArn": role("target"),
        "externalId": "it/shop",
        "policy": "{}",
        "disableSessionTags": true,
    });
    let all = |cart: &Value| {
        let mut all = vec![cart.clone(), report.clone(), own_spec.clone()];
        all.sort_by_key(ToString::to_string);
        all
    };
    rig.until("shop", &all(&cart("cart"))).await;
    let objects = rig.list("shop").await;
    let object = objects
        .iter()
        .find(|it| it.data["spec"]["serviceAccount"] == "cart");
    let object = object.expect("it was waited for").clone();
    let name = object.metadata.name.expect("a name");
    assert!(name.starts_with("eks-a-"), "{name}");
    let origin = &object.metadata.annotations.expect("annotations")["credlet.dev/origin"];
    assert!(
        origin.contains(":podidentityassociation/blue/a-"),
        "{origin}"
    );

    // Its namespace comes later than the association.
    rig.status(|it| it["objects"]["waitingForNamespace"] == 1)
        .await;
    rig.add_namespace("later").await;
    rig.until("later", &[cart("later")]).await;

    // No list shows that an association has changed.
    rig.aws.amend("shop", "cart", entry("changed"));
    rig.until("shop", &all(&cart("changed"))).await;

    // What people change or remove is put right.
    let edit = json!({"spec": {"roleArn": role("mine"), "sessionName": "mine"}});
    let edit = Patch::Merge(edit);
    let edited = shop.patch(&name, &PatchParams::default(), &edit).await;
    edited.expect("people may");
    rig.until("shop", &all(&cart("changed"))).await;
    let removed = shop.delete(&name, &DeleteParams::default()).await;
    removed.expect("people may");
    rig.until("shop", &all(&cart("changed"))).await;

    // What is gone in EKS is gone here, and what is a person's is not.
    rig.aws.dissociate("shop", "cart");
    rig.aws.dissociate("shop", "report");
    rig.until("shop", std::slice::from_ref(&own_spec)).await;
    let status = rig
        .status(|it| it["objects"]["mirrored"] == 1 && it["feeds"][0]["associations"] == 1)
        .await;
    assert_eq!(status["feeds"][0]["cluster"], CLUSTER);
    assert_eq!(status["feeds"][0]["failure"], Value::Null);
    sync.leave().await;
    assert_eq!(rig.list("later").await.len(), 1);
}

#[tokio::test]
async fn a_list_that_fails_or_leaves_one_out_removes_nothing() {
    let rig = Rig::start(&[manifests::SYNC]).await;
    rig.add_namespace("shop").await;
    rig.aws.associate("shop", "cart", entry("cart"));
    let sync = rig.sync(&of_eks()).await;
    rig.until("shop", &[cart("cart")]).await;
    let uid = rig.list("shop").await[0].metadata.uid.clone();

    for answer in [
        Answer::Denied,
        Answer::Throttled,
        Answer::Gone,
        Answer::Broken,
        Answer::Malformed,
        Answer::Empty,
    ] {
        rig.aws.script(AwsApi::List, answer);
        rig.aws.script(AwsApi::Describe, Answer::Broken);
        let lists = rig.aws.count(AwsApi::List);
        rig.aws.wait_for(AwsApi::List, lists + 2).await;
        let objects = rig.list("shop").await;
        assert_eq!(objects[0].metadata.uid, uid, "{answer:?}");
        // Else the next would be waited for for long.
        rig.aws.script(AwsApi::List, Answer::Well);
        let lists = rig.aws.count(AwsApi::List);
        rig.aws.wait_for(AwsApi::List, lists + 2).await;
    }
    rig.aws.script(AwsApi::List, Answer::Denied);
    rig.status(|it| it["feeds"][0]["failure"].is_string()).await;

    // An entry that is in none of the pages, as one that moved between them.
    rig.aws.script(AwsApi::Describe, Answer::Well);
    rig.aws.script(AwsApi::List, Answer::Well);
    rig.aws.mislay("shop", "cart");
    let describes = rig.aws.count(AwsApi::Describe);
    rig.aws.wait_for(AwsApi::Describe, describes + 2).await;
    assert_eq!(rig.list("shop").await[0].metadata.uid, uid);

    rig.aws.dissociate("shop", "cart");
    rig.until("shop", &[]).await;
    sync.leave().await;
}

#[tokio::test]
async fn what_cannot_be_used_is_told_and_what_it_was_before_stays() {
    let rig = Rig::start(&[manifests::SYNC]).await;
    rig.add_namespace("shop").await;
    rig.aws.associate("shop", "cart", entry("cart"));
    let sync = rig.sync(&of_eks()).await;
    rig.until("shop", &[cart("cart")]).await;
    // As EKS itself would never let it be.
    let odd = Entry {
        policy: Some("{}".to_owned()),
        ..entry("other")
    };
    rig.aws.amend("shop", "cart", odd);
    let status = rig.status(|it| it["feeds"][0]["unusable"] == 1).await;
    let faults = status["feeds"][0]["faults"].to_string();
    assert!(faults.contains("disableSessionTags"), "{faults}");
    rig.until("shop", &[cart("cart")]).await;
    rig.aws.amend("shop", "cart", entry("other"));
    rig.until("shop", &[cart("other")]).await;
    sync.leave().await;
}
