//! The flags and their environment variables, as clap reads them.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{
    Exchange, IdentityMode, ImdsMode, ImdsOthers, ImdsPods, LinkKind, Log, Place, StatusAccess,
    StatusReports,
};
use crate::model::{SessionName, SessionScope, StsEndpoints, check_session_tag};

/// STS accepts 15 minutes, but nothing is served with less than 15 minutes left.
const SESSION_DURATION: std::ops::RangeInclusive<Duration> =
    Duration::from_mins(30)..=Duration::from_hours(12);

/// The per-node AWS credential agent for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "credlet", bin_name = "credlet", disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Serve AWS credentials to the pods of this node
    Run(Box<RunArgs>),
    /// Set up the link and addresses that pods ask, and end
    Netsetup(NetsetupArgs),
    /// Write into manifests what SDKs in their pods look for
    #[command(disable_help_flag = true)]
    Inject(Others),
    /// Serve AWS credentials to the pod that this is a container of
    #[command(disable_help_flag = true)]
    Sidecar(Others),
    /// Say why a pod has the credentials that it has, or none
    #[command(disable_help_flag = true)]
    Explain(Others),
    /// Show how an agent stands: its sources, and each account's session
    #[command(disable_help_flag = true)]
    Status(Others),
    /// Print, check or mend the trust policy of a role
    #[command(disable_help_flag = true)]
    TrustPolicy(Others),
    /// Say what is wrong on a node or in a cluster, and what to do about it
    #[command(disable_help_flag = true)]
    Doctor(Others),
    /// Mirror associations that are declared elsewhere into the cluster
    #[command(disable_help_flag = true)]
    Sync(Others),
    /// Give pods, as they are made, the environment that AWS SDKs look for
    #[command(disable_help_flag = true)]
    Webhook(Others),
    /// Print the version
    Version,
}

