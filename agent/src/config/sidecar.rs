//! `credlet sidecar`: its flags, and how it serves the pod that it is in.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::args::session_duration;
use super::{Error, ImdsVersions, LinkKind, Log, Network, parsed, usage};
use crate::model::{Field, Part, RoleArn, ServiceAccount, SessionName, StsEndpoints};

#[cfg(test)]
mod tests;

/// What the EKS webhook sets for IRSA, and people for its like elsewhere.
const ROLE_ARN: &str = "AWS_ROLE_ARN";
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
/// Where SDKs ask for credentials: the sidecar's own, if others share its environment.
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Serve the pod that this process is in.
    Serve(Box<Sidecar>),
    /// Give this pod's `lo` what a sidecar listens on, and end.
    Setup(Network),
}

impl Command {
    /// Reads the command line, and the environment for what it leaves out.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        let Verb::Sidecar(args) = parsed::<Cli>(args)?.verb;
        if args.setup {
            return Ok(Self::Setup(args.network()));
        }
        Ok(Self::Serve(Box::new(Sidecar::try_from(*args)?)))
    }
}

/// How `credlet sidecar` serves its pod. Valid once built.
#[derive(Clone, Debug)]
pub struct Sidecar {
    /// Where it listens. Never empty.
    pub bind: Vec<SocketAddr>,
    /// The probes' port, on all of the pod's addresses; 0 takes a free one.
    pub probe_port: u16,
    /// The pod's role.
    pub role: Role,
    /// How the role is had.
    pub exchange: Exchange,
    /// Whose pod it is.
    pub account: Account,
    /// Which versions of instance metadata are spoken.
    pub imds_versions: ImdsVersions,
    /// What sessions are called; `None`: after their service account.
    pub session_name: Option<SessionName>,
    /// How long a session lives.
    pub session_duration: Duration,
    /// Which STS endpoint answers for the region.
    pub sts_endpoints: StsEndpoints,
    /// How logs look.
    pub log: Log,
}

/// Where the role's ARN is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// On the command line, or in the environment.
    Given(RoleArn),
    /// In a file, as the downward API writes an annotation; read again.
    File(PathBuf),
}

/// How the role is had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// The token of this file does (`sts:AssumeRoleWithWebIdentity`).
    WebIdentity(PathBuf),
    /// What credentials the pod's environment has assume it (`sts:AssumeRole`).
    AssumeRole(Container),
}

/// Whether the container credentials endpoint that the environment names may be
/// asked for the credentials that assume the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// It is another's: the EKS Pod Identity Agent's, say.
    Other,
    /// It is the sidecar itself, which would wait for itself.
    Own,
}

/// Whose pod it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// This one's.
    Given(ServiceAccount),
    /// That of the token in this file.
    OfToken(PathBuf),
}

/// The AWS credentials of one pod, from inside it.
#[derive(Debug, Parser)]
#[command(name = "credlet", bin_name = "credlet", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve AWS credentials to the pod that this is a container of
    Sidecar(Box<SidecarArgs>),
}

#[derive(Debug, Args)]
struct SidecarArgs {
    /// Give the pod's `lo` the addresses of --bind, and end: for an init container
    #[arg(long)]
    setup: bool,
    /// Where it listens, ADDRESS:PORT; can be given several times
    #[arg(
        long,
        env = "CREDLET_BIND",
        value_delimiter = ',',
        value_parser = bind,
        default_value = "169.254.169.254:80,169.254.170.23:80,[fd00:ec2::254]:80,[fd00:ec2::23]:80"
    )]
    bind: Vec<SocketAddr>,
    /// The port of /healthz and /readyz, on all of the pod's addresses
    #[arg(long, env = "CREDLET_PROBE_PORT", default_value_t = 2703)]
    probe_port: u16,
    /// The pod's role [default: `AWS_ROLE_ARN`]
    #[arg(long, env = "CREDLET_ROLE_ARN")]
    role_arn: Option<String>,
    /// A file with the role's ARN, for an annotation by the downward API; read again
    #[arg(long, env = "CREDLET_ROLE_ARN_FILE")]
    role_arn_file: Option<PathBuf>,
    /// How the role is had
    #[arg(long, env = "CREDLET_EXCHANGE", value_enum, default_value_t = ExchangeName::WebIdentity)]
    exchange: ExchangeName,
    /// The file of the pod's service account token; read for each session
    /// [default: `AWS_WEB_IDENTITY_TOKEN_FILE`]
    #[arg(long, env = "CREDLET_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The pod's service account, NAMESPACE/NAME [default: the token's]
    #[arg(long, env = "CREDLET_SERVICE_ACCOUNT", value_parser = account)]
    service_account: Option<ServiceAccount>,
    /// Answer no request for instance metadata without a session token
    #[arg(long, env = "CREDLET_IMDS_REQUIRE_V2")]
    imds_require_v2: bool,
    /// What sessions are called: a text with {namespace}, {serviceAccount}, {pod}
    /// [default: {namespace}.{serviceAccount}]
    #[arg(long, env = "CREDLET_SESSION_NAME")]
    session_name: Option<SessionName>,
    /// How long a session lives: 30m to 12h, where a session assumes the role 1h at most
    #[arg(long, env = "CREDLET_SESSION_DURATION", default_value = "1h", value_parser = session_duration)]
    session_duration: Duration,
    /// Which STS endpoint answers for the region
    #[arg(long, env = "AWS_STS_REGIONAL_ENDPOINTS", value_enum, default_value_t = StsEndpoints::Regional)]
    sts_regional_endpoints: StsEndpoints,
    #[command(flatten)]
    log: Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExchangeName {
    WebIdentity,
    AssumeRole,
}

