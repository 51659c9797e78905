//! `crossfade-sample-server`: parse, bind, run, stop.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use sample_server::{EXIT_USAGE, Ended, Options, StartError, bind, run, told_to_stop};

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
    match serve(options) {
        Ok(Ended::Stopped) => ExitCode::SUCCESS,
        // As in a real crash: without unwinding, and without closing connections in order.
        Ok(Ended::Crashed) => std::process::exit(1),
        Err(error) => {
            eprintln!("crossfade-sample-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options) -> Result<Ended, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    runtime.block_on(async {
        let shutdown = told_to_stop().map_err(StartError::Signals)?;
        let (listener, address) = bind(options.listen_address()).await?;
        let config = options.config();
        // The server runs even if stdout is closed.
        let _ = writeln!(
            io::stdout(),
            "listening on {address}, version {}",
            config.version
        );
        Ok(run(config, listener, shutdown).await)
    })
}
