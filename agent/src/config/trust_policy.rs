//! The flags of `credlet trust-policy`, and what they ask for.

use clap::{Args, Subcommand, ValueEnum};

use self::values::{account, audience, cluster, external_id, issuer, kubernetes_name, role};
use super::{Error, usage};
use crate::model::{Partition, RoleArn};

#[cfg(test)]
mod tests;
mod values;

/// What `credlet trust-policy` is asked for. Valid once built.
#[derive(Clone, Debug)]
pub struct TrustPolicy {
    /// Whom the role is to trust.
    pub trust: Trust,
    /// What to do about it.
    pub task: Task,
    /// How it is said.
    pub output: Output,
}

/// Whom a role is to trust. Regions, clusters, namespaces and service accounts
/// may have `*` for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Fargate, which runs a cluster's pods.
    Fargate {
        /// Where the cluster is.
        partition: Partition,
        /// The cluster's region.
        region: String,
        /// The cluster's account.
        account: String,
        /// The cluster's name.
        cluster: String,
    },
    /// A service account, by a token of its cluster's OIDC provider.
    Irsa {
        /// Where the role and the provider are.
        partition: Partition,
        /// The account of both.
        account: String,
        /// The issuer, without its scheme.
        issuer: String,
        /// The audience of the token.
        audience: String,
        /// The service account's namespace.
        namespace: String,
        /// The service account's name.
        service_account: String,
    },
    /// EKS, which assumes the role of an association.
    PodIdentity(Pins),
    /// credlet, which assumes the roles of a node's pods.
    Credlet {
        /// The role that the agent is.
        agent: RoleArn,
        /// That of the association.
        external_id: Option<String>,
        /// Whom the sessions are for.
        pins: Pins,
    },
}

/// Whom sessions are for, by their tags. `None`: anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// `eks-cluster-name`.
    pub cluster: Option<String>,
    /// `kubernetes-namespace`.
    pub namespace: Option<String>,
    /// `kubernetes-service-account`.
    pub service_account: Option<String>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Print the policy; AWS is not asked.
    Print,
    /// Say what of it a role has.
    Check(Role),
    /// Make a role that has it.
    Create(Role, Consent),
    /// Have a role have it.
    Update(Role, Consent),
}

/// Who says that a change may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// A person at a terminal, who is shown it.
    Asked,
    /// The command line.
    Given,
}

/// A role of the account that the credentials are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its path, with its slashes.
    pub path: String,
    /// Its name, unique in its account whatever the path.
    pub name: String,
    /// The whole, where it was given.
    pub arn: Option<RoleArn>,
}

/// How things are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For reading.
    Text,
    /// For scripts: one JSON object.
    Json,
}

#[derive(Debug, Args)]
pub(super) struct TrustPolicyArgs {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// A pod execution role: Fargate assumes it for a cluster's pods
    Fargate(FargateArgs),
    /// A role for service account tokens (IAM roles for service accounts)
    Irsa(IrsaArgs),
    /// A role of an EKS Pod Identity association
    PodIdentity(PodIdentityArgs),
    /// A role that credlet assumes for pods, as the node or as itself
    Credlet(CredletArgs),
}

#[derive(Debug, Args)]
struct FargateArgs {
    /// The cluster's region; `*` is any
    #[arg(long)]
    region: String,
    /// The account of the cluster and the role
    #[arg(long, value_parser = account)]
    account: String,
    /// The cluster's name; `*` is any text
    #[arg(long, value_parser = cluster)]
    cluster: String,
    /// The partition [default: the region's, and for `*` aws]
    #[arg(long)]
    partition: Option<Partition>,
    #[command(flatten)]
    task: TaskArgs,
}

#[derive(Debug, Args)]
struct IrsaArgs {
    /// The cluster's OIDC issuer, as `aws eks describe-cluster` names it
    #[arg(long, value_parser = issuer)]
    oidc_issuer: String,
    /// The account of the role and of the OIDC provider
    #[arg(long, value_parser = account)]
    account: String,
    /// The service account's namespace; `*` is any text
    #[arg(long, value_parser = kubernetes_name)]
    namespace: String,
    /// The service account's name; `*` is any text
    #[arg(long, value_parser = kubernetes_name)]
    service_account: String,
    /// The audience of the tokens
    #[arg(long, default_value = "sts.amazonaws.com", value_parser = audience)]
    audience: String,
    /// The partition [default: that of the region in the issuer's name, else aws]
    #[arg(long)]
    partition: Option<Partition>,
    #[command(flatten)]
    task: TaskArgs,
}

#[derive(Debug, Args)]
struct PodIdentityArgs {
    #[command(flatten)]
    pins: PinArgs,
    #[command(flatten)]
    task: TaskArgs,
}

