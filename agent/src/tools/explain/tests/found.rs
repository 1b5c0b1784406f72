//! What each container's SDKs find.

use serde_json::{Value, json};

use super::{Case, ROLE, URI};

fn container(case: &Case) -> Value {
    case.json()["containers"][0].take()
}

/// Where a container with these variables has credentials from.
fn from(env: &[Value]) -> Value {
    let mut case = Case::plain();
    case.pod["spec"]["containers"][0]["env"] = json!(env);
    container(&case)["way"]["from"].take()
}

fn variable(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

#[test]
fn a_container_that_the_webhook_missed_is_told_what_it_lacks() {
    let found = container(&Case::plain().declared("it", "cart", ROLE));
    assert_eq!(found["way"]["from"], "nothing");
    let lacks = [
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "the volume eks-pod-identity-token at \
         /var/run/secrets/pods.eks.amazonaws.com/serviceaccount",
    ];
    assert_eq!(found["lacks"], json!(lacks));
    let irsa = Case::plain().annotated("eks.amazonaws.com/role-arn", ROLE);
    let found = container(&irsa);
    assert_eq!(found["lacks"][0], "AWS_ROLE_ARN");
}

#[test]
fn a_container_without_a_role_lacks_nothing_and_why_is_said() {
    let said = Case::plain().json();
    assert_eq!(said["containers"][0]["lacks"], Value::Null);
    let why = said["notInjected"].as_str().expect("a text");
    assert!(why.contains("neither an association nor a role"), "{why}");
}

#[test]
fn a_container_goes_the_first_way_that_its_sdk_would() {
    let mut env = vec![variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", URI)];
    assert_eq!(from(&env), "agent");
    env.push(variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/it"));
    assert_eq!(from(&env), "elsewhere");
    env.push(variable("AWS_ROLE_ARN", ROLE));
    assert_eq!(from(&env), "elsewhere");
    env.push(variable("AWS_WEB_IDENTITY_TOKEN_FILE", "/it"));
    assert_eq!(from(&env), "sts");
    env.push(variable("AWS_ACCESS_KEY_ID", "it"));
    env.push(variable("AWS_SECRET_ACCESS_KEY", "it"));
    assert_eq!(from(&env), "keys");
}

#[test]
fn the_last_of_two_variables_of_one_name_counts_and_an_empty_one_is_none() {
    let name = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    assert_eq!(from(&[variable(name, URI), variable(name, "")]), "nothing");
    assert_eq!(from(&[variable(name, ""), variable(name, URI)]), "agent");
}

#[test]
fn only_the_agent_s_own_addresses_port_and_path_lead_to_it() {
    let from = |uri: &str| from(&[variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)]);
    for uri in [
        URI,
        "http://169.254.170.23:80/v1/credentials",
        "http://[fd00:ec2::23]/v1/credentials",
        "http://[fd00:ec2::23]:80/v1/credentials",
    ] {
        assert_eq!(from(uri), "agent", "{uri}");
    }
    for uri in [
        "https://169.254.170.23/v1/credentials",
        "http://169.254.170.23:8080/v1/credentials",
        "http://169.254.170.23/v2/credentials",
        "http://127.0.0.1:8181/v1/credentials",
    ] {
        assert_eq!(from(uri), "elsewhere", "{uri}");
    }
}

#[test]
fn a_token_is_found_by_its_file_s_volume() {
    let token = |case: &Case| container(case)["way"]["token"].take();
    let eks = json!({"kind": "for", "audience": "pods.eks.amazonaws.com"});
    assert_eq!(token(&Case::injected()), eks);
    let mut unclear = Case::injected();
    unclear.pod["spec"]["volumes"] = json!([{"name": "aws", "secret": {"secretName": "it"}}]);
    assert_eq!(token(&unclear), json!({"kind": "unclear"}));
    let mut none = Case::injected();
    none.pod["spec"]["containers"][0]["env"][1]["name"] = "OTHER".into();
    assert_eq!(token(&none), json!({"kind": "none"}));
}

#[test]
fn variables_of_secrets_are_named_by_their_source_and_not_looked_into() {
    let mut case = Case::injected();
    let sources = json!([{"secretRef": {"name": "keys"}}, {"configMapRef": {"name": "it"}}]);
    case.pod["spec"]["containers"][0]["envFrom"] = sources;
    let unseen = container(&case)["unseen"].take();
    assert_eq!(unseen, json!(["Secret keys", "ConfigMap it"]));
}

#[test]
fn instance_metadata_leads_to_the_agent_where_the_pod_may_have_it() {
    let mut case = Case::plain().run("--imds node");
    assert_eq!(container(&case)["way"]["from"], "nothing");
    case.pod["metadata"]["labels"] = json!({"credlet.dev/imds": "enabled"});
    assert_eq!(container(&case)["way"]["from"], "metadata");
    let all = Case::plain().run("--imds node --imds-pods all");
    assert_eq!(container(&all)["way"]["from"], "metadata");
}
