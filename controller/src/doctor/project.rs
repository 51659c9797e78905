//! What the project has: its manifest, its state, its ports, its images, and who runs of it.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};
use rustix::process::geteuid;

use super::{Finding, addresses, first_line, image_of, policy, run};
use crate::api::{About, StatusReply};
use crate::client::ControllerClient;
use crate::error::{Error, NoController};
use crate::journal::{self, Journal};
use crate::manifest::{Manifest, OLD_PROJECT, RuntimeChoice};
use crate::ports;
use crate::project::proxy;
use crate::project_name;
use crate::runtime::{ContainerState, Processes, Runtime, label};

/// Below this the journal may not grow any more.
const LEAST_ROOM: u64 = 64 << 20;
/// Below this an image may not fit.
const LITTLE_ROOM: u64 = 1 << 30;
/// This program's release.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// The manifest, if there is one that can be read.
pub(super) fn manifest(file: &Path, findings: &mut Vec<Finding>) -> Option<Manifest> {
    let shown = file.display();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            let fix = "write one, or name another with `--file FILE`; only the host was checked";
            findings.push(Finding::warning(
                "manifest",
                format!("{shown}: {error}"),
                fix,
            ));
            return None;
        }
    };
    // What is wrong with it is said below.
    let project = project_name::of_manifest(file, &text);
    let project = project.unwrap_or_else(|_| OLD_PROJECT.to_owned());
    match Manifest::parse_as(&text, &project) {
        Ok(manifest) => {
            let count = manifest.services.len();
            let text = format!("{shown}: project {}, {count} services", manifest.project);
            findings.push(Finding::ok("manifest", text));
            Some(manifest)
        }
        Err(error) => {
            let fix = "config/crossfade.toml in the sources has every key with its default";
            findings.push(Finding::failed("manifest", error.in_file(file), fix));
            None
        }
    }
}

/// The state folder: whose it is, who can read it, how much room there is, what its journal says.
pub(super) fn state(dir: &Path, findings: &mut Vec<Finding>) {
    let shown = dir.display();
    let nearest = dir.ancestors().find(|folder| folder.exists());
    let nearest = nearest.unwrap_or(Path::new("/"));
    if access(nearest, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        findings.push(Finding::failed(
            "state",
            format!("{} cannot be written to", nearest.display()),
            format!(
                "make this user its owner, or name another folder than {shown} with `--state FOLDER`"
            ),
        ));
    }
    room(nearest, findings);
    let Ok(found) = std::fs::metadata(dir) else {
        findings.push(Finding::ok(
            "state",
            format!("the first `up` creates {shown}"),
        ));
        return;
    };
    let (mode, owner) = (found.mode() & 0o777, found.uid());
    findings.push(if owner != geteuid().as_raw() {
        Finding::failed(
            "state",
            format!(
                "{shown} belongs to {}",
                crate::project::caller::name_of(owner)
            ),
            "run as that user, or name another folder with `--state FOLDER`",
        )
    } else if mode & 0o077 != 0 {
        Finding::failed(
            "state",
            format!("{shown} contains secrets, and other users can read it (mode {mode:o})"),
            format!("`chmod 700 {shown}`"),
        )
    } else {
        Finding::ok("state", format!("{shown} is private to this user"))
    });
    let journal = dir.join(journal::FILE);
    if journal.exists() {
        findings.push(match Journal::examine(&journal) {
            Ok(()) => Finding::ok("journal", "it is intact"),
            Err(error) => Finding::failed(
                "journal",
                format!("{}: {error}", journal.display()),
                "use the release that wrote it; one that is damaged is kept aside by the next \
                 command, and the last good copy restored",
            ),
        });
    }
}

fn room(folder: &Path, findings: &mut Vec<Finding>) {
    let Ok(found) = statvfs(folder) else { return };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} MiB are free at {}", free >> 20, folder.display());
    // Some file systems have no number of files to run out of.
    let no_files = found.f_files > 0 && found.f_favail == 0;
    findings.push(match free {
        _ if no_files => Finding::failed(
            "disk",
            format!(
                "no file can be created at {}: the file system has no inodes left",
                folder.display()
            ),
            "remove files that are not needed",
        ),
        free if free < LEAST_ROOM => Finding::failed(
            "disk",
            text,
            "free some space, for example with `podman image prune`; rollouts wait while the disk is full",
        ),
        free if free < LITTLE_ROOM => Finding::warning("disk", text, "free some space for images"),
        _ => Finding::ok("disk", text),
    });
}

