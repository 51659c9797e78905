//! A hook that is a program.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use admin_api::Period;
use futures_util::future::{Either, OptionFuture, join, select};
use program::text::plain;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// So much of what it printed last is told.
const MAX_SAID: usize = 500;
/// So long after its end its output is still read: what it left running may hold that open.
const READ_ON: Duration = Duration::from_secs(1);

/// Runs it to its end; what it printed last is what it says.
pub(super) async fn run(
    command: &[String],
    environment: BTreeMap<&'static str, String>,
    limit: Period,
    folder: &Path,
) -> Result<String, String> {
    let [file, args @ ..] = command else {
        return Err("the command is empty".into());
    };
    let mut hook = Command::new(file);
    program::systemd::keep_from(hook.as_std_mut());
    let mut child = hook
        .args(args)
        .envs(environment)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{file} cannot be run: {error}"))?;
    let mut group = Group::of(&child);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let read = Box::pin(join(
        read_last(child.stdout.take(), &mut out),
        read_last(child.stderr.take(), &mut err),
    ));
    let wait = pin!(timeout(limit.get(), child.wait()));
    let (ended, unread) = match select(wait, read).await {
        Either::Left((ended, read)) => (ended, Some(read)),
        Either::Right((_, wait)) => (wait.await, None),
    };
    let Ok(status) = ended else {
        return Err(format!("it did not end within {limit}, and was killed"));
    };
    let status = status.map_err(|error| error.to_string())?;
    group.let_go();
    // What has been read until then will do.
    let _ = timeout(READ_ON, OptionFuture::from(unread)).await;
    let (out, err) = (last_line(&out), last_line(&err));
    let said = if status.success() || err.is_empty() {
        out
    } else {
        err
    };
    if status.success() {
        return Ok(said);
    }
    let colon = if said.is_empty() { "" } else { "; it said: " };
    Err(format!("{status}{colon}{said}"))
}

/// A process with all it starts, killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(leader: &Child) -> Self {
        let id = leader.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    /// Its process has ended by itself: what it left running is to go on, and its id may become
    /// another's.
    fn let_go(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // One that has just ended is ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads to the end; the last of it is kept.
async fn read_last(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let (Some(mut pipe), mut buffer) = (pipe, [0; 4096]) else {
        return;
    };
    // A pipe that breaks has ended.
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..count]);
        let extra = kept.len().saturating_sub(buffer.len());
        kept.drain(..extra);
    }
}

/// The last line that was printed.
fn last_line(printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(printed);
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    let last = last.unwrap_or_default().trim();
    plain(last).chars().take(MAX_SAID).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rustix::process::kill_process;

    use super::*;

    async fn sh(script: &str, timeout: Period) -> Result<String, String> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let environment = BTreeMap::from([("CROSSFADE_TO", "2.0.0".to_owned())]);
        run(&command, environment, timeout, Path::new("/")).await
    }

    #[tokio::test]
    async fn it_passes_by_its_exit_code_and_says_its_last_line() {
        let second = Period::from_secs(10);
        let said = sh("echo one; echo $CROSSFADE_TO in $PWD", second).await;
        assert_eq!(said, Ok("2.0.0 in /".into()));
        let said = sh("echo no; echo because >&2; exit 3", second).await;
        assert_eq!(said, Err("exit status: 3; it said: because".into()));
        let missing = ["/no/such/program".to_owned()];
        let said = run(&missing, BTreeMap::new(), second, Path::new("/")).await;
        assert!(said.is_err_and(|why| why.contains("/no/such/program cannot be run")));
    }

    /// A script that waits for a child, whose id it writes into the file.
    fn waits_for_a_child(pid_file: &Path) -> String {
        format!("sleep 60 & echo $! > {}; wait", pid_file.display())
    }

    fn runs(pid: &str) -> bool {
        std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !holds() {
            assert!(Instant::now() < deadline, "not {what}");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn it_is_killed_with_all_it_started_when_its_time_is_over() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let pid_file = dir.path().join("pid");
        let script = waits_for_a_child(&pid_file);
        let said = sh(&script, Period::from_millis(300)).await;
        assert!(said.is_err_and(|why| why.contains("within 300ms, and was killed")));
        let pid = std::fs::read_to_string(pid_file).expect("it began");
        until("killed", || !runs(pid.trim())).await;
    }

    #[tokio::test]
    async fn it_is_killed_with_all_it_started_when_nothing_waits_for_it_any_more() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let pid_file = dir.path().join("pid");
        let script = waits_for_a_child(&pid_file);
        let hook = tokio::spawn(async move { sh(&script, Period::from_secs(60)).await });
        let written = || std::fs::read_to_string(&pid_file).unwrap_or_default();
        until("begun", || written().ends_with('\n')).await;
        hook.abort();
        until("killed", || !runs(written().trim())).await;
    }

    #[tokio::test]
    async fn it_ends_with_its_process_though_a_child_goes_on_and_holds_its_output() {
        let began = Instant::now();
        let said = sh("sleep 60 & echo $!", Period::from_secs(10)).await;
        let pid = said.expect("it passes");
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(runs(&pid), "what it left running goes on");
        let child = pid.parse().ok().and_then(Pid::from_raw);
        kill_process(child.expect("an id"), Signal::KILL).expect("killed");
    }
}
