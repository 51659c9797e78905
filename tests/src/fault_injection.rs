//! What can be done to a project from outside, and how one sees that it is whole.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::project::kill_to_the_end;
use crate::{AdminPort, On, Process, TestProject, podman, processes_of, wait_until};

/// How long healing may take. Containers on a busy machine are slow.
const TIME_LIMIT: Duration = Duration::from_secs(60);

impl TestProject {
    /// `kill -9` of one that serves this version.
    pub fn kill_one(&self, version: &str) {
        let id = self.serving(version).remove(0);
        match self.on {
            On::Processes => kill_to_the_end(id.parse().expect("a process id")),
            On::Podman => {
                podman(&["kill", "--signal", "KILL", &id]).expect("it runs");
            }
        }
    }

    /// `kill -9` of all that serve this version.
    pub fn kill_all(&self, version: &str) {
        let ids = self.serving(version);
        match self.on {
            On::Processes => {
                for id in ids {
                    kill_to_the_end(id.parse().expect("a process id"));
                }
            }
            On::Podman => {
                let kill = ["kill", "--signal", "KILL"].into_iter();
                let kill: Vec<&str> = kill.chain(ids.iter().map(String::as_str)).collect();
                podman(&kill).expect("all of them run");
            }
        }
    }

    /// SIGSTOP of one that serves this version.
    pub(crate) fn freeze_one(&self, version: &str) -> Frozen {
        let id = self.serving(version).remove(0);
        let pid = match self.on {
            On::Processes => id.clone(),
            On::Podman => podman(&["inspect", "--format", "{{.State.Pid}}", &id]).expect("it runs"),
        };
        let frozen = Frozen {
            id,
            pid: pid.trim().parse().expect("a process id"),
        };
        assert!(frozen.signal(Signal::STOP), "it can be stopped");
        frozen
    }

    /// Takes one away that serves this version, and every trace of it, behind the controller's
    /// back.
    pub fn remove_one(&self, version: &str) {
        let id = self.serving(version).remove(0);
        match self.on {
            On::Processes => {
                kill_to_the_end(id.parse().expect("a process id"));
                std::fs::remove_file(self.record_of(&id)).expect("it has a record");
            }
            On::Podman => {
                podman(&["rm", "--force", "--time", "0", &id]).expect("it is there");
            }
        }
    }

    /// `kill -9` of the proxy that serves.
    pub fn kill_proxy(&self) {
        kill_to_the_end(self.active_proxy().expect("a proxy serves"));
    }

