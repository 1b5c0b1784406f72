//! `credlet status`: how an agent stands, for a terminal.

use std::io::{self, IsTerminal, Write};

use self::text::{Paint, text};
use super::reach::{self, Way};
use crate::config::{Colour, Output, Status as Wanted};
use crate::process::Verdict;
use crate::status::Status;

#[cfg(test)]
mod tests;
mod text;

/// Where all is told.
const PATH: &str = "/status";

/// Why nothing is known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The agent cannot be asked.
    #[error(transparent)]
    Reach(#[from] reach::Error),
    /// It is of a version that tells it otherwise.
    #[error("what the agent tells cannot be read: {0}")]
    Unreadable(String),
    /// Nobody reads.
    #[error("cannot be written: {0}")]
    Output(String),
}

/// Asks, and says on standard output how the agent stands.
pub async fn run(wanted: &Wanted) -> Result<Verdict, Error> {
    let told = Way::open(&wanted.reach).await?.get(PATH).await?;
    let status: Status =
        serde_json::from_slice(&told).map_err(|error| Error::Unreadable(error.to_string()))?;
    let said = match wanted.output {
        // As it came: a newer agent may tell more than this program knows.
        Output::Json => String::from_utf8_lossy(&told).into_owned() + "\n",
        Output::Text => text(&status, paint(wanted.colour)),
    };
    let written = io::stdout().lock().write_all(said.as_bytes());
    written.map_err(|error| Error::Output(error.to_string()))?;
    Ok(if status.is_ready() {
        Verdict::Well
    } else {
        Verdict::Amiss
    })
}

fn paint(colour: Colour) -> Paint {
    match colour {
        Colour::Auto if io::stdout().is_terminal() => Paint::Coloured,
        Colour::Auto | Colour::Never => Paint::Plain,
    }
}
