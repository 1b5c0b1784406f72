//! Which declaration is whose.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn declaration(name: &str, created: &str, spec: &Value) -> Declaration {
    let metadata = json!({"name": name, "creationTimestamp": created, "resourceVersion": "1"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("any JSON is one")
}

fn heaviest<'a>(declarations: &'a [Declaration], account: &str) -> Option<&'a str> {
    let account = ServiceAccount::new("shop", account).expect("legal");
    counting(declarations, [], &account, None).map(|it| it.name.as_str())
}

#[test]
fn the_most_specific_counts_and_of_two_equals_the_oldest() {
    let all = [
        declaration(
            "all",
            "2026-01-01T00:00:00Z",
            &json!({"serviceAccount": "*"}),
        ),
        declaration(
            "some",
            "2026-01-02T00:00:00Z",
            &json!({"serviceAccount": "ca*"}),
        ),
        declaration(
            "later",
            "2026-01-04T00:00:00Z",
            &json!({"serviceAccount": "cart"}),
        ),
        declaration(
            "b",
            "2026-01-03T00:00:00Z",
            &json!({"serviceAccount": "cart"}),
        ),
        declaration(
            "a",
            "2026-01-03T00:00:00Z",
            &json!({"serviceAccount": "cart"}),
        ),
        declaration("odd", "2025-01-03T00:00:00Z", &json!({"serviceAccount": 7})),
    ];
    assert_eq!(heaviest(&all, "cart"), Some("a"));
    assert_eq!(heaviest(&all, "cat"), Some("some"));
    assert_eq!(heaviest(&all, "dog"), Some("all"));
    assert_eq!(heaviest(&all[2..], "dog"), None);
}

#[test]
fn a_namespace_s_own_counts_before_the_cluster_s() {
    let any = json!({"serviceAccount": "*"});
    let local = [declaration("local", "", &any)];
    let named = json!({"namespace": "shop", "serviceAccount": "cart"});
    let cluster = [declaration("cluster", "", &named)];
    let account = ServiceAccount::new("shop", "cart").expect("legal");
    let name = |it: &Declaration| it.name.clone();
    let both = counting(&local, &cluster, &account, None).map(name);
    assert_eq!(both.as_deref(), Some("local"));
    let other = counting(&[], &cluster, &account, None).map(name);
    assert_eq!(other.as_deref(), Some("cluster"));
}

#[test]
fn a_declaration_of_the_cluster_is_for_the_namespaces_that_it_names_or_selects() {
    let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    let rank = |spec: Value| covers(&declaration("it", "", &spec), "shop", Some(&labels));
    assert_eq!(rank(json!({"namespace": "shop"})), Some(Rank::Exact));
    assert_eq!(rank(json!({"namespace": "s*"})), Some(Rank::Pattern(1)));
    assert_eq!(rank(json!({"namespace": "x*"})), None);
    assert_eq!(rank(json!({})), None);
    for (selector, fits) in [
        (json!({"matchLabels": {"team": "a"}}), true),
        (json!({"matchLabels": {"team": "b"}}), false),
        (
            json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]}),
            true,
        ),
        (
            json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}),
            false,
        ),
        (
            json!({"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["a"]}]}),
            true,
        ),
        (
            json!({"matchExpressions": [{"key": "team", "operator": "Exists"}]}),
            true,
        ),
        (
            json!({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}),
            false,
        ),
        (
            json!({"matchExpressions": [{"key": "team", "operator": "Like"}]}),
            false,
        ),
    ] {
        let answer = rank(json!({"namespaceSelector": selector})).is_some();
        assert_eq!(answer, fits, "{selector}");
        let both = rank(json!({"namespace": "x*", "namespaceSelector": selector}));
        assert_eq!(both, None, "{selector}");
    }
}

#[test]
fn a_field_that_is_unknown_spoils_what_is_declared() {
    let odd = declaration("it", "", &json!({"serviceAccount": "cart", "rollArn": "x"}));
    assert!(odd.spec.is_err());
    assert!(odd.accounts.is_ok());
}
