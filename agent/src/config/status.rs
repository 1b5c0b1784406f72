//! The flags of `credlet status`, and what they ask for.

use clap::Args;

use super::reach::ReachArgs;
use super::{Error, Output, Reach};

/// What `credlet status` is asked for. Valid once built.
#[derive(Clone, Debug)]
pub struct Status {
    /// Which agent is asked.
    pub reach: Reach,
    /// How it is said.
    pub output: Output,
    /// Whether text may be coloured.
    pub colour: Colour,
}

/// Whether text may be coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// On a terminal.
    Auto,
    /// `NO_COLOR` is set.
    Never,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    reach: ReachArgs,
    /// How it is said
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl TryFrom<StatusArgs> for Status {
    type Error = Error;

    fn try_from(args: StatusArgs) -> Result<Self, Error> {
        let StatusArgs { reach, output } = args;
        let never = std::env::var_os("NO_COLOR").is_some_and(|text| !text.is_empty());
        Ok(Self {
            reach: reach.try_into()?,
            output,
            colour: if never { Colour::Never } else { Colour::Auto },
        })
    }
}
