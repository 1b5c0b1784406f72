//! The flags of `credlet doctor`, and what they ask for.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::args::{HostArgs, SourceName};
use super::sources::sources;
use super::{
    AssociationSource, Colour, Error, Exchange, Network, Output, StatusReports, TaintKey,
    TokenRequests, optional_address, prefix, usage,
};

/// What `credlet doctor` looks at. Valid once built.
///
/// What is the agent's setting, too, has the agent's variable, so that it holds
/// for both where the agent runs.
#[derive(Clone, Debug)]
pub struct Doctor {
    /// From where it looks; `None`: as it finds itself.
    pub vantage: Option<Vantage>,
    /// The node, as the API server names it.
    pub node_name: Option<String>,
    /// What the agent makes of the node's network.
    pub network: Network,
    /// The front doors' port.
    pub port: u16,
    /// The probes' port.
    pub probe_port: u16,
    /// Where the agent's metrics are, if they are served.
    pub metrics_address: Option<SocketAddr>,
    /// The cluster, as EKS names it.
    pub cluster_name: Option<String>,
    /// How a role is had whose association does not say it.
    pub exchange: Exchange,
    /// Where the agent looks for associations.
    pub sources: Vec<AssociationSource>,
    /// What the annotations of service accounts begin with.
    pub annotation_prefix: String,
    /// Whether the agent requests tokens.
    pub token_requests: TokenRequests,
    /// Whether the agent writes statuses of associations.
    pub status_reports: StatusReports,
    /// The taint that nodes start with, and the agent removes.
    pub startup_taint: Option<TaintKey>,
    /// The namespace that credlet is installed in.
    pub namespace: String,
    /// `None`: in-cluster configuration, then the usual file.
    pub kubeconfig: Option<PathBuf>,
    /// How HTTPS leaves this machine.
    pub proxy: Proxy,
    /// How findings are said.
    pub output: Output,
    /// Whether text may be coloured on a terminal.
    pub colour: Colour,
}

/// From where it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Vantage {
    /// From a node, in its own network.
    Node,
    /// From anywhere else.
    Outside,
}

/// How HTTPS leaves this machine, as the environment says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// `HTTPS_PROXY` or `ALL_PROXY`. May have a password in it.
    https: Option<String>,
    /// `NO_PROXY`.
    except: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// From where to look: this node, or elsewhere [default: node in an agent's pod
    /// and where the agent's addresses are, else outside]
    #[arg(long, value_enum)]
    from: Option<Vantage>,
    /// The node's name in the API server [default: `NODE_NAME`]
    #[arg(long, env = "CREDLET_NODE_NAME")]
    node_name: Option<String>,
    /// The cluster's name, as EKS knows it
    #[arg(long, env = "CREDLET_CLUSTER_NAME")]
    cluster_name: Option<String>,
    #[command(flatten)]
    hosts: HostArgs,
    /// The port that pods ask
    #[arg(long, env = "CREDLET_PORT", default_value_t = 80)]
    port: u16,
    /// The port of the agent's /healthz and /readyz
    #[arg(long, env = "CREDLET_PROBE_PORT", default_value_t = 2703)]
    probe_port: u16,
    /// Where the agent's /metrics is served; empty: nowhere
    #[arg(
        long,
        env = "CREDLET_METRICS_ADDRESS",
        default_value = "127.0.0.1:2705"
    )]
    metrics_address: String,
    /// Where the agent looks for associations
    /// [default: file (if there is one), crd, eks (if the cluster has a name), annotation]
    #[arg(long, env = "CREDLET_ASSOCIATION_SOURCES", value_delimiter = ',')]
    association_sources: Option<Vec<SourceName>>,
    /// The file of the source `file`
    #[arg(long, env = "CREDLET_ASSOCIATION_FILE")]
    association_file: Option<PathBuf>,
    /// What the annotations of the source `annotation` begin with, without the slash
    #[arg(
        long,
        env = "CREDLET_ANNOTATION_PREFIX",
        default_value = "eks.amazonaws.com"
    )]
    annotation_prefix: String,
    /// How a role is had whose association does not say it
    #[arg(long, env = "CREDLET_EXCHANGE", value_enum, default_value_t = Exchange::AssumeRole)]
    exchange: Exchange,
    /// Whether the agent requests tokens that no pod has shown
    #[arg(long, env = "CREDLET_REQUEST_TOKENS")]
    request_tokens: bool,
    /// Whether the agent says in the status of associations what becomes of them
    #[arg(long, env = "CREDLET_ASSOCIATION_STATUS", value_enum, default_value_t = StatusReports::Off)]
    association_status: StatusReports,
    /// The key of the taint that nodes start with, and the agent removes [default: none]
    #[arg(long, env = "CREDLET_STARTUP_TAINT")]
    startup_taint: Option<String>,
    /// The namespace that credlet is installed in
    #[arg(long, default_value = "credlet")]
    namespace: String,
    /// A kubeconfig file [default: in-cluster, then the usual file]
    #[arg(long, env = "CREDLET_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// How findings are said
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl TryFrom<DoctorArgs> for Doctor {
    type Error = Error;

    fn try_from(args: DoctorArgs) -> Result<Self, Error> {
        // Without `..`, so that a flag that nobody reads does not compile.
        let DoctorArgs {
            from,
            node_name,
            cluster_name,
            hosts,
            port,
            probe_port,
            metrics_address,
            association_sources,
            association_file,
            annotation_prefix,
            exchange,
            request_tokens,
            association_status,
            startup_taint,
            namespace,
            kubeconfig,
            output,
        } = args;
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let cluster_name = filled(cluster_name);
        let node_name = filled(node_name).or_else(|| variable("NODE_NAME"));
        let is_label =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if namespace.is_empty() || namespace.len() > 63 || !namespace.bytes().all(is_label) {
            return Err(usage("--namespace", "is no name of a namespace"));
        }
        // As the agent's own pod has it.
        let is_in_pod = variable("KUBERNETES_SERVICE_HOST").is_some();
        let on_node = (is_in_pod || node_name.is_some()).then_some(Vantage::Node);
        let is_coloured = variable("NO_COLOR").is_none();
        Ok(Self {
            vantage: from.or(on_node),
            node_name,
            network: hosts.network()?,
            port,
            probe_port,
            metrics_address: optional_address("--metrics-address", &metrics_address)?,
            sources: sources(
                association_sources,
                association_file.as_ref(),
                cluster_name.as_deref(),
                exchange,
            )?,
            cluster_name,
            exchange,
            annotation_prefix: prefix(annotation_prefix)?,
            token_requests: request_tokens.into(),
            status_reports: association_status,
            startup_taint: TaintKey::given(startup_taint)?,
            namespace,
            kubeconfig,
            proxy: Proxy::from_env(),
            output,
            colour: if is_coloured {
                Colour::Auto
            } else {
                Colour::Never
            },
        })
    }
}

