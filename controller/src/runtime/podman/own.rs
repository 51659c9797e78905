//! podman's API service, run by us where none is there: `podman system service`.
//!
//! It ends after a minute without a request. Containers do not depend on it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::Docker;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::greet::{NAME, POLL, greet, unavailable};
use crate::no_link;
use crate::runtime::RuntimeError;

/// For it to respond. Rootless podman's first start sets up its user namespace.
const START: Duration = Duration::from_secs(30);
/// For it to end when asked to.
const END: Duration = Duration::from_secs(10);
/// How long it waits for a request before it ends.
const IDLE: &str = "--time=60";
/// The kernel's limit for the path of a unix socket is 108 bytes, the final zero included.
const SOCKET_PATH_LIMIT: usize = 107;

/// The service, running or to be started.
#[derive(Debug)]
pub(super) struct Own {
    program: OsString,
    pub(super) socket: PathBuf,
    log: PathBuf,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    /// A handle that cannot come to mean another process.
    process: OwnedFd,
    /// Done when it has ended.
    end: JoinHandle<io::Result<ExitStatus>>,
}

impl Own {
    pub(super) fn new(state_dir: &Path) -> Result<Self, RuntimeError> {
        let state_dir = std::path::absolute(state_dir).map_err(file_error(state_dir))?;
        fs::create_dir_all(&state_dir).map_err(file_error(&state_dir))?;
        Ok(Self {
            program: NAME.into(),
            socket: state_dir.join("podman.sock"),
            log: state_dir.join("podman.log"),
            running: Mutex::new(None),
        })
    }

    /// Starts the service and waits until it responds. `tried` is what was looked at before.
    pub(super) async fn start(&self, tried: &[String]) -> Result<Docker, RuntimeError> {
        if self.socket.as_os_str().len() > SOCKET_PATH_LIMIT {
            return Err(unavailable(format!(
                "{} is too long for a socket's path: choose another folder for the state",
                self.socket.display()
            )));
        }
        self.end_last().await;
        let mut child = self.spawn(tried)?;
        let deadline = Instant::now() + START;
        loop {
            if let Ok(docker) = greet(&self.socket).await {
                self.keep(child);
                return Ok(docker);
            }
            if let Ok(Some(status)) = child.try_wait() {
                let said = no_link::read(&self.log).unwrap_or_default();
                let said = String::from_utf8_lossy(&said).into_owned();
                return Err(unavailable(format!(
                    "`podman system service` ended at once ({status}): {}",
                    last_lines(&said)
                )));
            }
            if Instant::now() >= deadline {
                // It is ours alone and serves no other program.
                let _ = child.kill().await;
                return Err(unavailable(format!(
                    "`podman system service` did not respond within {} s; its log is {}",
                    START.as_secs(),
                    self.log.display()
                )));
            }
            sleep(POLL).await;
        }
    }

    fn spawn(&self, tried: &[String]) -> Result<Child, RuntimeError> {
        // A socket without a listener would be in the way.
        match fs::remove_file(&self.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file_error(&self.socket)(error));
            }
            _ => {}
        }
        let log = no_link::options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.log)
            .map_err(file_error(&self.log))?;
        let log_too = log.try_clone().map_err(file_error(&self.log))?;
        let mut command = Command::new(&self.program);
        program::systemd::keep_from(command.as_std_mut());
        command
            .args(["system", "service", IDLE])
            .arg(format!("unix://{}", self.socket.display()))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            // Ctrl-C is for the controller, which may still need it to clean up.
            .process_group(0)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => unavailable(format!(
                    "there is no `podman` program in PATH, and no socket responds ({}); install \
                     podman, or choose the process runtime",
                    tried.join("; ")
                )),
                _ => unavailable(format!("`podman system service` did not start: {error}")),
            })
    }

    /// Lets the service run, and spawns a task that waits for its end.
    fn keep(&self, mut child: Child) {
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let end = tokio::spawn(async move { child.wait().await });
        *self.running() = process.map(|process| Running { process, end });
    }

    /// Ends the service that we started, if it still runs and only does not respond. It removes
    /// its socket as it goes, which must not happen to the next one's.
    async fn end_last(&self) {
        let last = self.running().take();
        if let Some(last) = last {
            last.signal_to_end();
            let _ = timeout(END, last.end).await;
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn signal_to_end(&self) {
        // Gone already is as good. Containers have monitors of their own and stay.
        let _ = pidfd_send_signal(&self.process, Signal::TERM);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(last) = self.running().take() {
            last.signal_to_end();
        }
    }
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> RuntimeError + use<> {
    let path = path.to_owned();
    move |source| RuntimeError::File {
        path: path.clone(),
        source,
    }
}

/// The end of what a program printed, on one line.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::runtime::podman::service::connect_first;

    async fn reason_of(program: &Path, state_dir: &Path) -> String {
        let mut own = Own::new(state_dir).unwrap();
        own.program = program.into();
        let sockets = [state_dir.join("no-listener.sock")];
        match connect_first(&sockets, Some(&own)).await {
            Err(RuntimeError::Unavailable { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_missing_podman_is_said_with_what_was_tried() {
        let folder = tempfile::tempdir().unwrap();
        let reason = reason_of(Path::new("/no/such/podman"), folder.path()).await;
        assert!(reason.contains("no `podman` program"), "{reason}");
        assert!(reason.contains("no-listener.sock"), "{reason}");
    }

    #[tokio::test]
    async fn a_podman_that_refuses_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("podman");
        fs::write(&program, "#!/bin/sh\necho 'Error: no room' >&2; exit 125\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let reason = reason_of(&program, folder.path()).await;
        assert!(
            reason.contains("Error: no room") && reason.contains("125"),
            "{reason}"
        );
    }

    #[tokio::test]
    async fn a_folder_too_deep_for_a_socket_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(100));
        let reason = reason_of(Path::new("/no/such/podman"), &deep).await;
        assert!(reason.contains("too long"), "{reason}");
    }
}
