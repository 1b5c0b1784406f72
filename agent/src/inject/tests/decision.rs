//! Which pods get what, and why others get nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::{Declared, Environment, Injection, Left, SKIP, Settings, Spread};
use super::ROLE;
use crate::config::Annotated;
use crate::model::{Association, Grant, Means, StsEndpoints};

const STS: &str = "sts.amazonaws.com";
const PODS: &str = "pods.eks.amazonaws.com";

fn settings(annotated: Annotated) -> Settings {
    Settings {
        uri: "http://169.254.170.23/v1/credentials".to_owned(),
        audience: PODS.to_owned(),
        web_identity_audience: STS.to_owned(),
        region: None,
        endpoints: StsEndpoints::Regional,
        token_seconds: 86400,
        prefix: "eks.amazonaws.com".to_owned(),
        annotated,
    }
}

fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|&(key, value)| (key.into(), value.into()))
        .collect()
}

fn annotated(annotated: Annotated, pairs: &[(&str, &str)]) -> Result<Injection, Left> {
    let pod = json!({"metadata": {}, "spec": {}});
    let annotations = annotations(pairs);
    settings(annotated).decide(&pod, &annotations, Declared::Nothing, Spread::NONE)
}

fn declared(
    declared: Declared<'_>,
    pod: &Value,
    pairs: &[(&str, &str)],
) -> Result<Injection, Left> {
    settings(Annotated::Sts).decide(pod, &annotations(pairs), declared, Spread::of(7200))
}

fn irsa(pod: &Value, pairs: &[(&str, &str)]) -> Injection {
    let annotations = annotations(&[&[("eks.amazonaws.com/role-arn", ROLE)], pairs].concat());
    let settings = settings(Annotated::Sts);
    let decision = settings.decide(pod, &annotations, Declared::Nothing, Spread::of(7200));
    decision.expect("the account is annotated")
}

fn asks_agent(injection: Result<Injection, Left>) -> String {
    match injection.expect("something is injected").environment {
        Environment::PodIdentity { audience, .. } => audience,
        Environment::WebIdentity { .. } => panic!("STS is asked"),
    }
}

fn grant(means: Means) -> Association {
    Association::Role(Grant {
        means,
        ..Grant::of(ROLE.parse().expect("an ARN"))
    })
}

#[test]
fn an_association_has_the_pod_ask_the_agent_with_the_token_that_the_exchange_needs() {
    let audience = "sts.example".into();
    for (association, audience) in [
        (grant(Means::Agent), PODS),
        (grant(Means::WebIdentity { audience }), "sts.example"),
        (Association::EksAuth, PODS),
    ] {
        let injection = declared(Declared::Is(&association), &json!({}), &[]);
        assert_eq!(asks_agent(injection), audience);
    }
}

#[test]
fn an_association_that_cannot_be_used_has_the_pod_ask_and_hear_why() {
    assert_eq!(
        asks_agent(declared(Declared::Unusable, &json!({}), &[])),
        PODS
    );
}

#[test]
fn an_association_counts_before_an_annotation() {
    let role = [("eks.amazonaws.com/role-arn", ROLE)];
    let association = grant(Means::Agent);
    asks_agent(declared(Declared::Is(&association), &json!({}), &role));
}

#[test]
fn an_annotated_account_s_pods_ask_sts() {
    for (more, wanted) in [(None, STS), (Some("vault"), "vault"), (Some(" "), STS)] {
        let audience = more.map(|it| ("eks.amazonaws.com/audience", it));
        let injection = irsa(&json!({}), audience.as_slice());
        let role = ROLE.to_owned();
        let audience = wanted.to_owned();
        let environment = Environment::WebIdentity { role, audience };
        assert_eq!(injection.environment, environment);
    }
}

#[test]
fn what_is_wrong_with_a_role_is_for_sts_to_say() {
    let role = [("eks.amazonaws.com/role-arn", "cart")];
    let injection = annotated(Annotated::Sts, &role).expect("it is annotated");
    let is_as_written = |environment| match environment {
        Environment::WebIdentity { role, .. } => role == "cart",
        Environment::PodIdentity { .. } => false,
    };
    assert!(is_as_written(injection.environment));
}

