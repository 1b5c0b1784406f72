//! The `credlet-tools` program: what is in nobody's way to credentials.

use std::process::ExitCode;

use credlet::config::tools::Command;
use credlet::config::{Status, TrustPolicy};
use credlet::process;
use credlet::tools::trust_policy::{self, Answer};
use credlet::tools::{inject, status};

fn main() -> ExitCode {
    match Command::parse(std::env::args_os()) {
        Ok(Command::Inject(config)) => process::end(inject::run(&config)),
        Ok(Command::Status(config)) => status(&config),
        Ok(Command::TrustPolicy(config)) => trust_policy(&config),
        Err(error) => process::answer(&error),
    }
}

fn status(config: &Status) -> ExitCode {
    match process::one_thread().block_on(status::run(config)) {
        Ok(status::Answer::Ready) => ExitCode::SUCCESS,
        Ok(status::Answer::NotReady) => ExitCode::FAILURE,
        Err(error) => process::end(Err(error)),
    }
}

fn trust_policy(config: &TrustPolicy) -> ExitCode {
    match process::one_thread().block_on(trust_policy::run(config)) {
        Ok(Answer::Has) => ExitCode::SUCCESS,
        Ok(Answer::HasNot) => ExitCode::FAILURE,
        Err(error) => process::end(Err(error)),
    }
}
