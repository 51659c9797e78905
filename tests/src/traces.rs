//! What runs on this machine, looked at from outside: by `/proc` and by podman's own command
//! line, never by asking the controller.

use std::path::Path;
use std::process::Command;

/// A process that a project has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its program and arguments.
    pub command: String,
    /// `VERSION` in its environment: endpoints have one.
    pub version: Option<String>,
    /// `PORT` in its environment.
    pub port: Option<String>,
}

/// Every process that prints into this folder or was told of it, except for what the tests run
/// themselves: the controller, and without podman the proxy and all endpoints.
pub fn processes_of(folder: &Path) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").expect("Linux has /proc");
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<Process> = pids.filter_map(|pid| process(pid, folder)).collect();
    found.sort_by_key(|process| process.pid);
    found
}

fn process(pid: i32, folder: &Path) -> Option<Process> {
    let proc = Path::new("/proc").join(pid.to_string());
    // What ended a moment ago, and what belongs to others, cannot be read.
    let output = std::fs::read_link(proc.join("fd/1")).ok()?;
    let words = |file: &str| -> Option<Vec<String>> {
        let bytes = std::fs::read(proc.join(file)).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some(text.split_terminator('\0').map(str::to_owned).collect())
    };
    let command = words("cmdline")?.join(" ");
    let told = command.contains(folder.to_str()?) && !is_ours(&proc);
    if !output.starts_with(folder) && !told {
        return None;
    }
    let environ = words("environ")?;
    let value = |name: &str| {
        let mut pairs = environ.iter().filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(key, _)| *key == name)?;
        Some(found.1.to_owned())
    };
    Some(Process {
        pid,
        command,
        version: value("VERSION"),
        port: value("PORT"),
    })
}

/// Whether a process is a child of this one: a verb that a test runs names the folder too.
fn is_ours(proc: &Path) -> bool {
    let status = std::fs::read_to_string(proc.join("status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent.is_some_and(|parent| parent.trim() == std::process::id().to_string())
}

/// Runs podman's command line, and gives what it printed or why it did not work.
pub fn podman(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("podman")
        .args(arguments)
        .output()
        .map_err(|error| format!("podman: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("podman {}: {}", arguments.join(" "), said.trim()))
}
