//! The `credlet-tools` program: what is in nobody's way to credentials.

use std::process::ExitCode;

use credlet::config::tools::Command;
use credlet::config::{Doctor, TrustPolicy};
use credlet::process;
use credlet::tools::doctor::{self, Verdict};
use credlet::tools::trust_policy::{self, Answer};

/// Nothing is broken, and something should be looked at.
const WARNED: u8 = 3;

fn main() -> ExitCode {
    match Command::parse(std::env::args_os()) {
        Ok(Command::TrustPolicy(config)) => trust_policy(&config),
        Ok(Command::Doctor(config)) => doctor(&config),
        Err(error) => process::answer(&error),
    }
}

fn trust_policy(config: &TrustPolicy) -> ExitCode {
    match process::one_thread().block_on(trust_policy::run(config)) {
        Ok(Answer::Has) => ExitCode::SUCCESS,
        Ok(Answer::HasNot) => ExitCode::FAILURE,
        Err(error) => process::end(Err(error)),
    }
}

fn doctor(config: &Doctor) -> ExitCode {
    match process::one_thread().block_on(doctor::run(config)) {
        Ok(Verdict::Ok | Verdict::Skipped) => ExitCode::SUCCESS,
        Ok(Verdict::Warning) => ExitCode::from(WARNED),
        Ok(Verdict::Failure) => ExitCode::FAILURE,
        Err(error) => process::end(Err(error)),
    }
}
