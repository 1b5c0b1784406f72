//! The command line and the environment, validated: the only reader of either.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use self::args::{Cli, NetsetupArgs, Others, RunArgs, Verb};
pub use self::doctor::{Doctor, Proxy, Vantage};
pub use self::error::Error;
use self::error::usage;
pub use self::exchange::{Annotated, Exchange, TokenRequests};
pub use self::explain::{Ask, Explain};
pub use self::imds::{Imds, ImdsPods, ImdsVersions, Passthrough, Place, Placement};
pub use self::injection::Injection;
pub use self::log::{Log, LogFormat, LogLevel};
pub use self::network::{Capture, IMDS_IPV4, IMDS_IPV6, ImdsMode, ImdsOthers, LinkKind, Network};
pub use self::reach::Reach;
use self::sources::sources;
pub use self::sources::{AssociationSource, Presence, StatusReports};
pub use self::status::{Colour, Status};
pub use self::taint::TaintKey;
pub use self::trust_policy::{Consent, Output, Pins, Role, Task, Trust, TrustPolicy};
use crate::model::{AllowedRoles, SessionName, SessionScope, StsEndpoints, check_session_tags};

mod args;
mod deployed;
mod doctor;
mod error;
mod exchange;
mod explain;
mod imds;
pub mod inject;
mod injection;
mod log;
mod network;
mod reach;
pub mod sidecar;
mod sources;
mod status;
pub mod sync;
mod taint;
#[cfg(test)]
mod tests;
pub mod tools;
mod trust_policy;
pub mod webhook;

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Serve this node.
    Run(Box<Config>),
    /// Set up the node's link and addresses, or take them away, and end.
    Netsetup(Network, NetsetupAction),
    /// Leave the whole command line to another program.
    Other(Program),
    /// Print the version and end.
    Version,
}

/// The programs beside the agent's. Each is small, so that what the agent or a
/// sidecar never runs is not in its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Serves one pod from inside it.
    Sidecar,
    /// All that is in nobody's way to credentials.
    Tools,
}

impl Program {
    /// Its file, in the agent's folder.
    pub fn file(self) -> &'static str {
        match self {
            Self::Sidecar => "credlet-sidecar",
            Self::Tools => "credlet-tools",
        }
    }
}

/// What `credlet netsetup` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetsetupAction {
    /// Makes what is missing.
    Ensure,
    /// Takes away what an earlier call made.
    Remove,
}

/// How `credlet run` serves its node. Valid once built.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node, as the API server names it.
    pub node_name: String,
    /// Where the front doors listen. Never empty, and without the IPv6 ones
    /// if IPv6 is off.
    pub bind_hosts: Vec<IpAddr>,
    /// The front doors' port; 0 takes a free one.
    pub port: u16,
    /// The probes' port, on the same hosts; 0 takes a free one.
    pub probe_port: u16,
    /// Where `/metrics` is served; `None` turns it off.
    pub metrics_address: Option<SocketAddr>,
    /// Who may look at the page and `/status` there.
    pub status_access: StatusAccess,
    /// The node's network, unless somebody else sets it up.
    pub network: Option<Network>,
    /// Where instance metadata is answered for pods; empty: nowhere.
    pub imds_hosts: Vec<IpAddr>,
    /// How it is answered.
    pub imds: Imds,
    /// Where associations come from, in order of precedence. Never empty.
    pub sources: Vec<AssociationSource>,
    /// What the annotations of service accounts begin with, without the slash.
    pub annotation_prefix: String,
    /// The roles that may be used; `None`: any.
    pub allowed_roles: Option<AllowedRoles>,
    /// Goes into session tags and names.
    pub cluster_name: Option<String>,
    /// Goes into session tags where the association does not bring it.
    pub cluster_arn: Option<String>,
    /// How a role is had whose association does not say it.
    pub exchange: Exchange,
    /// The audience of tokens for web identities.
    pub web_identity_audience: String,
    /// What sessions are called; `None`: after their service account.
    pub session_name: Option<SessionName>,
    /// The source identity of sessions.
    pub source_identity: Option<SessionName>,
    /// Further session tags.
    pub session_tags: BTreeMap<String, String>,
    /// How long a session lives, unless it is chained (then an hour at most).
    pub session_duration: Duration,
    /// Whose a session is.
    pub session_scope: SessionScope,
    /// Which STS endpoint answers for the region.
    pub sts_endpoints: StsEndpoints,
    /// What a caller must show.
    pub identity: IdentityMode,
    /// The audiences of tokens that are accepted. Never empty.
    pub token_audiences: Vec<String>,
    /// Whether what becomes of declarations is said in their status.
    pub status_reports: StatusReports,
    /// Whether the API server is asked for tokens that no pod has shown.
    pub token_requests: TokenRequests,
    /// What is taken from this node once it is served.
    pub startup_taint: Option<TaintKey>,
    /// How old the pods may be for an address alone to name one.
    pub max_pod_staleness: Duration,
    /// Where the agent keeps what its successor may use. `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// `None`: in-cluster configuration, then the usual file.
    pub kubeconfig: Option<PathBuf>,
    /// How logs look.
    pub log: Log,
}

