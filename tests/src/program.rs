//! The programs under test, run as a user runs them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::wait_until;

/// Where the programs are: `CROSSFADE_BIN_DIR`, which `make test` sets.
pub fn bin_dir() -> PathBuf {
    let folder = std::env::var_os("CROSSFADE_BIN_DIR")
        .expect("CROSSFADE_BIN_DIR names the folder of the built programs: run `make test`");
    from_workspace(Path::new(&folder))
}

/// A path as it is meant from the root of the workspace. Cargo runs a test in the folder of its
/// crate.
pub fn from_workspace(path: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.expect("this crate is in the workspace").join(path)
}

/// The path of one of our programs.
pub fn program(name: &str) -> PathBuf {
    let path = bin_dir().join(name);
    assert!(
        path.exists(),
        "{} is not built: run `make test`",
        path.display()
    );
    path
}

/// A program that runs. Killed when dropped.
pub struct Running {
    child: Child,
    name: String,
    stdout: Lines,
    stderr: Lines,
}

/// How a program has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// All that it printed.
    pub stdout: String,
    /// All that it printed on standard error.
    pub stderr: String,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Running {
    /// Starts a program with nothing of the test's environment but `PATH`.
    pub fn start(name: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program(name));
        command.args(args).stdin(Stdio::null());
        Self::spawn(command, name, env)
    }

    /// Starts a program with a socket that is open already, as systemd passes it.
    pub fn start_with_socket(name: &str, args: &[&str], socket: impl Into<Stdio>) -> Self {
        // The number of the process is known to itself first.
        let script =
            "LISTEN_FDS=1 LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; exec \"$@\" 3<&0 </dev/null";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(program(name));
        command.args(args).stdin(socket);
        Self::spawn(command, name, &[])
    }

    /// Starts a program with these limits of open files.
    pub fn start_with_files(name: &str, args: &[&str], soft: u64, hard: u64) -> Self {
        let script = format!("ulimit -Sn {soft}; ulimit -Hn {hard}; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(program(name));
        command.args(args).stdin(Stdio::null());
        Self::spawn(command, name, &[])
    }

    /// Starts a program by its path, as another user. Only root can.
    pub fn start_as(user: u32, path: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(path);
        command.args(args).stdin(Stdio::null()).uid(user).gid(user);
        Self::spawn(command, &path.display().to_string(), &[])
    }

    fn spawn(mut command: Command, name: &str, env: &[(&str, &str)]) -> Self {
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let stdout = collect(child.stdout.take().expect("it was piped"));
        let stderr = collect(child.stderr.take().expect("it was piped"));
        Self {
            child,
            name: name.to_owned(),
            stdout,
            stderr,
        }
    }

    /// Runs a program to its end.
    pub async fn run(name: &str, args: &[&str]) -> Finished {
        Self::start(name, args, &[]).finished().await
    }

    /// Waits until the program has ended.
    pub async fn finished(self) -> Finished {
        self.finished_within(crate::DEADLINE).await
    }

    /// Waits until the program has ended, which may take so long.
    pub async fn finished_within(mut self, limit: Duration) -> Finished {
        let Ok(status) = tokio::time::timeout(limit, self.child.wait()).await else {
            panic!(
                "{} should end within {limit:?}, but it printed:\n{}\n{}",
                self.name,
                text(&self.stdout),
                text(&self.stderr)
            );
        };
        let status = status.expect("a child can be waited for");
        // The pipes are read to their ends by tasks of their own, which hold a clone each.
        for lines in [&self.stdout, &self.stderr] {
            wait_until("its output is read", || async {
                Arc::strong_count(lines) == 1
            })
            .await;
        }
        Finished {
            code: status.code(),
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| Pid::from_raw(id as i32));
        kill_process(id.expect("it still runs"), signal).expect("it is our child");
    }

    /// Waits until it catches this signal, which would end it before without a word.
    pub async fn until_it_catches(&self, signal: Signal) {
        let path = format!("/proc/{}/status", self.id());
        let bit = 1u64 << (signal.as_raw() - 1);
        let what = format!("{} catches {signal:?}", self.name);
        wait_until(&what, || async {
            let status = std::fs::read_to_string(&path).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            caught
                .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
                .is_some_and(|caught| caught & bit != 0)
        })
        .await;
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it still runs")
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be waited for")
            .is_some()
    }

    /// Waits for a line on either output that contains `text`, and gives it.
    pub async fn line_with(&self, text: &str) -> String {
        self.line_within(text, crate::DEADLINE).await
    }

    /// Waits for such a line, which may take so long.
    pub async fn line_within(&self, text: &str, limit: Duration) -> String {
        let find = || {
            [&self.stdout, &self.stderr].into_iter().find_map(|lines| {
                let lines = lines.lock().expect("no reader panics");
                lines.iter().find(|line| line.contains(text)).cloned()
            })
        };
        let what = format!("{} prints `{text}`", self.name);
        let start = std::time::Instant::now();
        loop {
            if let Some(line) = find() {
                return line;
            }
            assert!(
                start.elapsed() < limit,
                "{what}, but it printed:\n{}\n{}",
                crate::program::text(&self.stdout),
                crate::program::text(&self.stderr)
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What it has printed on standard error so far.
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// The lines that it has printed so far.
    pub fn stdout_lines(&self) -> Vec<String> {
        self.stdout.lock().expect("no reader panics").clone()
    }
}

fn text(lines: &Lines) -> String {
    lines.lock().expect("no reader panics").join("\n")
}

fn collect(output: impl AsyncRead + Unpin + Send + 'static) -> Lines {
    let lines = Lines::default();
    let sink = lines.clone();
    tokio::spawn(async move {
        let mut output = BufReader::new(output).lines();
        while let Ok(Some(line)) = output.next_line().await {
            sink.lock().expect("no reader panics").push(line);
        }
    });
    lines
}
