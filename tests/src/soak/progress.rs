//! The line that says how far it has come, and what was found so far.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tests::zero_downtime::{Extent, Outcome, Row, TestEnv};

use crate::options::Options;

/// How long a round of a row takes, about: for the bar alone.
const ROUND: Duration = Duration::from_millis(1_500);

/// A progress bar on standard error; nothing where that is no terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar over all of these rows.
    pub(crate) fn new(rows: &[Row], options: &Options) -> Self {
        let planned = rows
            .iter()
            .map(|row| planned(*row, options.extent(*row)))
            .sum::<Duration>();
        let bar = ProgressBar::new(planned.as_millis() as u64);
        let style = ProgressStyle::with_template(
            "{bar:30} {percent}% {elapsed} of about {duration}  {msg}",
        );
        // The template is a constant, so it is only ever the default that is not taken.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }

    /// Runs a row, and says every second how it goes.
    pub(crate) async fn watch(&self, row: Row, env: &TestEnv, extent: Extent) -> Outcome {
        let (began, before) = (Instant::now(), self.bar.position());
        let whole = planned(row, extent).as_millis() as u64;
        let mut running = std::pin::pin!(row.run(env, extent));
        let mut clock = tokio::time::interval(Duration::from_secs(1));
        let outcome = loop {
            tokio::select! {
                outcome = &mut running => break outcome,
                _ = clock.tick() => {
                    let witness = env.witness();
                    let (requests, troubles) = (witness.requests(), witness.troubles());
                    let name = row.name();
                    self.bar.set_message(format!("{name}: {requests} requests, {troubles} findings"));
                    let done = began.elapsed().as_millis() as u64;
                    self.bar.set_position(before + done.min(whole));
                }
            }
        };
        self.bar.set_position(before + whole);
        outcome
    }

    /// Prints above the bar, to standard output.
    pub(crate) fn print(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn planned(row: Row, extent: Extent) -> Duration {
    match row.share() {
        Some(_) => extent.time,
        None => ROUND * u32::try_from(extent.rounds).unwrap_or(u32::MAX),
    }
}
