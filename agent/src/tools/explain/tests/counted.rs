//! Which association counts, and which others would have.

use serde_json::{Value, json};

use super::{Case, OTHER, ROLE};

fn verdicts(said: &Value) -> Vec<(&str, &str)> {
    let all = said["associations"].as_array().expect("a list").iter();
    let text = |it: &'_ Value| it.as_str().expect("a text").len();
    all.map(|it| {
        assert!(text(&it["says"]) > 0, "{it}");
        let (verdict, of) = (&it["verdict"], &it["declaration"]);
        (verdict.as_str().unwrap(), of.as_str().unwrap())
    })
    .collect()
}

#[test]
fn every_declaration_that_is_for_the_account_is_listed_in_the_order_that_counts() {
    let mut case = Case::injected()
        .declared("pattern", "c*", OTHER)
        .declared("exact", "cart", ROLE)
        .declared("stranger", "reports", OTHER)
        .annotated("eks.amazonaws.com/role-arn", OTHER);
    case.cluster.push(json!({
        "metadata": {"name": "all", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"namespace": "*", "serviceAccount": "*", "roleArn": OTHER},
    }));
    let said = case.json();
    let wanted = [
        ("counts", "PodIdentityAssociation shop/exact"),
        ("hidden", "PodIdentityAssociation shop/pattern"),
        ("hidden", "ClusterPodIdentityAssociation all"),
        ("hidden", "the annotations of the service account shop/cart"),
    ];
    assert_eq!(verdicts(&said), wanted);
    assert_eq!(said["session"]["role"], ROLE);
    let asked = json!({"outcome": "asked", "call": "sts:AssumeRole"});
    assert_eq!(said["firstRequest"], asked);
}

#[test]
fn a_source_that_is_named_first_counts_first() {
    let mut case = Case::injected().declared("exact", "cart", ROLE);
    case.file = Some(
        "associations:\n  - {namespace: '*', serviceAccount: c*, roleArn: \
         'arn:aws:iam::111122223333:role/pods/other'}\n",
    );
    let by_default = case.clone().run("--association-file /it");
    let wanted = [
        ("counts", "the entry for */c*"),
        ("hidden", "PodIdentityAssociation shop/exact"),
    ];
    assert_eq!(verdicts(&by_default.json()), wanted);
    let turned = case.run("--association-file /it --association-sources crd,file");
    let wanted = [
        ("counts", "PodIdentityAssociation shop/exact"),
        ("hidden", "the entry for */c*"),
    ];
    assert_eq!(verdicts(&turned.json()), wanted);
}

#[test]
fn what_cannot_be_used_hides_those_behind_it_and_says_why() {
    let case = Case::injected()
        .declared("bad", "cart", "cart")
        .annotated("eks.amazonaws.com/role-arn", ROLE);
    let said = case.json();
    let wanted = [
        ("refused", "PodIdentityAssociation shop/bad"),
        ("hidden", "the annotations of the service account shop/cart"),
    ];
    assert_eq!(verdicts(&said), wanted);
    let first = &said["firstRequest"];
    assert_eq!(first["status"], 403);
    assert_eq!(first["code"], "BadAssociation");
    assert_eq!(said["session"], Value::Null);
}

#[test]
fn a_role_beyond_what_is_allowed_is_refused_by_whom_it_says() {
    let message = |case: &Case| {
        let first = case.json()["firstRequest"].take();
        assert_eq!(first["code"], "RoleNotAllowed", "{first}");
        first["message"].as_str().expect("a text").to_owned()
    };
    let declared = Case::injected().declared("exact", "cart", ROLE);
    let by_flag = declared.run("--allowed-roles arn:aws:iam::999999999999:role/*");
    assert!(message(&by_flag).contains("--allowed-roles"));
    let mut by_namespace = Case::injected().declared("exact", "cart", ROLE);
    let annotation = "credlet.dev/allowed-roles";
    by_namespace.namespace["metadata"]["annotations"] = json!({annotation: OTHER});
    assert!(message(&by_namespace).contains(annotation));
}

#[test]
fn a_role_that_the_pod_names_for_itself_counts_before_all_others() {
    let mut case = Case::injected().declared("exact", "cart", OTHER);
    let metadata = &mut case.pod["metadata"];
    metadata["labels"] = json!({"credlet.dev/imds": "enabled"});
    let annotation = "gkemulticloud.googleapis.com/aws-imds-emulator-role-arn";
    metadata["annotations"] = json!({annotation: ROLE});
    let said = case.json();
    assert_eq!(verdicts(&said)[0], ("counts", "the pod's own"));
    assert_eq!(said["session"]["exchange"], "web-identity");
    let off = case.run("--association-sources crd").json();
    assert_eq!(verdicts(&off)[0].1, "PodIdentityAssociation shop/exact");
}

#[test]
fn the_session_is_described_as_sts_would_be_asked_for_it() {
    let case = Case::injected()
        .declared("exact", "cart", ROLE)
        .run("--cluster-name prod --association-sources crd --session-tag team=shop")
        .run("--session-name {cluster}.{serviceAccount}.{node} --session-duration 2h");
    let session = &case.json()["session"];
    assert_eq!(session["sessionName"], "prod.cart.node-1");
    assert_eq!(session["seconds"], 7200);
    let tags = json!({
        "eks-cluster-name": "prod",
        "kubernetes-namespace": "shop",
        "kubernetes-service-account": "cart",
        "team": "shop",
    });
    assert_eq!(session["tags"], tags);
}
