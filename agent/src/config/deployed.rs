//! The configuration of an agent that runs elsewhere, from its command line and
//! its environment, and nothing of this process's.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{ArgAction, Args, FromArgMatches};

use super::args::RunArgs;
use super::{Config, Error};

impl Config {
    /// Of an agent on `node` with these arguments (without the verb) and these
    /// variables, as it would read them itself.
    pub fn of_agent(
        arguments: &[String],
        variables: &BTreeMap<String, String>,
        node: &str,
    ) -> Result<Self, Error> {
        let command = RunArgs::augment_args(clap::Command::new("run").no_binary_name(true));
        let mut line: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let is_given = |flag: &str| {
            let with_value = format!("{flag}=");
            arguments
                .iter()
                .any(|given| given == flag || given.starts_with(&with_value))
        };
        for argument in command.get_arguments() {
            let names = argument.get_env().zip(argument.get_long());
            let Some((variable, long)) = names else {
                continue;
            };
            let (variable, flag) = (variable.to_string_lossy(), format!("--{long}"));
            let value = match &*variable {
                "CREDLET_NODE_NAME" => Some(node),
                other => variables.get(other).map(String::as_str),
            };
            let Some(value) = value.filter(|_| !is_given(&flag)) else {
                continue;
            };
            if matches!(argument.get_action(), ArgAction::SetTrue) {
                line.extend(is_true(value).then(|| flag.into()));
            } else {
                line.push(format!("{flag}={value}").into());
            }
        }
        let command = command.mut_args(|argument| argument.env(None::<&str>));
        let matches = command.try_get_matches_from(line)?;
        RunArgs::from_arg_matches(&matches)?.try_into()
    }
}

/// As clap reads the variable of a flag without a value.
fn is_true(value: &str) -> bool {
    let value = value.to_lowercase();
    !["", "n", "no", "f", "false", "off", "0"].contains(&&*value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AssociationSource, Exchange, IdentityMode, TokenRequests};

    fn of(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Config, Error> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let pairs = variables.iter();
        let variables = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::of_agent(&arguments, &variables.collect(), "node-7")
    }

    #[test]
    fn an_agent_is_read_by_its_own_variables_and_flags_and_its_node() {
        let config = of(
            &["--exchange", "web-identity", "--identity=both"],
            &[
                ("CREDLET_CLUSTER_NAME", "prod"),
                ("CREDLET_EXCHANGE", "assume-role"),
                ("CREDLET_REQUEST_TOKENS", "true"),
                ("CREDLET_SESSION_TAG", "team=shop,stage=prod"),
                ("CREDLET_SETUP_NETWORK", "false"),
                ("AWS_REGION", "eu-central-1"),
            ],
        );
        let config = config.expect("a good configuration");
        assert_eq!(config.node_name, "node-7");
        assert_eq!(config.exchange, Exchange::WebIdentity);
        assert_eq!(config.identity, IdentityMode::Both);
        assert_eq!(config.token_requests, TokenRequests::On);
        assert_eq!(config.session_tags.len(), 2);
        assert!(config.network.is_none());
        let eks = AssociationSource::Eks {
            cluster: "prod".to_owned(),
        };
        assert!(config.sources.contains(&eks));
    }

    #[test]
    fn what_is_empty_or_false_there_is_as_not_given() {
        let config = of(
            &[],
            &[
                ("CREDLET_CLUSTER_NAME", ""),
                ("CREDLET_REQUEST_TOKENS", "off"),
            ],
        );
        let config = config.expect("a good configuration");
        assert_eq!(config.cluster_name, None);
        assert_eq!(config.token_requests, TokenRequests::Off);
    }

    #[test]
    fn a_configuration_with_which_no_agent_would_start_is_said_to_be_none() {
        let refused = of(&["--port", "x"], &[]);
        assert!(matches!(refused, Err(Error::Usage(line)) if line.contains("--port")));
    }
}
