//! What EKS may answer.

use aws_sdk_eks::types::builders::PodIdentityAssociationBuilder;

use super::*;

const ARN: &str = "arn:aws-us-gov:eks:us-gov-west-1:111122223333:podidentityassociation/blue/a-1";

fn account() -> ServiceAccount {
    ServiceAccount::new("shop", "checkout").expect("valid")
}

fn described() -> PodIdentityAssociationBuilder {
    PodIdentityAssociation::builder()
        .namespace("shop")
        .service_account("checkout")
        .association_arn(ARN)
        .role_arn("arn:aws-us-gov:iam::111122223333:role/checkout")
}

fn refusal(described: PodIdentityAssociationBuilder) -> String {
    let refused = accept(described.build(), &account()).expect_err("must be refused");
    assert_eq!(refused.fault, Fault::Malformed);
    refused.message
}

#[test]
fn the_clusters_arn_comes_from_the_associations() {
    let association = accept(described().build(), &account()).expect("good");
    let cluster_arn = "arn:aws-us-gov:eks:us-gov-west-1:111122223333:cluster/blue";
    let cluster_arn = Some(cluster_arn.into());
    assert_eq!(
        association.session,
        Session::Tagged {
            cluster_arn,
            extra: BTreeMap::new()
        }
    );
}

#[test]
fn a_role_that_cannot_be_one_is_refused_by_its_field() {
    assert!(refusal(described().role_arn("role/x")).contains("roleArn"));
    assert!(refusal(described().target_role_arn("")).contains("targetRoleArn"));
}

#[test]
fn another_accounts_association_is_refused() {
    assert!(refusal(described().namespace("bank")).contains("another"));
    assert!(refusal(described().service_account("refund")).contains("another"));
}

#[test]
fn a_policy_that_would_be_ignored_is_refused() {
    assert!(refusal(described().policy("{}")).contains("policy"));
    let off = described().policy("{}").disable_session_tags(true);
    let association = accept(off.build(), &account()).expect("good");
    let policy = Some("{}".to_owned());
    assert_eq!(association.session, Session::Untagged { policy });
}
