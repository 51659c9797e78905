//! `crossfade.toml`: what runs here and how it is replaced. Read as people write it (`raw`),
//! checked once, and from then on only the types below are used.

mod calls;
mod container;
mod listener;
mod place;
mod raw;

use std::collections::BTreeMap;
use std::path::PathBuf;

use admin_api::strict::{InputError, from_toml};
use admin_api::{
    BalanceSpec, EjectionSpec, ForceSpec, HealthSpec, Period, StickySpec, VersionSpec,
};
use serde::{Deserialize, Serialize};

use crate::hooks::Hook;
use crate::http::post::Target;
use crate::plan::Strategy;
use crate::runtime::ResourceLimits;
use crate::verdict::{AfterMaxHold, Limits};

pub(crate) use container::variable_of;
pub use container::{Recipe, Volume};
pub use listener::{ClientAuth, KeyPair, Listener, Tls, TlsVersion};
pub use raw::RolloutOverrides;

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
    /// Who is told of every event.
    pub webhooks: Vec<Webhook>,
}

/// Somebody who is told of events.
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
    /// The port of its admin API, on loopback only.
    pub admin_port: u16,
    /// How long a retired endpoint may finish what it has.
    pub drain_timeout: Period,
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
    /// The hosts it answers to; empty: every host.
    pub hosts: Vec<String>,
    /// The start of the paths it answers to.
    pub path_prefix: String,
    /// Whether `path_prefix` is taken off on the way to a container.
    pub strip_prefix: bool,
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
    /// Labels of the containers, beside ours.
    pub labels: BTreeMap<String, String>,
    /// What the containers speak. Paths are as seen from the manifest's folder.
    #[serde(default)]
    pub reach: VersionSpec,
    /// How the proxy finds out whether a container can serve.
    pub health: Option<HealthSpec>,
    /// What else the proxy is told about its requests.
    pub traffic: Traffic,
    /// How a new version takes over.
    pub rollout: RolloutSettings,
}

/// What the proxy is told about a service's requests, besides its routes: as the proxy's own
/// config file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// How a version's requests divide over its containers.
    pub balance: BalanceSpec,
    /// Whether each client keeps the version it got.
    pub sticky: Option<StickySpec>,
    /// By what testers name the version they want.
    pub force: Option<ForceSpec>,
    /// When a container is left out for a while because of what its answers come to.
    pub ejection: Option<EjectionSpec>,
}

/// How a new version takes over. What an older release did not write down has its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolloutSettings {
    /// In which steps.
    pub strategy: Strategy,
    /// From one look at the figures to the next.
    pub look_every: Period,
    /// How long a step lasts at least.
    pub step_min_duration: Period,
    /// Requests that a candidate has to have had before a step may end well.
    pub min_requests: u64,
    /// How long a step may wait for that, before the rollout is paused.
    pub max_hold: Period,
    /// What then.
    pub after_max_hold: AfterMaxHold,
    /// In per cent.
    pub success_rate: f64,
    /// How far below stable's it may be, in percentage points.
    pub success_rate_tolerance: f64,
    /// The time that 99 of 100 answers keep to.
    pub latency_p99: Period,
    /// How many more slow answers than stable's there may be, in percentage points.
    pub latency_tolerance: f64,
    /// How long latency does not count after a step began.
    pub warm_up: Period,
    /// How long the old version stays warm after the last step.
    pub bake: Period,
    /// How long the proxy has to see a candidate healthy before it gets its first request.
    pub min_healthy_time: Period,
    /// How long a container may take to become healthy.
    pub start_timeout: Period,
    /// Checks of one's own around the steps.
    #[serde(default)]
    pub hooks: Vec<Hook>,
}

impl Default for RolloutSettings {
    fn default() -> Self {
        Self {
            strategy: Strategy::canary(),
            look_every: Period::from_millis(250),
            step_min_duration: Period::from_secs(30),
            min_requests: 50,
            max_hold: Period::from_secs(600),
            after_max_hold: AfterMaxHold::Pause,
            success_rate: 99.0,
            success_rate_tolerance: 0.1,
            latency_p99: Period::from_millis(500),
            latency_tolerance: 1.0,
            warm_up: Period::from_secs(10),
            bake: Period::from_secs(300),
            min_healthy_time: Period::from_secs(5),
            start_timeout: Period::from_secs(60),
            hooks: Vec::new(),
        }
    }
}

impl RolloutSettings {
    /// What the verdict needs of it.
    pub fn limits(&self) -> Limits {
        Limits {
            success_rate: self.success_rate,
            success_rate_tolerance: self.success_rate_tolerance,
            latency_p99: self.latency_p99.get(),
            latency_tolerance: self.latency_tolerance,
            warm_up: self.warm_up.get(),
            min_requests: self.min_requests,
            step_min_duration: self.step_min_duration.get(),
            max_hold: self.max_hold.get(),
            after_max_hold: self.after_max_hold,
        }
    }
}

impl Manifest {
    /// Reads and checks a manifest. The error names field and line.
    pub fn parse(text: &str) -> Result<Self, InputError> {
        let raw: raw::Manifest = from_toml(text)?;
        raw.check().map_err(|error| error.located_in(text))
    }

    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&ServiceSettings> {
        self.services.iter().find(|service| service.name == name)
    }
}

/// The fields of a manifest's text that name the addresses of its listeners, in their order. Without
/// any, the default is meant.
pub(crate) fn listener_fields(text: &str) -> Vec<String> {
    from_toml(text).map_or_else(|_| Vec::new(), |raw: raw::Manifest| raw.listener_fields())
}

/// The tag of an image: `2.0.0` of `localhost/web:2.0.0`.
pub fn tag_of(image: &str) -> Option<&str> {
    let without_digest = image.split('@').next().unwrap_or(image);
    let last = without_digest.rsplit('/').next().unwrap_or(without_digest);
    last.split_once(':')
        .map(|(_, tag)| tag)
        .filter(|tag| !tag.is_empty())
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
