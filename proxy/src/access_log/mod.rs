//! The access log: a line for each request that has ended.
//!
//! ```text
//!  worker: a request ends → its line, in the worker's buffer ──┐ full, or 100 ms old
//!  worker: a request ends → its line, in the worker's buffer ──┼──► the writer, one thread ──► target
//!                                 ▲────────────────────────────┴── buffers that were written
//! ```
//!
//! No worker waits for the target: where the writer has all of its buffers, lines are lost and counted.

mod clock;
mod escape;
mod line;
pub(crate) mod lost;
mod output;
pub(crate) mod own;
mod record;
mod sampling;
mod syslog;
pub(crate) mod termination;
mod writer;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use admin_api::AccessLogSpec;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use line::Line;
use lost::Lost;
use output::Output;
use sampling::Sampling;
use writer::ToWriter;

/// How long the target may take for what is left at the end.
const LAST_LINES: Duration = Duration::from_secs(5);

/// What all workers have of the access log.
pub(crate) struct AccessLog {
    line: Line,
    query: bool,
    /// Names of the fields that a line has beside what every request has.
    fields: Box<[String]>,
    sampling: Sampling,
    writer: UnboundedSender<ToWriter>,
    lost: Arc<Lost>,
    target: String,
}

/// The writer, while it runs.
pub(crate) struct Writing {
    log: Arc<AccessLog>,
    has_ended: oneshot::Receiver<()>,
}

impl AccessLog {
    /// Starts the writer of the log that a config asks for. Inside a runtime.
    ///
    /// # Errors
    /// Of the system, which has no thread left, or no standard output.
    pub(crate) fn start(spec: &AccessLogSpec, lost: Arc<Lost>) -> io::Result<Writing> {
        let (writer, batches) = unbounded_channel();
        let output = Output::to(&spec.to)?;
        let has_ended = writer::start(output, batches, lost.clone())?;
        let target = String::from(spec.to.clone());
        tokio::spawn(lost::watch(lost.clone(), target.clone()));
        let (line, fields) = Line::of(&spec.format);
        let log = Arc::new(Self {
            line,
            query: spec.query,
            fields,
            sampling: Sampling::of(&spec.sample),
            writer,
            lost,
            target,
        });
        Ok(Writing { log, has_ended })
    }
}

impl Writing {
    /// What the workers need.
    pub(crate) fn log(&self) -> Arc<AccessLog> {
        self.log.clone()
    }

    /// Begins with a new file whenever this gives something.
    pub(crate) fn reopen_at(&self, mut hang_up: tokio::signal::unix::Signal) {
        let log = self.log.clone();
        tokio::spawn(async move {
            while hang_up.recv().await.is_some() {
                tracing::info!(to = %log.target, "SIGHUP: opening the access log again");
                // The writer ends with the process.
                let _ = log.writer.send(ToWriter::Reopen);
            }
        });
    }

    /// Waits until everything is written, once the workers have ended.
    pub(crate) async fn finish(self) {
        let Self { log, has_ended } = self;
        let before = log.lost.total();
        let _ = log.writer.send(ToWriter::End);
        if tokio::time::timeout(LAST_LINES, has_ended).await.is_err() {
            tracing::warn!(
                to = %log.target,
                "the last lines of the access log are lost: they were not taken in {LAST_LINES:?}"
            );
        }
        if log.lost.total() > before {
            lost::say(&log.lost, &log.target, before);
        }
    }
}
