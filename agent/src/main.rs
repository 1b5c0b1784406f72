//! The `credlet` program: the agent of a node, and the way to the others.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use credlet::config::{Command, Config, NetsetupAction, Network, Program};
use credlet::{node, process};

/// The request path is a few microseconds of work; more threads than this only
/// cost memory on large nodes.
const MAX_WORKERS: usize = 4;

fn main() -> ExitCode {
    match Command::parse(env::args_os()) {
        Ok(Command::Run(config)) => process::end(run(*config)),
        Ok(Command::Netsetup(network, action)) => process::end(netsetup(&network, action)),
        Ok(Command::Other(program)) => process::end(become_other(program)),
        Ok(Command::Version) => {
            println!("credlet {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Err(error) => process::answer(&error),
    }
}

fn run(config: Config) -> Result<(), node::Error> {
    process::serve(config.log);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(MAX_WORKERS))
        .enable_all()
        .build()
        .expect("a process that just started can have threads")
        .block_on(node::run(config))
}

fn netsetup(network: &Network, action: NetsetupAction) -> Result<(), node::Error> {
    let said = process::one_thread().block_on(node::network::once(network, action))?;
    println!("{said}");
    Ok(())
}

/// Goes on as the program beside this one, with the same arguments. Returns only
/// if it cannot.
fn become_other(program: Program) -> Result<(), String> {
    let path = env::current_exe().map(|me| me.with_file_name(program.file()));
    let failed = |error: io::Error| format!("cannot start {}: {error}", program.file());
    let path = path.map_err(failed)?;
    Err(failed(
        std::process::Command::new(path)
            .args(env::args_os().skip(1))
            .exec(),
    ))
}
