//! What becomes of policies that people have.

use super::*;
use crate::tools::trust_policy::amend::{Amended, amend};

const ELSEWHERE: &str = "arn:aws:eks:*:444455556666:fargateprofile/other/*";

/// Mends a policy of these statements, which must then be ok.
fn mended(wish: &Wish, statements: Value) -> Amended {
    let amended = amend(&policy(statements), wish);
    let findings = of_document(wish, &amended.document);
    assert!(are_ok(&findings), "{}\n{findings:?}", amended.document);
    // And is so for good.
    let again = amend(&amended.document, wish);
    assert_eq!(again.document, amended.document);
    assert!(again.warnings.is_empty());
    amended
}

fn for_profiles(profiles: Value) -> Value {
    let mut statement = fargate().statement();
    statement["Condition"]["ArnLike"]["aws:SourceArn"] = profiles;
    statement
}

/// Those of other people, in forms that only they would choose.
fn others() -> Value {
    json!([
        {"Sid": "Ops", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::444455556666:role/ops"},
         "Action": ["sts:AssumeRole"], "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}},
        {"Effect": "Deny", "NotPrincipal": {"AWS": "*"}, "NotAction": "sts:*", "Odd": [1.5, null]},
        "no statement at all",
    ])
}

#[test]
fn a_policy_that_is_ok_stays_as_it_is() {
    for wish in [
        fargate(),
        irsa(),
        pod_identity(),
        pinned(),
        credlet(Some("shop")),
    ] {
        let before = wish.document();
        let amended = mended(&wish, before.value()["Statement"].clone());
        assert_eq!(amended.document, before);
        assert!(amended.warnings.is_empty());
    }
}

#[test]
fn other_statements_are_kept_as_they_are_and_in_their_order() {
    for wish in [
        fargate(),
        irsa(),
        pod_identity(),
        pinned(),
        credlet(Some("shop")),
    ] {
        let before = policy(others());
        let after = amend(&before, &wish);
        let mut expected = before.value();
        let statements = expected["Statement"].as_array_mut().expect("a list");
        statements.push(wish.statement());
        assert_eq!(after.document.value(), expected);
        assert!(after.warnings.is_empty());
    }
}

#[test]
fn another_clusters_line_is_kept_beside_the_new_one() {
    for (before, after) in [
        (json!(TEST), json!([TEST, PROD])),
        (json!([TEST, ELSEWHERE]), json!([TEST, ELSEWHERE, PROD])),
        (json!([]), json!([PROD])),
    ] {
        let amended = mended(&fargate(), json!([for_profiles(before)]));
        assert_eq!(amended.document, policy(json!([for_profiles(after)])));
        assert!(amended.warnings.is_empty());
    }
}

#[test]
fn a_line_goes_only_where_its_wildcards_count_and_no_other_condition_is() {
    let mut exact = fargate().statement();
    exact["Condition"] = json!({"StringEquals": {"aws:SourceArn": TEST}});
    let mut elsewhere = for_profiles(json!(TEST));
    elsewhere["Condition"]["StringEquals"] = json!({"aws:SourceAccount": "444455556666"});
    for kept in [exact, elsewhere] {
        let amended = mended(&fargate(), json!([kept]));
        assert_eq!(
            amended.document,
            policy(json!([kept, fargate().statement()]))
        );
    }
}

#[test]
fn an_open_statement_is_closed_and_that_is_said() {
    let mut open = fargate().statement();
    open.as_object_mut()
        .expect("a statement")
        .remove("Condition");
    let amended = mended(&fargate(), json!([open]));
    assert_eq!(amended.document, fargate().document());
    let [warning] = &amended.warnings[..] else {
        panic!("{:?}", amended.warnings)
    };
    assert!(
        warning.starts_with("statement 1 no longer trusts"),
        "{warning}"
    );

    // Lines that keep others out stay.
    let wide = "arn:aws:eks:*:*:fargateprofile/*";
    let amended = mended(&fargate(), json!([for_profiles(json!([wide, TEST]))]));
    assert_eq!(
        amended.document,
        policy(json!([for_profiles(json!([TEST, PROD]))]))
    );
    let amended = mended(&fargate(), json!([for_profiles(json!(wide))]));
    assert_eq!(amended.document, fargate().document());
}

#[test]
fn an_open_statement_that_is_for_others_too_stays_theirs() {
    let mut both = fargate().statement();
    both.as_object_mut()
        .expect("a statement")
        .remove("Condition");
    both["Principal"] = json!({"Service": ["eks.amazonaws.com", "eks-fargate-pods.amazonaws.com"]});
    let mut theirs = both.clone();
    theirs["Principal"] = json!({"Service": ["eks.amazonaws.com"]});
    let amended = mended(&fargate(), json!([both]));
    assert_eq!(
        amended.document,
        policy(json!([theirs, fargate().statement()]))
    );
    assert_eq!(amended.warnings.len(), 1);
}

#[test]
fn values_that_are_left_under_another_operator_still_count() {
    let aud = format!("{ISSUER}:aud");
    let sub = format!("{ISSUER}:sub");
    let kept = "system:serviceaccount:a:b";
    let mut statement = irsa().statement();
    statement["Condition"] = json!({
        "StringEquals": {&aud: "sts.amazonaws.com"},
        "StringLike": {&sub: ["system:serviceaccount:*", kept]},
    });
    let amended = mended(&irsa(), json!([statement]));
    statement["Condition"]["StringLike"][&sub] = json!([kept, "system:serviceaccount:shop:cart"]);
    assert_eq!(amended.document, policy(json!([statement])));
}

#[test]
fn a_second_service_account_joins_the_first() {
    let sub = format!("{ISSUER}:sub");
    let mut statement = irsa().statement();
    statement["Condition"]["StringEquals"][&sub] = json!("system:serviceaccount:shop:other");
    let amended = mended(&irsa(), json!([statement]));
    statement["Condition"]["StringEquals"][&sub] = json!([
        "system:serviceaccount:shop:other",
        "system:serviceaccount:shop:cart"
    ]);
    assert_eq!(amended.document, policy(json!([statement])));
}

#[test]
fn values_that_would_combine_get_a_statement_of_their_own() {
    let other = |namespace: &str, account: &str| {
        let mut statement = pinned().statement();
        statement["Condition"]["StringEquals"] = json!({
            "aws:RequestTag/kubernetes-namespace": namespace,
            "aws:RequestTag/kubernetes-service-account": account,
        });
        statement
    };
    let both = other("a", "b");
    let amended = mended(&pinned(), json!([both]));
    assert_eq!(
        amended.document,
        policy(json!([both, pinned().statement()]))
    );
    let amended = mended(&pinned(), json!([other("shop", "b")]));
    let mut joined = other("shop", "b");
    joined["Condition"]["StringEquals"]["aws:RequestTag/kubernetes-service-account"] =
        json!(["b", "cart"]);
    assert_eq!(amended.document, policy(json!([joined])));
}

#[test]
fn a_missing_action_is_added() {
    for (before, after) in [
        (
            json!("sts:AssumeRole"),
            json!(["sts:AssumeRole", "sts:TagSession"]),
        ),
        (
            json!(["sts:AssumeRole"]),
            json!(["sts:AssumeRole", "sts:TagSession"]),
        ),
        (json!([]), json!(["sts:AssumeRole", "sts:TagSession"])),
    ] {
        let mut statement = pod_identity().statement();
        statement["Action"] = before;
        let amended = mended(&pod_identity(), json!([statement]));
        statement["Action"] = after;
        assert_eq!(amended.document, policy(json!([statement])));
        assert!(amended.warnings.is_empty());
    }
}

#[test]
fn what_cannot_be_mended_is_left_and_found() {
    let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "*"});
    let amended = amend(&policy(json!([deny])), &credlet(None));
    assert_eq!(
        amended.document,
        policy(json!([deny, credlet(None).statement()]))
    );
    assert_eq!(faults(&credlet(None), &amended.document), ["wrong denial"]);
    let anybody = json!({"Effect": "Allow", "Principal": "*", "Action": "*"});
    let amended = amend(&policy(json!([anybody])), &fargate());
    assert_eq!(
        amended.document,
        policy(json!([anybody, fargate().statement()]))
    );
    assert_eq!(faults(&fargate(), &amended.document), ["missing condition"]);
}

#[test]
fn the_document_around_the_statements_is_kept() {
    let text = r#"{"Version": "2008-10-17", "Id": "x", "Statement": {"Effect": "Deny", "Principal": "*", "Action": "sts:TagSession"}}"#;
    let before = Document::parse(text).expect("a policy");
    let after = amend(&before, &fargate()).document.value();
    assert_eq!(
        (&after["Version"], &after["Id"]),
        (&json!("2008-10-17"), &json!("x"))
    );
    assert_eq!(after["Statement"].as_array().map(Vec::len), Some(2));
}
