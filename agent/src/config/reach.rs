//! Which agent a tool asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use super::{Error, optional_address, usage};

/// Which agent is asked, and by which way. Valid once built.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The node whose agent it is; `None`: the one that this process is on.
    pub node: Option<String>,
    /// The namespace that agents run in.
    pub namespace: String,
    /// Where the agent tells of itself, as its own node sees it.
    pub address: SocketAddr,
    /// `None`: in-cluster configuration, then the usual file.
    pub kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ReachArgs {
    /// The node whose agent is asked, through the API server [default: the node that this runs on]
    #[arg(long)]
    node: Option<String>,
    /// The namespace that credlet is installed in
    #[arg(long, default_value = "credlet")]
    namespace: String,
    /// Where the agent tells of itself, as it was told
    #[arg(
        long,
        env = "CREDLET_METRICS_ADDRESS",
        default_value = "127.0.0.1:2705"
    )]
    metrics_address: String,
    /// A kubeconfig file, with --node [default: in-cluster, then the usual file]
    #[arg(long, env = "CREDLET_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

impl TryFrom<ReachArgs> for Reach {
    type Error = Error;

    fn try_from(args: ReachArgs) -> Result<Self, Error> {
        let ReachArgs {
            node,
            namespace,
            metrics_address,
            kubeconfig,
        } = args;
        // They become part of a path.
        let is_name = |text: &str| {
            let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
            !text.is_empty() && text.len() <= 253 && text.bytes().all(is_legal)
        };
        let node = node.filter(|node| !node.is_empty());
        if node.as_deref().is_some_and(|node| !is_name(node)) {
            return Err(usage("--node", "is no name of a node"));
        }
        if !is_name(&namespace) {
            return Err(usage("--namespace", "is no name of a namespace"));
        }
        let address = optional_address("--metrics-address", &metrics_address)?;
        let Some(mut address) = address else {
            return Err(usage(
                "--metrics-address",
                "is empty: the agent tells nothing",
            ));
        };
        // Where a process listens everywhere it is asked at loopback.
        match address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        Ok(Self {
            node,
            namespace,
            address,
            kubeconfig,
        })
    }
}
