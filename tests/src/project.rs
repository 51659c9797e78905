//! A project under test: `crossfade` with a manifest, a state folder and ports of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Finished, Load, Process, Running, free_address, podman, processes_of, program};

/// How long a verb, and what it begins, may take. Containers on a busy machine are slow.
const TIME_LIMIT: Duration = Duration::from_secs(90);
/// From one look at `status` to the next.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a project's containers run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Child processes.
    Processes,
    /// Real containers.
    Podman,
}

/// What differs between the manifests of tests. Times are short, so that tests are.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many containers of the service.
    pub replicas: u32,
    /// How long a step lasts at least.
    pub step: &'static str,
    /// How long the old version stays warm.
    pub bake: &'static str,
    /// How long a container may take to become healthy.
    pub start_timeout: &'static str,
    /// The environment of the first version, as TOML.
    pub env: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            replicas: 2,
            step: "1s",
            bake: "1s",
            start_timeout: "30s",
            env: "{}",
        }
    }
}

/// A project. All of it is taken away when this is dropped, also after a panic.
pub struct TestProject {
    /// What it runs on.
    pub on: On,
    /// Its name, and label.
    pub name: String,
    /// Where clients ask.
    pub address: SocketAddr,
    /// Where the proxy's admin API is, if the manifest has [`TestProject::with_admin_port`].
    pub admin: SocketAddr,
    folder: TempDir,
}

