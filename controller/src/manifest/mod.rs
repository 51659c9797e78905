//! `crossfade.toml`: what runs here and how it is replaced. Read as people write it (`raw`),
//! checked once, and from then on only the types below are used.

mod calls;
mod checks;
mod container;
mod external;
mod listener;
mod overrides;
mod place;
mod print;
mod raw;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use admin_api::strict::{InputError, from_toml};
use admin_api::{
    AccessLogSpec, Period, ProxyLimits, ProxyTimeouts, ServiceSpec, TrafficSettings, VersionSpec,
};
use serde::{Deserialize, Serialize};

use crate::http::one_shot::Target;
use crate::plan::RolloutSettings;
use crate::runtime::{Confinement, ResourceLimits};

pub(crate) use container::MAX_SOCKET_PATH;
pub use container::{ContainerTemplate, Volume};
pub use listener::{ClientAuth, HalfClose, KeyPair, Listener, Tls, TlsVersion};
pub use overrides::RolloutOverrides;
pub(crate) use raw::MAX_REPLICAS;

/// A checked manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The label on everything that is made, and the network's name.
    pub project: String,
    /// What runs the containers.
    pub runtime: RuntimeChoice,
    /// The proxy in front of all services.
    pub proxy: ProxySettings,
    /// The services, in the order of the file. Names are unique.
    pub services: Vec<ServiceSettings>,
    /// Services that have no containers here, in the order of the file. Their names are none of the
    /// others'.
    pub external: Vec<ServiceSpec>,
    /// Services among these that are on their way out: another one may be about to get their routes.
    /// Never in a file.
    pub leaving: Vec<String>,
    /// Who is told of every event.
    pub webhooks: Vec<Webhook>,
}

impl ServiceSettings {
    /// Whether both want the same requests.
    pub fn same_routes(&self, other: &Self) -> bool {
        (&self.hosts, &self.path_prefix) == (&other.hosts, &other.path_prefix)
            && self.traffic.same_routes(&other.traffic)
    }
}

/// A receiver of events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Webhook {
    /// Where.
    pub target: Target,
    /// Events of these kinds only; empty: of every kind.
    pub kinds: Vec<String>,
}

/// What runs the containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeChoice {
    /// Podman where it works, else processes.
    #[default]
    Auto,
    /// Podman, or an error.
    Podman,
    /// Child processes on loopback.
    Process,
}

/// The proxy in front of all services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySettings {
    /// Its image, where podman runs it.
    pub image: String,
    /// Its program, where it is a process. `None`: the `crossfade-proxy` beside this program.
    pub program: Option<PathBuf>,
    /// Where clients reach it, on this host. At least one.
    pub listeners: Vec<Listener>,
    /// The port of its admin API, on loopback only; `None`: a unix socket in its folder.
    pub admin_port: Option<u16>,
    /// Whether another process of it waits to take its place when it dies.
    pub standby: bool,
    /// How long a retired endpoint may finish what it has.
    pub drain_timeout: Period,
    /// How long things may take, for all services; `drain` is above.
    pub timeouts: ProxyTimeouts,
    /// What one client may send and use.
    pub limits: ProxyLimits,
    /// Its access log; `None`: there is none. Paths are as seen from the manifest's folder.
    pub access_log: Option<AccessLogSpec>,
}

/// A service as the manifest has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSettings {
    /// Its name.
    pub name: String,
    /// The image of its first version; for processes a program.
    pub image: String,
    /// The label of its first version.
    pub version: String,
    /// How many containers.
    pub replicas: u32,
    /// The port on which the containers serve.
    pub port: u16,
    /// The unix socket on which they serve, in place of the port, as they see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// The hosts that it serves; empty: every host.
    pub hosts: Vec<String>,
    /// The start of the paths that it serves.
    pub path_prefix: String,
    /// Arguments; empty: the image's own.
    pub command: Vec<String>,
    /// Environment, beside the image's own.
    pub env: BTreeMap<String, String>,
    /// Files that hold secrets, by name, as seen from the manifest's folder.
    pub secrets: BTreeMap<String, PathBuf>,
    /// Folders and files of the host, as seen from the manifest's folder.
    pub volumes: Vec<Volume>,
    /// What each container may use of the host.
    pub limits: ResourceLimits,
    /// Whether the containers' programs may gain privileges, as by `sudo`.
    #[serde(default)]
    pub new_privileges: bool,
    /// What narrows what their programs may do.
    #[serde(default)]
    pub confinement: Confinement,
    /// From SIGTERM to SIGKILL; `None`: as long as a drain may take, and 10 s more.
    #[serde(default)]
    pub stop_timeout: Option<Period>,
    /// Labels of the containers, beside ours.
    pub labels: BTreeMap<String, String>,
    /// What the containers speak. Paths are as seen from the manifest's folder.
    #[serde(default, rename = "reach")]
    pub transport: VersionSpec,
    /// How long a container may be unhealthy before another one is started in its place; 0: for ever.
    #[serde(default = "default_replace_after")]
    pub replace_after: Period,
    /// How many images of its versions stay on this host that nothing uses: the last ones.
    #[serde(default)]
    pub keep_images: Option<u32>,
    /// What the proxy does with its requests and containers.
    pub traffic: TrafficSettings,
    /// How a new version takes over.
    pub rollout: RolloutSettings,
}