/// Who may look at how an agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusAccess {
    /// Processes on the node's own network.
    Loopback,
    /// All who reach the metrics address.
    Any,
    /// Nobody.
    None,
}

/// What a caller must show to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IdentityMode {
    /// A pod's own address; a token is optional, but must agree.
    Address,
    /// A token, from the pod's own address where that is known.
    Token,
    /// A token, from the pod's own address.
    Both,
}

impl Command {
    /// Reads the command line, and the environment for what it leaves out.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        match parsed::<Cli>(args)?.verb {
            Verb::Run(args) => Ok(Self::Run(Box::new(Config::try_from(*args)?))),
            Verb::Netsetup(NetsetupArgs { remove, hosts }) => {
                let action = if remove {
                    NetsetupAction::Remove
                } else {
                    NetsetupAction::Ensure
                };
                Ok(Self::Netsetup(hosts.network()?, action))
            }
            Verb::Doctor(Others { .. })
            | Verb::Explain(Others { .. })
            | Verb::Inject(Others { .. })
            | Verb::Status(Others { .. })
            | Verb::Sync(Others { .. })
            | Verb::TrustPolicy(Others { .. })
            | Verb::Webhook(Others { .. }) => Ok(Self::Other(Program::Tools)),
            Verb::Sidecar(Others { .. }) => Ok(Self::Other(Program::Sidecar)),
            Verb::Version => Ok(Self::Version),
        }
    }
}

/// Reads a program's command line.
fn parsed<C: Parser>(args: impl IntoIterator<Item = OsString>) -> Result<C, Error> {
    C::try_parse_from(args).map_err(Error::from)
}

impl TryFrom<RunArgs> for Config {
    type Error = Error;

    fn try_from(args: RunArgs) -> Result<Self, Error> {
        // Without `..`, so that a flag that nobody reads does not compile.
        let RunArgs {
            node_name,
            cluster_name,
            cluster_arn,
            hosts,
            port,
            probe_port,
            metrics_address,
            status_access,
            setup_network,
            no_setup_network,
            association_sources,
            association_file,
            annotation_prefix,
            allowed_roles,
            exchange,
            web_identity_audience,
            session_name,
            source_identity,
            session_tag,
            session_duration,
            session_scope,
            sts_regional_endpoints,
            identity,
            token_audience,
            association_status,
            request_tokens,
            startup_taint,
            max_pod_staleness,
            state_dir,
            kubeconfig,
            imds,
            log,
        } = args;
        let cluster_name = cluster_name.filter(|name| !name.is_empty());
        if port != 0 && port == probe_port {
            return Err(usage("--probe-port", "is the same as --port"));
        }
        check_pod_names(
            session_scope,
            session_name.as_ref(),
            source_identity.as_ref(),
        )?;
        if web_identity_audience.is_empty() {
            return Err(usage("--web-identity-audience", "is empty"));
        }
        let network = hosts.network()?;
        let sets_up = setup_network && !no_setup_network;
        if !sets_up {
            network.check_untended()?;
        }
        network.check_identity(identity)?;
        let imds_hosts = network.imds.iter().flat_map(|capture| &capture.hosts);
        let sources = sources(
            association_sources,
            association_file.as_ref(),
            cluster_name.as_deref(),
            exchange,
        )?;
        let allowed_roles = roles(allowed_roles, &sources)?;
        Ok(Self {
            node_name: node_name_or_host(node_name)?,
            bind_hosts: network.addresses.clone(),
            imds_hosts: imds_hosts.copied().collect(),
            imds: imds.settings()?,
            port,
            probe_port,
            metrics_address: optional_address("--metrics-address", &metrics_address)?,
            status_access,
            network: sets_up.then_some(network),
            sources,
            annotation_prefix: prefix(annotation_prefix)?,
            allowed_roles,
            cluster_name,
            cluster_arn: cluster_arn.filter(|arn| !arn.is_empty()),
            exchange,
            session_name,
            source_identity,
            session_tags: session_tags(session_tag)?,
            session_duration,
            session_scope,
            sts_endpoints: sts_regional_endpoints,
            identity,
            token_audiences: audiences(token_audience, &web_identity_audience)?,
            token_requests: request_tokens.into(),
            status_reports: association_status,
            startup_taint: TaintKey::given(startup_taint)?,
            web_identity_audience,
            max_pod_staleness,
            state_dir: state_dir.filter(|path| !path.as_os_str().is_empty()),
            kubeconfig,
            log,
        })
    }
}

