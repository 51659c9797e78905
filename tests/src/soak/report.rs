//! The report: a table in words, and the same as JSON.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde::Serialize;
use tests::zero_downtime::Outcome;

use crate::options::Options;

/// Everything that came of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Seconds that the rows were given.
    duration: f64,
    /// Whether less was asked for than is promised.
    shared: bool,
    /// One for each row that was run.
    pub(crate) rows: Vec<Outcome>,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            duration: options.duration.as_secs_f64(),
            shared: options.shared,
            rows: Vec::new(),
        }
    }

    /// Writes what there is so far.
    pub(crate) fn write(&self, to: Option<&Path>) -> io::Result<()> {
        let Some(path) = to else { return Ok(()) };
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        std::fs::write(path, json)
    }

    /// What is not as it has to be, row by row.
    pub(crate) fn problems(&self) -> Vec<String> {
        let of = |row: &Outcome| {
            let problems = row.problems().join("; ");
            (!problems.is_empty()).then(|| format!("FAILED: {}: {problems}", row.row))
        };
        self.rows.iter().filter_map(of).collect()
    }
}

/// A row of the table.
pub(crate) fn lines(outcome: &Outcome) -> String {
    let findings = &outcome.findings;
    let verdict = if outcome.problems().is_empty() {
        "ok"
    } else {
        "FAILED"
    };
    let mut text = format!(
        "{verdict:<6} {:<56} {:>9} requests, {} failed",
        outcome.row, outcome.requests, findings.failed
    );
    // Writing to a string cannot fail.
    if findings.excused > 0 {
        let _ = write!(text, ", {} to be expected", findings.excused);
    }
    let stats: Vec<String> = outcome.stats.iter().map(ToString::to_string).collect();
    let _ = write!(text, "\n       {}", stats.join(", "));
    for (failure, count) in &findings.troubles {
        let _ = write!(text, "\n       {count} × {failure}");
    }
    for example in &findings.examples {
        let _ = write!(text, "\n         {example}");
    }
    text
}
