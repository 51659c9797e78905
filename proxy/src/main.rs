//! `crossfade-proxy`: parse, check, bind, run, stop.

mod flags;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use program::log::EnvFilter;
use program::signals;
use proxy::{Config, Listeners, Predecessor};

use flags::Flags;

/// What the process ends with when it could not run.
const EXIT_FAILED: u8 = 1;
/// Wrong flags, or a wrong config.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let done = Flags::try_parse().map_err(|error| {
        // Failing to print help is no reason to fail.
        let _ = error.print();
        if error.use_stderr() { EXIT_USAGE } else { 0 }
    });
    match done.and_then(start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => ExitCode::from(code),
    }
}

fn start(flags: Flags) -> Result<(), u8> {
    let log = EnvFilter::try_from_env("CROSSFADE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let _log = program::log::start(log, std::io::stderr().is_terminal());

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(say(EXIT_FAILED))?;
    let Some(file) = flags.config else {
        // `--hold`: the flags say that one of the two is there.
        return runtime.block_on(async {
            signals::told_to_stop().map_err(say(EXIT_FAILED))?.await;
            Ok(())
        });
    };
    let config = Config::load(&file).map_err(say(EXIT_USAGE))?;
    let tls = config.load_tls(&file, flags.check);
    let tls = tls.map_err(say(EXIT_USAGE))?;
    if flags.check {
        println!("{} is valid", file.display());
        return Ok(());
    }
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let workers = flags.workers.map_or_else(cores, usize::from);
    runtime.block_on(async {
        let shutdown = signals::told_to_stop().map_err(say(EXIT_FAILED))?;
        let mut given = proxy::from_systemd(&config).map_err(say(EXIT_FAILED))?;
        let mut predecessor = None;
        if let Some(socket) = &config.handover
            && let Some((found, sockets)) =
                Predecessor::find(socket).await.map_err(say(EXIT_FAILED))?
        {
            given.splice(..0, sockets);
            predecessor = Some(found);
        }
        if let Some(keeper) = &config.keeper {
            let kept = proxy::from_keeper(keeper, given).await;
            given = kept.map_err(say(EXIT_FAILED))?;
        }
        let listeners = Listeners::bind(&config, &tls, workers, given);
        let listeners = listeners.map_err(say(EXIT_FAILED))?;
        let run = proxy::run(config, Some(file), listeners, predecessor, shutdown);
        run.await.map_err(say(EXIT_FAILED))
    })
}

/// Says what is wrong, and gives the exit code for it.
fn say<E: std::fmt::Display>(code: u8) -> impl Fn(E) -> u8 {
    move |error| {
        eprintln!("error: {error}");
        code
    }
}
