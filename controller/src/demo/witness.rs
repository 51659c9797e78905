//! The demo's client: the sample client, whose every line is kept with the time it came.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::error::{Error, Exit, Result};

const CLIENT: &str = "crossfade-sample-client";
/// Its own time-out of a request is 10 s.
const END_WITHIN: Duration = Duration::from_secs(20);

/// A client that asks all the time, and what it has seen.
pub(super) struct Witness {
    child: Child,
    seen: Arc<Mutex<Vec<Seen>>>,
    reader: JoinHandle<()>,
}

/// One request's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) what: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A whole response.
    Response { version: String, status: u16 },
    /// No response, or not a whole one: the cause.
    Failure(String),
}

/// A line of the client's.
#[derive(Deserialize)]
struct Line {
    status: Option<u16>,
    version: Option<String>,
    error: Option<String>,
}

impl Witness {
    /// Starts asking.
    pub(super) fn start(proxy: SocketAddr, rate: u32) -> Result<Self> {
        let beside = std::env::current_exe()
            .ok()
            .map(|program| program.with_file_name(CLIENT))
            .filter(|program| program.exists());
        let program = beside.unwrap_or_else(|| CLIENT.into());
        let mut child = Command::new(&program)
            .args([
                "--url",
                &format!("http://{proxy}/"),
                "--rate",
                &rate.to_string(),
            ])
            .args(["--connections", "8", "--output", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ctrl-C on the terminal is for the demo, which ends its client itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::file(&program))?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = seen.clone();
        let output = child.stdout.take();
        let reader = tokio::spawn(async move {
            let Some(output) = output else { return };
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(what) = read(&line) {
                    lock(&notes).push(Seen {
                        at: Instant::now(),
                        what,
                    });
                }
            }
        });
        Ok(Self {
            child,
            seen,
            reader,
        })
    }

    /// Stops asking, and gives all that was seen.
    pub(super) async fn finish(mut self) -> Result<Vec<Seen>> {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let Some(pid) = pid else {
            return Err(Error::refused("the client ended before the demo did"));
        };
        kill_process(pid, Signal::INT)
            .map_err(Error::caused(Exit::FAILED, "the client cannot be stopped"))?;
        let ended = async {
            // The output ends with the process.
            let _ = self.reader.await;
            self.child.wait().await
        };
        match timeout(END_WITHIN, ended).await {
            Ok(Ok(_)) => Ok(std::mem::take(&mut *lock(&self.seen))),
            Ok(Err(error)) => Err(Error::file(CLIENT)(error)),
            Err(_) => Err(Error::refused("the client does not end")),
        }
    }
}

fn read(line: &str) -> Option<Outcome> {
    match serde_json::from_str(line).ok()? {
        Line {
            error: Some(error), ..
        } => Some(Outcome::Failure(error)),
        Line {
            status: Some(status),
            version,
            ..
        } => Some(Outcome::Response {
            version: version.unwrap_or_else(|| "?".into()),
            status,
        }),
        _ => None,
    }
}

fn lock(seen: &Mutex<Vec<Seen>>) -> MutexGuard<'_, Vec<Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_and_failures_are_told_apart() {
        let response = r#"{"at_ms":7,"status":500,"version":"3.0.0","latency_us":900}"#;
        let want = Outcome::Response {
            version: "3.0.0".into(),
            status: 500,
        };
        assert_eq!(read(response), Some(want));
        let failure = r#"{"at_ms":7,"error":"reset","detail":"x"}"#;
        assert_eq!(read(failure), Some(Outcome::Failure("reset".into())));
        assert_eq!(read(r#"{"summary":{}}"#), None);
    }
}
