//! `crossfade-bench`: compares crossfade's proxy with its peers. `benches/README.md` describes the
//! method.

mod accounting;
mod aggregate;
mod callgrind;
mod client;
mod connection;
mod container;
mod contender;
mod cores;
mod error;
mod estimate;
mod files;
mod gate;
mod h2;
mod idle;
mod judge;
mod load;
mod load_plan;
mod losses;
mod machine;
mod memory;
mod metric;
mod mixed;
mod network;
mod options;
mod origin;
mod peers;
mod plan;
mod plot;
mod poll;
mod process;
mod progress;
mod race;
mod repeat;
mod report;
mod response;
mod results;
mod rng;
mod rounds;
mod run;
mod socket;
mod swapper;
mod table;
mod test_env;
mod tls;
mod work;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};

use error::{Context, Result};
use network::Network;
use options::{BenchCommand, Options};
use test_env::TestEnv;

fn main() -> ExitCode {
    match run_command(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crossfade-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_command(options: Options) -> Result<()> {
    let (bench, callgrind) = match options.command {
        Some(BenchCommand::Launch { cores, command }) => return process::launch(&cores, &command),
        Some(BenchCommand::Origin { origin }) => return origin::serve(&origin),
        Some(BenchCommand::Judge { judge }) => return judge::run(&judge),
        Some(BenchCommand::Report { folder }) => return files::rewrite(&folder),
        Some(BenchCommand::Gate { gate }) => return gate::run(&gate),
        Some(BenchCommand::Callgrind { bench }) => (bench, true),
        None => (options.bench, false),
    };
    let selection = bench.check()?;
    let env = environment(bench.port, Network::enter()?)?;
    if callgrind {
        run::count_instructions(&env, &selection)
    } else {
        run::benchmark(&env, &bench, &selection)
    }
}

/// Binds this process to the core of the load, and starts the origins in this network.
fn environment(port: u16, network: Network) -> Result<TestEnv> {
    let cores = cores::Cores::of_this_machine()?;
    cores::pin(&[cores.load])?;
    raise_file_limit()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone()).context(|| "signals".into())?;
    }
    TestEnv::new(port, cores, network, interrupted)
}

/// 8,000 connections need as many file descriptors, here and in every program that is started.
fn raise_file_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context(|| "the limit of open files".into())
}
