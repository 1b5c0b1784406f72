//! The command line of `credlet-tools`: a verb for each tool.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use super::doctor::{Doctor, DoctorArgs};
use super::explain::{Explain, ExplainArgs};
use super::inject::{Inject, InjectArgs};
use super::status::{Status, StatusArgs};
use super::sync::{Sync, SyncArgs};
use super::trust_policy::{TrustPolicy, TrustPolicyArgs};
use super::webhook::{Webhook, WebhookArgs};
use super::{Error, parsed};

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Inject into manifests.
    Inject(Box<Inject>),
    /// Say why a pod has the credentials that it has.
    Explain(Box<Explain>),
    /// Show how an agent stands.
    Status(Box<Status>),
    /// See to the trust policy of a role.
    TrustPolicy(Box<TrustPolicy>),
    /// Look at a node or a cluster.
    Doctor(Box<Doctor>),
    /// Mirror associations.
    Sync(Box<Sync>),
    /// Review pods as they are made.
    Webhook(Box<Webhook>),
}

/// What is in nobody's way to credentials.
#[derive(Debug, Parser)]
#[command(name = "credlet", bin_name = "credlet", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write into manifests what SDKs in their pods look for
    Inject(Box<InjectArgs>),
    /// Say why a pod has the credentials that it has, or none
    Explain(ExplainArgs),
    /// Show how an agent stands: its sources, and each account's session
    Status(Box<StatusArgs>),
    /// Print, check or mend the trust policy of a role
    TrustPolicy(Box<TrustPolicyArgs>),
    /// Say what is wrong on a node or in a cluster, and what to do about it
    Doctor(Box<DoctorArgs>),
    /// Mirror associations that are declared elsewhere into the cluster
    Sync(Box<SyncArgs>),
    /// Give pods, as they are made, the environment that AWS SDKs look for
    Webhook(Box<WebhookArgs>),
}

impl Command {
    /// Reads the command line, and the environment for what it leaves out.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        match parsed::<Cli>(args)?.verb {
            Verb::Doctor(args) => Ok(Self::Doctor(Box::new((*args).try_into()?))),
            Verb::Inject(args) => Ok(Self::Inject(Box::new((*args).try_into()?))),
            Verb::Explain(args) => Ok(Self::Explain(Box::new(args.try_into()?))),
            Verb::Status(args) => Ok(Self::Status(Box::new((*args).try_into()?))),
            Verb::TrustPolicy(args) => Ok(Self::TrustPolicy(Box::new((*args).try_into()?))),
            Verb::Sync(args) => Ok(Self::Sync(Box::new((*args).try_into()?))),
            Verb::Webhook(args) => Ok(Self::Webhook(Box::new((*args).try_into()?))),
        }
    }
}