#[test]
fn annotated_accounts_are_the_agent_s_where_it_is_said() {
    let role = ("eks.amazonaws.com/role-arn", ROLE);
    let audience = ("eks.amazonaws.com/audience", "vault");
    let by = |exchange| ("credlet.dev/exchange", exchange);
    for (whose, pairs, wanted) in [
        (Annotated::Agent, vec![role], STS),
        (Annotated::Agent, vec![role, audience], "vault"),
        (Annotated::Agent, vec![role, by("assume-role")], PODS),
        (Annotated::Sts, vec![role, by("web-identity")], STS),
        (
            Annotated::Sts,
            vec![role, audience, by("web-identity")],
            "vault",
        ),
        (Annotated::Sts, vec![role, by("assume-role")], PODS),
        (Annotated::Sts, vec![role, by("magic")], PODS),
        (Annotated::Sts, vec![by("eks-auth")], PODS),
    ] {
        assert_eq!(asks_agent(annotated(whose, &pairs)), wanted, "{pairs:?}");
    }
}

#[test]
fn an_account_without_a_role_gets_nothing() {
    for pairs in [
        vec![],
        vec![("eks.amazonaws.com/role-arn", " ")],
        vec![("eks.amazonaws.com/audience", STS)],
        vec![("iam.example/role-arn", ROLE)],
        vec![("credlet.dev/exchange", "web-identity")],
    ] {
        for whose in [Annotated::Sts, Annotated::Agent] {
            assert_eq!(annotated(whose, &pairs), Err(Left::NoRole), "{pairs:?}");
        }
    }
}

#[test]
fn a_pod_that_says_so_and_a_static_pod_get_nothing() {
    let association = grant(Means::Agent);
    let is = Declared::Is(&association);
    let labelled = json!({"metadata": {"labels": {SKIP: "false"}}});
    assert_eq!(declared(is, &labelled, &[]), Err(Left::Skipped));
    let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "a"}}});
    assert_eq!(declared(is, &mirror, &[]), Err(Left::Static));
}

#[test]
fn the_pod_s_word_on_its_token_counts_before_the_account_s() {
    let key = "eks.amazonaws.com/token-expiration";
    for (pod, account, wanted) in [
        (None, None, 86400),
        (None, Some("3600"), 3600),
        (Some("7200"), Some("3600"), 7200),
        (Some("soon"), Some("3600"), 3600),
        (Some("soon"), Some("later"), 86400),
        (Some("1"), None, 600),
        (Some("-1"), None, 600),
        (Some("99999999999999"), None, u32::MAX),
    ] {
        let pod = pod.map_or(
            json!({}),
            |it| json!({"metadata": {"annotations": {key: it}}}),
        );
        let account = account.map(|it| (key, it));
        assert_eq!(
            irsa(&pod, account.as_slice()).token_seconds,
            wanted,
            "{pod}"
        );
    }
}

#[test]
fn only_the_usual_lifetime_of_tokens_for_the_agent_is_spread() {
    let association = grant(Means::Agent);
    let is = Declared::Is(&association);
    let seconds = |pairs: &[(&str, &str)]| {
        let injection = declared(is, &json!({}), pairs);
        injection.expect("there is an association").token_seconds
    };
    assert_eq!(seconds(&[]), 79200);
    assert_eq!(
        seconds(&[("eks.amazonaws.com/token-expiration", "80000")]),
        80000
    );
    for random in [0, 1, 7200, 7201, u32::MAX] {
        assert!(Spread::of(random).0 <= 7200, "{random}");
    }
}

#[test]
fn the_account_says_which_sts_endpoint_its_pods_ask() {
    for (said, wanted) in [
        ("true", StsEndpoints::Regional),
        ("F", StsEndpoints::Legacy),
        ("false", StsEndpoints::Legacy),
        ("perhaps", StsEndpoints::Regional),
    ] {
        let pairs = [("eks.amazonaws.com/sts-regional-endpoints", said)];
        assert_eq!(irsa(&json!({}), &pairs).endpoints, wanted, "{said}");
    }
}

#[test]
fn containers_are_skipped_by_name() {
    for (said, wanted) in [("first, \"proxy\"", vec!["first", "proxy"]), (",", vec![])] {
        let key = "eks.amazonaws.com/skip-containers";
        let pod = json!({"metadata": {"annotations": {key: said}}});
        assert_eq!(irsa(&pod, &[]).skipped, wanted);
    }
}
