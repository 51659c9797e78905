//! A controller and a proxy that systemd starts. The manager is the test: it has a notify socket, and
//! stands in for `systemctl`, since no machine that tests run on is booted for them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tests::{DEADLINE, Finished, On, Running, Settings, TestProject, program, within};
use tokio::net::UnixDatagram;

/// A manager's end of the notify socket.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    _folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self {
            socket,
            path,
            _folder: folder,
        }
    }

    /// The next thing that it is told.
    async fn told(&self) -> String {
        let mut bytes = [0; 512];
        let count = within("systemd is told", self.socket.recv(&mut bytes))
            .await
            .unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    /// Waits until it is told this, whatever comes before.
    async fn until_told(&self, wanted: &str) {
        while self.told().await != wanted {}
    }
}

#[tokio::test]
async fn a_controller_says_that_it_is_ready_alive_and_ending() {
    let (manager, state) = (Manager::new(), TempDir::new().unwrap());
    let env = [
        ("NOTIFY_SOCKET", manager.path.to_str().unwrap()),
        ("WATCHDOG_USEC", "200000"),
    ];
    let args = ["--state", state.path().to_str().unwrap(), "serve"];
    let controller = Running::start("crossfade", &args, &env);
    let first = manager.told().await;
    assert!(first.starts_with("READY=1\n"), "{first}");
    for _ in 0..3 {
        assert_eq!(manager.told().await, "WATCHDOG=1");
    }
    controller.signal(Signal::TERM);
    manager.until_told("STOPPING=1").await;
    assert_eq!(controller.finished().await.code, Some(0));
}

