//! `crossfade demo`, and what it leaves behind.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::site::traces_of;
use crate::{Finished, On, Running, wait_until};

/// The whole story takes half a minute where nothing else runs.
const STORY: Duration = Duration::from_secs(120);

/// Held while a demo chooses its ports until it has bound them: it takes the first that are free.
static CHOOSING: Mutex<()> = Mutex::const_new(());

/// A running `crossfade demo`, which keeps all it has in a folder of this test's.
pub struct TestDemo {
    running: Running,
    on: On,
    /// Its own temporary folder.
    folder: TempDir,
    project: String,
    clients: SocketAddr,
}

impl TestDemo {
    /// Begins the story; `until` is given what has to be printed before another may begin.
    pub async fn start(on: On, until: &str) -> Self {
        let _alone = CHOOSING.lock().await;
        let folder = tempfile::Builder::new()
            .prefix("cf-")
            .tempdir()
            .expect("a temporary folder");
        let runtime = match on {
            On::Processes => "process",
            On::Podman => "podman",
        };
        let users = crate::site::users_environment();
        let mut env: Vec<(&str, &str)> = users.iter().map(|(k, v)| (*k, v.as_str())).collect();
        env.push(("TMPDIR", folder.path().to_str().expect("text")));
        let running = Running::start("crossfade", &["demo", "--runtime", runtime], &env);
        let project = format!("crossfade-demo-{}", running.id());
        let line = running.line_with("clients ask").await;
        let clients = line.split("http://").nth(1).map(str::trim);
        let clients = clients.and_then(|address| address.parse().ok());
        running.line_within(until, STORY).await;
        Self {
            running,
            on,
            folder,
            project,
            clients: clients.unwrap_or_else(|| panic!("no address in `{line}`")),
        }
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
        let left = || {
            let mut left = traces_of(&self.project, self.folder.path(), self.on);
            let files = std::fs::read_dir(self.folder.path()).expect("it is ours");
            left.extend(files.flatten().map(|file| {
                let file: PathBuf = file.path();
                file.display().to_string()
            }));
            left
        };
        let left = left();
        assert!(left.is_empty(), "left: {left:#?}, after {finished:#?}");
        wait_until("its port is free again", || async {
            std::net::TcpListener::bind(self.clients).is_ok()
        })
        .await;
        finished
    }
}
