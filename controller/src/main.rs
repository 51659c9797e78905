//! `crossfade`: the controller process and its command line.

use std::process::ExitCode;

use clap::Parser;
use controller::Exit;
use controller::cli::{self, Args, Output, Verb};
use program::log::{EnvFilter, Log};
use program::signals;

fn main() -> ExitCode {
    let output = Output::of_line(std::env::args_os().skip(1));
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are errors of clap's, too, and go to standard output.
            if !error.use_stderr() {
                let _ = error.print();
                return ExitCode::SUCCESS;
            }
            if output == Output::Json {
                let text = error.render().to_string();
                eprintln!("{}", cli::complaint(output, &text, Exit::USAGE.code()));
            } else {
                let _ = error.print();
            }
            return ExitCode::from(Exit::USAGE.code());
        }
    };
    let _log = matches!(args.verb, Verb::Serve { .. }).then(start_log);
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(controller::Error::file("tokio"))
        .and_then(|runtime| {
            runtime.block_on(async {
                let told = signals::told_to_stop().map_err(controller::Error::file("signals"))?;
                cli::run(args, told).await
            })
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.exit().code();
            eprintln!("{}", cli::complaint(output, &error.to_string(), code));
            ExitCode::from(code)
        }
    }
}

/// `CROSSFADE_LOG`, as for the proxy, says what is logged. For one more release `RUST_LOG` does so
/// where it alone is set.
fn start_log() -> Log {
    let old_name = std::env::var_os("CROSSFADE_LOG").is_none()
        && std::env::var_os(EnvFilter::DEFAULT_ENV).is_some();
    let filter = if old_name {
        EnvFilter::try_from_default_env()
    } else {
        EnvFilter::try_from_env("CROSSFADE_LOG")
    };
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let log = program::log::start(filter, false);
    if old_name {
        tracing::warn!("RUST_LOG is the old name: set CROSSFADE_LOG instead");
    }
    log
}
