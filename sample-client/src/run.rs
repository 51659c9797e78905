//! A run: starts the connections, tells them when to stop, waits for the last answer.

use std::io::{self, Write};
use std::sync::Arc;

use hickory_resolver::net::NetError;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};

use crate::lines::Lines;
use crate::options::{Config, Mode};
use crate::report::Report;
use crate::resolve::Names;
use crate::schedule::Schedule;
use crate::shared::{Shared, Stop};
use crate::summary::Summary;
use crate::{websocket, worker};

/// Why a run could not be made, or not be told of.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The lines cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// The signals cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(#[source] io::Error),
    /// The runtime cannot be built.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// The resolver cannot be built from the machine's configuration.
    #[error("cannot look up names: {0}")]
    Names(#[source] NetError),
    /// A connection's task died, and what it saw is not known.
    #[error("a connection's task died: {0}")]
    Task(#[source] JoinError),
}

/// Sends requests until `shutdown` completes, or the config's count or duration is reached; then
/// waits for those in flight. Lines go to `out` as things happen.
///
/// # Errors
/// When `out` cannot be written, or names cannot be looked up at all. What goes wrong with
/// requests is in the summary instead.
pub async fn run(
    config: Config,
    out: impl Write + Send + 'static,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, RunError> {
    let start = Instant::now();
    let names = Names::from_system().map_err(RunError::Names)?;
    let (lines, mut writer) = Lines::to(out);
    // Each WebSocket keeps its own time; the schedule then only counts.
    let interval = config.interval.filter(|_| config.mode == Mode::Http);
    let shared = Arc::new(Shared {
        names,
        schedule: Schedule::new(start, interval, config.count, config.duration),
        report: Report::new(&config, lines.clone(), start),
        config,
    });
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    for _ in 0..shared.config.connections {
        let (shared, stop) = (Arc::clone(&shared), Stop::new(stopping.clone()));
        match shared.config.mode {
            Mode::Http => connections.spawn(worker::work(shared, stop)),
            Mode::WebSocket => connections.spawn(websocket::work(shared, stop)),
        };
    }

    let time_is_up = async {
        match shared.config.duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(shutdown, time_is_up);
    let unsent = tokio::select! {
        died = all(&mut connections) => died.map(|()| 0)?,
        () = async {
            tokio::select! {
                () = &mut shutdown => {}
                () = &mut time_is_up => {}
                // Nobody is left to be told.
                _ = &mut writer.gone => {}
            }
        } => {
            stop.send_replace(true);
            let unsent = shared.schedule.overdue(Instant::now());
            all(&mut connections).await?;
            unsent
        }
    };

    let summary = shared.report.finish(unsent, shared.config.summary);
    writer.finish(&lines).map_err(RunError::Output)?;
    Ok(summary)
}

async fn all(connections: &mut JoinSet<()>) -> Result<(), RunError> {
    while let Some(ended) = connections.join_next().await {
        ended.map_err(RunError::Task)?;
    }
    Ok(())
}
