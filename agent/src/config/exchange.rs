//! How roles are had.

use clap::ValueEnum;
use serde::Deserialize;

/// How a role is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Exchange {
    /// The agent's own identity assumes it (`sts:AssumeRole`).
    AssumeRole,
    /// A token of the pod's does (`sts:AssumeRoleWithWebIdentity`).
    WebIdentity,
    /// EKS knows which it is (`eks-auth:AssumeRoleForPodIdentity`).
    EksAuth,
}

/// Who serves an account that says by annotations which role it is, and not how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Annotated {
    /// STS, whom its pods ask for themselves.
    #[default]
    Sts,
    /// The agent.
    Agent,
}

/// Whether tokens are requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenRequests {
    /// They are not: the agent may not.
    #[default]
    Off,
    /// They are, for pods that have shown none.
    On,
}

impl From<bool> for TokenRequests {
    fn from(are_wanted: bool) -> Self {
        if are_wanted { Self::On } else { Self::Off }
    }
}
