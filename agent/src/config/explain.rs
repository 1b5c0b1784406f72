//! The flags of `credlet explain`, and what they ask for.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Annotated, Error, Output, usage};
use crate::model::ServiceAccount;

/// What `credlet explain` is asked for. Valid once built.
#[derive(Clone, Debug)]
pub struct Explain {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub name: String,
    /// Where the agents are.
    pub agent_namespace: String,
    /// Who serves accounts that are annotated and have no association.
    pub annotated: Annotated,
    /// Whether the pod's agent is asked, too.
    pub ask: Ask,
    /// How it is said.
    pub output: Output,
    /// `None`: in-cluster configuration, then the usual file.
    pub kubeconfig: Option<PathBuf>,
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The API server, and EKS where the agents do.
    Cluster,
    /// The pod's agent besides, which has the credentials fetched.
    Agent,
}

/// Of the command line.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Why a pod has the credentials that it has, or none
    Pod(Box<PodArgs>),
}

#[derive(Debug, Args)]
struct PodArgs {
    /// The pod: NAMESPACE/NAME
    pod: String,
    /// Ask the pod's agent, too, what it would answer the pod; secrets are not told
    #[arg(long)]
    as_caller: bool,
    /// The namespace of credlet's agents
    #[arg(long, default_value = "credlet")]
    agent_namespace: String,
    /// Who serves accounts that are annotated and have no association
    #[arg(long, value_enum, default_value_t = Annotated::Sts)]
    annotated: Annotated,
    /// How it is said
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// A kubeconfig file [default: in-cluster, then the usual file]
    #[arg(long, env = "CREDLET_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

impl TryFrom<ExplainArgs> for Explain {
    type Error = Error;

    fn try_from(args: ExplainArgs) -> Result<Self, Error> {
        let What::Pod(args) = args.what;
        let PodArgs {
            pod,
            as_caller,
            agent_namespace,
            annotated,
            output,
            kubeconfig,
        } = *args;
        // Pods are named by the rule of service accounts.
        let parts = pod.split_once('/');
        let named = parts.and_then(|(one, other)| ServiceAccount::new(one, other).ok());
        let named = named.ok_or_else(|| usage("the pod", "is not NAMESPACE/NAME"))?;
        ServiceAccount::new(&agent_namespace, "credlet")
            .map_err(|_| usage("--agent-namespace", "is no namespace's name"))?;
        Ok(Self {
            namespace: named.namespace().to_owned(),
            name: named.name().to_owned(),
            agent_namespace,
            annotated,
            ask: if as_caller { Ask::Agent } else { Ask::Cluster },
            output,
            kubeconfig,
        })
    }
}
