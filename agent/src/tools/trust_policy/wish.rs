//! What a trust policy is to have: one statement, and how it is judged.

use serde_json::{Value, json};

use super::document::Document;
use crate::config::{Pins, Trust};
use crate::model::Partition;

const ASSUME: &str = "sts:AssumeRole";
const ASSUME_BY_TOKEN: &str = "sts:AssumeRoleWithWebIdentity";
const TAG: &str = "sts:TagSession";

/// A text that no name has, for what a policy must not let in.
const NO_NAME: &str = "~";

/// How values of a key are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As texts.
    Text,
    /// As ARNs.
    Arn,
}

/// A condition that the policy is to have.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The key.
    pub(super) key: String,
    /// What must be let in: a text, or what its `*` stand for.
    pub(super) value: String,
    /// What must not be: if any of it were, the condition would keep nobody out.
    /// Empty where everything is asked for.
    pub(super) strangers: Vec<String>,
    /// How it is compared.
    pub(super) form: Form,
    /// Who else could have the role without it.
    pub(super) else_whom: &'static str,
}

/// What is known of a request that the role is to allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known<'a> {
    /// The key has this value.
    Is(&'a str),
    /// The request does not have the key.
    Absent,
    /// Only the request would tell.
    Unknown,
}

/// What a role is to have.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// The kind's name on the command line.
    pub(super) kind: &'static str,
    /// Type and name.
    pub(super) principal: (&'static str, String),
    /// All of these.
    pub(super) actions: &'static [&'static str],
    /// All of these.
    pub(super) conditions: Vec<Wanted>,
    /// Further keys of the request, with their values or their absence.
    context: Vec<(&'static str, Option<String>)>,
    /// Whom the role is for, in words.
    pub(super) whom: String,
    /// A managed policy that it needs.
    pub(super) policy: Option<String>,
    /// The account that it must be in.
    pub(super) account: Option<String>,
    /// The partition that it must be in.
    pub(super) partition: Option<Partition>,
}

impl Wish {
    /// What this trust takes.
    pub(super) fn of(trust: &Trust) -> Self {
        match trust {
            Trust::Fargate {
                partition,
                region,
                account,
                cluster,
            } => fargate(*partition, region, account, cluster),
            Trust::Irsa {
                partition,
                account,
                issuer,
                audience,
                namespace,
                service_account,
            } => {
                let subject = format!("system:serviceaccount:{namespace}:{service_account}");
                irsa(*partition, account, issuer, audience, subject)
            }
            Trust::PodIdentity(pins) => Self {
                kind: "pod-identity",
                // The same in all partitions: docs.amazonaws.cn, pod-id-role.
                principal: ("Service", "pods.eks.amazonaws.com".to_owned()),
                actions: &[ASSUME, TAG],
                conditions: pinned(pins),
                context: Vec::new(),
                whom: whom(pins),
                policy: None,
                account: None,
                partition: None,
            },
            Trust::Credlet {
                agent,
                external_id,
                pins,
            } => {
                let mut conditions = pinned(pins);
                conditions.extend(external_id.iter().map(|id| Wanted {
                    key: "sts:ExternalId".to_owned(),
                    value: id.clone(),
                    strangers: vec![NO_NAME.to_owned()],
                    form: Form::Text,
                    else_whom: "associations with another external id, or none",
                }));
                Self {
                    kind: "credlet",
                    principal: ("AWS", agent.to_string()),
                    actions: &[ASSUME, TAG],
                    conditions,
                    context: vec![
                        ("sts:externalid", None),
                        ("aws:principalarn", Some(agent.to_string())),
                        ("aws:principalaccount", Some(agent.account_id().to_owned())),
                    ],
                    whom: whom(pins),
                    policy: None,
                    account: None,
                    partition: agent.partition(),
                }
            }
        }
    }

    /// What a request has for a key; keys are the same whatever their case.
    pub(super) fn known(&self, key: &str) -> Known<'_> {
        let is_it = |name: &str| name.eq_ignore_ascii_case(key);
        if let Some(wanted) = self.conditions.iter().find(|wanted| is_it(&wanted.key)) {
            return Known::Is(&wanted.value);
        }
        match self.context.iter().find(|(name, _)| is_it(name)) {
            Some((_, Some(value))) => Known::Is(value),
            Some((_, None)) => Known::Absent,
            None => Known::Unknown,
        }
    }

    /// The statement that has all of it.
    pub(super) fn statement(&self) -> Value {
        let (kind, name) = &self.principal;
        let actions = match self.actions {
            [action] => json!(action),
            actions => json!(actions),
        };
        let mut statement = json!({
            "Effect": "Allow",
            "Principal": {*kind: name},
            "Action": actions,
        });
        for wanted in &self.conditions {
            statement["Condition"][wanted.operator()][&wanted.key] = json!(wanted.value);
        }
        statement
    }

    /// A policy that has it and nothing else.
    pub(super) fn document(&self) -> Document {
        Document::of(self.statement())
    }
}

