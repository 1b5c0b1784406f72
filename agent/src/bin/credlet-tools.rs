//! The `credlet-tools` program: what is in nobody's way to credentials.

use std::process::ExitCode;

use credlet::cluster::sync;
use credlet::config::sync::Sync;
use credlet::config::tools::Command;
use credlet::config::{Explain, TrustPolicy};
use credlet::process;
use credlet::tools::trust_policy::{self, Answer};
use credlet::tools::{explain, inject};

fn main() -> ExitCode {
    match Command::parse(std::env::args_os()) {
        Ok(Command::Inject(config)) => process::end(inject::run(&config)),
        Ok(Command::Explain(config)) => explain(&config),
        Ok(Command::TrustPolicy(config)) => trust_policy(&config),
        Ok(Command::Sync(config)) => mirror(*config),
        Err(error) => process::answer(&error),
    }
}

fn explain(config: &Explain) -> ExitCode {
    match process::one_thread().block_on(explain::run(config)) {
        Ok(explain::Answer::Has) => ExitCode::SUCCESS,
        Ok(explain::Answer::HasNot) => ExitCode::FAILURE,
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

fn mirror(config: Sync) -> ExitCode {
    process::serve(config.log);
    process::end(process::one_thread().block_on(sync::run(config)))
}
