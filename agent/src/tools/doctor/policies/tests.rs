//! What policies say of a pod that asks the agent.

use serde_json::json;

use super::*;

fn door() -> Door {
    Door {
        address: [169, 254, 170, 23].into(),
        port: 80,
    }
}

fn pod() -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": "cart-0", "labels": {"app": "cart"}},
        "spec": {"containers": [{"env": [{"name": ENVIRONMENT, "value": "it"}]}]},
        "status": {"phase": "Running"},
    })
}

fn policy(spec: &Value) -> Value {
    json!({"metadata": {"namespace": "shop", "name": "it"}, "spec": spec})
}

fn is_cut(policies: &[Value]) -> bool {
    !look(&[pod()], policies, &[], door()).cut.is_empty()
}

fn cilium(spec: &Value) -> bool {
    let policy = json!({
        "kind": "CiliumNetworkPolicy",
        "metadata": {"namespace": "shop", "name": "it"},
        "spec": spec,
    });
    !look(&[pod()], &[], &[policy], door()).cut.is_empty()
}

#[test]
fn a_rule_allows_the_address_by_its_networks_and_ports() {
    for (rule, allows) in [
        (json!({}), true),
        (
            json!({"to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}]}),
            true,
        ),
        (json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}), true),
        (
            json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]}),
            false,
        ),
        (json!({"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}), false),
        (
            json!({"to": [{"ipBlock": {"cidr": "fd00:ec2::23/128"}}]}),
            false,
        ),
        (json!({"to": [{"namespaceSelector": {}}]}), false),
        (json!({"ports": [{"port": 80}]}), true),
        (json!({"ports": [{"port": 1, "endPort": 1024}]}), true),
        (json!({"ports": [{"protocol": "TCP"}]}), true),
        (json!({"ports": [{"protocol": "UDP", "port": 80}]}), false),
        (json!({"ports": [{"port": 443}]}), false),
        (json!({"ports": [{"port": "http"}]}), false),
    ] {
        let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]});
        assert_eq!(!is_cut(&[policy(&spec)]), allows, "{rule}");
    }
}

#[test]
fn only_policies_that_select_the_pod_for_what_it_sends_cut_it() {
    for (spec, cuts) in [
        (json!({"podSelector": {}, "policyTypes": ["Egress"]}), true),
        (
            json!({"podSelector": {"matchLabels": {"app": "cart"}}, "policyTypes": ["Egress"]}),
            true,
        ),
        (
            json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"]}),
            false,
        ),
        (
            json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
            false,
        ),
        (json!({"podSelector": {}}), false),
    ] {
        assert_eq!(is_cut(&[policy(&spec)]), cuts, "{spec}");
    }
    let mut elsewhere = policy(&json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    elsewhere["metadata"]["namespace"] = "bank".into();
    assert!(!is_cut(&[elsewhere]));
}

#[test]
fn one_policy_that_allows_it_is_enough() {
    let none = policy(&json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    let all = policy(&json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}));
    assert!(is_cut(std::slice::from_ref(&none)));
    assert!(!is_cut(&[none, all]));
}

#[test]
fn pods_that_do_not_ask_or_have_the_nodes_network_are_not_cut() {
    let none = [policy(
        &json!({"podSelector": {}, "policyTypes": ["Egress"]}),
    )];
    let mut bare = pod();
    bare["spec"]["containers"] = json!([{}]);
    let mut host = pod();
    host["spec"]["hostNetwork"] = true.into();
    let mut ended = pod();
    ended["status"]["phase"] = "Succeeded".into();
    assert_eq!(look(&[bare, host, ended], &none, &[], door()).asking, 0);
}

#[test]
fn to_cilium_the_agent_is_the_host() {
    let all = json!({"matchLabels": {"k8s:app": "cart"}});
    for (rule, cuts) in [
        (json!({"toEntities": ["cluster"]}), true),
        (json!({"toEntities": ["host"]}), false),
        (json!({"toEndpoints": [{}]}), true),
        (json!({}), false),
        (json!({"toCIDR": ["169.254.170.23/32"]}), false),
    ] {
        let spec = json!({"endpointSelector": all, "egress": [rule]});
        assert_eq!(cilium(&spec), cuts, "{rule}");
    }
    let others = json!({"matchLabels": {"io.kubernetes.pod.namespace": "bank"}});
    let spec = json!({"endpointSelector": others, "egress": [{"toEndpoints": [{}]}]});
    assert!(!cilium(&spec));
    let ingress = json!({"endpointSelector": {}, "ingress": [{}]});
    assert!(!cilium(&ingress));
}
