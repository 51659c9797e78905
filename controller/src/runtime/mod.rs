//! What runs containers: podman, or plain processes where no engine is there.
//!
//! The trait is small because tests need a fake of it. Every method can be repeated without
//! harm: a controller that was killed half-way calls it again.

mod address;
mod podman;
mod process;
mod secret_files;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::ports;

pub use address::{EndpointAddress, EndpointSocket};
pub use podman::Podman;
pub use process::Processes;
pub(crate) use process::program_of;
pub(crate) use secret_files::variable_of;

/// The labels by which the controller knows what is its own. A name is never enough.
pub mod label {
    /// The project, so that two projects on one host leave each other alone.
    pub const PROJECT: &str = "io.crossfade.project";
    /// `infra`, `proxy` or `endpoint`.
    pub const ROLE: &str = "io.crossfade.role";
    /// What the proxy was started with: another value for other settings.
    pub const SETTINGS: &str = "io.crossfade.settings";
    /// On a proxy that was started to take another's place when that dies.
    pub const STANDBY: &str = "io.crossfade.standby";
    /// The service that an endpoint serves.
    pub const SERVICE: &str = "io.crossfade.service";
    /// The version that an endpoint serves.
    pub const VERSION: &str = "io.crossfade.version";
    /// Where a container serves: the port, or the unix socket as the proxy sees it. The runtime sets
    /// it, from [`ContainerSpec::port`](super::ContainerSpec::port) and
    /// [`ContainerSpec::socket`](super::ContainerSpec::socket).
    pub const PORT: &str = "io.crossfade.port";
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Unique on the host. Starting a name that runs already, with our labels, is a success.
    pub name: String,
    /// For podman an image; for processes the path of a program.
    pub image: String,
    /// Arguments; empty: the image's own.
    pub command: Vec<String>,
    /// Environment, beside the image's own.
    pub env: BTreeMap<String, String>,
    /// Labels, [`label::PROJECT`] among them.
    pub labels: BTreeMap<String, String>,
    /// Where it is reached.
    pub network: Network,
    /// Host addresses that lead to ports of the container. Processes listen there themselves.
    pub publish: Vec<Publish>,
    /// Folders of the host that the container sees. Processes see them anyway.
    pub mounts: Vec<Mount>,
    /// Files that hold secrets, by the secrets' names. The container is told by variables such as
    /// `DB_PASSWORD_FILE` where it finds them; only a path is in its environment.
    pub secrets: BTreeMap<String, PathBuf>,
    /// What it may use of the host. Processes have none.
    pub limits: ResourceLimits,
    /// What its programs may do. Processes may what their user may.
    pub privileges: Privileges,
    /// What narrows that.
    pub confinement: Confinement,
    /// The port on which it serves. A process is told a free one in `PORT` instead.
    pub port: Option<u16>,
    /// The unix socket on which it serves, in place of a port. It is told in `SOCKET` where it has it.
    pub socket: Option<EndpointSocket>,
    /// From SIGTERM to SIGKILL when it is stopped.
    pub stop_timeout: Duration,
}

/// Where a container is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// An address of its own on the project's network, under these names besides its own.
    Project {
        /// Names under which others on the network find it.
        aliases: Vec<String>,
    },
    /// The network namespace of the container with this name or id.
    Container(String),
}

/// One published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// Where the host listens.
    pub host: SocketAddr,
    /// The port inside.
    pub container_port: u16,
}

/// One folder or file of the host inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// It on the host.
    pub host: PathBuf,
    /// Where the container sees it.
    pub container: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
    /// Whether podman lets containers at it where SELinux is on.
    pub relabel: Relabel,
}

/// What podman does to a folder's label where SELinux is on; nothing elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relabel {
    /// Nothing: other programs use it, too.
    No,
    /// Lets every container at it.
    Shared,
    /// Lets this container alone at it.
    Private,
}

/// What the programs of a container may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privileges {
    /// What its image and its user may, and what they gain, as by `sudo`.
    Gained,
    /// What its image and its user may, and no more.
    Kept,
    /// Nothing but to serve: no capability but one, to use the files of any user that it is given, and
    /// no file system but these.
    FilesAlone,
    /// Not even that.
    None,
}

/// What narrows what the programs of a container may do, beside [`Privileges`]. By default all of it is
/// as the image has it. Processes have none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confinement {
    /// Whom they run as: a name or a number, and a group after `:`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Capabilities that they do without, such as `NET_RAW`, or `ALL`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// Whether the image's file system can only be read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Folders that are in memory and empty at first, such as `/tmp`, with options after `:`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<String>,
}

impl Confinement {
    /// Whether all is as the image has it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a container may use of the host; `None`: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceLimits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Thousandths of a core.
    pub millicpus: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// A container as the runtime has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The runtime's own id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What the image was when it was started: podman's image id, or the program's path.
    pub image: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs.
    pub state: ContainerState,
    /// Where the proxy reaches it: the address on the project's network and
    /// [`ContainerSpec::port`], or [`ContainerSpec::socket`]; `None` while it does not run or serves
    /// nothing.
    pub address: Option<EndpointAddress>,
}

/// Whether a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, and not started yet; or about to be gone, removed by another program.
    Created,
    /// It runs.
    Running,
    /// It has ended, with this exit code where one is known.
    Exited(Option<i64>),
}

/// How much of a container's output to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// The last so many lines of what is there already; `None`: all of it.
    pub tail: Option<usize>,
    /// Only what was written at this time or later, in seconds since 1970. Processes have no times.
    pub since: Option<i32>,
    /// Go on with what is written from now on, until the container ends.
    pub follow: bool,
}

