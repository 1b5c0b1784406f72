//! `credlet trust-policy` at moto's IAM, with the AWS CLI as the second reader.

use serde_json::{Value, json};

use account::{ACCOUNT, Account};

mod account;

const FARGATE: &str = "fargate --region eu-central-1 --account 123456789012 --cluster prod";
const FARGATE_TEST: &str = "fargate --region eu-central-1 --account 123456789012 --cluster test";
const PROD: &str = "arn:aws:eks:eu-central-1:123456789012:fargateprofile/prod/*";
const TEST: &str = "arn:aws:eks:eu-central-1:123456789012:fargateprofile/test/*";
const FARGATE_POLICY: &str = "arn:aws:iam::aws:policy/AmazonEKSFargatePodExecutionRolePolicy";

fn statement(profiles: &Value) -> Value {
    json!({
        "Effect": "Allow",
        "Principal": {"Service": "eks-fargate-pods.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {"ArnLike": {"aws:SourceArn": profiles}},
    })
}

fn policy(statements: Value) -> Value {
    let mut document = json!({"Version": "2012-10-17"});
    document["Statement"] = statements;
    document
}

fn verdicts(checked: &Value) -> Vec<String> {
    let points = checked["points"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    points
        .map(|it| text(&it["verdict"]) + " " + &text(&it["point"]))
        .collect()
}

#[tokio::test]
async fn a_role_of_each_kind_is_made_is_as_the_cli_reads_it_and_is_ok() {
    let account = Account::open().await;
    let irsa = "irsa --oidc-issuer https://oidc.eks.eu-central-1.amazonaws.com/id/ABC \
                --account 123456789012 --namespace shop --service-account cart";
    let credlet = "credlet --agent-role arn:aws:iam::123456789012:role/node --cluster prod \
                   --namespace shop --service-account cart --external-id shop";
    let pinned = "pod-identity --namespace shop --service-account *";
    for (role, kind) in [
        ("fargate", FARGATE),
        ("irsa", irsa),
        ("pods", "pod-identity"),
        ("pinned", pinned),
        ("agent", credlet),
    ] {
        let kind = kind.split_whitespace().collect::<Vec<_>>().join(" ");
        let printed = account.credlet(&kind).await;
        assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));

        let made = account
            .credlet(&format!("{kind} --create {role} --yes --output json"))
            .await;
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        assert_eq!(
            made.json()["role"],
            format!("arn:aws:iam::{ACCOUNT}:role/{role}")
        );
        assert_eq!(account.policy(role).await, printed.json());

        let checked = account.credlet(&format!("{kind} --check {role}")).await;
        assert_eq!(checked.code, Some(0), "{}", checked.stdout);
        let again = account
            .credlet(&format!("{kind} --update {role} --yes"))
            .await;
        assert_eq!(again.code, Some(0));
        assert!(
            again.stdout.starts_with("there is nothing to write"),
            "{}",
            again.stdout
        );
    }
    assert_eq!(account.attached("fargate").await, [FARGATE_POLICY]);
    assert_eq!(account.attached("pods").await, Vec::<String>::new());

    // A path is part of the ARN only.
    let with_path = format!("pod-identity --create arn:aws:iam::{ACCOUNT}:role/a/b/deep --yes");
    assert_eq!(account.credlet(&with_path).await.code, Some(0));
    let role = account.aws("get-role --role-name deep", None).await;
    assert_eq!(role["Role"]["Path"], "/a/b/");
}

