//! The `credlet-tools` program: what is in nobody's way to credentials.

use std::process::ExitCode;

use credlet::cluster::{sync, webhook};
use credlet::config::Doctor;
use credlet::config::sync::Sync;
use credlet::config::tools::Command;
use credlet::config::webhook::Webhook;
use credlet::process::{self, one_thread};
use credlet::tools::doctor::{self, Verdict};
use credlet::tools::{explain, inject, status, trust_policy};

/// Nothing is broken, and something should be looked at.
const WARNED: u8 = 3;

/// Threads that review: the second answers while the first lists a cluster's pods.
const REVIEWERS: usize = 2;

fn main() -> ExitCode {
    match Command::parse(std::env::args_os()) {
        Ok(Command::Explain(config)) => process::told(one_thread().block_on(explain::run(&config))),
        Ok(Command::Inject(config)) => process::end(inject::run(&config)),
        Ok(Command::Doctor(config)) => doctor(&config),
        Ok(Command::Status(config)) => process::told(one_thread().block_on(status::run(&config))),
        Ok(Command::Sync(config)) => process::end(mirror(*config)),
        Ok(Command::TrustPolicy(config)) => {
            process::told(one_thread().block_on(trust_policy::run(&config)))
        }
        Ok(Command::Webhook(config)) => process::end(review(*config)),
        Err(error) => process::answer(&error),
    }
}

fn review(config: Webhook) -> Result<(), webhook::Error> {
    process::serve(config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(REVIEWERS)
        .enable_all()
        .build();
    let runtime = runtime.expect("a process that just started can have threads");
    runtime.block_on(webhook::run(config))
}

fn doctor(config: &Doctor) -> ExitCode {
    match one_thread().block_on(doctor::run(config)) {
        Ok(Verdict::Ok | Verdict::Skipped) => ExitCode::SUCCESS,
        Ok(Verdict::Warning) => ExitCode::from(WARNED),
        Ok(Verdict::Failure) => ExitCode::FAILURE,
        Err(error) => process::end(Err(error)),
    }
}

fn mirror(config: Sync) -> Result<(), sync::Error> {
    process::serve(config.log);
    one_thread().block_on(sync::run(config))
}
