//! What each program does first and last: logs, hardening, its exit code.

use std::fmt::Display;
use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;

use crate::config::{self, Log};

mod telemetry;

/// What scripts expect of an impossible command line.
const USAGE: u8 = 2;

/// Starts logging, and keeps what the process holds from others: no core dump and
/// no debugger of the same user, since the heap holds credentials. And as many
/// files as the hard limit allows, since each caller is one.
pub fn serve(log: Log) {
    telemetry::start(log);
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "core dumps could not be turned off");
    }
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// A runtime of the calling thread alone.
pub fn one_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a process that just started can have a reactor")
}

/// The exit code of what was done, its failure told.
pub fn end<E: Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("credlet: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a tool found of that which it was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is as it should be.
    Well,
    /// Something is not.
    Amiss,
}

/// The exit code of what a tool found and has told.
pub fn told<E: Display>(found: Result<Verdict, E>) -> ExitCode {
    match found {
        Ok(Verdict::Well) => ExitCode::SUCCESS,
        Ok(Verdict::Amiss) => ExitCode::FAILURE,
        Err(error) => end(Err(error)),
    }
}

/// The exit code of a command line that asks for nothing but an answer, given.
pub fn answer(error: &config::Error) -> ExitCode {
    match error {
        config::Error::Help(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        config::Error::Usage(line) => {
            eprintln!("credlet: {line}");
            ExitCode::from(USAGE)
        }
    }
}