impl TestProject {
    /// A project of which nothing runs yet.
    pub fn new(on: On, settings: &Settings) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new()
            .prefix("cf-")
            .tempdir()
            .expect("a temporary folder");
        let project = Self {
            on,
            name: format!("crossfade-test-{}-{next}", std::process::id()),
            address: free_address(),
            admin: free_address(),
            folder,
        };
        project.write_manifest(&project.manifest(settings));
        project
    }

    /// A project whose first version, 1.0.0, is up.
    pub async fn up(on: On, settings: &Settings) -> Self {
        let project = Self::new(on, settings);
        project.must(&["up"]).await;
        project
    }

    /// What `crossfade.toml` says.
    pub fn manifest(&self, settings: &Settings) -> String {
        let (runtime, image) = match self.on {
            On::Processes => ("process", "crossfade-sample-server"),
            On::Podman => ("podman", "localhost/crossfade-sample-server:1.0.0"),
        };
        let Settings {
            replicas,
            step,
            bake,
            start_timeout,
            env,
        } = settings;
        format!(
            r#"project = "{project}"
runtime = "{runtime}"

[proxy]
listen = ["{address}"]
drain_timeout = "10s"

[[services]]
name = "web"
image = "{image}"
version = "1.0.0"
replicas = {replicas}
env = {env}
health = {{ path = "/healthz", interval = "100ms", timeout = "2s" }}

[services.rollout]
steps = [10, 50, 100]
step_min_duration = "{step}"
min_requests = 20
min_healthy_time = "200ms"
start_timeout = "{start_timeout}"
bake = "{bake}"
"#,
            project = self.name,
            address = self.address,
        )
    }

    /// The same manifest, with the admin API on a port.
    pub fn with_admin_port(&self, manifest: &str) -> String {
        let port = format!("admin_port = {}\ndrain_timeout", self.admin.port());
        manifest.replacen("drain_timeout", &port, 1)
    }

    /// Replaces `crossfade.toml`.
    pub fn write_manifest(&self, text: &str) {
        std::fs::write(self.file(), text).expect("the folder is ours");
    }

    /// `crossfade.toml`.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("crossfade.toml")
    }

    /// The folder of the controller's state.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Where its manifest and its state are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn line<'a>(&self, args: &[&'a str], file: &'a str, state: &'a str) -> Vec<&'a str> {
        [&["--file", file, "--state", state], args].concat()
    }

    /// Begins `crossfade …`, with the project's manifest and state.
    pub fn start(&self, args: &[&str]) -> Running {
        self.start_with(args, &[])
    }

    /// The same, with this in the environment.
    pub fn start_with(&self, args: &[&str], env: &[(&str, &str)]) -> Running {
        let (file, state) = (self.file(), self.state());
        let (file, state) = (path_text(&file), path_text(&state));
        let users = users_environment();
        let mut all: Vec<(&str, &str)> = users.iter().map(|(k, v)| (*k, v.as_str())).collect();
        all.extend(env);
        Running::start("crossfade", &self.line(args, file, state), &all)
    }

    /// Runs `crossfade …` to its end.
    pub async fn run(&self, args: &[&str]) -> Finished {
        self.start(args).finished_within(TIME_LIMIT).await
    }

    /// Runs `crossfade …`, which has to succeed, and gives what it printed.
    #[track_caller]
    pub fn must(&self, args: &[&str]) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        let running = self.start(args);
        let args = args.join(" ");
        async move {
            let finished = running.finished_within(TIME_LIMIT).await;
            assert_eq!(
                finished.code,
                Some(0),
                "{caller}: crossfade {args}: {finished:#?}"
            );
            finished.stdout
        }
    }

    /// Runs `crossfade …`, which has to end with this code and one line of complaint that
    /// contains each of `says`.
    #[track_caller]
    pub fn refused(
        &self,
        args: &[&str],
        code: i32,
        says: &[&str],
    ) -> impl Future<Output = Finished> {
        let caller = std::panic::Location::caller();
        let running = self.start(args);
        let says: Vec<String> = says.iter().map(|&text| text.to_owned()).collect();
        async move {
            let finished = running.finished_within(TIME_LIMIT).await;
            finished.expect_complaint(caller, code, &says);
            finished
        }
    }

    /// The arguments that deploy a release: 3.0.0 fails a third of its requests, and every
    /// other version is good.
    pub fn deploy<'a>(&self, version: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
        let image = match (self.on, version) {
            (On::Processes, _) => "crossfade-sample-server",
            (On::Podman, "1.0.0") => "localhost/crossfade-sample-server:1.0.0",
            (On::Podman, "3.0.0") => "localhost/crossfade-sample-server:3.0.0",
            (On::Podman, _) => "localhost/crossfade-sample-server:2.0.0",
        };
        let mut args = vec!["deploy", "web", "--image", image, "--version", version];
        if self.on == On::Processes && version == "3.0.0" {
            args.extend(["--env", "ERROR_RATE=0.33"]);
        }
        args.extend(flags);
        args
    }

    /// `status`, as JSON.
    pub async fn status(&self) -> Value {
        json(&self.must(&["status", "--output", "json"]).await)
    }

    /// Service `web` in `status`.
    pub async fn web(&self) -> Value {
        self.status().await["services"][0].clone()
    }

    /// `history`, as JSON.
    pub async fn history(&self) -> Value {
        json(&self.must(&["history", "--output", "json"]).await)
    }

    /// What happened, a line each.
    pub async fn events(&self) -> Vec<String> {
        let history = self.history().await;
        let events = history["events"].as_array().into_iter().flatten();
        events
            .map(|event| {
                let word = |key: &str| event[key].as_str().unwrap_or("").to_owned();
                format!("{}: {}", word("kind"), word("text"))
            })
            .collect()
    }

    /// Waits until service `web` is as `holds` wants it, and gives it.
    #[track_caller]
    pub fn until(
        &self,
        what: impl Into<String>,
        holds: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        let what = what.into();
        async move {
            let start = Instant::now();
            loop {
                let web = self.web().await;
                if holds(&web) {
                    return web;
                }
                assert!(
                    start.elapsed() < TIME_LIMIT,
                    "{caller}: waited for {TIME_LIMIT:?} until {what}: {web:#}"
                );
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Waits until the rollout is in this phase.
    #[track_caller]
    pub fn until_phase(&self, phase: &str) -> impl Future<Output = Value> {
        let wanted = phase.to_owned();
        self.until(format!("the rollout is {phase}"), move |web| {
            web["rollout"]["phase"] == wanted.as_str()
        })
    }

    /// Waits until a version has this share of the requests, in percent.
    #[track_caller]
    pub fn until_share(&self, version: &str, percent: f64) -> impl Future<Output = Value> {
        let wanted = version.to_owned();
        self.until(format!("{version} has {percent}%"), move |web| {
            share(web, &wanted) == Some(percent)
        })
    }

    /// A client at a steady 200 requests a second.
    pub fn load(&self) -> Load {
        Load::start(self.address, &["--rate", "100", "--connections", "8"])
    }

    /// The process of the controller.
    pub fn controller(&self) -> i32 {
        self.try_controller().expect("a controller has run")
    }

    /// The same; `None` while one has begun and has not said so yet.
    pub(crate) fn try_controller(&self) -> Option<i32> {
        let file = self.state().join("controller.lock");
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// `kill -9` of the controller.
    pub fn kill_controller(&self) {
        kill_to_the_end(self.controller());
    }

    /// The ids of what serves a version and runs: containers' or processes'.
    pub fn serving(&self, version: &str) -> Vec<String> {
        match self.on {
            On::Processes => {
                let mut found = processes_of(self.folder.path());
                found.retain(|process| process.version.as_deref() == Some(version));
                found
                    .iter()
                    .map(|process| process.pid.to_string())
                    .collect()
            }
            On::Podman => {
                let mut found = containers_of(&self.name);
                found.retain(|(_, labels)| labels["io.crossfade.version"] == version);
                let mut ids: Vec<String> = found.into_iter().map(|(id, _)| id).collect();
                ids.sort();
                ids
            }
        }
    }

    /// What is made of containers, or in their place of processes, whether they run or not: the
    /// endpoints, the proxy, its infra container.
    pub(crate) fn parts(&self) -> Vec<String> {
        match self.on {
            On::Processes => {
                let records = std::fs::read_dir(self.state().join("processes")).expect("records");
                let running = processes_of(self.folder.path()).into_iter();
                let running = running.filter(|one| !one.command.contains(" serve"));
                records
                    .flatten()
                    .map(|record| record.file_name().to_string_lossy().into_owned())
                    .chain(running.map(|one| format!("{one:?}")))
                    .collect()
            }
            On::Podman => containers_of(&self.name)
                .into_iter()
                .map(|(id, labels)| format!("{id}: {labels}"))
                .collect(),
        }
    }

    /// Everything of this project that is there: processes, containers, networks.
    pub fn traces(&self) -> Vec<String> {
        traces_of(&self.name, self.folder.path(), self.on)
    }

    /// Waits until nothing of this project is there. The controller ends a moment after it has
    /// responded to `down`.
    #[track_caller]
    pub fn until_nothing_is_left(&self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let start = Instant::now();
            loop {
                let traces = self.traces();
                if traces.is_empty() {
                    return;
                }
                assert!(start.elapsed() < TIME_LIMIT, "{caller}: left: {traces:#?}");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

impl Finished {
    /// Fails unless it ended with this code and one line of complaint that contains each of
    /// `says`.
    fn expect_complaint(&self, caller: &std::panic::Location<'_>, code: i32, says: &[String]) {
        assert_eq!(self.code, Some(code), "{caller}: {self:#?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert!(
            lines.len() == 1 && lines[0].starts_with("error: "),
            "{caller}: not one message: {self:#?}"
        );
        for text in says {
            assert!(
                self.stderr.contains(text),
                "{caller}: `{text}` is not in it: {self:#?}"
            );
        }
    }
}

impl Drop for TestProject {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.state().join("controller.log"));
            eprintln!("{} said:\n{}", self.name, log.unwrap_or_default());
        }
        let (file, state) = (self.file(), self.state());
        let down = Command::new(program("crossfade"))
            .args(self.line(&["down"], path_text(&file), path_text(&state)))
            .stdin(Stdio::null())
            .output();
        if !std::thread::panicking() {
            let down = down.expect("crossfade can be run");
            assert!(down.status.success(), "{down:?}");
        }
        let start = Instant::now();
        while !self.traces().is_empty() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(LOOK_EVERY);
        }
        // Only after a test that failed, or where `down` does not do what it says.
        sweep(&self.name, self.folder.path(), self.on);
    }
}

/// The share of the requests that `status` says a version has, in percent.
pub(crate) fn share(web: &Value, version: &str) -> Option<f64> {
    let mut versions = web["versions"].as_array()?.iter();
    versions.find(|one| one["version"] == version)?["share"].as_f64()
}

/// Ends whatever is there of a project, roughly.
pub(crate) fn sweep(project: &str, folder: &Path, on: On) {
    for Process { pid, .. } in processes_of(folder) {
        kill(pid);
    }
    if on == On::Podman {
        for (id, _) in containers_of(project) {
            let _ = podman(&["rm", "--force", "--time", "0", &id]);
        }
        for network in networks_of(project) {
            let _ = podman(&["network", "rm", "--force", &network]);
        }
    }
}

/// Everything of a project that is there, as lines for people.
pub fn traces_of(project: &str, folder: &Path, on: On) -> Vec<String> {
    let processes = processes_of(folder);
    let mut traces: Vec<String> = processes.iter().map(|found| format!("{found:?}")).collect();
    if on == On::Podman {
        let containers = containers_of(project);
        traces.extend(
            containers
                .iter()
                .map(|(id, labels)| format!("{id}: {labels}")),
        );
        traces.extend(networks_of(project));
    }
    traces
}

/// The ids and labels of all containers with the project's label, whether they run or not.
fn containers_of(project: &str) -> Vec<(String, Value)> {
    let filter = format!("label=io.crossfade.project={project}");
    let list = podman(&["ps", "--all", "--filter", &filter, "--format", "json"]);
    let list = json(&list.expect("podman works"));
    let list = list.as_array().into_iter().flatten();
    list.map(|one| {
        let id = one["Id"].as_str().expect("every container has an id");
        (id.to_owned(), one["Labels"].clone())
    })
    .collect()
}

fn networks_of(project: &str) -> Vec<String> {
    let filter = format!("label=io.crossfade.project={project}");
    let format = "{{.Name}}";
    let list = podman(&["network", "ls", "--filter", &filter, "--format", format]);
    let list = list.expect("podman works");
    list.lines().map(str::to_owned).collect()
}

fn kill(pid: i32) {
    // One that has just ended needs no more.
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The same, and waits until it has ended.
pub(crate) fn kill_to_the_end(pid: i32) {
    kill(pid);
    let proc = format!("/proc/{pid}/fd/1");
    let start = Instant::now();
    while std::fs::read_link(&proc).is_ok() {
        assert!(start.elapsed() < TIME_LIMIT, "{pid} survived SIGKILL");
        std::thread::yield_now();
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}, in {text}"))
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// What rootless podman needs to know about the user it works for.
pub(crate) fn users_environment() -> Vec<(&'static str, String)> {
    ["HOME", "USER", "XDG_RUNTIME_DIR"]
        .into_iter()
        .filter_map(|name| Some((name, std::env::var(name).ok()?)))
        .collect()
}
