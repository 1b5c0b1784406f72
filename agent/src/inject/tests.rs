//! The table of what EKS's webhook does, and where we part from it.

use serde_json::{Value, json};

use super::{Environment, Injection, apply};
use crate::model::StsEndpoints;

mod decision;

const ROLE: &str = "arn:aws:iam::111122223333:role/pods/cart";
const MOUNT: &str = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount";

fn pod_identity() -> Injection {
    Injection {
        environment: Environment::PodIdentity {
            uri: "http://169.254.170.23/v1/credentials".to_owned(),
            audience: "pods.eks.amazonaws.com".to_owned(),
        },
        region: None,
        endpoints: StsEndpoints::Legacy,
        token_seconds: 80_000,
        skipped: vec![],
    }
}

fn web_identity() -> Injection {
    Injection {
        environment: Environment::WebIdentity {
            role: ROLE.to_owned(),
            audience: "sts.amazonaws.com".to_owned(),
        },
        region: Some("eu-central-1".to_owned()),
        endpoints: StsEndpoints::Regional,
        ..pod_identity()
    }
}

fn pod(container: &Value) -> Value {
    let mut whole = json!({"name": "it"});
    whole
        .as_object_mut()
        .expect("fields")
        .extend(container.as_object().expect("fields").clone());
    json!({"metadata": {}, "spec": {"containers": [whole]}})
}

fn injected(injection: &Injection, mut pod: Value) -> Value {
    let adds = injection.additions(&pod);
    apply(&mut pod, adds);
    assert_eq!(injection.additions(&pod), [], "a second time adds nothing");
    pod
}

fn variables(container: &Value) -> Vec<&str> {
    let env = container["env"].as_array().into_iter().flatten();
    env.map(|it| it["name"].as_str().expect("a name")).collect()
}

#[test]
fn a_bare_pod_gets_the_environment_of_pod_identity() {
    let pod = injected(&pod_identity(), pod(&json!({})));
    let wanted = json!({
        "containers": [{
            "name": "it",
            "env": [
                {
                    "name": "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    "value": "http://169.254.170.23/v1/credentials",
                },
                {
                    "name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                    "value": format!("{MOUNT}/eks-pod-identity-token"),
                },
            ],
            "volumeMounts": [
                {"name": "eks-pod-identity-token", "mountPath": MOUNT, "readOnly": true},
            ],
        }],
        "volumes": [{
            "name": "eks-pod-identity-token",
            "projected": {"sources": [{"serviceAccountToken": {
                "audience": "pods.eks.amazonaws.com",
                "expirationSeconds": 80_000,
                "path": "eks-pod-identity-token",
            }}]},
        }],
    });
    assert_eq!(pod["spec"], wanted);
}

#[test]
fn a_bare_pod_gets_the_environment_of_irsa() {
    let pod = injected(&web_identity(), pod(&json!({})));
    let wanted = [
        "AWS_STS_REGIONAL_ENDPOINTS",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ];
    assert_eq!(variables(&pod["spec"]["containers"][0]), wanted);
    assert_eq!(pod["spec"]["volumes"][0]["name"], "aws-iam-token");
}

#[test]
fn what_a_container_has_of_its_own_stays_and_is_not_completed() {
    let uri = json!([{"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://localhost"}]);
    let own = injected(&pod_identity(), pod(&json!({"env": uri})));
    assert_eq!(own["spec"]["containers"][0]["env"], uri);

    let region = json!([{"name": "AWS_REGION", "value": "us-east-1"}]);
    let own = injected(&web_identity(), pod(&json!({"env": region})));
    let names = variables(&own["spec"]["containers"][0]).join(" ");
    assert!(!names.contains("AWS_DEFAULT_REGION"), "{names}");
    assert!(names.starts_with("AWS_REGION "), "{names}");
}

#[test]
fn a_mount_of_the_container_s_own_at_the_path_is_left_alone() {
    let mounts = json!([{"name": "mine", "mountPath": format!("{MOUNT}/")}]);
    let own = injected(&pod_identity(), pod(&json!({"volumeMounts": mounts})));
    assert_eq!(own["spec"]["containers"][0]["volumeMounts"], mounts);
    assert!(variables(&own["spec"]["containers"][0]).is_empty());
}

#[test]
fn init_containers_get_it_and_those_that_are_to_be_skipped_do_not() {
    let before = json!({
        "metadata": {},
        "spec": {
            "initContainers": [{"name": "first"}, {"name": "second"}],
            "containers": [{"name": "it"}, {"name": "proxy"}],
        },
    });
    let injection = Injection {
        skipped: vec!["first".to_owned(), "proxy".to_owned()],
        ..pod_identity()
    };
    let bare: Vec<_> = injection.bare(&before).collect();
    assert_eq!(bare, ["second", "it"]);
    let pod = injected(&injection, before);
    let has = |kind: &str, at: usize| !variables(&pod["spec"][kind][at]).is_empty();
    assert!(!has("initContainers", 0) && has("initContainers", 1));
    assert!(has("containers", 0) && !has("containers", 1));
    assert_eq!(injection.bare(&pod).count(), 0);
}

#[test]
fn a_container_with_credentials_of_its_own_is_not_bare() {
    for name in ["AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN"] {
        let pod = pod(&json!({"env": [{"name": name, "value": "mine"}]}));
        assert_eq!(pod_identity().bare(&pod).count(), 0, "{name}");
    }
    let pod = pod(&json!({"env": [{"name": "AWS_REGION", "value": "eu-central-1"}]}));
    assert_eq!(pod_identity().bare(&pod).count(), 1);
}

#[test]
fn a_pod_that_asks_the_agent_is_labelled_as_on_eks_and_no_other() {
    let key = "eks.amazonaws.com/pod-identity";
    for (labels, wanted) in [
        (json!(null), json!({key: "enabled"})),
        (json!({}), json!({key: "enabled"})),
        (json!({"app": "it"}), json!({"app": "it", key: "enabled"})),
        (json!({key: "mine"}), json!({key: "mine"})),
    ] {
        let mut pod = pod(&json!({}));
        pod["metadata"]["labels"] = labels;
        assert_eq!(injected(&pod_identity(), pod)["metadata"]["labels"], wanted);
    }
    let pod = injected(&web_identity(), pod(&json!({})));
    assert_eq!(pod["metadata"]["labels"], json!(null));
}

#[test]
fn a_template_without_metadata_gets_some() {
    let template = json!({"spec": {"containers": [{"name": "it"}]}});
    let template = injected(&pod_identity(), template);
    assert!(template["metadata"]["labels"].is_object());
}

#[test]
fn containers_on_windows_get_a_path_of_theirs() {
    let mut pod = pod(&json!({}));
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "windows"});
    let pod = injected(&web_identity(), pod);
    let file = &pod["spec"]["containers"][0]["env"][4]["value"];
    assert_eq!(
        file,
        "C:\\var\\run\\secrets\\eks.amazonaws.com\\serviceaccount\\token"
    );
}
