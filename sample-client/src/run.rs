//! A run: starts the connections, stops them at the end, and waits for the last response.

use std::io::{self, Write};
use std::sync::Arc;

use hickory_resolver::net::NetError;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};

use crate::lines::Lines;
use crate::options::{Config, Mode};
use crate::report::Report;
use crate::resolver::Resolver;
use crate::schedule::Schedule;
use crate::shared::{Shared, Stop};
use crate::summary::Summary;
use crate::{websocket, worker};

/// Why a run could not start, or could not be reported.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Standard output cannot be written.
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
    Resolver(#[source] NetError),
    /// A connection's task panicked: what it counted is incomplete.
    #[error("a connection's task panicked: {0}")]
    Task(#[source] JoinError),
}

/// Sends requests until `shutdown` completes, or until the config's count or duration is reached.
/// Then waits for the requests in flight. Lines are written to `out` while it runs.
///
/// # Errors
/// If `out` cannot be written, or the resolver cannot be built. Failed requests are no error: the
/// summary counts them.
pub async fn run(
    config: Config,
    out: impl Write + Send + 'static,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, RunError> {
    let start = Instant::now();
    let resolver = Resolver::from_system().map_err(RunError::Resolver)?;
    let (lines, mut writer) = Lines::to(out);
    // Each WebSocket has its own timer; the schedule then only counts messages.
    let interval = config.interval.filter(|_| config.mode == Mode::Http);
    let shared = Arc::new(Shared {
        resolver,
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
                // Standard output is closed: no reader is left.
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
