//! Prints each response and failure when it occurs, and counts them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::connection::IdleEnd;
use crate::failure::{Cause, Failure};
use crate::line_format::quoted;
use crate::lines::Lines;
use crate::options::{Config, Output};
use crate::response::CompleteResponse;
use crate::summary::Summary;

/// Collects the observations of all connections.
#[derive(Debug)]
pub(crate) struct Report {
    start: Instant,
    output: Output,
    quiet: bool,
    lines: Lines,
    summary: Mutex<Summary>,
}

// The JSON lines. `at_ms` counts from the start of the run.

#[derive(Serialize)]
struct ResponseLine<'a> {
    at_ms: u64,
    status: u16,
    version: Option<&'a str>,
    latency_us: u64,
}

#[derive(Serialize)]
struct EchoLine<'a> {
    at_ms: u64,
    echo: &'a str,
    version: Option<&'a str>,
    latency_us: u64,
}

#[derive(Serialize)]
struct FailureLine<'a> {
    at_ms: u64,
    error: Cause,
    detail: &'a str,
}

impl Report {
    pub(crate) fn new(config: &Config, lines: Lines, start: Instant) -> Self {
        Self {
            start,
            output: config.output,
            quiet: config.quiet,
            lines,
            summary: Mutex::new(Summary::new()),
        }
    }

    /// Counts a request that begins. Returns its number, from 1 on.
    pub(crate) fn request(&self) -> u64 {
        let mut summary = self.summary();
        summary.requests += 1;
        summary.requests
    }

    /// Counts a connection that was opened.
    pub(crate) fn opened(&self) {
        self.summary().connections_opened += 1;
    }

    /// Counts a connection that ended between two requests.
    pub(crate) fn idle_end(&self, end: IdleEnd) {
        match end {
            IdleEnd::Closed => self.summary().closed_idle += 1,
            IdleEnd::Unsolicited(failure) => self.failure(&failure),
        }
    }

    pub(crate) fn response(&self, response: &CompleteResponse, latency: Duration) {
        self.summary()
            .count_response(response.version.as_deref(), response.status, latency);
        if self.quiet {
            return;
        }
        self.lines.print(match self.output {
            Output::Text => {
                let body = quoted(&String::from_utf8_lossy(&response.body));
                format!("{{'status_code': {}, 'body': {body}}}", response.status)
            }
            Output::Json => json_line(&ResponseLine {
                at_ms: self.at_ms(),
                status: response.status,
                version: response.version.as_deref(),
                latency_us: micros(latency),
            }),
        });
    }

    /// Counts and prints a message that came back on a WebSocket.
    pub(crate) fn echo(&self, text: &str, version: Option<&str>, latency: Duration) {
        self.summary().count_echo(version, latency);
        if self.quiet {
            return;
        }
        self.lines.print(match self.output {
            Output::Text => {
                let version = version.map_or("None".to_owned(), quoted);
                format!("{{'echo': {}, 'version': {version}}}", quoted(text))
            }
            Output::Json => json_line(&EchoLine {
                at_ms: self.at_ms(),
                echo: text,
                version,
                latency_us: micros(latency),
            }),
        });
    }

    /// Counts and prints a failure. It is printed with `--quiet` too.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.summary().count_failure(failure.cause);
        let Failure { cause, detail } = failure;
        self.lines.print(match self.output {
            Output::Text => format!("{{'error': '{cause}', 'detail': {}}}", quoted(detail)),
            Output::Json => json_line(&FailureLine {
                at_ms: self.at_ms(),
                error: *cause,
                detail,
            }),
        });
    }

    /// Completes the summary, and prints it if `print` is set.
    pub(crate) fn finish(&self, unsent: u64, print: bool) -> Summary {
        let mut summary = self.summary();
        summary.elapsed = self.start.elapsed();
        summary.unsent = unsent;
        if print {
            self.lines.print(match self.output {
                Output::Text => summary.to_string(),
                Output::Json => json_line(&summary.to_json()),
            });
        }
        summary.clone()
    }

    fn summary(&self) -> MutexGuard<'_, Summary> {
        // A thread panicked with the lock held: its counts are the best that exist.
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn json_line(line: &impl Serialize) -> String {
    // Numbers and strings always serialize.
    serde_json::to_string(line).unwrap_or_default()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
