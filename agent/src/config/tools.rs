//! The command line of `credlet-tools`: a verb for each tool.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use super::explain::{Explain, ExplainArgs};
use super::inject::{Inject, InjectArgs};
use super::status::{Status, StatusArgs};
use super::sync::{Sync, SyncArgs};
use super::trust_policy::{TrustPolicy, TrustPolicyArgs};
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
    /// Mirror associations.
    Sync(Box<Sync>),
}

/// What is in nobody's way to credentials.
#[derive(Debug, Parser)]
#[command(name = "credlet", disable_help_subcommand = true)]
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
    /// Mirror associations that are declared elsewhere into the cluster
    Sync(Box<SyncArgs>),
}

impl Command {
    /// Reads the command line, and the environment for what it leaves out.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        match parsed::<Cli>(args)?.verb {
            Verb::Inject(args) => Ok(Self::Inject(Box::new((*args).try_into()?))),
            Verb::Explain(args) => Ok(Self::Explain(Box::new(args.try_into()?))),
            Verb::Status(args) => Ok(Self::Status(Box::new((*args).try_into()?))),
            Verb::TrustPolicy(args) => Ok(Self::TrustPolicy(Box::new((*args).try_into()?))),
            Verb::Sync(args) => Ok(Self::Sync(Box::new((*args).try_into()?))),
        }
    }
}
