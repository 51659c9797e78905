//! `crossfade-sample-client`: parse, run, print the summary.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use sample_client::{Config, EXIT_USAGE, Options, RunError, Summary, run, told_to_stop};

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // If stdout and stderr are closed, the message is lost; the exit code remains.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let config = options.config();
    let allow_5xx = config.allow_5xx;
    match send(config) {
        Ok(summary) if summary.is_clean(allow_5xx) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        // The reader closed the pipe, as `head` does: no message.
        Err(RunError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("crossfade-sample-client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn send(config: Config) -> Result<Summary, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    runtime.block_on(async {
        let shutdown = told_to_stop().map_err(RunError::Signals)?;
        run(config, io::stdout(), shutdown).await
    })
}
