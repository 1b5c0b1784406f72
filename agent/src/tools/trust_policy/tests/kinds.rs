//! What each kind of trust needs and others do not.

use super::*;
use crate::tools::trust_policy::findings::{Point, of_role};

#[test]
fn a_service_account_needs_audience_and_subject() {
    let aud = format!("{ISSUER}:aud");
    let sub = format!("{ISSUER}:sub");
    let cart = "system:serviceaccount:shop:cart";
    for (condition, expected) in [
        (
            json!({"StringLike": {&aud: "sts.amazonaws.com", &sub: "system:serviceaccount:shop:*"}}),
            &[][..],
        ),
        (
            json!({"StringEquals": {&sub: [cart, "system:serviceaccount:shop:x"]}, "StringLike": {&aud: "sts.*"}}),
            &[],
        ),
        (
            json!({"StringEquals": {&sub: cart}}),
            &["missing condition"],
        ),
        (
            json!({"StringEquals": {&aud: "sts.amazonaws.com"}}),
            &["missing condition"],
        ),
        (
            json!({"StringLike": {&aud: "sts.amazonaws.com", &sub: "system:serviceaccount:*:*"}}),
            &["wrong condition"],
        ),
        // `*` is a wildcard for StringLike alone.
        (
            json!({"StringEquals": {&aud: "sts.amazonaws.com", &sub: "system:serviceaccount:shop:*"}}),
            &["missing condition", "missing condition", "missing line"],
        ),
        (
            json!({"StringEquals": {&aud: "other", &sub: cart}}),
            &["missing condition", "missing condition", "missing line"],
        ),
    ] {
        let mut statement = irsa().statement();
        statement["Condition"] = condition;
        let document = policy(json!([statement]));
        assert_eq!(faults(&irsa(), &document), expected, "{document}");
    }
    let mut other = irsa().statement();
    other["Principal"] =
        json!({"Federated": format!("arn:aws:iam::444455556666:oidc-provider/{ISSUER}")});
    assert!(faults(&irsa(), &policy(json!([other]))).contains(&"missing principal".to_owned()));
}

#[test]
fn both_actions_are_needed_where_sessions_have_tags() {
    for wish in [pod_identity(), credlet(None)] {
        let mut statement = wish.statement();
        statement["Action"] = json!("sts:AssumeRole");
        let alone = policy(json!([statement]));
        assert_eq!(faults(&wish, &alone), ["missing action", "missing line"]);
        let mut tags = statement.clone();
        tags["Action"] = json!("sts:TagSession");
        let both = policy(json!([statement, tags]));
        assert_eq!(faults(&wish, &both), Vec::<String>::new());
    }
}

#[test]
fn tags_that_are_not_given_cannot_be_judged() {
    let document = pinned().document();
    assert_eq!(faults(&pod_identity(), &document), ["unsure line"]);
    assert_eq!(
        faults(&pinned(), &pod_identity().document()),
        ["missing condition", "missing condition"]
    );
}

#[test]
fn the_agent_is_its_role_its_account_or_anybody_and_has_an_external_id_or_none() {
    let id = json!({"StringEquals": {"sts:ExternalId": "shop"}});
    for (wish, principal, condition, expected) in [
        (credlet(None), json!({"AWS": AGENT}), json!({}), &[][..]),
        (
            credlet(None),
            json!({"AWS": ["444455556666", ACCOUNT]}),
            json!({}),
            &[],
        ),
        (
            credlet(None),
            json!({"AWS": "arn:aws:iam::111122223333:root"}),
            json!({}),
            &[],
        ),
        (
            credlet(None),
            json!({"AWS": "*"}),
            json!({"ArnEquals": {"aws:PrincipalArn": AGENT}}),
            &[],
        ),
        (
            credlet(None),
            json!({"AWS": "AROAEXAMPLEEXAMPLE"}),
            json!({}),
            &[
                "missing principal",
                "missing action",
                "missing action",
                "missing line",
            ],
        ),
        (
            credlet(None),
            json!({"AWS": "arn:aws:sts::111122223333:assumed-role/node/i-1"}),
            json!({}),
            &[
                "unsure principal",
                "missing action",
                "missing action",
                "unsure line",
            ],
        ),
        (
            credlet(None),
            json!({"AWS": AGENT}),
            id.clone(),
            &["missing line"],
        ),
        (
            credlet(None),
            json!({"AWS": AGENT}),
            json!({"StringEqualsIfExists": {"sts:ExternalId": "shop"}}),
            &[],
        ),
        (
            credlet(Some("shop")),
            json!({"AWS": AGENT}),
            id.clone(),
            &[],
        ),
        (
            credlet(Some("shop")),
            json!({"AWS": AGENT}),
            json!({}),
            &["missing condition"],
        ),
        (
            credlet(Some("other")),
            json!({"AWS": AGENT}),
            id.clone(),
            &["missing condition", "missing line"],
        ),
    ] {
        let mut statement = credlet(None).statement();
        statement["Principal"] = principal;
        statement["Condition"] = condition;
        let document = policy(json!([statement]));
        assert_eq!(faults(&wish, &document), expected, "{document}");
    }
}

#[test]
fn a_role_is_in_the_account_of_its_cluster_and_has_its_managed_policy() {
    let wish = fargate();
    let document = wish.document();
    let attached = wish.policy.clone().expect("Fargate's");
    let faults = |role: &str, attached: &[String]| {
        let role = role.parse().expect("a role");
        let findings = of_role(&wish, &role, &document, attached);
        let left = findings.into_iter().filter(|it| it.verdict != Verdict::Ok);
        left.map(|it| it.point).collect::<Vec<_>>()
    };
    assert_eq!(faults(AGENT, std::slice::from_ref(&attached)), []);
    assert_eq!(
        faults(AGENT, &["arn:aws:iam::aws:policy/Other".to_owned()]),
        [Point::Policy]
    );
    let elsewhere = "arn:aws:iam::444455556666:role/x";
    assert_eq!(
        faults(elsewhere, std::slice::from_ref(&attached)),
        [Point::Account]
    );
    let china = "arn:aws-cn:iam::111122223333:role/x";
    assert_eq!(faults(china, &[attached]), [Point::Account]);
}
