//! Whole trust policies, judged and mended.

use serde_json::{Value, json};

use super::document::Document;
use super::findings::{Finding, Verdict, are_ok, of_document};
use super::wish::Wish;
use crate::config::{Pins, Trust};
use crate::model::Partition;

mod judged;
mod kinds;
mod mended;

const ACCOUNT: &str = "111122223333";
const ISSUER: &str = "oidc.eks.eu-central-1.amazonaws.com/id/ABC";
const AGENT: &str = "arn:aws:iam::111122223333:role/node";
const PROD: &str = "arn:aws:eks:eu-central-1:111122223333:fargateprofile/prod/*";
const TEST: &str = "arn:aws:eks:eu-central-1:111122223333:fargateprofile/test/*";

fn fargate() -> Wish {
    Wish::of(&Trust::Fargate {
        partition: Partition::Aws,
        region: "eu-central-1".to_owned(),
        account: ACCOUNT.to_owned(),
        cluster: "prod".to_owned(),
    })
}

fn irsa() -> Wish {
    Wish::of(&Trust::Irsa {
        partition: Partition::Aws,
        account: ACCOUNT.to_owned(),
        issuer: ISSUER.to_owned(),
        audience: "sts.amazonaws.com".to_owned(),
        namespace: "shop".to_owned(),
        service_account: "cart".to_owned(),
    })
}

fn pod_identity() -> Wish {
    Wish::of(&Trust::PodIdentity(Pins::default()))
}

fn pinned() -> Wish {
    Wish::of(&Trust::PodIdentity(Pins {
        cluster: None,
        namespace: Some("shop".to_owned()),
        service_account: Some("cart".to_owned()),
    }))
}

fn credlet(external_id: Option<&str>) -> Wish {
    Wish::of(&Trust::Credlet {
        agent: AGENT.parse().expect("a role"),
        external_id: external_id.map(str::to_owned),
        pins: Pins::default(),
    })
}

/// A policy of these statements.
fn policy(statements: Value) -> Document {
    let mut document = json!({"Version": "2012-10-17"});
    document["Statement"] = statements;
    Document::parse(&document.to_string()).expect("a policy")
}

/// What is not ok, by verdict and point.
fn faults(wish: &Wish, document: &Document) -> Vec<String> {
    let findings = of_document(wish, document);
    let left = findings
        .iter()
        .filter(|finding| finding.verdict != Verdict::Ok);
    left.map(|finding| format!("{} {}", finding.verdict.name(), finding.point.name()))
        .collect()
}

#[test]
fn what_is_printed_is_what_is_checked_for() {
    let everything = Wish::of(&Trust::Irsa {
        partition: Partition::Aws,
        account: ACCOUNT.to_owned(),
        issuer: ISSUER.to_owned(),
        audience: "sts.amazonaws.com".to_owned(),
        namespace: "*".to_owned(),
        service_account: "*".to_owned(),
    });
    let patterns = Wish::of(&Trust::Fargate {
        partition: Partition::Cn,
        region: "*".to_owned(),
        account: ACCOUNT.to_owned(),
        cluster: "prod-*".to_owned(),
    });
    for wish in [
        fargate(),
        patterns,
        irsa(),
        everything,
        pod_identity(),
        pinned(),
        credlet(None),
        credlet(Some("shop")),
    ] {
        let document = wish.document();
        let findings: Vec<Finding> = of_document(&wish, &document);
        assert!(are_ok(&findings), "{document}\n{findings:?}");
        // As IAM gives it back.
        let read = Document::parse(&document.compact()).expect("a policy");
        assert_eq!(read, document);
    }
}

#[test]
fn names_are_those_of_the_partition() {
    for partition in [
        "aws",
        "aws-cn",
        "aws-us-gov",
        "aws-iso",
        "aws-iso-b",
        "aws-eusc",
    ] {
        let partition: Partition = partition.parse().expect("a partition");
        let wish = Wish::of(&Trust::Fargate {
            partition,
            region: "*".to_owned(),
            account: ACCOUNT.to_owned(),
            cluster: "prod".to_owned(),
        });
        let expected = json!({
            "Effect": "Allow",
            "Principal": {"Service": "eks-fargate-pods.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"ArnLike": {
                "aws:SourceArn": format!("arn:{partition}:eks:*:{ACCOUNT}:fargateprofile/prod/*"),
            }},
        });
        assert_eq!(wish.statement(), expected);
        let policy =
            format!("arn:{partition}:iam::aws:policy/AmazonEKSFargatePodExecutionRolePolicy");
        assert_eq!(wish.policy, Some(policy));
    }
}