#[tokio::test]
async fn what_a_controller_starts_tells_systemd_nothing() {
    let project = TestProject::new(On::Processes, &Settings::default());
    let manager = Manager::new();
    let notify = [("NOTIFY_SOCKET", manager.path.to_str().unwrap())];
    // A verb that systemd runs, and the controller that it starts in the background.
    let up = project.start_with(&["up"], &notify);
    assert_eq!(up.finished_within(2 * DEADLINE).await.code, Some(0));
    let said = manager.socket.try_recv(&mut [0; 64]);
    assert_eq!(said.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_proxy_says_that_it_is_ready_and_ending() {
    let manager = Manager::new();
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("proxy.toml");
    std::fs::write(&config, "[[listeners]]\naddress = \"127.0.0.1:0\"\n").unwrap();
    let env = [("NOTIFY_SOCKET", manager.path.to_str().unwrap())];
    let args = ["--config", config.to_str().unwrap(), "--workers", "2"];
    let proxy = Running::start("crossfade-proxy", &args, &env);
    assert_eq!(
        manager.told().await,
        "READY=1\nSTATUS=1 listeners, 2 workers"
    );
    proxy.signal(Signal::TERM);
    assert_eq!(manager.told().await, "STOPPING=1");
    assert_eq!(proxy.finished().await.code, Some(0));
}

/// A user of a host with a stand-in for `systemctl` and `loginctl`, which write down what they are told.
struct Host {
    folder: TempDir,
    path: String,
}

impl Host {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let search = std::env::var("PATH").unwrap();
        let host = Self {
            path: format!("{}:{search}", bin.display()),
            folder,
        };
        host.program("systemctl", "case \"$*\" in --version) echo 'systemd 252 (252.39)';; *is-active*) test -e $0.active;; *) echo \"$*\" >>$0.log;; esac");
        host.program(
            "loginctl",
            "case \"$1\" in show-user) echo no;; *) echo \"$*\" >>$0.log;; esac",
        );
        let manifest = "project = \"shop\"\nruntime = \"process\"\n[proxy]\nlisten = [\"127.0.0.1:8080\"]\n\
                        [[services]]\nname = \"web\"\nimage = \"web:1\"\n";
        std::fs::write(host.file("crossfade.toml"), manifest).unwrap();
        host
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a shell script into the `PATH`.
    fn program(&self, name: &str, script: &str) {
        let file = self.folder.path().join("bin").join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What the manager has been told, a line each; forgotten with that.
    fn told(&self) -> Vec<String> {
        let log = self.file("bin/systemctl.log");
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(log);
        text.lines().map(str::to_owned).collect()
    }

    fn unit(&self) -> PathBuf {
        self.file(".config/systemd/user/crossfade-shop.service")
    }

    fn start(&self, args: &[&str]) -> Running {
        let env = [
            ("PATH", &*self.path),
            ("HOME", self.folder.path().to_str().unwrap()),
        ];
        let (manifest, state) = (self.file("crossfade.toml"), self.file("state"));
        let mut all = vec![
            "--file",
            manifest.to_str().unwrap(),
            "--state",
            state.to_str().unwrap(),
        ];
        all.extend(args);
        Running::start("crossfade", &all, &env)
    }

    async fn run(&self, args: &[&str]) -> Finished {
        self.start(args).finished().await
    }

    async fn must(&self, args: &[&str]) -> String {
        let finished = self.run(args).await;
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        finished.stdout
    }

    async fn refused(&self, args: &[&str], code: i32, says: &str) {
        let finished = self.run(args).await;
        assert_eq!(finished.code, Some(code), "{finished:#?}");
        assert!(finished.stderr.contains(says), "{finished:#?}");
    }
}

#[tokio::test]
async fn a_unit_is_installed_once_and_taken_away_again() {
    let host = Host::new();
    let said = host.must(&["install", "--user"]).await;
    assert!(
        said.contains("crossfade-shop.service runs, and starts with the host"),
        "{said}"
    );
    assert!(said.contains("without your login"), "{said}");
    let start = "--user enable --now crossfade-shop.service";
    assert_eq!(host.told(), ["--user daemon-reload", start]);
    let text = std::fs::read_to_string(host.unit()).unwrap();
    assert!(
        text.contains("Type=notify\n") && text.contains(" serve\n"),
        "{text}"
    );

    std::fs::write(host.file("bin/systemctl.active"), "").unwrap();
    let said = host.must(&["install", "--user"]).await;
    assert!(said.contains("is installed and runs already"), "{said}");
    assert_eq!(host.told(), [""; 0]);

    host.must(&["uninstall", "--user"]).await;
    let stop = "--user disable --now crossfade-shop.service";
    assert_eq!(host.told(), [stop, "--user daemon-reload"]);
    assert!(!host.unit().exists());
    let said = host.must(&["uninstall", "--user"]).await;
    assert!(said.contains("is not installed"), "{said}");
}

#[tokio::test]
async fn a_unit_that_was_edited_by_hand_stays_unless_it_is_forced() {
    let host = Host::new();
    host.must(&["install", "--user"]).await;
    let ours = std::fs::read_to_string(host.unit()).unwrap();
    let edited = ours.replace("RestartSec=1", "RestartSec=7");
    std::fs::write(host.unit(), &edited).unwrap();
    let says = "has been changed since it was installed: it is left as it is; --force";
    host.refused(&["install", "--user"], 1, says).await;
    host.refused(&["uninstall", "--user"], 1, says).await;
    assert_eq!(std::fs::read_to_string(host.unit()).unwrap(), edited);
    host.must(&["install", "--user", "--force"]).await;
    assert_eq!(std::fs::read_to_string(host.unit()).unwrap(), ours);
    std::fs::write(host.unit(), "[Service]\nExecStart=/bin/true\n").unwrap();
    let says = "was not written by `crossfade install`";
    host.refused(&["install", "--user"], 1, says).await;
}

#[tokio::test]
async fn a_host_that_cannot_have_a_unit_is_told_why() {
    let host = Host::new();
    host.program("systemctl", "echo 'systemd 219'");
    host.refused(
        &["install", "--user"],
        1,
        "systemd 219 is too old: 245 or newer",
    )
    .await;
    host.program("systemctl", "case $1 in --version) echo 'systemd 252';; *) echo 'Failed to connect to bus' >&2; exit 1;; esac");
    host.refused(
        &["install", "--user"],
        1,
        "daemon-reload` failed: Failed to connect to bus",
    )
    .await;
    std::fs::remove_file(host.file("bin/systemctl")).unwrap();
    let nothing = Host {
        path: host.file("bin").display().to_string(),
        ..host
    };
    nothing
        .refused(&["install", "--user"], 69, "this host has no `systemctl`")
        .await;
    let shown = nothing.must(&["install", "--user", "--print"]).await;
    assert!(shown.contains("ExecStart="), "{shown}");
}

#[tokio::test]
async fn a_verb_has_the_unit_start_the_controller_that_has_died() {
    let host = Host::new();
    host.must(&["install", "--user"]).await;
    host.told();
    let journal = host.file("state/state.db");
    std::fs::write(&journal, "").unwrap();
    // As `Type=notify`: it comes back when the controller responds.
    let crossfade = program("crossfade");
    let script = format!(
        "echo \"$*\" >>$0.log\n{} --state {state} serve >/dev/null 2>&1 &\n\
         echo $! >$0.pid; while ! test -S {state}/controller.sock; do sleep 0.02; done",
        crossfade.display(),
        state = host.file("state").display(),
    );
    host.program("systemctl", &script);
    host.must(&["history"]).await;
    assert_eq!(host.told(), ["start --user crossfade-shop.service"]);
    let started = std::fs::read_to_string(host.file("bin/systemctl.pid")).unwrap();
    let owner = std::fs::read_to_string(host.file("state/controller.lock")).unwrap();
    assert_eq!(owner.trim(), started.trim());
    end(Path::new(&host.file("state")), &started).await;
}

async fn end(state: &Path, pid: &str) {
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let socket = state.join("controller.sock");
    tests::wait_until("the controller has ended", || async {
        tokio::time::timeout(
            Duration::from_secs(1),
            tokio::net::UnixStream::connect(&socket),
        )
        .await
        .is_ok_and(|connected| connected.is_err())
    })
    .await;
}