#[tokio::test]
async fn a_role_of_others_is_mended_and_keeps_what_is_theirs() {
    let account = Account::open().await;
    let theirs = json!({
        "Sid": "Ops",
        "Effect": "Allow",
        "Principal": {"AWS": ["arn:aws:iam::123456789012:user/ops"]},
        "Action": "sts:AssumeRole",
        "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}},
    });
    let old = json!({
        "Effect": "Allow",
        "Principal": {"Service": "eks-fargate-pods.amazonaws.com"},
        "Action": "sts:AssumeRole",
    });
    let before = policy(json!([theirs, old]));
    account
        .aws("create-role --role-name pods", Some(&before))
        .await;

    let checked = account
        .credlet(&format!("{FARGATE} --check pods --output json"))
        .await;
    assert_eq!(checked.code, Some(1));
    assert_eq!(checked.json()["ok"], false);
    assert_eq!(
        verdicts(&checked.json()),
        [
            "ok account",
            "ok principal",
            "ok action",
            "missing condition",
            "ok line",
            "ok denial",
            "missing policy",
        ]
    );

    // Nobody to ask, and somebody who says no.
    let update = format!("{FARGATE} --update pods");
    let unasked = account.credlet(&update).await;
    assert_eq!(unasked.code, Some(1));
    assert!(unasked.stderr.contains("--yes"), "{}", unasked.stderr);
    let line = format!(
        "+       \"Condition\": {{\n+         \"ArnLike\": {{\n+           \"aws:SourceArn\": \"{PROD}\""
    );
    assert!(unasked.stdout.contains(&line), "{}", unasked.stdout);
    assert!(
        unasked
            .stdout
            .contains(&format!("{FARGATE_POLICY} is attached"))
    );
    assert!(
        unasked
            .stdout
            .contains("note: statement 2 no longer trusts")
    );
    for no in ["n\n", "\n", "maybe\n"] {
        let refused = account.credlet_at_a_terminal(&update, no).await;
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
        assert!(
            refused.stdout.contains("nothing was written"),
            "{}",
            refused.stdout
        );
    }
    assert_eq!(account.policy("pods").await, before);
    assert_eq!(account.attached("pods").await, Vec::<String>::new());

    // Somebody who says yes.
    let written = account.credlet_at_a_terminal(&update, "y\n").await;
    assert_eq!(written.code, Some(0), "{}", written.stdout);
    let after = policy(json!([theirs, statement(&json!(PROD))]));
    assert_eq!(account.policy("pods").await, after);
    assert_eq!(account.attached("pods").await, [FARGATE_POLICY]);

    // Another cluster's line beside it, and both are ok.
    let second = account
        .credlet(&format!("{FARGATE_TEST} --update pods --yes --output json"))
        .await;
    assert_eq!(second.code, Some(0), "{}", second.stderr);
    assert_eq!(second.json()["before"], after);
    let both = policy(json!([theirs, statement(&json!([PROD, TEST]))]));
    assert_eq!(second.json()["after"], both);
    assert_eq!(account.policy("pods").await, both);
    for kind in [FARGATE, FARGATE_TEST] {
        assert_eq!(
            account.credlet(&format!("{kind} --check pods")).await.code,
            Some(0)
        );
    }

    // What refuses it nevertheless is left, and said.
    let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "sts:TagSession"});
    account
        .aws("create-role --role-name shut", Some(&policy(json!([deny]))))
        .await;
    let left = account.credlet("pod-identity --update shut --yes").await;
    assert_eq!(left.code, Some(1));
    assert!(
        left.stdout.contains("statement 1 may deny it"),
        "{}",
        left.stdout
    );
}

#[tokio::test]
async fn what_cannot_be_is_said_and_writes_nothing() {
    let account = Account::open().await;
    let names: Vec<String> = (0..40)
        .map(|at| format!("arn:aws:eks:eu-central-1:{ACCOUNT}:fargateprofile/cluster-{at}/*"))
        .collect();
    let long = policy(json!([statement(&json!(names))]));
    account
        .aws("create-role --role-name long", Some(&long))
        .await;
    for (arguments, code, said) in [
        (
            format!("{FARGATE} --check nobody"),
            1,
            "there is no role nobody",
        ),
        (
            format!("{FARGATE} --update nobody --yes"),
            1,
            "there is no role nobody",
        ),
        (
            format!("{FARGATE} --create long --yes"),
            1,
            "there is a role arn:aws:iam::123456789012:role/long already",
        ),
        (
            format!("{FARGATE} --update long --yes"),
            1,
            "and IAM takes 2048",
        ),
        (
            format!("{FARGATE} --check arn:aws:iam::{ACCOUNT}:role/other/long"),
            1,
            "is another one",
        ),
        (
            format!(
                "{} --update long --yes",
                FARGATE.replace(ACCOUNT, "444455556666")
            ),
            1,
            "in the account 444455556666, and these credentials are of 123456789012",
        ),
        (
            format!(
                "{} --create new --yes",
                FARGATE.replace(ACCOUNT, "444455556666")
            ),
            1,
            "in the account 444455556666, and these credentials are of 123456789012",
        ),
        (
            "pod-identity --create new".to_owned(),
            1,
            "there is no terminal",
        ),
        ("pod-identity --check".to_owned(), 2, "--check"),
        ("pod-identity --yes".to_owned(), 2, "--yes"),
        (
            "pod-identity --check a --create b".to_owned(),
            2,
            "--create",
        ),
        ("fargate --region eu-central-1".to_owned(), 2, "required"),
    ] {
        let ended = account.credlet(&arguments).await;
        assert_eq!(ended.code, Some(code), "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{arguments}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
    assert_eq!(account.policy("long").await, long);
    let roles = account.aws("list-roles", None).await;
    assert_eq!(roles["Roles"].as_array().map(Vec::len), Some(1));
}