/// One step of a pull.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullStep {
    /// The part of the image that it is about.
    pub layer: Option<String>,
    /// What is done with it, in the engine's words.
    pub status: String,
    /// Bytes of it that are here.
    pub current: Option<u64>,
    /// Bytes that it has.
    pub total: Option<u64>,
}

/// Output of a container, piece by piece. The sender stops when the receiver is dropped.
pub type LogStream = tokio::sync::mpsc::Receiver<Result<bytes::Bytes, RuntimeError>>;

/// Something that runs containers for one project.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// `podman` or `process`.
    fn name(&self) -> &'static str;

    /// What `image` stands for now (podman: its id), or [`RuntimeError::ImageNotFound`].
    async fn resolve_image(&self, image: &str) -> Result<String, RuntimeError>;

    /// Brings an image to this host that is not here, and tells `progress` how it goes. Where that
    /// fails there is nothing of it.
    async fn pull_image(
        &self,
        image: &str,
        progress: &(dyn Fn(PullStep) + Send + Sync),
    ) -> Result<(), RuntimeError>;

    /// The name by which this very image can be pulled again, such as `registry/web@sha256:…`;
    /// `None` for one that was built here.
    async fn pull_name(&self, image: &str) -> Result<Option<String>, RuntimeError>;

    /// Removes an image by its id. Whether it is gone now: one that a container uses, or that has names
    /// of others, stays. Programs stay in any case.
    async fn remove_image(&self, _id: &str) -> Result<bool, RuntimeError> {
        Ok(false)
    }

    /// Makes the project's network unless it is there.
    async fn ensure_network(&self) -> Result<(), RuntimeError>;

    /// Removes the project's network if it is ours and no container is on it.
    async fn remove_network(&self) -> Result<(), RuntimeError>;

    /// Makes and starts a container. A container that could not be started is taken away again.
    async fn start(&self, spec: &ContainerSpec) -> Result<Container, RuntimeError>;

    /// Every container with the project's label, running or not, by name.
    async fn list(&self) -> Result<Vec<Container>, RuntimeError>;

    /// The same, where what holds a moment ago will do: while the runtime tells
    /// [`watch`](Self::watch) of every change, it need not be asked. A container that has just ended
    /// may still be among those that run.
    async fn last_list(&self) -> Result<Vec<Container>, RuntimeError> {
        self.list().await
    }

    /// SIGTERM, SIGKILL after the container's stop timeout, then removed. One that is gone
    /// already is a success; one without the project's label is left alone and an error.
    async fn stop(&self, id: &str) -> Result<(), RuntimeError>;

    /// Tells `changed` whenever one of the project's containers may have ended or gone, and
    /// never comes back. It may tell too often; the receiver checks for itself, and also
    /// checks without being told.
    async fn watch(&self, changed: &Notify);

    /// What the container printed.
    async fn logs(&self, id: &str, options: LogOptions) -> Result<LogStream, RuntimeError>;
}

impl RuntimeError {
    /// Says who has the address.
    pub(crate) fn port_taken(address: SocketAddr) -> Self {
        let by = ports::process_at(address.port());
        Self::PortTaken {
            address,
            by: by.unwrap_or_else(|| "another program".to_owned()),
        }
    }
}

/// Why a runtime could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No engine responds. Says what was tried.
    #[error("{runtime} cannot be used: {reason}")]
    Unavailable {
        /// `podman` or `process`.
        runtime: &'static str,
        /// What was tried, what came back, what would help.
        reason: String,
    },
    /// There is no such image or program.
    #[error("there is no image `{image}` on this host")]
    ImageNotFound {
        /// As it was asked for.
        image: String,
    },
    /// It is not here, and cannot be brought here.
    #[error("there is no image `{image}` on this host, and it cannot be pulled: {reason}")]
    PullFailed {
        /// As it was asked for.
        image: String,
        /// What the engine said.
        reason: String,
    },
    /// A port to be published is taken.
    #[error("{address} is taken by {by}: free it, or choose another address")]
    PortTaken {
        /// The address on the host.
        address: SocketAddr,
        /// Who has it, as far as that can be seen.
        by: String,
    },
    /// The name belongs to a container that is not ours.
    #[error("a container named `{name}` exists that is not of this project; it was not touched")]
    NotOurs {
        /// The container's name or id.
        name: String,
    },
    /// The engine keeps the name for what it does not show: podman after it was killed.
    #[error("the name `{name}` is taken: {reason}")]
    NameTaken {
        /// The container's name.
        name: String,
        /// What the engine said.
        reason: String,
    },
    /// There is no such container.
    #[error("there is no container `{id}`")]
    NoSuchContainer {
        /// The container's name or id.
        id: String,
    },
    /// The engine did not want to start what it was told to, in its own words.
    #[error("{runtime} refused to {action}: {reason}")]
    Refused {
        /// `podman` or `process`.
        runtime: &'static str,
        /// What was asked of it.
        action: &'static str,
        /// What it said.
        reason: String,
    },
    /// The engine could not do something else, such as tell what runs, in its own words. That
    /// says nothing about any container.
    #[error("{runtime} failed to {action}: {reason}")]
    Failed {
        /// `podman` or `process`.
        runtime: &'static str,
        /// What was asked of it.
        action: &'static str,
        /// What it said.
        reason: String,
    },
    /// A file of the process runtime could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