impl SidecarArgs {
    /// What `--setup` is to make.
    fn network(&self) -> Network {
        Network {
            addresses: self.bind.iter().map(SocketAddr::ip).collect(),
            link_kind: LinkKind::Lo,
            imds: None,
        }
    }
}

impl TryFrom<SidecarArgs> for Sidecar {
    type Error = Error;

    fn try_from(args: SidecarArgs) -> Result<Self, Error> {
        // Without `..`, so that a flag that nobody reads does not compile.
        let SidecarArgs {
            setup: _, // is another command
            bind,
            probe_port,
            role_arn,
            role_arn_file,
            exchange,
            token_file,
            service_account,
            imds_require_v2,
            session_name,
            session_duration,
            sts_regional_endpoints,
            log,
        } = args;
        if probe_port != 0 && bind.iter().any(|bind| bind.port() == probe_port) {
            return Err(usage("--probe-port", "is a port of --bind"));
        }
        if session_name.as_ref().is_some_and(names_node) {
            return Err(usage(
                "--session-name",
                "names the cluster or the node, which a pod does not know",
            ));
        }
        let token_file = path(token_file).or_else(|| path(variable(TOKEN_FILE).map(PathBuf::from)));
        let account = match (service_account, &token_file) {
            (Some(account), _) => Account::Given(account),
            (None, Some(file)) => Account::OfToken(file.clone()),
            (None, None) => {
                return Err(usage(
                    "--token-file",
                    "is not given, so that nothing says whose pod this is",
                ));
            }
        };
        let exchange = match (exchange, token_file) {
            (ExchangeName::WebIdentity, Some(file)) => Exchange::WebIdentity(file),
            (ExchangeName::WebIdentity, None) => {
                return Err(usage("--token-file", "is required by web-identity"));
            }
            (ExchangeName::AssumeRole, _) => {
                Exchange::AssumeRole(container(variable(FULL_URI).as_deref(), &bind))
            }
        };
        Ok(Self {
            bind,
            probe_port,
            role: role(role_arn, role_arn_file)?,
            exchange,
            account,
            imds_versions: imds_require_v2.into(),
            session_name,
            session_duration,
            sts_endpoints: sts_regional_endpoints,
            log,
        })
    }
}

/// An annotation that the pod does not have is an empty variable.
fn role(given: Option<String>, file: Option<PathBuf>) -> Result<Role, Error> {
    let parse = |flag, text: String| {
        let role = text.parse().map(Role::Given);
        role.map_err(|why| usage(flag, &format!("is {why}")))
    };
    let present = |text: &String| !text.is_empty();
    if let Some(text) = given.filter(present) {
        return parse("--role-arn", text);
    }
    if let Some(file) = path(file) {
        return Ok(Role::File(file));
    }
    match variable(ROLE_ARN).filter(present) {
        Some(text) => parse(ROLE_ARN, text),
        None => Err(usage("--role-arn", "is not given, nor is AWS_ROLE_ARN")),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn path(given: Option<PathBuf>) -> Option<PathBuf> {
    given.filter(|path| !path.as_os_str().is_empty())
}

fn names_node(name: &SessionName) -> bool {
    let is_nodes = |part: &Part| match part {
        Part::Field(Field::Cluster | Field::Node) => true,
        Part::Field(Field::Namespace | Field::ServiceAccount | Field::Pod) | Part::Text(_) => false,
    };
    name.parts().iter().any(is_nodes)
}

/// Whether what SDKs in this environment ask is the sidecar.
fn container(uri: Option<&str>, bind: &[SocketAddr]) -> Container {
    let Some(rest) = uri.and_then(|uri| uri.strip_prefix("http://")) else {
        return Container::Other;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let local = authority.strip_prefix("localhost");
    let authority = local.map_or(authority.to_owned(), |port| format!("127.0.0.1{port}"));
    let address = authority.parse::<SocketAddr>();
    let bare = authority.trim_matches(['[', ']']);
    let address = address.or_else(|_| bare.parse::<IpAddr>().map(|host| (host, 80).into()));
    match address {
        Ok(address) if bind.contains(&address) => Container::Own,
        Ok(_) | Err(_) => Container::Other,
    }
}

/// An address of one interface: the unspecified one would listen to strangers.
fn bind(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "not ADDRESS:PORT".to_owned())?;
    if address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err("not the address of one interface".to_owned());
    }
    Ok(address)
}

fn account(text: &str) -> Result<ServiceAccount, String> {
    let (namespace, name) = text.split_once('/').ok_or("not NAMESPACE/NAME")?;
    ServiceAccount::new(namespace, name).map_err(|why| why.to_string())
}
