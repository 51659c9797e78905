//! A proxy under test.

use std::net::SocketAddr;
use std::path::PathBuf;

use admin_api::{DrainReceipt, HealthState, ServiceStats, ServiceView};
use http::StatusCode;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Finished, ProcessStats, Reply, Running, TestEndpoint, send, wait_until};

/// A running `crossfade-proxy` on ports of its own, with two workers.
pub struct TestProxy {
    running: Running,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where its admin API is.
    pub admin: SocketAddr,
    folder: TempDir,
}

impl TestProxy {
    /// A proxy without services.
    pub async fn start() -> Self {
        Self::with_config("").await
    }

    /// A proxy whose config has this beside its listener and its admin port.
    pub async fn with_config(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::start_in(folder, more, None).await
    }

    /// The same, with so many files at most: by the soft limit that it starts with, and by the hard one.
    pub async fn with_files(soft: u64, hard: u64, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::start_in(folder, more, Some((soft, hard))).await
    }

    async fn start_in(folder: TempDir, more: &str, files: Option<(u64, u64)>) -> Self {
        let config = format!(
            "[admin]\nlisten = \"127.0.0.1:0\"\nstate_file = {:?}\n[handover]\nsocket = {:?}\n[[listeners]]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.2\"]\n{more}\n",
            folder.path().join("state.json"),
            folder.path().join("handover.sock"),
        );
        let file = folder.path().join("proxy.toml");
        std::fs::write(&file, config).expect("the folder is ours");
        let file = file.to_str().expect("temporary paths are text");
        let flags = flags(file, 2);
        let running = match files {
            None => Running::start("crossfade-proxy", &flags, &[]),
            Some((soft, hard)) => Running::start_with_files("crossfade-proxy", &flags, soft, hard),
        };
        let (address, admin) = addresses_of(&running).await;
        Self {
            running,
            address,
            admin,
            folder,
        }
    }

    /// Starts another process in its place, and waits until that has taken over. Gives the one
    /// before, which finishes what it has.
    pub async fn upgrade(&mut self) -> Running {
        self.upgrade_to(2).await
    }

    /// The same, to a process with so many workers.
    pub async fn upgrade_to(&mut self, workers: u32) -> Running {
        let successor = self.begin_successor(workers);
        let (address, admin) = addresses_of(&successor).await;
        assert_eq!((address, admin), (self.address, self.admin));
        std::mem::replace(&mut self.running, successor)
    }

    /// Starts another process of the same config beside it.
    pub fn begin_successor(&self, workers: u32) -> Running {
        let file = self.config_file();
        let file = file.to_str().expect("temporary paths are text");
        Running::start("crossfade-proxy", &flags(file, workers), &[])
    }

    /// Starts a process beside it that waits to take its place, and waits until it does.
    pub async fn standby(&self) -> Running {
        let standby = self.begin_standby();
        wait_until("it has a standby", || async {
            self.must("GET", "/v1/status", Value::Null).await["standby"] == true
        })
        .await;
        standby.line_with("standby: waiting").await;
        standby
    }

    /// The same, and does not wait.
    pub fn begin_standby(&self) -> Running {
        let file = self.config_file();
        let file = file.to_str().expect("temporary paths are text");
        let flags = [&flags(file, 2)[..], &["--standby"]].concat();
        Running::start("crossfade-proxy", &flags, &[])
    }

    /// Kills it (SIGKILL), and waits until it has ended. `next` serves in its place.
    pub async fn kill(&mut self, next: Running) {
        let before = std::mem::replace(&mut self.running, next);
        before.signal(Signal::KILL);
        before.finished().await;
    }

    /// Where it hands over.
    pub fn handover_socket(&self) -> PathBuf {
        self.folder.path().join("handover.sock")
    }