/// What another program reads.
#[derive(Debug, Args)]
pub(super) struct Others {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// This node's name in the API server [default: `NODE_NAME`, then the host name]
    #[arg(long, env = "CREDLET_NODE_NAME")]
    pub(super) node_name: Option<String>,
    /// The cluster's name; required by the source `eks`
    #[arg(long, env = "CREDLET_CLUSTER_NAME")]
    pub(super) cluster_name: Option<String>,
    /// The cluster's ARN, a session tag where an association does not bring it [default: none]
    #[arg(long, env = "CREDLET_CLUSTER_ARN", value_parser = cluster_arn)]
    pub(super) cluster_arn: Option<String>,
    #[command(flatten)]
    pub(super) hosts: HostArgs,
    /// The port that pods ask
    #[arg(long, env = "CREDLET_PORT", default_value_t = 80)]
    pub(super) port: u16,
    /// The port of /healthz and /readyz, on the same hosts
    #[arg(long, env = "CREDLET_PROBE_PORT", default_value_t = 2703)]
    pub(super) probe_port: u16,
    /// Where /metrics is served; empty turns it off
    #[arg(
        long,
        env = "CREDLET_METRICS_ADDRESS",
        default_value = "127.0.0.1:2705"
    )]
    pub(super) metrics_address: String,
    /// Who may look at the page and /status there: processes of this node, any, or none
    #[arg(long, env = "CREDLET_STATUS_ACCESS", value_enum, default_value_t = StatusAccess::Loopback)]
    pub(super) status_access: StatusAccess,
    /// Set up the link and addresses, and repair them while running
    #[arg(
        long,
        env = "CREDLET_SETUP_NETWORK",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    pub(super) setup_network: bool,
    /// Leave the link and addresses to somebody else
    #[arg(long, overrides_with = "setup_network")]
    pub(super) no_setup_network: bool,
    /// Where associations come from, the first that knows one wins
    /// [default: file (if there is one), crd, eks (if the cluster has a name), annotation]
    #[arg(long, env = "CREDLET_ASSOCIATION_SOURCES", value_delimiter = ',')]
    pub(super) association_sources: Option<Vec<SourceName>>,
    /// The file of the source `file`, YAML or JSON
    #[arg(long, env = "CREDLET_ASSOCIATION_FILE")]
    pub(super) association_file: Option<PathBuf>,
    /// What the annotations of the source `annotation` begin with, without the slash
    #[arg(
        long,
        env = "CREDLET_ANNOTATION_PREFIX",
        default_value = "eks.amazonaws.com"
    )]
    pub(super) annotation_prefix: String,
    /// Patterns of ARNs, one of which each role must fit: `*` is any text; can be
    /// given several times [default: any role]
    #[arg(long, env = "CREDLET_ALLOWED_ROLES", value_delimiter = ',')]
    pub(super) allowed_roles: Option<Vec<String>>,
    /// How a role is had whose association does not say it
    #[arg(long, env = "CREDLET_EXCHANGE", value_enum, default_value_t = Exchange::AssumeRole)]
    pub(super) exchange: Exchange,
    /// The audience of tokens for web identities, where the association names none
    #[arg(
        long,
        env = "CREDLET_WEB_IDENTITY_AUDIENCE",
        default_value = "sts.amazonaws.com"
    )]
    pub(super) web_identity_audience: String,
    /// What sessions are called: a text with {cluster}, {namespace}, {serviceAccount}, {pod}, {node}
    /// [default: {namespace}.{serviceAccount}]
    #[arg(long, env = "CREDLET_SESSION_NAME")]
    pub(super) session_name: Option<SessionName>,
    /// The source identity of sessions, with the same fields [default: none]
    #[arg(long, env = "CREDLET_SOURCE_IDENTITY")]
    pub(super) source_identity: Option<SessionName>,
    /// A further session tag, KEY=VALUE; can be given several times
    #[arg(long, env = "CREDLET_SESSION_TAG", value_delimiter = ',', value_parser = session_tag)]
    pub(super) session_tag: Vec<(String, String)>,
    /// How long a session lives: 30m to 12h, chained sessions 1h at most
    #[arg(long, env = "CREDLET_SESSION_DURATION", default_value = "1h", value_parser = session_duration)]
    pub(super) session_duration: Duration,
    /// Whose a session is: the service account's, for all its pods of the node, or each pod's
    #[arg(long, env = "CREDLET_SESSION_SCOPE", value_enum, default_value_t = SessionScope::ServiceAccount)]
    pub(super) session_scope: SessionScope,
    /// Which STS endpoint answers for the region
    #[arg(long, env = "AWS_STS_REGIONAL_ENDPOINTS", value_enum, default_value_t = StsEndpoints::Regional)]
    pub(super) sts_regional_endpoints: StsEndpoints,
    /// What a caller must show: its own address, a service account token, or both
    #[arg(long, env = "CREDLET_IDENTITY", value_enum, default_value_t = IdentityMode::Address)]
    pub(super) identity: IdentityMode,
    /// An audience of tokens that are accepted; can be given several times
    #[arg(
        long,
        env = "CREDLET_TOKEN_AUDIENCE",
        value_delimiter = ',',
        default_value = "pods.eks.amazonaws.com"
    )]
    pub(super) token_audience: Vec<String>,
    /// Say in the status of `PodIdentityAssociation`s what becomes of them
    #[arg(long, env = "CREDLET_ASSOCIATION_STATUS", value_enum, default_value_t = StatusReports::Off)]
    pub(super) association_status: StatusReports,
    /// Request a token from the API server where an exchange takes one and no pod has shown it
    #[arg(long, env = "CREDLET_REQUEST_TOKENS")]
    pub(super) request_tokens: bool,
    /// The key of the node's start-up taint, which is taken away once the agent is ready
    #[arg(long, env = "CREDLET_STARTUP_TAINT")]
    pub(super) startup_taint: Option<String>,
    /// How long the API server may be silent before an address alone names no pod,
    /// where the network shows no path for each pod
    #[arg(long, env = "CREDLET_MAX_POD_STALENESS", default_value = "5m", value_parser = duration)]
    pub(super) max_pod_staleness: Duration,
    /// Keeps the cluster's token keys (public ones) here across restarts
    #[arg(long, env = "CREDLET_STATE_DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// A kubeconfig file [default: in-cluster, then the usual file]
    #[arg(long, env = "CREDLET_KUBECONFIG")]
    pub(super) kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub(super) imds: ImdsArgs,
    #[command(flatten)]
    pub(super) log: Log,
}