    /// The process that serves as the proxy: it has the lock beside the handover socket. Also that of
    /// a container, as this machine numbers it.
    pub fn active_proxy(&self) -> Option<i32> {
        let file = self.state().join("proxy/handover.sock.lock");
        let inode = format!(":{}", std::fs::metadata(file).ok()?.ino());
        let locks = std::fs::read_to_string("/proc/locks").expect("Linux has /proc");
        locks.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [_, "FLOCK", _, _, pid, file, ..] if file.ends_with(&inode) => pid.parse().ok(),
                _ => None,
            }
        })
    }

    /// Waits until another process is ready to take the proxy's place.
    pub async fn until_standby(&self) {
        let admin = AdminPort::of(self);
        wait_until("the proxy has a standby", || async {
            let status = admin.try_get("/v1/status").await;
            status.is_some_and(|status| status["standby"] == true)
        })
        .await;
    }

    /// `kill -9` of all that runs, the infra container included.
    pub fn kill_everything(&self) {
        match self.on {
            On::Processes => {
                for Process { pid, .. } in processes_of(self.folder()) {
                    kill_to_the_end(pid);
                }
            }
            On::Podman => {
                let filter = format!("label=io.crossfade.project={}", self.name);
                let ids = podman(&["ps", "--quiet", "--filter", &filter]).expect("podman works");
                let kill: Vec<&str> = ["kill", "--signal", "KILL"]
                    .into_iter()
                    .chain(ids.lines())
                    .collect();
                podman(&kill).expect("all of them run");
                // podman says so when the signal is sent. What still dies while the next
                // controller looks is to blame for its end; what a machine lost is not.
                let start = Instant::now();
                let left =
                    || podman(&["ps", "--quiet", "--filter", &filter]).expect("podman works");
                while !left().is_empty() {
                    assert!(start.elapsed() < TIME_LIMIT, "containers survived SIGKILL");
                    std::thread::yield_now();
                }
            }
        }
    }

    /// What was written down about the start of the machine is of an earlier one. No controller
    /// may run.
    pub fn forget_the_boot(&self) {
        let journal = rusqlite::Connection::open(self.state().join("state.db"));
        let changed = journal
            .expect("a journal")
            .execute("UPDATE applied SET boot = 'another'", []);
        assert_eq!(changed, Ok(1));
    }

    /// The record of a process, by its id.
    fn record_of(&self, pid: &str) -> std::path::PathBuf {
        let folder = std::fs::read_dir(self.state().join("processes")).expect("records");
        let mut records = folder
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "json"));
        let is_of = |path: &std::path::PathBuf| {
            let record: Value = serde_json::from_slice(&read(path)).expect("a record");
            record["process"]["pid"].as_u64() == pid.parse().ok()
        };
        records.find(is_of).expect("it has a record")
    }

    /// The version and address of each endpoint that runs, in order: what the proxy is to have.
    pub fn endpoints(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = match self.on {
            On::Processes => processes_of(self.folder())
                .into_iter()
                .filter_map(|one| Some((one.version?, format!("127.0.0.1:{}", one.port?))))
                .collect(),
            On::Podman => {
                let project = format!("label=io.crossfade.project={}", self.name);
                let role = "label=io.crossfade.role=endpoint";
                let list = podman(&["ps", "--quiet", "--filter", &project, "--filter", role]);
                let list = list.expect("podman works");
                list.lines().filter_map(endpoint_of).collect()
            }
        };
        found.sort();
        found
    }

    /// Waits until so many endpoints of each of these versions run, and no other; until the proxy
    /// has all of them, and no other; and until all of them are healthy.
    #[track_caller]
    pub fn until_whole(&self, versions: &[(&str, usize)]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let mut wanted: Vec<String> = Vec::new();
        for (version, count) in versions {
            wanted.extend(std::iter::repeat_n((*version).to_owned(), *count));
        }
        async move {
            let start = Instant::now();
            loop {
                let runs = self.endpoints();
                let has = AdminPort::of(self).endpoints().await;
                let versions: Vec<&String> = runs.iter().map(|(version, _)| version).collect();
                if versions.iter().copied().eq(&wanted) && runs == has && self.is_healthy().await {
                    return;
                }
                assert!(
                    start.elapsed() < TIME_LIMIT,
                    "{caller}: waited for {TIME_LIMIT:?} until {wanted:?} run: {runs:?} run, and \
                     the proxy has {has:?}"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Waits until the history says this so many times. Says how often it does.
    #[track_caller]
    pub fn until_said(&self, text: &str, times: usize) -> impl Future<Output = u64> {
        let caller = std::panic::Location::caller();
        async move {
            let start = Instant::now();
            loop {
                let events = self.events().await;
                let said = events.iter().filter(|event| event.contains(text)).count();
                if said >= times {
                    return said as u64;
                }
                assert!(
                    start.elapsed() < TIME_LIMIT,
                    "{caller}: waited for {TIME_LIMIT:?} until `{text}`: {events:#?}"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Waits until no container has this name.
    pub async fn until_gone(&self, name: &str) {
        let exists = || podman(&["container", "exists", name]).is_ok();
        wait_until(&format!("{name} is gone"), || async { !exists() }).await;
    }

    async fn is_healthy(&self) -> bool {
        let web = self.web().await;
        let mut versions = web["versions"].as_array().into_iter().flatten();
        versions.all(|one| one["healthy"] == one["endpoints"])
    }
}

/// What does not go on until it is told to.
pub(crate) struct Frozen {
    /// As [`TestProject::serving`] has it.
    pub(crate) id: String,
    pid: i32,
}

impl Frozen {
    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether it is there and may be sent the signal.
    fn signal(&self, signal: Signal) -> bool {
        let sent = Pid::from_raw(self.pid).map(|pid| kill_process(pid, signal));
        if sent == Some(Err(Errno::PERM)) {
            // Rootless podman gives its containers other users of its own.
            let flag = format!("-{}", signal.as_raw());
            return podman(&["unshare", "kill", &flag, &self.pid.to_string()]).is_ok();
        }
        sent == Some(Ok(()))
    }
}

/// The version and address of a container; `None` where it has just ended.
fn endpoint_of(id: &str) -> Option<(String, String)> {
    let format = "{{index .Config.Labels \"io.crossfade.version\"}} \
                  {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}:\
                  {{index .Config.Labels \"io.crossfade.port\"}}";
    let text = podman(&["inspect", "--format", format, id]).ok()?;
    let (version, address) = text.split_once(' ')?;
    Some((version.to_owned(), address.to_owned()))
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("it was listed just now")
}