    /// Its config file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("proxy.toml")
    }

    /// Kills it (SIGKILL) and starts it again, on other ports, with what it kept.
    pub async fn restart_after_kill(self, more: &str) -> Self {
        let Self {
            running, folder, ..
        } = self;
        running.signal(Signal::KILL);
        running.finished().await;
        Self::start_in(folder, more, None).await
    }

    /// A call of the admin API.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> Reply {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        send(self.admin, method, path, &[], &body).await
    }

    /// A call that has to succeed.
    pub async fn must(&self, method: &str, path: &str, body: Value) -> Value {
        let reply = self.call(method, path, body).await;
        assert_eq!(
            reply.status,
            StatusCode::OK,
            "{method} {path}: {}",
            reply.body
        );
        reply.json()
    }

    /// Sets service `web` to these endpoints and this split; `null` where there is one version.
    pub async fn put_web(&self, endpoints: &[&TestEndpoint], split: Value) {
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|endpoint| {
                json!({"address": endpoint.address.to_string(), "version": endpoint.version})
            })
            .collect();
        let mut service = json!({"endpoints": endpoints});
        if !split.is_null() {
            service["split"] = split;
        }
        self.must("PUT", "/v1/services/web", service).await;
    }

    /// Sets the split of service `web`.
    pub async fn split(&self, split: Value) {
        self.must("PUT", "/v1/services/web/split", json!({"split": split}))
            .await;
    }

    /// Drains a version of service `web`, waiting for the receipt for as long as `wait` says.
    pub async fn drain(&self, version: &str, wait: &str) -> DrainReceipt {
        let path = format!("/v1/services/web/drain?wait={wait}");
        let receipt = self.must("POST", &path, json!({"version": version})).await;
        serde_json::from_value(receipt).expect("a receipt")
    }

    /// Service `web` as the table has it.
    pub async fn web(&self) -> ServiceView {
        let view = self.must("GET", "/v1/services/web", Value::Null).await;
        serde_json::from_value(view).expect("a service")
    }

    /// Waits until every endpoint of a version of service `web` is up.
    pub async fn wait_up(&self, version: &str) {
        wait_until("every endpoint is up", || async {
            let web = self.web().await;
            let endpoints = &web.versions[version].endpoints;
            endpoints
                .iter()
                .all(|endpoint| endpoint.health == HealthState::Up)
        })
        .await;
    }

    /// The figures of service `web`.
    pub async fn stats(&self) -> ServiceStats {
        let stats = self
            .must("GET", "/v1/services/web/stats", Value::Null)
            .await;
        serde_json::from_value(stats).expect("stats")
    }

    /// Waits until service `web` has this many requests in flight.
    pub async fn wait_in_flight(&self, requests: u64) {
        wait_until(&format!("{requests} requests are in flight"), || async {
            let versions = self.web().await.versions;
            versions
                .values()
                .map(|version| version.in_flight)
                .sum::<u64>()
                == requests
        })
        .await;
    }

    /// What it has cost so far.
    pub fn process_stats(&self) -> ProcessStats {
        ProcessStats::of(self.running.id())
    }

    /// The value of one of its metrics, with its labels as they are written.
    pub async fn metric(&self, series: &str) -> u64 {
        let metrics = self.call("GET", "/metrics", Value::Null).await.body;
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        let value = metrics.lines().find_map(value);
        value.unwrap_or_else(|| panic!("no {series} in: {metrics}"))
    }

    /// Waits until so many connections of clients are open.
    pub async fn wait_connections(&self, connections: u64) {
        let what = format!("{connections} connections are open");
        wait_until(&what, || async {
            self.must("GET", "/v1/status", Value::Null).await["connections"] == connections
        })
        .await;
    }

    /// Lets it have so many files at most, sockets included.
    pub fn limit_files(&self, files: u64) {
        let id = Pid::from_raw(self.running.id() as i32);
        let limit = Rlimit {
            current: Some(files),
            ..getrlimit(Resource::Nofile)
        };
        prlimit(id, Resource::Nofile, limit).expect("the proxy is ours");
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.running.stderr()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Waits until it has ended.
    pub async fn finished(self) -> Finished {
        self.running.finished().await
    }

    /// Waits for a line in its log.
    pub async fn logged(&self, text: &str) -> String {
        self.running.line_with(text).await
    }
}

fn flags(file: &str, workers: u32) -> [&str; 4] {
    let workers = match workers {
        1 => "1",
        2 => "2",
        3 => "3",
        more => panic!("{more} workers are more than these machines have use for"),
    };
    ["--config", file, "--workers", workers]
}

/// Where clients connect, and where its admin API is.
async fn addresses_of(running: &Running) -> (SocketAddr, SocketAddr) {
    let admin = address_in(&running.line_with("admin API listening").await);
    let address = address_in(&running.line_with(" listening address=").await);
    (address, admin)
}

/// The address in a line such as `… address=127.0.0.1:8080 …`.
fn address_in(line: &str) -> SocketAddr {
    let address = line
        .split("address=")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let address = address.and_then(|address| address.trim_matches('"').parse().ok());
    address.unwrap_or_else(|| panic!("no address in `{line}`"))
}