/// What the instance metadata service answers, and to whom.
#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "flags are named after them")]
pub(super) struct ImdsArgs {
    /// Which pods get instance metadata: those that ask for it by a label, or all
    #[arg(long, env = "CREDLET_IMDS_PODS", value_enum, default_value_t = ImdsPods::OptedIn)]
    pub(super) imds_pods: ImdsPods,
    /// Answer instance metadata to requests with a session token alone (`IMDSv2`)
    #[arg(long, env = "CREDLET_IMDS_REQUIRE_V2")]
    pub(super) imds_require_v2: bool,
    /// What of the node's own metadata a pod may read: none, or where the node is
    #[arg(long, env = "CREDLET_IMDS_PASSTHROUGH", value_enum, default_value_t = PassthroughName::None)]
    pub(super) imds_passthrough: PassthroughName,
    /// Where the node is: region=NAME, availability-zone=NAME, availability-zone-id=NAME
    /// [default: what the node's own metadata says]
    #[arg(long, env = "CREDLET_IMDS_PLACEMENT", value_delimiter = ',', value_parser = place)]
    pub(super) imds_placement: Vec<(Place, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PassthroughName {
    None,
    Region,
}

#[derive(Debug, Args)]
pub(super) struct NetsetupArgs {
    /// Take away what an earlier call made
    #[arg(long)]
    pub(super) remove: bool,
    #[command(flatten)]
    pub(super) hosts: HostArgs,
}

#[derive(Debug, Args)]
pub(super) struct HostArgs {
    /// The addresses that pods ask
    #[arg(
        long,
        env = "CREDLET_BIND_HOSTS",
        value_delimiter = ',',
        value_parser = host,
        default_value = "169.254.170.23,[fd00:ec2::23]"
    )]
    pub(super) bind_hosts: Vec<IpAddr>,
    /// Do without IPv6, whatever the kernel has
    #[arg(long, env = "CREDLET_DISABLE_IPV6")]
    pub(super) disable_ipv6: bool,
    /// What carries the addresses
    #[arg(long, env = "CREDLET_LINK_KIND", value_enum, default_value_t = LinkKind::Auto)]
    pub(super) link_kind: LinkKind,
    /// Whose instance metadata pods reach: the node's own (off) or this agent's
    #[arg(long, env = "CREDLET_IMDS", value_enum, default_value_t = ImdsMode::Off)]
    pub(super) imds: ImdsMode,
    /// What pods reach that have not asked for it: none, or the node's own
    #[arg(long, env = "CREDLET_IMDS_OTHERS", value_enum, default_value_t = ImdsOthers::Block)]
    pub(super) imds_others: ImdsOthers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SourceName {
    File,
    Crd,
    Eks,
    Annotation,
}

/// An address to listen on. The unspecified address would answer strangers on
/// every network of the node, and no `Host` header could be checked against it.
fn host(text: &str) -> Result<IpAddr, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .map(|inner| inner.parse::<Ipv6Addr>().map(IpAddr::V6));
    let address = bare
        .unwrap_or_else(|| text.parse())
        .map_err(|_| "not an IP address".to_owned())?;
    if address.is_unspecified() || address.is_multicast() {
        return Err("not the address of one interface".to_owned());
    }
    Ok(address)
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<jiff::SignedDuration>();
    let duration = duration.map(Duration::try_from);
    let Ok(Ok(duration)) = duration else {
        return Err("not a duration, such as 5m".to_owned());
    };
    Ok(duration)
}

fn place(text: &str) -> Result<(Place, String), String> {
    let (place, name) = text.split_once('=').ok_or("not PLACE=NAME")?;
    let place =
        Place::named(place).ok_or("not region, availability-zone or availability-zone-id")?;
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_legal) {
        return Err("not the name of a place".to_owned());
    }
    Ok((place, name.to_owned()))
}

/// Or nothing, as an empty variable of the environment is.
fn cluster_arn(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_one = match parts[..] {
        ["arn", partition, "eks", region, account, resource] => {
            partition.starts_with("aws")
                && !region.is_empty()
                && account.len() == 12
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && (resource.strip_prefix("cluster/")).is_some_and(|name| !name.is_empty())
        }
        _ => text.is_empty(),
    };
    let is_short = text.len() <= 256;
    (is_one && is_short)
        .then(|| text.to_owned())
        .ok_or_else(|| "not arn:PARTITION:eks:REGION:ACCOUNT:cluster/NAME".to_owned())
}

fn session_tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("not KEY=VALUE")?;
    check_session_tag(key, value).map_err(|why| why.to_string())?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn session_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "not a duration from 30m to 12h".to_owned();
    let duration = duration(text).map_err(|_| wrong())?;
    if !SESSION_DURATION.contains(&duration) || duration.subsec_nanos() != 0 {
        return Err(wrong());
    }
    Ok(duration)
}
