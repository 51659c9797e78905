//! Podman, as root or as an ordinary user, and a container that it runs.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::geteuid;

use crate::contender::Runtime;
use crate::error::{Context, Error, Result};
use crate::process::Running;

/// Names the user that rootless containers belong to, if the benchmark runs as root.
const USER: &str = "CROSSFADE_ROOTLESS_USER";
/// The label of the benchmark's networks.
const LABEL: &str = "io.crossfade.bench";
/// How long podman may take until a container runs.
const START: Duration = Duration::from_secs(30);

/// A way to run podman.
#[derive(Debug, Clone)]
pub(super) struct Podman {
    /// What precedes its arguments: `podman`, or a change of the user before it.
    command: Vec<OsString>,
    /// The user that owns the files of its containers, if that is another.
    owner: Option<String>,
}

impl Podman {
    /// Finds podman for this runtime, or why there is none.
    pub(super) fn find(runtime: Runtime) -> std::result::Result<Self, String> {
        let is_root = geteuid().is_root();
        let podman = match (runtime, is_root) {
            (Runtime::Process, _) => return Err("a process needs none".into()),
            (Runtime::Rootful, true) | (Runtime::Rootless, false) => Self {
                command: vec!["podman".into()],
                owner: None,
            },
            (Runtime::Rootful, false) => return Err("the benchmark does not run as root".into()),
            (Runtime::Rootless, true) => {
                let user = std::env::var(USER).ok().filter(|user| !user.is_empty());
                let user = user.ok_or_else(|| format!("{USER} names no user"))?;
                Self::of_user(&user)?
            }
        };
        podman.version().map_err(|error| error.to_string())?;
        Ok(podman)
    }

    /// Podman of another user, with the environment that it needs.
    fn of_user(user: &str) -> std::result::Result<Self, String> {
        let entry = run(&["getent", "passwd", user]).map_err(|error| error.to_string())?;
        let (id, home) = id_and_home(&entry).ok_or_else(|| format!("{user} has no home"))?;
        let command = [
            "runuser",
            "--user",
            user,
            "--",
            "env",
            "--ignore-environment",
            &format!("--chdir={home}"),
            &format!("HOME={home}"),
            &format!("USER={user}"),
            &format!("XDG_RUNTIME_DIR=/run/user/{id}"),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "podman",
        ];
        Ok(Self {
            command: command.iter().map(OsString::from).collect(),
            owner: Some(user.to_owned()),
        })
    }

    /// Its version.
    pub(super) fn version(&self) -> Result<String> {
        self.output(&["info", "--format", "{{.Version.Version}}"])
    }

    /// Gives a folder to the user of its containers.
    pub(super) fn own(&self, folder: &Path) -> Result<()> {
        if let Some(owner) = &self.owner {
            let folder = folder.display().to_string();
            run(&["chown", "--recursive", owner, &folder])?;
        }
        Ok(())
    }

    /// Creates a network. Removes those of earlier runs, which a run that was killed has left.
    pub(super) fn create_network(&self, name: &str) -> Result<Network> {
        let filter = format!("label={LABEL}");
        self.output(&["network", "prune", "--force", "--filter", &filter])?;
        self.output(&["network", "create", "--label", LABEL, name])?;
        Ok(Network {
            podman: self.clone(),
            name: name.to_owned(),
        })
    }

    /// The beginning of the command that runs a container. `--rootfs`, the folder and the program
    /// have to follow.
    pub(super) fn run(&self, name: &str, network: &Network) -> Vec<OsString> {
        let mut command = self.command.clone();
        command.extend(
            [
                "run".to_owned(),
                "--rm".into(),
                format!("--name={name}"),
                format!("--network={}", network.name),
            ]
            .map(OsString::from),
        );
        command
    }

    /// The address of a container on its network.
    pub(super) fn address_of(&self, container: &Container) -> Result<IpAddr> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let text = self.output(&["inspect", "--format", format, &container.name])?;
        text.parse()
            .map_err(|_| container.failed(&format!("has no address: `{text}`")))
    }

    /// The process of a container that runs.
    fn process_of(&self, name: &str) -> Option<u32> {
        let text = self.output(&["inspect", "--format", "{{.State.Pid}}", name]);
        text.ok()?.parse().ok().filter(|pid| *pid > 0)
    }

    fn output(&self, arguments: &[&str]) -> Result<String> {
        let mut command: Vec<OsString> = self.command.clone();
        command.extend(arguments.iter().map(OsString::from));
        run(&command)
    }
}

/// A network of podman. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Network {
    podman: Podman,
    name: String,
}

impl Drop for Network {
    fn drop(&mut self) {
        // An error leaves a network without containers behind.
        let _ = self
            .podman
            .output(&["network", "rm", "--force", &self.name]);
    }
}

/// A container that runs. Dropping it removes it.
pub(crate) struct Container {
    podman: Podman,
    name: String,
    /// Its first process, as the host sees it.
    pub(super) root: u32,
    running: Running,
}

impl Container {
    /// Starts a container with a command of [`Podman::run`], and waits until it runs.
    pub(super) fn start(
        podman: &Podman,
        name: &str,
        cores: &[usize],
        command: &[OsString],
        folder: &Path,
    ) -> Result<Self> {
        let mut running = Running::start(name, cores, command, folder)?;
        let deadline = Instant::now() + START;
        loop {
            if let Some(root) = podman.process_of(name) {
                return Ok(Self {
                    podman: podman.clone(),
                    name: name.to_owned(),
                    root,
                    running,
                });
            }
            running.check()?;
            if Instant::now() > deadline {
                return Err(running.failed("does not run"));
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Its first process, as the host sees it.
    pub(crate) const fn root(&self) -> u32 {
        self.root
    }

    /// An error with the end of its log.
    pub(super) fn failed(&self, why: &str) -> Error {
        self.running.failed(why)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self
            .podman
            .output(&["rm", "--force", "--time=1", &self.name]);
    }
}

fn run<T: AsRef<std::ffi::OsStr>>(command: &[T]) -> Result<String> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(String::new());
    };
    let name = program.as_ref().to_string_lossy().into_owned();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context(|| name.clone())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(Error::Program {
        name,
        why: text.trim().lines().last().unwrap_or_default().to_owned(),
    })
}

/// The id and the home in a line of `passwd`.
fn id_and_home(entry: &str) -> Option<(&str, &str)> {
    let fields: Vec<&str> = entry.split(':').collect();
    Some((
        fields.get(2)?,
        fields.get(5).filter(|home| !home.is_empty())?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_passwd_has_id_and_home() {
        let entry = "user:x:1001:1002:A User:/home/user:/bin/sh";
        assert_eq!(id_and_home(entry), Some(("1001", "/home/user")));
        assert_eq!(id_and_home("user:x:1001"), None);
        assert_eq!(id_and_home("user:x:1001:1002:::/bin/sh"), None);
    }

    #[test]
    fn a_process_needs_no_podman() {
        assert!(Podman::find(Runtime::Process).is_err());
    }

    #[test]
    fn a_failed_command_has_its_last_line() {
        let error = run(&["sh", "-c", "echo one >&2; echo two >&2; false"]).unwrap_err();
        assert_eq!(error.to_string(), "sh: two");
        assert_eq!(run(&["echo", "a"]).unwrap(), "a");
    }
}