impl Proxy {
    /// Of these, as variables have them.
    pub fn new(https: Option<String>, except: &str) -> Self {
        let except = except.split(',').map(str::trim);
        let except = except.filter(|text| !text.is_empty());
        Self {
            https,
            except: except.map(str::to_owned).collect(),
        }
    }

    fn from_env() -> Self {
        let variable = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| std::env::var(name).ok());
            values.find(|text| !text.is_empty())
        };
        let https = variable(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]);
        let except = variable(&["NO_PROXY", "no_proxy"]);
        Self::new(https, &except.unwrap_or_default())
    }

    /// `HOST:PORT` of the proxy that a host is reached by, if any: never what is
    /// before it in the address, a password perhaps.
    pub fn of(&self, host: &str) -> Option<String> {
        let is_excepted = self.except.iter().any(|except| {
            let suffix = except.trim_start_matches('*').trim_start_matches('.');
            except == "*"
                || host == suffix
                || host
                    .strip_suffix(suffix)
                    .is_some_and(|rest| rest.ends_with('.'))
        });
        let url = self.https.as_deref().filter(|_| !is_excepted)?;
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.split('/').next()?;
        let bare = rest.rsplit_once('@').map_or(rest, |(_, bare)| bare);
        let default = if url.starts_with("https:") { 443 } else { 80 };
        let has_port = bare.rsplit_once(':').is_some_and(|(_, port)| {
            !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
        });
        Some(if has_port {
            bare.to_owned()
        } else {
            format!("{bare}:{default}")
        })
    }
}

/// Without what may be a password.
impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy")
            .field("https", &self.of(""))
            .field("except", &self.except)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_without_its_password_and_not_for_the_hosts_excepted() {
        let proxy = Proxy::new(
            Some("http://user:secret@proxy.example:3128/".into()),
            "localhost, .internal,eks.eu-central-1.amazonaws.com",
        );
        let named = Some("proxy.example:3128".to_owned());
        assert_eq!(proxy.of("sts.eu-central-1.amazonaws.com"), named);
        assert_eq!(proxy.of("eks.eu-central-1.amazonaws.com"), None);
        assert_eq!(proxy.of("a.internal"), None);
        assert_eq!(proxy.of("ainternal"), named);
        assert!(!format!("{proxy:?}").contains("secret"));
        let bare = Proxy::new(Some("https://proxy.example".into()), "");
        assert_eq!(bare.of("host"), Some("proxy.example:443".to_owned()));
        assert_eq!(Proxy::default().of("host"), None);
    }
}
