//! The `credlet-tools` program: what is in nobody's way to credentials.

use std::process::ExitCode;

use credlet::cluster::sync;
use credlet::config::sync::Sync;
use credlet::config::tools::Command;
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
        Err(error) => process::answer(&error),
    }
}

fn mirror(config: Sync) -> Result<(), sync::Error> {
    process::serve(config.log);
    one_thread().block_on(sync::run(config))
}
