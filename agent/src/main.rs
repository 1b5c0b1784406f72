//! The `credlet` binary: parse, run, error -> exit code.

use std::process::ExitCode;

use credlet::config::sidecar::Sidecar;
use credlet::config::{Command, Config, Error, NetsetupAction, Network, TrustPolicy};
use credlet::node::{self, telemetry};
use credlet::sidecar;
use credlet::tools::trust_policy::{self, Answer};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The request path is a few microseconds of work; more threads than this only
/// cost memory on large nodes.
const MAX_WORKERS: usize = 4;

/// What scripts expect of an impossible command line.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let outcome: Result<(), Box<dyn std::error::Error>> = match Command::parse(std::env::args_os())
    {
        Ok(Command::Run(config)) => run(*config).map_err(Into::into),
        Ok(Command::Netsetup(network, action)) => netsetup(&network, action).map_err(Into::into),
        Ok(Command::Sidecar(config)) => serve_pod(*config).map_err(Into::into),
        Ok(Command::SidecarSetup(network)) => {
            netsetup(&network, NetsetupAction::Ensure).map_err(Into::into)
        }
        Ok(Command::TrustPolicy(config)) => return trust_policy(&config),
        Ok(Command::Version) => {
            println!("credlet {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Err(Error::Help(text)) => {
            print!("{text}");
            Ok(())
        }
        Err(Error::Usage(line)) => {
            eprintln!("credlet: {line}");
            return ExitCode::from(USAGE);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("credlet: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> Result<(), node::Error> {
    telemetry::start(config.log);
    harden();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    runtime(cores.min(MAX_WORKERS)).block_on(node::run(config))
}

/// One thread: a pod's requests are few, and its memory is the pod's.
fn serve_pod(config: Sidecar) -> Result<(), sidecar::Error> {
    telemetry::start(config.log);
    harden();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a process that just started can have a reactor");
    runtime.block_on(sidecar::run(config))
}

fn netsetup(network: &Network, action: NetsetupAction) -> Result<(), node::Error> {
    let said = runtime(1).block_on(node::network::once(network, action))?;
    println!("{said}");
    Ok(())
}

fn trust_policy(config: &TrustPolicy) -> ExitCode {
    match runtime(1).block_on(trust_policy::run(config)) {
        Ok(Answer::Has) => ExitCode::SUCCESS,
        Ok(Answer::HasNot) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("credlet: {error}");
            ExitCode::FAILURE
        }
    }
}

fn runtime(workers: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("a process that just started can have threads")
}

/// No core dump, no debugger of the same user: the heap holds credentials. And
/// as many files as the hard limit allows, since each caller is one.
fn harden() {
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "core dumps could not be turned off");
    }
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
