//! A hook that is a program.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use admin_api::Period;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// So much of what it printed last is told.
const MAX_SAID: usize = 500;

/// Runs it to its end; what it printed last is what it says.
pub(super) async fn run(
    command: &[String],
    environment: BTreeMap<&'static str, String>,
    timeout: Period,
    folder: &Path,
) -> Result<String, String> {
    let [program, args @ ..] = command else {
        return Err("there is no program to run".into());
    };
    let mut child = Command::new(program)
        .args(args)
        .envs(environment)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // What it starts ends with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = async { tokio::join!(child.wait(), last_of(out), last_of(err)) };
    let Ok((status, out, err)) = tokio::time::timeout(timeout.get(), ended).await else {
        if let Some(group) = group {
            // One that has just ended is ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
        return Err(format!("it did not end within {timeout}, and was killed"));
    };
    let status = status.map_err(|error| error.to_string())?;
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

/// The last line that was printed.
async fn last_of(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let (Some(mut pipe), mut kept, mut buffer) = (pipe, Vec::new(), [0; 4096]) else {
        return String::new();
    };
    // A pipe that breaks has ended.
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..count]);
        let extra = kept.len().saturating_sub(buffer.len());
        kept.drain(..extra);
    }
    let text = String::from_utf8_lossy(&kept);
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or_default()
        .trim()
        .chars()
        .take(MAX_SAID)
        .collect()
}

#[cfg(test)]
mod tests {
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

    #[tokio::test]
    async fn it_is_killed_with_all_it_started_when_its_time_is_over() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", pid_file.display());
        let said = sh(&script, Period::from_millis(300)).await;
        assert!(said.is_err_and(|why| why.contains("within 300ms, and was killed")));
        let pid = std::fs::read_to_string(pid_file).expect("it began");
        let exe = format!("/proc/{}/exe", pid.trim());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while std::fs::read_link(&exe).is_ok() {
            assert!(std::time::Instant::now() < deadline, "{pid} goes on");
            tokio::task::yield_now().await;
        }
    }
}
