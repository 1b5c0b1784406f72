//! The command line of the trust policies.

use std::ffi::OsString;

use super::*;
use crate::config::tools::Command;

const FARGATE: &str = "fargate --region cn-north-1 --account 111122223333 --cluster c";

fn parse(args: &str) -> Result<TrustPolicy, String> {
    let words = ["credlet", "trust-policy"]
        .into_iter()
        .chain(args.split(' '));
    match Command::parse(words.map(OsString::from)) {
        Ok(Command::TrustPolicy(config)) => Ok(*config),
        Err(Error::Usage(line)) => Err(line),
        other => panic!("neither a task nor a refusal: {other:?}"),
    }
}

#[test]
fn a_task_is_one_of_four_and_may_be_consented_to() {
    let role = Role {
        path: "/".to_owned(),
        name: "r".to_owned(),
        arn: None,
    };
    for (flags, task) in [
        ("", Task::Print),
        (" --output json", Task::Print),
        (" --check r --output json", Task::Check(role.clone())),
        (" --create r", Task::Create(role.clone(), Consent::Asked)),
        (
            " --update r --output json",
            Task::Update(role.clone(), Consent::Asked),
        ),
        (
            " --create r --yes",
            Task::Create(role.clone(), Consent::Given),
        ),
        (
            " --update r --yes --output json",
            Task::Update(role.clone(), Consent::Given),
        ),
    ] {
        let config = parse(&format!("{FARGATE}{flags}")).expect(flags);
        assert_eq!(config.task, task);
    }
    for flags in [
        " --yes",
        " --check r --yes",
        " --check r --update r",
        " --create r --update r",
        " --check r --create r",
        " --check a/b",
        " --check arn:aws:iam::111122223333:user/u",
        " --partition aws",
        " --partition amazon",
    ] {
        assert!(parse(&format!("{FARGATE}{flags}")).is_err(), "{flags}");
    }
}

#[test]
fn a_roles_arn_has_its_path_and_name() {
    let config = parse("pod-identity --check arn:aws:iam::111122223333:role/a/b/c").expect("one");
    let Task::Check(role) = config.task else {
        panic!("{:?}", config.task)
    };
    assert_eq!((role.path.as_str(), role.name.as_str()), ("/a/b/", "c"));
}

#[test]
fn the_partition_is_the_regions() {
    let of = |args: &str| match parse(args).expect(args).trust {
        Trust::Fargate { partition, .. } | Trust::Irsa { partition, .. } => partition,
        other @ (Trust::PodIdentity(_) | Trust::Credlet { .. }) => panic!("{other:?}"),
    };
    let fargate =
        |region: &str| format!("fargate --account 111122223333 --cluster * --region {region}");
    let irsa = |issuer: &str| {
        format!(
            "irsa --account 111122223333 --namespace n --service-account s --oidc-issuer {issuer}"
        )
    };
    for (args, partition) in [
        (fargate("eu-central-1"), Partition::Aws),
        (fargate("*"), Partition::Aws),
        (fargate("* --partition aws-eusc"), Partition::Eusc),
        (fargate("us-gov-west-1"), Partition::UsGov),
        (fargate("xx-new-1 --partition aws"), Partition::Aws),
        (
            irsa("https://oidc.eks.cn-north-1.amazonaws.com.cn/id/A"),
            Partition::Cn,
        ),
        (
            irsa("oidc.eks.us-isob-east-1.sc2s.sgov.gov/id/A"),
            Partition::IsoB,
        ),
        (irsa("https://keys.example.com"), Partition::Aws),
    ] {
        assert_eq!(of(&args), partition, "{args}");
    }
    for args in [
        fargate("xx-new-1"),
        fargate("eu-*"),
        irsa("https://"),
        irsa("https://a/*"),
    ] {
        assert!(parse(&args).is_err(), "{args}");
    }
}
