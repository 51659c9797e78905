//! `crossfade-proxy`: parse, check, wait if it is a standby, bind, run, stop.

mod flags;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;

use clap::Parser;
use program::log::EnvFilter;
use program::signals;
use program::sockets::Given;
use proxy::{Before, Config, HeldLock, Listeners, ListenersTls, Predecessor, Standby};

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
    let program = Program {
        file,
        config,
        tls,
        workers,
    };
    runtime.block_on(program.run(flags.standby))
}

/// What is to be run.
struct Program {
    file: PathBuf,
    config: Config,
    tls: ListenersTls,
    workers: usize,
}

impl Program {
    async fn run(mut self, is_standby: bool) -> Result<(), u8> {
        let shutdown = signals::told_to_stop().map_err(say(EXIT_FAILED))?;
        let mut shutdown = pin!(shutdown);
        let mut given = proxy::from_systemd(&self.config).map_err(say(EXIT_FAILED))?;
        let mut before = Before::Nothing;
        if is_standby {
            let waited = tokio::select! {
                waited = self.stand_by() => waited?,
                () = &mut shutdown => return Ok(()),
            };
            if let Some((sockets, lock)) = waited {
                given.splice(..0, sockets);
                before = Before::Ended(lock);
                self.read_again();
            }
        }
        let config = self.config;
        if let (Before::Nothing, Some(socket)) = (&before, &config.handover)
            && let Some((found, sockets)) =
                Predecessor::find(socket).await.map_err(say(EXIT_FAILED))?
        {
            given.splice(..0, sockets);
            before = Before::Predecessor(found);
        }
        // A standby's clients wait already: it asks for nothing that it has.
        let has_all = matches!(before, Before::Ended(_)) && proxy::are_all_given(&config, &given);
        if let Some(keeper) = config.keeper.as_ref().filter(|_| !has_all) {
            let kept = proxy::from_keeper(keeper, given).await;
            given = kept.map_err(say(EXIT_FAILED))?;
        }
        let listeners = Listeners::bind(&config, &self.tls, self.workers, given);
        let listeners = listeners.map_err(say(EXIT_FAILED))?;
        let run = proxy::run(config, Some(self.file), listeners, before, shutdown);
        run.await.map_err(say(EXIT_FAILED))
    }

    /// Waits for the process that serves to end. `None`: none serves.
    async fn stand_by(&self) -> Result<Option<(Vec<Given>, HeldLock)>, u8> {
        let Some(socket) = &self.config.handover else {
            let message = "`--standby` needs the socket on which the proxy that serves is found: set \
                           handover.socket in the config, as in \"/run/crossfade/handover.sock\"";
            return Err(say(EXIT_USAGE)(message));
        };
        match Standby::join(socket).await.map_err(say(EXIT_FAILED))? {
            Some(standby) => Ok(Some(standby.until_it_serves().await)),
            None => Ok(None),
        }
    }

    /// The file may be another one than at the start. One that is wrong now changes nothing.
    fn read_again(&mut self) {
        let read = Config::load(&self.file).and_then(|config| {
            let tls = config.load_tls(&self.file, false)?;
            Ok((config, tls))
        });
        match read {
            Ok((config, tls)) => (self.config, self.tls) = (config, tls),
            Err(error) => tracing::error!("{error}: serving by the config of this process's start"),
        }
    }
}

/// Says what is wrong, and gives the exit code for it.
fn say<E: std::fmt::Display>(code: u8) -> impl Fn(E) -> u8 {
    move |error| {
        eprintln!("error: {error}");
        code
    }
}