/// A project with a manifest that can be read.
pub(super) struct CheckedProject<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) folder: PathBuf,
    pub(super) state: Option<PathBuf>,
    /// Never `Auto`.
    pub(super) kind: RuntimeChoice,
    /// Whether podman can be asked.
    pub(super) on_podman: bool,
}

impl CheckedProject<'_> {
    pub(super) async fn examine(&self, findings: &mut Vec<Finding>) {
        if let Err(error) = self.manifest.check_on_host(&self.folder, self.kind) {
            let fix = "create it before `up`";
            findings.push(Finding::failed("manifest", error.to_string(), fix));
        }
        let up = self.controller(findings).await;
        self.proxy(up.as_ref(), findings).await;
        if self.kind == RuntimeChoice::Podman {
            policy::examine(up.as_ref(), findings);
            self.infra(up.as_ref(), findings).await;
        }
        let is_ours = up.is_some() || self.has_proxy().await;
        self.ports(up.as_ref(), is_ours, findings);
        self.images(findings).await;
    }

    /// What is up, if a controller runs.
    async fn controller(&self, findings: &mut Vec<Finding>) -> Option<StatusReply> {
        let client = ControllerClient::new(self.state.clone()?);
        let About { version, pid } = match client.call("about", &()).await {
            Ok(about) => about,
            Err(error @ Error::NoController(NoController::Hung { .. })) => {
                let fix = "end it: the next command starts another one";
                findings.push(Finding::failed("controller", error.to_string(), fix));
                return None;
            }
            Err(_) => {
                let text = "not running: the first verb that needs it starts it";
                findings.push(Finding::ok("controller", text));
                return None;
            }
        };
        let text = format!("release {version}, process {pid}");
        findings.push(match version == RELEASE {
            true => Finding::ok("controller", text),
            false => Finding::warning(
                "controller",
                format!("{text}, and this is release {RELEASE}"),
                format!(
                    "`kill {pid}`: traffic is not affected, and the next verb starts this release"
                ),
            ),
        });
        let up: StatusReply = client.call("status", &()).await.ok()?;
        if let Some(last_error) = &up.last_error {
            let fix = "`crossfade history` has more";
            findings.push(Finding::warning("controller", last_error.clone(), fix));
        }
        Some(up)
    }

    /// The proxy that runs, and whether it is of this release.
    async fn proxy(&self, up: Option<&StatusReply>, findings: &mut Vec<Finding>) {
        let (Some(state), Some(_)) = (&self.state, up) else {
            return;
        };
        let status = match proxy::admin(state, &self.manifest.proxy) {
            Ok(admin) => admin.status().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        findings.push(match status {
            Ok(status) if status.version == RELEASE => {
                Finding::ok("proxy", format!("release {}, it responds", status.version))
            }
            Ok(status) => Finding::warning(
                "proxy",
                format!("release {}, and this is release {RELEASE}", status.version),
                "a proxy and its controller must be of the same release: start this release's proxy",
            ),
            Err(why) => Finding::failed(
                "proxy",
                why,
                "the controller restarts it: see `crossfade status` and `podman logs`",
            ),
        });
    }

    /// The container that owns the proxy's network: another program may have removed it.
    async fn infra(&self, up: Option<&StatusReply>, findings: &mut Vec<Finding>) {
        if up.is_none() || !self.on_podman {
            return;
        }
        let name = format!("{}-{}", self.manifest.project, proxy::INFRA);
        let args = [
            "container",
            "inspect",
            "--format",
            "{{.State.Status}}",
            &name,
        ];
        let state = match run("podman", &args).await {
            Ok(found) if found.status.success() => {
                String::from_utf8_lossy(&found.stdout).trim().to_owned()
            }
            Ok(_) => "gone".to_owned(),
            // Podman is another finding's.
            Err(_) => return,
        };
        findings.push(match state.as_str() {
            "running" => Finding::ok("infra", format!("{name} runs: the proxy has its network")),
            state => Finding::failed(
                "infra",
                format!("{name} is {state}: the proxy has no network without it"),
                "the controller makes it again, and the proxy, within seconds: see `crossfade \
                 history`; if it does not, `crossfade status` says why",
            ),
        });
    }

    /// Whether a proxy of this project runs, by its labels: it does without a controller, too.
    async fn has_proxy(&self) -> bool {
        let project = &self.manifest.project;
        if self.kind == RuntimeChoice::Podman {
            let project = format!("label={}={project}", label::PROJECT);
            let role = format!("label={}={}", label::ROLE, proxy::PROXY);
            let args = ["ps", "--quiet", "--filter", &project, "--filter", &role];
            let found = run("podman", &args).await;
            return found.is_ok_and(|found| !found.stdout.trim_ascii().is_empty());
        }
        let state = self.state.as_ref().filter(|state| Processes::are_in(state));
        let Some(processes) = state.and_then(|state| Processes::new(project, state).ok()) else {
            return false;
        };
        let found = processes.list().await.unwrap_or_default();
        found.iter().any(|one| {
            let role = one.labels.get(label::ROLE).map(String::as_str);
            role == Some(proxy::PROXY) && one.state == ContainerState::Running
        })
    }

    fn ports(&self, up: Option<&StatusReply>, is_ours: bool, findings: &mut Vec<Finding>) {
        for address in addresses(self.manifest) {
            findings.push(match (up, ports::process_on(address)) {
                (None, Err(who)) if is_ours => Finding::warning(
                    "port",
                    format!(
                        "{address} is held by {who}: this project's proxy, and no controller runs"
                    ),
                    "`crossfade status` starts the controller; `crossfade down` stops all",
                ),
                (Some(_), Err(_)) => Finding::ok("port", format!("{address} is the proxy's")),
                (None, Ok(())) => Finding::ok("port", format!("{address} is free")),
                (Some(_), Ok(())) => Finding::warning(
                    "port",
                    format!("nothing listens on {address}, although the project is up"),
                    "`crossfade status` shows whether the proxy runs",
                ),
                (None, Err(who)) => taken(address, &who),
            });
        }
    }

    async fn images(&self, findings: &mut Vec<Finding>) {
        let services = self.manifest.services.iter().map(|service| &service.image);
        let mut images: Vec<&String> = services.collect();
        if self.kind == RuntimeChoice::Podman {
            images.insert(0, &self.manifest.proxy.image);
        }
        images.dedup();
        for image in images {
            let image = image_of(self.kind, &self.folder, image);
            findings.push(match self.kind {
                RuntimeChoice::Process => program(&image),
                _ if self.on_podman => is_there(&image).await,
                _ => continue,
            });
        }
        if self.kind == RuntimeChoice::Podman && self.on_podman {
            findings.push(starts(&self.manifest.proxy.image).await);
        }
    }
}

