//! An error between a client and its controller process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;

/// The controller process could not be called, or broke off. Another call may find it running.
#[derive(Debug, thiserror::Error)]
pub enum NoController {
    /// No process listens on the socket of the state folder.
    #[error("no controller runs in {}: `crossfade up` starts one", folder.display())]
    NotRunning {
        /// The state folder.
        folder: PathBuf,
    },
    /// One was started, and ended at once.
    #[error("the controller did not start: {said} (see {})", log.display())]
    NotStarted {
        /// The last line that it logged.
        said: String,
        /// Its log.
        log: PathBuf,
    },
    /// One was started, and does not respond.
    #[error("the controller did not respond within {} s: see {}", limit.as_secs(), log.display())]
    TimedOut {
        /// How long it had.
        limit: Duration,
        /// Its log.
        log: PathBuf,
    },
    /// It runs, and does not do anything.
    #[error("{} and has not responded for {} s: it is stopped, or hangs. {}", holds(folder, *pid), limit.as_secs(), helps(*pid))]
    Hung {
        /// The state folder, which it holds.
        folder: PathBuf,
        /// Its process, where that is known.
        pid: Option<u32>,
        /// How long it had.
        limit: Duration,
    },
    /// The connection ended before the response did.
    #[error("the controller went away: {0}")]
    BrokenOff(#[source] hyper::Error),
    /// An error without the controller's own words.
    #[error("the controller responded with {0}")]
    Status(StatusCode),
    /// The response is not what the verb's type has.
    #[error("invalid response of the controller: {0}")]
    Unreadable(#[source] serde_json::Error),
}

/// `process 12 (a controller) holds /var/lib/crossfade/shop`.
fn holds(folder: &Path, pid: Option<u32>) -> String {
    let who = match pid {
        Some(pid) => format!("process {pid}, the controller,"),
        None => "a controller".to_owned(),
    };
    format!("{who} holds {} and its rollouts,", folder.display())
}

fn helps(pid: Option<u32>) -> String {
    let kill = pid.map_or("kill it".to_owned(), |pid| {
        format!("`kill -CONT {pid}` lets it go on, `kill -9 {pid}` ends it")
    });
    format!("{kill}: no request is affected, and the next command starts another one")
}