const fn default_replace_after() -> Period {
    Period::from_secs(30)
}

/// What a project was called that named none, before it had its folder's name.
pub(crate) const OLD_PROJECT: &str = "crossfade";

/// The longest name of a project.
const LONGEST_PROJECT: usize = 40;

impl ServiceSettings {
    /// Whether its containers serve nothing: it has no route.
    pub fn is_worker(&self) -> bool {
        self.port == 0 && self.socket.is_none()
    }
}

impl Manifest {
    /// Reads and checks a manifest, whose project is called `crossfade` if it names none. The error
    /// names field and line.
    pub fn parse(text: &str) -> Result<Self, InputError> {
        Self::parse_as(text, OLD_PROJECT)
    }

    /// The same for a project that is called `project` if the text names none.
    pub fn parse_as(text: &str, project: &str) -> Result<Self, InputError> {
        let raw: raw::Manifest = from_toml(text)?;
        raw.check(project).map_err(|error| error.located_in(text))
    }

    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&ServiceSettings> {
        self.services.iter().find(|service| service.name == name)
    }

    /// From the start of a drain of one of its containers until what is left of requests is cut.
    pub fn drain_timeout(&self, service: &str) -> Duration {
        let own = self.service(service);
        let own = own.and_then(|service| service.traffic.timeouts.drain);
        own.unwrap_or(self.proxy.drain_timeout).get()
    }
}

/// The fields of a manifest's text that name the addresses of its listeners, in their order.
/// Without any, the default is meant.
pub(crate) fn listener_fields(text: &str) -> Vec<String> {
    from_toml(text).map_or_else(|_| Vec::new(), |raw: raw::Manifest| raw.listener_fields())
}

/// The name of the project that the text names.
pub(crate) fn project_named(text: &str) -> Result<Option<String>, InputError> {
    let raw: raw::Manifest = from_toml(text)?;
    Ok(raw.project().map(str::to_owned))
}

/// The name of the project whose manifest is in this folder and names none, as compose has it: the
/// folder's name in lower case, without what is no letter, digit, `-` or `_`.
pub(crate) fn name_of_folder(folder: &Path) -> Result<String, InputError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_lowercase();
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-_".contains(*c);
    let name: String = name.chars().filter(allowed).collect();
    let name = name.trim_start_matches(['-', '_']);
    let name: String = name.chars().take(LONGEST_PROJECT).collect();
    if name.is_empty() {
        let message = format!(
            "the folder {} has no name that a project can have: write project = \"…\"",
            folder.display()
        );
        return Err(InputError::of_field("project", message));
    }
    Ok(name)
}

/// The tag of an image: `2.0.0` of `localhost/web:2.0.0`.
pub fn tag_of(image: &str) -> Option<&str> {
    let without_digest = image.split('@').next().unwrap_or(image);
    let last = without_digest.rsplit('/').next().unwrap_or(without_digest);
    last.split_once(':')
        .map(|(_, tag)| tag)
        .filter(|tag| !tag.is_empty())
}

/// A version's label without its revision: `1.0.0` of `1.0.0+2`.
pub fn without_revision(label: &str) -> &str {
    match label.rsplit_once('+') {
        Some((base, n)) if !base.is_empty() && n.parse::<u32>().is_ok() => base,
        _ => label,
    }
}

/// Whether a version can be called that: what an image's tag may be, so that it can stand in
/// a label, in `split web 1.0.0=90` and in a container's name.
pub fn check_version(version: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    if version.is_empty() || version.len() > 63 || !version.chars().all(allowed) {
        return Err(format!(
            "`{version}` cannot name a version: use 1 to 63 letters, digits, `.`, `_`, `-` or `+`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
