//! What the node's network is to be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;

use super::args::HostArgs;
use super::{Error, IdentityMode, usage};

/// Where instance metadata is, over IPv4.
pub const IMDS_IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where instance metadata is, over IPv6.
pub const IMDS_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// The node's link, addresses, and who answers at those of instance metadata.
#[derive(Clone, Debug)]
pub struct Network {
    /// The addresses to answer on. Loopback addresses need no set-up.
    pub addresses: Vec<IpAddr>,
    /// What carries them.
    pub link_kind: LinkKind,
    /// Whether what pods ask of instance metadata comes to this agent; `None`: it
    /// is left alone.
    pub imds: Option<Capture>,
}

/// What pods ask of instance metadata, and this agent gets.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Where to answer: without the IPv6 address if IPv6 is off. Nothing that
    /// pods send there reaches the node's own, either way.
    pub hosts: Vec<IpAddr>,
    /// What becomes of the pods that it is not for.
    pub others: ImdsOthers,
}

/// What the addresses are put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LinkKind {
    /// A dummy link where the kernel has them, else `lo`.
    Auto,
    /// A dummy link; a kernel without them is an error.
    Dummy,
    /// The loopback link.
    Lo,
}

/// Where pods' instance metadata comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImdsMode {
    /// From where it comes without credlet.
    Off,
    /// From this agent.
    Node,
}

/// What becomes of pods that have not asked for instance metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImdsOthers {
    /// They reach none.
    Block,
    /// They reach the node's own.
    Real,
}

impl HostArgs {
    pub(super) fn network(self) -> Result<Network, Error> {
        let Self {
            mut bind_hosts,
            disable_ipv6,
            link_kind,
            imds,
            imds_others,
        } = self;
        let mut imds_hosts = vec![IMDS_IPV4.into(), IMDS_IPV6.into()];
        if imds == ImdsMode::Node && bind_hosts.iter().any(|host| imds_hosts.contains(host)) {
            return Err(usage(
                "--bind-hosts",
                "names an address of instance metadata, which --imds node leaves to the node's own",
            ));
        }
        if disable_ipv6 {
            bind_hosts.retain(IpAddr::is_ipv4);
            imds_hosts.retain(IpAddr::is_ipv4);
        }
        if bind_hosts.is_empty() {
            return Err(usage("--bind-hosts", "names no address to listen on"));
        }
        let imds = match imds {
            ImdsMode::Off => None,
            ImdsMode::Node => Some(Capture {
                hosts: imds_hosts,
                others: imds_others,
            }),
        };
        Ok(Network {
            addresses: bind_hosts,
            link_kind,
            imds,
        })
    }
}

impl Network {
    /// Whether nobody has to tend it while the agent runs.
    pub(super) fn check_untended(&self) -> Result<(), Error> {
        let tended = self
            .imds
            .as_ref()
            .is_some_and(|capture| capture.others == ImdsOthers::Real);
        if tended {
            return Err(usage(
                "--imds-others",
                "is real, which takes a rule for each pod, and --setup-network is off",
            ));
        }
        Ok(())
    }

    /// Whether those can be known who will ask.
    pub(super) fn check_identity(&self, identity: IdentityMode) -> Result<(), Error> {
        match (identity, &self.imds) {
            (IdentityMode::Address, _) | (_, None) => Ok(()),
            (IdentityMode::Token | IdentityMode::Both, Some(_)) => Err(usage(
                "--identity",
                "takes a service account token, which nobody shows at instance metadata: --imds node takes address",
            )),
        }
    }
}
