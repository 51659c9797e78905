//! A program that is measured: started on its cores, and stopped with all its children.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::accounting;
use crate::cores;
use crate::error::{Context, Error, Result};

/// How long a program may take to listen. Envoy and traefik take about a second.
const START: Duration = Duration::from_secs(15);
/// How long a program may take to end before it is killed.
const STOP: Duration = Duration::from_secs(2);

/// A running program. Dropping it stops the program.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a program on these cores. Its output goes to `NAME.log` in the folder.
    pub(crate) fn start(
        name: &str,
        cores: &[usize],
        command: &[OsString],
        folder: &Path,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).context(|| log.display().to_string())?;
        let errors = output.try_clone().context(|| log.display().to_string())?;
        let this = std::env::current_exe().context(|| "this program's path".into())?;
        let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
        let child = Command::new(this)
            .args(["launch", "--cores", &cores.join(","), "--"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C in a terminal goes to the benchmark only, which then stops its programs.
            .process_group(0)
            .spawn()
            .context(|| name.to_owned())?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(self.failed(&format!("ended at its start ({status})"))),
            _ => Ok(()),
        }
    }

    /// Waits until it accepts connections.
    pub(crate) fn wait_until_listening(&mut self, address: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            self.check()?;
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.failed(&format!("does not listen on {address}")));
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// An error with the end of its log.
    pub(crate) fn failed(&self, why: &str) -> Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(8)..].join("\n    ");
        Error::Program {
            name: self.name.clone(),
            why: format!("{why}\n    {last}"),
        }
    }

    /// The process id of the root of its tree.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the root of its tree.
    pub(crate) fn signal(&self, signal: Signal) {
        send(self.id(), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let tree = accounting::tree(self.id()).unwrap_or_else(|_| vec![self.id()]);
        self.signal(Signal::TERM);
        let deadline = Instant::now() + STOP;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                break;
            }
            sleep(Duration::from_millis(5));
        }
        let _ = self.child.wait();
        // Children that outlive it, such as old workers that still hold a connection.
        for pid in tree.into_iter().skip(1) {
            send(pid, Signal::KILL);
        }
    }
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // An error means that the process has ended already.
        let _ = kill_process(pid, signal);
    }
}

/// Executes another program on these cores. The kernel ends it when the benchmark ends. Returns
/// only on errors.
pub(crate) fn launch(cores: &[usize], command: &[OsString]) -> Result<()> {
    let [program, arguments @ ..] = command else {
        return Err(Error::Usage("launch: no command".into()));
    };
    cores::pin(cores)?;
    set_parent_process_death_signal(Some(Signal::TERM)).context(|| "prctl".into())?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).context(|| program.display().to_string())
}