fn taken(address: SocketAddr, who: &str) -> Finding {
    let text = format!("{address} is held by {who}");
    Finding::failed(
        "port",
        text,
        "stop it, or choose another address in the manifest",
    )
}

fn program(image: &str) -> Finding {
    match crate::runtime::program_of(image) {
        Ok(program) => Finding::ok("program", program.display().to_string()),
        Err(error) => {
            let fix = "name an executable program by its path, or one in PATH";
            Finding::failed("program", error.to_string(), fix)
        }
    }
}

async fn is_there(image: &str) -> Finding {
    match run("podman", &["image", "exists", image]).await {
        Ok(done) if done.status.success() => {
            Finding::ok("image", format!("{image} is on this host"))
        }
        Ok(_) if image.starts_with("localhost/") => Finding::failed(
            "image",
            format!("{image} is not on this host, and images under localhost/ are never pulled"),
            format!("`podman build --tag {image} …`"),
        ),
        Ok(_) => Finding::warning(
            "image",
            format!("{image} is not on this host yet"),
            format!("`up` pulls it; to pull it now: `podman pull {image}`"),
        ),
        Err(why) => Finding::failed("image", format!("{image}: {why}"), "see `podman images`"),
    }
}

/// Whether a container starts at all, and the proxy's image is of this release.
async fn starts(image: &str) -> Finding {
    let args = [
        "run",
        "--rm",
        "--network",
        "none",
        "--pull",
        "never",
        image,
        "--version",
    ];
    let why = match run("podman", &args).await {
        Ok(done) if done.status.success() => {
            let said = String::from_utf8_lossy(&done.stdout).trim().to_owned();
            return match said.rsplit(' ').next() == Some(RELEASE) {
                true => Finding::ok("container", format!("the image starts, and is {said}")),
                false => Finding::warning(
                    "container",
                    format!("{image} is {said}, and this is release {RELEASE}"),
                    "build or pull the proxy's image of this release",
                ),
            };
        }
        Ok(done) => first_line(&String::from_utf8_lossy(&done.stderr)).to_owned(),
        Err(why) => why,
    };
    let fix = format!("make `podman run --rm {image} --version` work first");
    Finding::failed("container", format!("the image does not start: {why}"), fix)
}
