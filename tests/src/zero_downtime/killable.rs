//! An origin in a process of its own, which can be killed. What it saw it says on its standard
//! output, where it is safe however the process ends.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::origin::Origin;
use super::request::Request;
use super::witness::{Sight, Witness};
use crate::within;

/// An origin's process. Killed when dropped.
pub(super) struct Killable {
    child: Child,
    listening: JoinHandle<()>,
}

impl Killable {
    /// Starts `program origin NUMBER PORT`, and waits until it listens.
    pub(super) async fn start(
        program: &Path,
        number: u32,
        port: u16,
        witness: &Arc<Witness>,
    ) -> Self {
        let mut child = Command::new(program)
            .args(["origin", &number.to_string(), &port.to_string()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let stdout = child.stdout.take().expect("it was piped");
        let mut lines = BufReader::new(stdout).lines();
        let first = within("an origin says that it listens", lines.next_line()).await;
        assert_eq!(first.expect("a line").as_deref(), Some("listening"));
        let listening = tokio::spawn(listen(lines, number, witness.clone()));
        Self { child, listening }
    }

    /// Sends it a signal, such as SIGSTOP.
    pub(super) fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| Pid::from_raw(id as i32));
        kill_process(id.expect("it runs"), signal).expect("it is our child");
    }

    /// Kills it (SIGKILL), and hears out what it has said.
    pub(super) async fn kill(mut self) {
        self.child.kill().await.expect("it is our child");
        within("its last words", self.listening)
            .await
            .expect("they are understood");
    }
}

async fn listen(mut lines: Lines<BufReader<ChildStdout>>, number: u32, witness: Arc<Witness>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let sight = sight_of(&line).unwrap_or_else(|| panic!("origin {number} says `{line}`"));
        witness.saw(number, sight);
    }
}

fn sight_of(line: &str) -> Option<Sight> {
    let (what, rest) = line.split_once(' ')?;
    let (path, why) = rest.split_once(' ').unwrap_or((rest, ""));
    let request = Request::from_path(path)?;
    match what {
        "came" => Some(Sight::Came(request)),
        "bad-upload" => Some(Sight::BadUpload(request, why.to_owned())),
        _ => None,
    }
}

/// The other side: an origin that says what it saw, until it is killed. Of what came it tells
/// the POSTs, which matter once only.
pub async fn run_origin(number: u32, port: u16) -> io::Result<()> {
    let _origin = Origin::start(number, port, |_, sight| {
        let line = match sight {
            Sight::Came(request) if request.is_post() => format!("came {}\n", request.path()),
            Sight::BadUpload(request, why) => format!("bad-upload {} {why}\n", request.path()),
            _ => return,
        };
        // One write, so that a line is said whole or not at all. Who does not listen any more
        // is about to kill us.
        let _ = io::stdout().lock().write_all(line.as_bytes());
    })
    .await?;
    println!("listening");
    std::future::pending().await
}
