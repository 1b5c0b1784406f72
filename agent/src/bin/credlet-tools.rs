//! The `credlet-tools` program: what is in nobody's way to credentials.

use std::process::ExitCode;

use credlet::cluster::{sync, webhook};
use credlet::config::sync::Sync;
use credlet::config::tools::Command;
use credlet::config::webhook::Webhook;
use credlet::process::{self, one_thread};
use credlet::tools::{explain, inject, status, trust_policy};

fn main() -> ExitCode {
    match Command::parse(std::env::args_os()) {
        Ok(Command::Explain(config)) => process::told(one_thread().block_on(explain::run(&config))),
        Ok(Command::Inject(config)) => process::end(inject::run(&config)),
        Ok(Command::Status(config)) => process::told(one_thread().block_on(status::run(&config))),
        Ok(Command::Sync(config)) => process::end(mirror(*config)),
        Ok(Command::TrustPolicy(config)) => {
            process::told(one_thread().block_on(trust_policy::run(&config)))
        }
        Ok(Command::Webhook(config)) => process::end(review(*config)),
        Err(error) => process::answer(&error),
    }
}

/// Threads that review: the second answers while the first lists a cluster's pods.
const REVIEWERS: usize = 2;

fn review(config: Webhook) -> Result<(), webhook::Error> {
    process::serve(config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(REVIEWERS)
        .enable_all()
        .build();
    let runtime = runtime.expect("a process that just started can have threads");
    runtime.block_on(webhook::run(config))
}

fn mirror(config: Sync) -> Result<(), sync::Error> {
    process::serve(config.log);
    one_thread().block_on(sync::run(config))
}
