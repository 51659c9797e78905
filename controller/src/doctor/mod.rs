//! `crossfade doctor`: a project's requirements of this host, each with a suggested fix. It
//! changes nothing, and needs neither a controller nor podman.

mod host;
mod policy;
mod project;
mod uploads;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Serialize;
use tokio::process::Command;

use crate::manifest::{Manifest, OLD_PROJECT, RuntimeChoice};
use crate::renamed;
use crate::server::engine;
use crate::state_dir;

/// For one program that is asked something. Rootless podman's first start takes long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether nothing is in the way.
    pub(crate) ok: bool,
    /// Each thing that was looked at.
    pub(crate) findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What it is about: `podman`, `port`, …
    pub(crate) about: &'static str,
    /// How it is.
    pub(crate) state: State,
    /// What was seen.
    pub(crate) text: String,
    /// What to do about it.
    #[serde(flatten, serialize_with = "renamed::fix::serialize")]
    pub(crate) fix: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// It works, though not as well as it could.
    Warning,
    /// It does not work like this.
    Failed,
}

impl Finding {
    fn ok(about: &'static str, text: impl Into<String>) -> Self {
        Self {
            about,
            state: State::Ok,
            text: text.into(),
            fix: None,
        }
    }

    fn warning(about: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            state: State::Warning,
            fix: Some(fix.into()),
            ..Self::ok(about, text)
        }
    }

    fn failed(about: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            state: State::Failed,
            ..Self::warning(about, text, fix)
        }
    }
}

/// Looks at everything. `file` is the manifest, `state` the folder of the state if one was named.
pub(crate) async fn examine(file: &Path, state: Option<PathBuf>) -> Report {
    let mut findings = Vec::new();
    let manifest = project::manifest(file, &mut findings);
    let kind = manifest.as_ref().map_or(RuntimeChoice::Auto, |m| m.runtime);
    let on_podman = host::examine(kind, manifest.as_ref(), &mut findings).await;
    let kind = match (kind, on_podman) {
        (RuntimeChoice::Process, _) | (RuntimeChoice::Auto, false) => RuntimeChoice::Process,
        _ => RuntimeChoice::Podman,
    };
    let project = manifest.as_ref().map_or(OLD_PROJECT, |m| &m.project);
    let state = match state.map_or_else(|| state_dir::default_for(project), Ok) {
        Ok(state) => Some(state),
        Err(error) => {
            let fix = "name one: `--state FOLDER`";
            findings.push(Finding::failed("state", error.to_string(), fix));
            None
        }
    };
    if let Some(state) = &state {
        project::state(state, &mut findings);
    }
    if let Some(manifest) = &manifest {
        uploads::examine(manifest, &mut findings);
        let place = project::CheckedProject {
            manifest,
            folder: std::path::absolute(file)
                .ok()
                .and_then(|file| file.parent().map(Path::to_owned))
                .unwrap_or_default(),
            state,
            kind,
            on_podman,
        };
        place.examine(&mut findings).await;
    }
    Report {
        ok: findings.iter().all(|one| one.state != State::Failed),
        findings,
    }
}

/// The image of a service as the runtime takes it.
fn image_of(kind: RuntimeChoice, folder: &Path, image: &str) -> String {
    engine::image_from(kind, folder, image)
}

/// The manifest's first words about what is wrong.
fn first_line(text: &str) -> &str {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("no output")
}

/// Runs a program to its end. The error has the reason if it gave no output.
async fn run(program: &str, args: &[&str]) -> Result<Output, String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(TIMEOUT, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no response in {} s", TIMEOUT.as_secs())),
    }
}

/// Whether a program of this name is in `PATH`.
fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where programs for root are, which others' `PATH` may lack.
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(more)
        .any(|folder| folder.join(program).is_file())
}

/// As people read it.
pub(crate) fn text(report: &Report) -> String {
    let mut text = String::new();
    for one in &report.findings {
        let mark = match one.state {
            State::Ok => "ok",
            State::Warning => "warn",
            State::Failed => "FAIL",
        };
        text.push_str(&format!("{mark:4}  {}: {}\n", one.about, one.text));
        if let Some(fix) = &one.fix {
            text.push_str(&format!("      → {fix}\n"));
        }
    }
    text
}

/// How many of the findings are failures, out of how many.
pub(crate) fn summary(report: &Report) -> String {
    let failed = report
        .findings
        .iter()
        .filter(|one| one.state == State::Failed);
    format!(
        "{} of {} checks failed; the lines with → suggest a fix",
        failed.count(),
        report.findings.len()
    )
}

/// Whether the manifest asks for podman, or would take it.
fn wants_podman(kind: RuntimeChoice) -> bool {
    kind != RuntimeChoice::Process
}

/// The manifest's listening addresses, the admin port included.
fn addresses(manifest: &Manifest) -> Vec<std::net::SocketAddr> {
    let clients = manifest.proxy.listeners.iter().map(|one| one.address);
    let admin = manifest.proxy.admin_port;
    let admin = admin.map(|port| ([127, 0, 0, 1], port).into());
    clients.chain(admin).collect()
}
