//! What is read of a pod's object.

use serde_json::json;

use super::*;

const GKE: &str = "gkemulticloud.googleapis.com/aws-imds-emulator-enabled";

fn report(object: &Value) -> Report {
    serde_json::from_value(object.clone()).expect("any JSON is a report")
}

#[test]
fn a_pod_opts_in_by_either_label_with_exactly_its_value() {
    for (labels, opt_in) in [
        (json!({GKE: "True"}), OptIn::In),
        (json!({"credlet.dev/imds": "enabled"}), OptIn::In),
        (json!({GKE: "no", "credlet.dev/imds": "enabled"}), OptIn::In),
        (json!({GKE: "true"}), OptIn::Out),
        (json!({GKE: "TRUE"}), OptIn::Out),
        (json!({GKE: "True "}), OptIn::Out),
        (json!({GKE: true}), OptIn::Out),
        (json!({GKE: "enabled"}), OptIn::Out),
        (json!({"credlet.dev/imds": "Enabled"}), OptIn::Out),
        (json!({"credlet.dev/imds": "True"}), OptIn::Out),
        (json!({"app": "True"}), OptIn::Out),
        (json!({}), OptIn::Out),
        (json!([GKE]), OptIn::Out),
        (Value::Null, OptIn::Out),
    ] {
        let pod = json!({"metadata": {"labels": labels}});
        assert_eq!(report(&pod).imds, opt_in, "{pod}");
    }
}

#[test]
fn the_role_that_a_pod_names_is_taken_as_it_stands_and_never_passed_over() {
    for (annotations, role) in [
        (json!({OwnRole::ANNOTATION: " arn "}), " arn "),
        (json!({OwnRole::ANNOTATION: ""}), ""),
        (json!({OwnRole::ANNOTATION: 7}), "7"),
        (json!({OwnRole::ANNOTATION: ["arn"]}), "[\"arn\"]"),
        (json!({"eks.amazonaws.com/role-arn": "arn"}), ""),
        (json!({}), ""),
        (Value::Null, ""),
    ] {
        let pod = json!({"metadata": {"annotations": annotations}});
        assert_eq!(report(&pod).own_role, role, "{pod}");
    }
}

#[test]
fn an_annotation_of_that_name_opts_nobody_in() {
    let pod = json!({"metadata": {"annotations": {GKE: "True"}}});
    assert_eq!(report(&pod).imds, OptIn::Out);
}