impl Wanted {
    /// The operator that compares so.
    pub(super) fn operator(&self) -> &'static str {
        match self.form {
            Form::Arn => "ArnLike",
            Form::Text if self.value.contains('*') => "StringLike",
            Form::Text => "StringEquals",
        }
    }
}

/// `https://docs.aws.amazon.com/eks/latest/userguide/pod-execution-role.html`;
/// the principal is the same in all partitions.
fn fargate(partition: Partition, region: &str, account: &str, cluster: &str) -> Wish {
    let profiles = |region: &str, account: &str, cluster: &str| {
        format!("arn:{partition}:eks:{region}:{account}:fargateprofile/{cluster}/*")
    };
    let profile = profiles(region, account, cluster);
    // One for each digit, so that a wildcard in the account's place is found.
    let strangers = (0..account.len()).map(|at| {
        let other = format!("{}{NO_NAME}{}", &account[..at], &account[at + 1..]);
        profiles(NO_NAME, &other, NO_NAME)
    });
    Wish {
        kind: "fargate",
        principal: ("Service", "eks-fargate-pods.amazonaws.com".to_owned()),
        actions: &[ASSUME],
        whom: format!("Fargate profiles {profile}"),
        conditions: vec![Wanted {
            key: "aws:SourceArn".to_owned(),
            value: profile,
            strangers: strangers.collect(),
            form: Form::Arn,
            else_whom: "Fargate profiles of other accounts (the confused deputy)",
        }],
        context: vec![("aws:sourceaccount", Some(account.to_owned()))],
        policy: Some(format!(
            "arn:{partition}:iam::aws:policy/AmazonEKSFargatePodExecutionRolePolicy"
        )),
        account: Some(account.to_owned()),
        partition: Some(partition),
    }
}

/// `https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html`
fn irsa(
    partition: Partition,
    account: &str,
    issuer: &str,
    audience: &str,
    subject: String,
) -> Wish {
    let text = |key: &str, value: String, stranger: &str, else_whom| Wanted {
        key: format!("{issuer}:{key}"),
        value,
        strangers: vec![stranger.to_owned()],
        form: Form::Text,
        else_whom,
    };
    let nobody = format!("system:serviceaccount:{NO_NAME}:{NO_NAME}");
    let mut sub = text(
        "sub",
        subject,
        &nobody,
        "other service accounts of the cluster",
    );
    if sub.value.ends_with(":*:*") {
        sub.strangers.clear();
    }
    Wish {
        kind: "irsa",
        principal: (
            "Federated",
            format!("arn:{partition}:iam::{account}:oidc-provider/{issuer}"),
        ),
        actions: &[ASSUME_BY_TOKEN],
        whom: sub.value.clone(),
        conditions: vec![
            text(
                "aud",
                audience.to_owned(),
                NO_NAME,
                "tokens that are for others than AWS",
            ),
            sub,
        ],
        context: Vec::new(),
        policy: None,
        account: Some(account.to_owned()),
        partition: Some(partition),
    }
}

/// By the session tags that EKS and credlet set.
fn pinned(pins: &Pins) -> Vec<Wanted> {
    let tags = [
        ("eks-cluster-name", &pins.cluster, "pods of other clusters"),
        (
            "kubernetes-namespace",
            &pins.namespace,
            "pods of other namespaces",
        ),
        (
            "kubernetes-service-account",
            &pins.service_account,
            "pods of other service accounts",
        ),
    ];
    let given = tags.into_iter().filter_map(|(tag, value, else_whom)| {
        let value = value.as_ref().filter(|value| *value != "*")?;
        Some(Wanted {
            key: format!("aws:RequestTag/{tag}"),
            value: value.clone(),
            strangers: vec![NO_NAME.to_owned()],
            form: Form::Text,
            else_whom,
        })
    });
    given.collect()
}

fn whom(pins: &Pins) -> String {
    let part = |name: &str, value: &Option<String>| {
        let value = value.as_ref()?;
        Some(format!("{name} {value}"))
    };
    let parts: Vec<String> = [
        part("cluster", &pins.cluster),
        part("namespace", &pins.namespace),
        part("service account", &pins.service_account),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() {
        "all pods".to_owned()
    } else {
        format!("pods of {}", parts.join(", "))
    }
}
