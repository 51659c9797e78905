//! Tells of each answer and failure as it comes, and keeps count.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::connection::IdleEnd;
use crate::failure::{Cause, Failure};
use crate::lines::Lines;
use crate::options::{Config, Output};
use crate::python::repr;
use crate::summary::Summary;

/// Where every connection tells what it saw.
#[derive(Debug)]
pub(crate) struct Report {
    start: Instant,
    output: Output,
    quiet: bool,
    lines: Lines,
    summary: Mutex<Summary>,
}

// The JSON lines, their times counted from the start of the run.

#[derive(Serialize)]
struct AnswerLine<'a> {
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

    /// A request was begun. Its number, from 1 on.
    pub(crate) fn request(&self) -> u64 {
        let mut summary = self.summary();
        summary.requests += 1;
        summary.requests
    }

    /// A connection was made.
    pub(crate) fn opened(&self) {
        self.summary().connections_opened += 1;
    }

    /// A connection ended between two requests.
    pub(crate) fn idle_end(&self, end: IdleEnd) {
        match end {
            IdleEnd::Closed => self.summary().closed_idle += 1,
            IdleEnd::Unasked(failure) => self.failure(&failure),
        }
    }

    pub(crate) fn answer(&self, answer: &Answer, latency: Duration) {
        self.summary()
            .count_answer(answer.version.as_deref(), answer.status, latency);
        if self.quiet {
            return;
        }
        self.lines.print(match self.output {
            Output::Text => {
                let body = repr(&String::from_utf8_lossy(&answer.body));
                format!("{{'status_code': {}, 'body': {body}}}", answer.status)
            }
            Output::Json => json_line(&AnswerLine {
                at_ms: self.at_ms(),
                status: answer.status,
                version: answer.version.as_deref(),
                latency_us: micros(latency),
            }),
        });
    }

    /// A message came back on a WebSocket.
    pub(crate) fn echo(&self, text: &str, version: Option<&str>, latency: Duration) {
        self.summary().count_echo(version, latency);
        if self.quiet {
            return;
        }
        self.lines.print(match self.output {
            Output::Text => {
                let version = version.map_or("None".to_owned(), repr);
                format!("{{'echo': {}, 'version': {version}}}", repr(text))
            }
            Output::Json => json_line(&EchoLine {
                at_ms: self.at_ms(),
                echo: text,
                version,
                latency_us: micros(latency),
            }),
        });
    }

    /// A failure is printed even where answers are not.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.summary().count_failure(failure.cause);
        let Failure { cause, detail } = failure;
        self.lines.print(match self.output {
            Output::Text => format!("{{'error': '{cause}', 'detail': {}}}", repr(detail)),
            Output::Json => json_line(&FailureLine {
                at_ms: self.at_ms(),
                error: *cause,
                detail,
            }),
        });
    }

    /// Ends the count.
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
        // A count that another thread has left half-way is still the best there is.
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn json_line(line: &impl Serialize) -> String {
    // Numbers and strings are always JSON; nothing here can fail.
    serde_json::to_string(line).unwrap_or_default()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