#[derive(Debug, Args)]
struct CredletArgs {
    /// The ARN of the role that the agent is: the node's, or its own
    #[arg(long)]
    agent_role: RoleArn,
    /// The external id of the association
    #[arg(long, value_parser = external_id)]
    external_id: Option<String>,
    #[command(flatten)]
    pins: PinArgs,
    #[command(flatten)]
    task: TaskArgs,
}

#[derive(Debug, Args)]
struct PinArgs {
    /// Only for this cluster; `*` is any text [default: any]
    #[arg(long, value_parser = cluster)]
    cluster: Option<String>,
    /// Only for this namespace; `*` is any text [default: any]
    #[arg(long, value_parser = kubernetes_name)]
    namespace: Option<String>,
    /// Only for the service account of this name; `*` is any text [default: any]
    #[arg(long, value_parser = kubernetes_name)]
    service_account: Option<String>,
}

#[derive(Debug, Args)]
struct TaskArgs {
    /// Say point by point what this role, a name or an ARN, has of the policy; exit code 1 if anything is missing
    #[arg(long, value_name = "ROLE", value_parser = role, conflicts_with_all = ["create", "update"])]
    check: Option<Role>,
    /// Make a role of this name or ARN that has it; shows it first and asks
    #[arg(long, value_name = "ROLE", value_parser = role, conflicts_with = "update")]
    create: Option<Role>,
    /// Add to this role what is missing and keep the rest; shows the change first and asks
    #[arg(long, value_name = "ROLE", value_parser = role)]
    update: Option<Role>,
    /// Write without asking
    #[arg(long)]
    yes: bool,
    /// How it is said
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl TryFrom<TrustPolicyArgs> for TrustPolicy {
    type Error = Error;

    fn try_from(args: TrustPolicyArgs) -> Result<Self, Error> {
        // Each without `..`, so that a flag that nobody reads does not compile.
        let (trust, task) = match args.kind {
            Kind::Fargate(FargateArgs {
                region,
                account,
                cluster,
                partition,
                task,
            }) => {
                let trust = Trust::Fargate {
                    partition: partition_of(&region, partition)?,
                    region,
                    account,
                    cluster,
                };
                (trust, task)
            }
            Kind::Irsa(IrsaArgs {
                oidc_issuer,
                account,
                namespace,
                service_account,
                audience,
                partition,
                task,
            }) => {
                let named = oidc_issuer.split(['.', '/']).find_map(Partition::of_region);
                let trust = Trust::Irsa {
                    partition: partition.or(named).unwrap_or(Partition::Aws),
                    account,
                    issuer: oidc_issuer,
                    audience,
                    namespace,
                    service_account,
                };
                (trust, task)
            }
            Kind::PodIdentity(PodIdentityArgs { pins, task }) => {
                (Trust::PodIdentity(pins.into()), task)
            }
            Kind::Credlet(CredletArgs {
                agent_role,
                external_id,
                pins,
                task,
            }) => {
                let trust = Trust::Credlet {
                    agent: agent_role,
                    external_id,
                    pins: pins.into(),
                };
                (trust, task)
            }
        };
        let TaskArgs {
            check,
            create,
            update,
            yes,
            output,
        } = task;
        let consent = if yes { Consent::Given } else { Consent::Asked };
        let task = match (check, create, update) {
            (None, Some(role), _) => Task::Create(role, consent),
            (None, None, Some(role)) => Task::Update(role, consent),
            _ if yes => return Err(usage("--yes", "is for --create and --update")),
            (Some(role), ..) => Task::Check(role),
            (None, None, None) => Task::Print,
        };
        Ok(Self {
            trust,
            task,
            output,
        })
    }
}

impl From<PinArgs> for Pins {
    fn from(args: PinArgs) -> Self {
        let PinArgs {
            cluster,
            namespace,
            service_account,
        } = args;
        Self {
            cluster,
            namespace,
            service_account,
        }
    }
}

/// That of the region, which must be the given one.
fn partition_of(region: &str, given: Option<Partition>) -> Result<Partition, Error> {
    if region == "*" {
        return Ok(given.unwrap_or(Partition::Aws));
    }
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if region.is_empty() || !region.bytes().all(is_legal) {
        return Err(usage("--region", "is no region, nor `*`"));
    }
    match (Partition::of_region(region), given) {
        (Some(known), Some(given)) if known != given => Err(usage(
            "--partition",
            &format!("is not {known}, where --region is"),
        )),
        (Some(known), _) => Ok(known),
        (None, Some(given)) => Ok(given),
        (None, None) => Err(usage(
            "--region",
            "is none that credlet knows: give --partition, too",
        )),
    }
}
