//! The `credlet-sidecar` program: the credentials of one pod, from inside it.

use std::process::ExitCode;

use credlet::config::sidecar::{Command, Sidecar};
use credlet::config::{NetsetupAction, Network};
use credlet::{node, process, sidecar};

fn main() -> ExitCode {
    match Command::parse(std::env::args_os()) {
        Ok(Command::Serve(config)) => process::end(serve(*config)),
        Ok(Command::Setup(network)) => process::end(setup(&network)),
        Err(error) => process::answer(&error),
    }
}

/// On one thread: a pod's requests are few, and its memory is the pod's.
fn serve(config: Sidecar) -> Result<(), sidecar::Error> {
    process::serve(config.log);
    process::one_thread().block_on(sidecar::run(config))
}

fn setup(network: &Network) -> Result<(), node::Error> {
    let ensure = node::network::once(network, NetsetupAction::Ensure);
    println!("{}", process::one_thread().block_on(ensure)?);
    Ok(())
}
