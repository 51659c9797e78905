//! `crossfade-proxy`: parse, check, bind, run, stop.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use proxy::{Config, Listeners};
use tokio::signal::unix::{SignalKind, signal};

const EXIT_CODES: &str = "Exit codes:
  0    stopped after SIGTERM or SIGINT, everything in flight finished
  1    a port is taken, or the proxy could not run
  64   wrong flags or a wrong config; the message names file, line and field
  130  a second SIGINT, 143: a second SIGTERM; what was in flight was cut";

/// A weighted HTTP reverse proxy whose upstream set is swapped while requests are in flight.
#[derive(Debug, Parser)]
#[command(name = "crossfade-proxy", version, after_help = EXIT_CODES)]
struct Flags {
    /// The config file (TOML). It is read again whenever it changes.
    #[arg(long, value_name = "FILE", required_unless_present = "hold")]
    config: Option<PathBuf>,
    /// Threads that carry traffic. Default: one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Check the config, and end.
    #[arg(long)]
    check: bool,
    /// Serve nothing and wait for SIGTERM: the process of the container that owns the published
    /// ports of the proxy's containers.
    #[arg(long, conflicts_with_all = ["config", "workers", "check"])]
    hold: bool,
}

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            // Failing to print help is no reason to fail.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let level = tracing_subscriber::EnvFilter::try_from_env("CROSSFADE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_ansi(colours);
    log.with_writer(std::io::stderr).init();
    match start(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("error: {message}");
            ExitCode::from(code)
        }
    }
}

fn start(flags: Flags) -> Result<(), (u8, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| (1, error.to_string()))?;
    let Some(file) = flags.config else {
        return runtime.block_on(async {
            told_to_stop()
                .map_err(|error| (1, error.to_string()))?
                .await;
            Ok(())
        });
    };
    let config = Config::load(&file).map_err(|error| (64, error.to_string()))?;
    if flags.check {
        println!("{} is a good config", file.display());
        return Ok(());
    }
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let workers = flags.workers.map_or_else(cores, usize::from);
    let listeners = Listeners::bind(&config, workers).map_err(|error| (1, error.to_string()))?;
    runtime.block_on(async {
        let shutdown = told_to_stop().map_err(|error| (1, error.to_string()))?;
        let result = proxy::run(config, Some(file), listeners, shutdown).await;
        result.map_err(|error| (1, error.to_string()))
    })
}

/// Ends at the first SIGTERM or SIGINT. The second one ends the process at once.
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (told, first) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut told = Some(told);
        loop {
            let code = tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            };
            match told.take() {
                // Fails when the proxy has just ended by itself.
                Some(told) => drop(told.send(())),
                None => std::process::exit(code),
            }
        }
    });
    Ok(async move {
        // Err: the task above is gone with its runtime.
        let _ = first.await;
    })
}
