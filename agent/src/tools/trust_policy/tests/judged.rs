//! What is said of policies that people have.

use super::*;

/// A statement for Fargate with these conditions.
fn with(condition: Value) -> Document {
    let mut statement = fargate().statement();
    statement["Condition"] = condition;
    policy(json!([statement]))
}

/// A statement for Fargate's profiles with this in another place.
fn changed(name: &str, value: Value) -> Document {
    let mut statement = fargate().statement();
    let members = statement.as_object_mut().expect("a statement");
    if let Some(opposite) = name.strip_prefix("Not") {
        members.remove(opposite);
    }
    members.insert(name.to_owned(), value);
    policy(json!([statement]))
}

#[test]
fn conditions_are_read_as_iam_reads_them() {
    let none: &[&str] = &[];
    let open: &[&str] = &["missing condition"];
    let other: &[&str] = &["missing condition", "missing line"];
    let unsure: &[&str] = &["unsure line"];
    for (condition, expected) in [
        (json!({"ArnLike": {"aws:SourceArn": PROD}}), none),
        (json!({"ArnEquals": {"aws:SourceArn": PROD}}), none),
        (json!({"StringLike": {"aws:SourceArn": PROD}}), none),
        (
            json!({"ForAnyValue:ArnLike": {"aws:SourceArn": PROD}}),
            none,
        ),
        (json!({"ArnLike": {"AWS:SOURCEARN": [TEST, PROD]}}), none),
        (
            json!({"ArnLike": {"aws:SourceArn": format!("arn:aws:eks:*:{ACCOUNT}:fargateprofile/*")}}),
            none,
        ),
        (
            json!({"ArnLike": {"aws:SourceArn": PROD}, "StringEquals": {"aws:SourceAccount": ACCOUNT}}),
            none,
        ),
        (
            json!({"ArnLike": {"aws:SourceArn": PROD}, "Null": {"aws:SourceArn": "false"}}),
            none,
        ),
        (
            json!({"ArnLike": {"aws:SourceArn": PROD}, "ArnNotLike": {"aws:SourceArn": TEST}}),
            none,
        ),
        // Nobody is kept out.
        (json!({}), open),
        (
            json!({"StringEquals": {"aws:SourceAccount": ACCOUNT}}),
            open,
        ),
        (json!({"ArnLikeIfExists": {"aws:SourceArn": PROD}}), open),
        (
            json!({"ForAllValues:ArnLike": {"aws:SourceArn": PROD}}),
            open,
        ),
        (json!({"ArnNotLike": {"aws:SourceArn": TEST}}), open),
        (
            json!({"ArnLike": {"aws:SourceArn": "arn:aws:eks:*:*:fargateprofile/*"}}),
            &["wrong condition"],
        ),
        (
            json!({"ArnLike": {"aws:SourceArn": "arn:aws:eks:*:11112222333?:fargateprofile/*"}}),
            &["wrong condition"],
        ),
        (
            json!({"StringLike": {"aws:SourceArn": "*"}}),
            &["wrong condition"],
        ),
        // Others only.
        (json!({"ArnLike": {"aws:SourceArn": TEST}}), other),
        (json!({"ArnLike": {"aws:SourceArn": []}}), other),
        (
            json!({"ArnLike": {"aws:SourceArn": PROD}, "StringEquals": {"aws:SourceAccount": "444455556666"}}),
            other,
        ),
        (
            json!({"ArnLike": {"aws:SourceArn": PROD}, "Null": {"aws:SourceArn": "true"}}),
            other,
        ),
        (
            json!({"ArnLike": {"aws:SourceArn": PROD}, "ArnNotLike": {"aws:SourceArn": "arn:aws:eks:*:*:*"}}),
            other,
        ),
        // A part of it, or nobody knows how much.
        (
            json!({"ArnLike": {"aws:SourceArn": "arn:aws:eks:eu-central-1:111122223333:fargateprofile/prod/web/*"}}),
            unsure,
        ),
        (json!({"StringEquals": {"aws:SourceArn": PROD}}), unsure),
        (
            json!({"ArnLike": {"aws:SourceArn": PROD}, "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
            unsure,
        ),
        (
            json!({"ArnLike": {"aws:SourceArn": PROD}, "Bool": {"aws:SecureTransport": true}}),
            unsure,
        ),
        (
            json!({"ArnLike": {"aws:SourceArn": PROD}, "StringEquals": {"aws:SourceOrgID": "o-1"}}),
            unsure,
        ),
        (
            json!({"ArnLike": {"aws:SourceArn": PROD}, "stringequals": {"aws:SourceAccount": ACCOUNT}}),
            unsure,
        ),
        (
            json!({"ArnLike": {"aws:SourceArn": "*"}}),
            &["unsure condition", "unsure line"],
        ),
        (
            json!({"ArnLike": {"aws:SourceArn": "arn:aws:eks:eu-central-1:${aws:PrincipalAccount}:*"}}),
            &["unsure condition", "unsure line"],
        ),
    ] {
        let document = with(condition);
        assert_eq!(faults(&fargate(), &document), expected, "{document}");
    }
}

#[test]
fn principals_and_actions_are_read_as_iam_reads_them() {
    let none: &[&str] = &[];
    let stranger: &[&str] = &[
        "missing principal",
        "missing action",
        "missing condition",
        "missing line",
    ];
    let inactive: &[&str] = &["missing action", "missing condition", "missing line"];
    let unreadable: &[&str] = &[
        "unsure statement",
        "missing principal",
        "missing action",
        "missing condition",
        "missing line",
    ];
    for (name, value, expected) in [
        (
            "Principal",
            json!({"Service": ["eks.amazonaws.com", "eks-fargate-pods.amazonaws.com"]}),
            none,
        ),
        (
            "Principal",
            json!({"Service": "eks.amazonaws.com"}),
            stranger,
        ),
        (
            "Principal",
            json!({"AWS": "eks-fargate-pods.amazonaws.com"}),
            stranger,
        ),
        ("Principal", json!({}), stranger),
        (
            "Principal",
            json!("*"),
            &["unsure principal", "missing action", "unsure line"],
        ),
        (
            "Principal",
            json!({"Service": "*"}),
            &["unsure principal", "missing action", "unsure line"],
        ),
        (
            "NotPrincipal",
            json!({"AWS": "*"}),
            &["unsure principal", "missing action", "unsure line"],
        ),
        (
            "Principal",
            json!("eks-fargate-pods.amazonaws.com"),
            unreadable,
        ),
        ("Action", json!(["sts:TagSession", "STS:assumerole"]), none),
        ("Action", json!("sts:*"), none),
        ("Action", json!("*"), none),
        ("Action", json!("sts:Assume????"), none),
        ("Action", json!("sts:AssumeRoleWith*"), inactive),
        ("Action", json!([]), inactive),
        ("NotAction", json!("sts:TagSession"), none),
        (
            "NotAction",
            json!(["sts:TagSession", "sts:Assume*"]),
            inactive,
        ),
        ("Action", json!({"a": 1}), unreadable),
        ("Resource", json!("*"), unreadable),
        ("Effect", json!("allow"), unreadable),
    ] {
        let document = changed(name, value);
        assert_eq!(faults(&fargate(), &document), expected, "{document}");
    }
}

#[test]
fn one_open_statement_beside_a_good_one_is_found() {
    let mut open = fargate().statement();
    open.as_object_mut()
        .expect("a statement")
        .remove("Condition");
    let document = policy(json!([fargate().statement(), open]));
    assert_eq!(faults(&fargate(), &document), ["missing condition"]);
}

#[test]
fn a_denial_counts_whatever_is_allowed() {
    let none: &[&str] = &[];
    for (condition, expected) in [
        (json!({}), &["wrong denial"][..]),
        (
            json!({"ArnNotLike": {"aws:SourceArn": TEST}}),
            &["wrong denial"],
        ),
        (json!({"ArnNotLike": {"aws:SourceArn": [PROD, TEST]}}), none),
        (json!({"ArnLike": {"aws:SourceArn": TEST}}), none),
        (
            json!({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
            &["unsure denial"],
        ),
    ] {
        let deny = json!({
            "Effect": "Deny",
            "Principal": {"Service": ["eks-fargate-pods.amazonaws.com"]},
            "Action": "sts:*",
            "Condition": condition,
        });
        let document = policy(json!([fargate().statement(), deny]));
        assert_eq!(faults(&fargate(), &document), expected, "{document}");
    }
    let everybody = json!({"Effect": "Deny", "Principal": "*", "Action": "sts:TagSession"});
    let document = policy(json!([credlet(None).statement(), everybody]));
    assert_eq!(faults(&credlet(None), &document), ["wrong denial"]);
    assert_eq!(
        faults(
            &fargate(),
            &policy(json!([fargate().statement(), everybody]))
        ),
        none
    );
}
