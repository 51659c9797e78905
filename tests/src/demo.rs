//! `crossfade demo`, and what it leaves behind.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::project::{sweep, traces_of};
use crate::{Finished, On, Running, wait_until};

/// The whole story takes half a minute where nothing else runs.
const STORY: Duration = Duration::from_secs(120);

/// What is still there so long after a demo has ended was left behind.
const GONE: Duration = Duration::from_secs(2);

/// Held while a demo chooses its ports until it has bound them: it takes the first that are free.
static CHOOSING: Mutex<()> = Mutex::const_new(());

/// What a demo must leave as it found it. Swept when dropped, for after a test that failed.
struct Home {
    on: On,
    project: String,
    /// Where it has its own folder.
    folder: TempDir,
}

impl Drop for Home {
    fn drop(&mut self) {
        sweep(&self.project, self.folder.path(), self.on);
    }
}

/// A running `crossfade demo`, which keeps all it has in a folder of this test's.
pub struct TestDemo {
    running: Running,
    home: Home,
}

impl TestDemo {
    /// Begins the story; `until` is given what has to be printed before another may begin.
    pub async fn start(on: On, until: &str) -> Self {
        let _alone = CHOOSING.lock().await;
        let demo = Self::spawn(on);
        demo.running.line_within(until, STORY).await;
        demo
    }

    fn spawn(on: On) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("cf-")
            .tempdir()
            .expect("a temporary folder");
        let runtime = match on {
            On::Processes => "process",
            On::Podman => "podman",
        };
        let users = crate::project::users_environment();
        let mut env: Vec<(&str, &str)> = users.iter().map(|(k, v)| (*k, v.as_str())).collect();
        env.push(("TMPDIR", folder.path().to_str().expect("text")));
        let running = Running::start("crossfade", &["demo", "--runtime", runtime], &env);
        let project = format!("crossfade-demo-{}", running.id());
        Self {
            running,
            home: Home {
                on,
                project,
                folder,
            },
        }
    }

    /// Ctrl-C as soon as there is anything that could be left behind. Gives how it ended, once
    /// nothing is.
    pub async fn interrupt_at_once(on: On) -> Finished {
        let _alone = CHOOSING.lock().await;
        let demo = Self::spawn(on);
        wait_until("the demo has made its folder", || async {
            let mut files = std::fs::read_dir(demo.home.folder.path()).expect("it is ours");
            files.next().is_some()
        })
        .await;
        demo.running.signal(Signal::INT);
        demo.finished().await
    }

    /// Waits for a line, and sends Ctrl-C. Gives how it ended, once nothing is left of it.
    pub async fn interrupt_at(self, text: &str) -> Finished {
        self.running.line_within(text, STORY).await;
        self.running.signal(Signal::INT);
        self.finished().await
    }

    /// Waits for the end of the story, and until nothing is left of it.
    pub async fn finished(self) -> Finished {
        let finished = self.running.finished_within(STORY).await;
        let path = self.home.folder.path();
        let files: Vec<PathBuf> = std::fs::read_dir(path)
            .expect("it is ours")
            .flatten()
            .map(|file| file.path())
            .collect();
        assert!(files.is_empty(), "left: {files:#?}, after {finished:#?}");
        // The controller has given everything back, and is gone when the kernel gets to it.
        let start = Instant::now();
        loop {
            let traces = traces_of(&self.home.project, path, self.home.on);
            if traces.is_empty() {
                break;
            }
            assert!(
                start.elapsed() < GONE,
                "left: {traces:#?}, after {finished:#?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if let Some(address) = clients(&finished.stdout) {
            wait_until("its port is free again", || async {
                std::net::TcpListener::bind(address).is_ok()
            })
            .await;
        }
        finished
    }
}

/// Where its client asked, if it got so far. It says so again when it had to take another port.
fn clients(stdout: &str) -> Option<SocketAddr> {
    let line = stdout
        .lines()
        .rev()
        .find(|line| line.contains("listening on"))?;
    line.split("http://").nth(1)?.trim().parse().ok()
}