/// Names with the pod in them are for sessions of one pod.
fn check_pod_names(
    scope: SessionScope,
    session: Option<&SessionName>,
    source: Option<&SessionName>,
) -> Result<(), Error> {
    for (flag, name) in [("--session-name", session), ("--source-identity", source)] {
        if name.is_some_and(SessionName::names_pod) && scope != SessionScope::Pod {
            return Err(usage(
                flag,
                "names the pod, which takes --session-scope pod",
            ));
        }
    }
    Ok(())
}

fn node_name_or_host(given: Option<String>) -> Result<String, Error> {
    let host = || nix::unistd::gethostname().ok()?.into_string().ok();
    given
        .or_else(|| std::env::var("NODE_NAME").ok())
        .or_else(host)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| usage("--node-name", "is not given, and the host has no name"))
}

fn roles(
    given: Option<Vec<String>>,
    sources: &[AssociationSource],
) -> Result<Option<AllowedRoles>, Error> {
    // As an empty variable of the environment gives it.
    let given = given.filter(|given| given.iter().any(|text| !text.is_empty()));
    let hides_roles = |source| matches!(source, &AssociationSource::EksAuth { .. });
    if given.is_some() && sources.iter().any(hides_roles) {
        return Err(usage(
            "--allowed-roles",
            "cannot be held where --exchange is eks-auth: only EKS knows the roles",
        ));
    }
    let parse = |given: Vec<String>| AllowedRoles::new(given.iter().map(String::as_str));
    let allowed = given.map(parse).transpose();
    allowed.map_err(|why| usage("--allowed-roles", &format!("names {why}")))
}

/// A DNS subdomain, as what comes before the slash of an annotation's key.
fn prefix(text: String) -> Result<String, Error> {
    let is_legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    if text.is_empty() || text.len() > 253 || !text.bytes().all(is_legal) {
        return Err(usage("--annotation-prefix", "is no DNS name"));
    }
    Ok(text)
}

/// As STS accepts them beside those that credlet sets.
fn session_tags(given: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Error> {
    check_session_tags(given.iter().map(|(key, value)| (key, value)))
        .map_err(|why| usage("--session-tag", &format!("is refused: {why}")))?;
    Ok(given.into_iter().collect())
}

/// Those that are given, and that of the tokens which AWS is shown.
fn audiences(mut given: Vec<String>, web_identity: &str) -> Result<Vec<String>, Error> {
    if given.is_empty() || given.iter().any(String::is_empty) {
        return Err(usage("--token-audience", "names no audience"));
    }
    if !given.iter().any(|audience| audience == web_identity) {
        given.push(web_identity.to_owned());
    }
    Ok(given)
}

fn optional_address(flag: &str, text: &str) -> Result<Option<SocketAddr>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = text
        .parse()
        .map_err(|_| usage(flag, "is not ADDRESS:PORT, nor empty"))?;
    Ok(Some(address))
}
