//! What is wrong with a command line.

/// Why there is nothing to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An impossible configuration: one line that names the flag.
    #[error("{0}")]
    Usage(String),
    /// Not an error: `--help` was asked for, and this is it.
    #[error("{0}")]
    Help(String),
}

/// Names the flag first.
pub(super) fn usage(flag: &str, problem: &str) -> Error {
    Error::Usage(format!("{flag} {problem}"))
}

impl From<clap::Error> for Error {
    fn from(error: clap::Error) -> Self {
        use clap::error::ErrorKind;
        let text = error.render().to_string();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Self::Help(text)
            }
            // clap's first line names the flag; usage and hints follow it.
            _ => Self::Usage(
                text.lines()
                    .next()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned(),
            ),
        }
    }
}
