//! `make soak`: every row of the zero-downtime table, for minutes or hours, with a report.

mod options;
mod progress;
mod report;

use std::process::ExitCode;

use clap::Parser;
use tests::zero_downtime::{Limits, TestEnv, run_origin};

use options::{Command, Options};
use progress::Progress;
use report::Report;

/// Something failed, or a number was missed.
const EXIT_FAILED: u8 = 1;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(Command::Origin { number, port }) = options.command {
        return match run_origin(number, port).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("origin {number} on port {port}: {error}");
                ExitCode::from(EXIT_FAILED)
            }
        };
    }
    match soak(&options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAILED),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Runs the rows one after the other. Gives whether all is as it has to be.
async fn soak(options: &Options) -> std::io::Result<bool> {
    let limits = if options.shared {
        Limits::SHARED
    } else {
        Limits::PROMISED
    };
    let env = TestEnv::new(std::env::current_exe()?, limits);
    let rows = options.rows();
    let progress = Progress::new(&rows, options);
    let mut report = Report::new(options);
    for row in rows {
        if row.needs_podman() {
            let image = "localhost/crossfade-sample-client:latest";
            if let Err(why) = tests::podman(&["run", "--rm", image, "--help"]) {
                progress.print(&format!("{}: not run, {why}", row.name()));
                continue;
            }
        }
        let outcome = progress.watch(row, &env, options.extent(row)).await;
        progress.print(&report::lines(&outcome));
        report.rows.push(outcome);
        // Hours are not to be lost with the last row.
        report.write(options.write.as_deref())?;
    }
    progress.finish();
    let problems = report.problems();
    for problem in &problems {
        println!("{problem}");
    }
    Ok(problems.is_empty())
}
