//! `crossfade.toml` as people write it, and the checks that make it a [`super::Manifest`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use admin_api::strict::{InputError, push_key};
use admin_api::{HealthSpec, Period};
use serde::{Deserialize, Serialize};

use super::{ProxySettings, RolloutSettings, RuntimeChoice, ServiceSettings};
use crate::plan::Strategy;

const MAX_REPLICAS: u32 = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    #[serde(default = "default_project")]
    project: String,
    #[serde(default)]
    runtime: RuntimeChoice,
    #[serde(default)]
    proxy: Proxy,
    #[serde(default)]
    services: Vec<Service>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proxy {
    image: Option<String>,
    program: Option<PathBuf>,
    listen: Option<Vec<SocketAddr>>,
    admin_port: Option<u16>,
    drain_timeout: Option<Period>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    name: String,
    image: String,
    version: Option<String>,
    #[serde(default = "default_replicas")]
    replicas: u32,
    #[serde(default = "default_port")]
    port: u16,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default = "default_prefix")]
    path_prefix: String,
    #[serde(default)]
    strip_prefix: bool,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    health: Option<HealthSpec>,
    #[serde(default)]
    rollout: RolloutOverrides,
}

/// The keys of `[services.rollout]`, all optional: what is absent keeps its default. The
/// flags of `crossfade deploy` are read into the same type and go through the same checks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutOverrides {
    /// `canary`, `blue-green` or `steps=1,10,50,100`.
    pub strategy: Option<String>,
    /// The shares of a canary, in per cent.
    pub steps: Option<Vec<u8>>,
    /// From one look at the figures to the next.
    pub look_every: Option<Period>,
    /// How long a step lasts at least.
    pub step_min_duration: Option<Period>,
    /// Requests that a step needs.
    pub min_requests: Option<u64>,
    /// How long a step may wait for them.
    pub max_hold: Option<Period>,
    /// In per cent.
    pub success_rate: Option<f64>,
    /// How long the old version stays warm.
    pub bake: Option<Period>,
    /// How long a candidate has to be healthy before its first request.
    pub min_healthy_time: Option<Period>,
    /// How long a container may take to become healthy.
    pub start_timeout: Option<Period>,
}

fn default_project() -> String {
    "crossfade".into()
}

const fn default_replicas() -> u32 {
    1
}

const fn default_port() -> u16 {
    8080
}

fn default_prefix() -> String {
    "/".into()
}

fn name_is_fine(name: &str, longest: usize) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    begins && name.len() <= longest && name.chars().all(allowed)
}

fn ensure(holds: bool, field: impl FnOnce() -> String, message: &str) -> Result<(), InputError> {
    if holds {
        Ok(())
    } else {
        Err(InputError::of_field(field(), message))
    }
}

impl Manifest {
    pub(super) fn check(self) -> Result<super::Manifest, InputError> {
        ensure(
            name_is_fine(&self.project, 40),
            || "project".into(),
            "use 1 to 40 letters, digits, `-`, `_` or `.`, a letter or digit first",
        )?;
        let proxy = self.proxy.check()?;
        let mut services: Vec<ServiceSettings> = Vec::new();
        for (index, service) in self.services.into_iter().enumerate() {
            let at = |key: &str| format!("services[{index}].{key}");
            let service = service.check(&at)?;
            for other in &services {
                if other.name == service.name {
                    let message = format!("there is a service `{}` already", service.name);
                    return Err(InputError::of_field(at("name"), message));
                }
                if other.path_prefix == service.path_prefix && other.hosts == service.hosts {
                    let message = format!(
                        "`{}` has these hosts and this path already; give one of them others",
                        other.name
                    );
                    return Err(InputError::of_field(at("path_prefix"), message));
                }
            }
            services.push(service);
        }
        ensure(
            !services.is_empty(),
            || "services".into(),
            "there is no [[services]] table: at least one service is needed",
        )?;
        Ok(super::Manifest {
            project: self.project,
            runtime: self.runtime,
            proxy,
            services,
        })
    }
}

impl Proxy {
    fn check(self) -> Result<ProxySettings, InputError> {
        let listen = self
            .listen
            .unwrap_or_else(|| vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080))]);
        let admin_port = self.admin_port.unwrap_or(9900);
        ensure(
            !listen.is_empty(),
            || "proxy.listen".into(),
            "at least one address is needed",
        )?;
        ensure(
            admin_port != 0,
            || "proxy.admin_port".into(),
            "a port from 1 to 65535 is needed",
        )?;
        let mut seen = BTreeSet::new();
        for (index, address) in listen.iter().enumerate() {
            let field = || format!("proxy.listen[{index}]");
            ensure(
                address.port() != 0,
                field,
                "a port from 1 to 65535 is needed",
            )?;
            ensure(
                address.port() != admin_port,
                field,
                "this is the port of `admin_port`",
            )?;
            ensure(
                seen.insert(*address),
                field,
                "this address is there already",
            )?;
        }
        Ok(ProxySettings {
            image: self
                .image
                .unwrap_or_else(|| "localhost/crossfade-proxy:latest".into()),
            program: self.program,
            listen,
            admin_port,
            drain_timeout: self.drain_timeout.unwrap_or(Period::from_secs(30)),
        })
    }
}

impl Service {
    fn check(self, at: &dyn Fn(&str) -> String) -> Result<ServiceSettings, InputError> {
        ensure(
            name_is_fine(&self.name, 63),
            || at("name"),
            "use 1 to 63 letters, digits, `-`, `_` or `.`, a letter or digit first",
        )?;
        ensure(!self.image.is_empty(), || at("image"), "an image is needed")?;
        let version = match self.version {
            Some(version) => version,
            None => super::tag_of(&self.image)
                .map(str::to_owned)
                .ok_or_else(|| {
                    let message = format!(
                        "`{}` has no tag to name the version by: add version = \"…\"",
                        self.image
                    );
                    InputError::of_field(at("version"), message)
                })?,
        };
        super::check_version(&version)
            .map_err(|message| InputError::of_field(at("version"), message))?;
        ensure(
            (1..=MAX_REPLICAS).contains(&self.replicas),
            || at("replicas"),
            "a whole number from 1 to 1000 is needed",
        )?;
        ensure(
            self.port != 0,
            || at("port"),
            "a port from 1 to 65535 is needed",
        )?;
        ensure(
            self.path_prefix.starts_with('/'),
            || at("path_prefix"),
            "has to begin with `/`",
        )?;
        for (index, host) in self.hosts.iter().enumerate() {
            let fine = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
            ensure(
                fine,
                || at(&format!("hosts[{index}]")),
                "a host name is needed",
            )?;
        }
        for key in self.env.keys() {
            let fine = !key.is_empty() && !key.contains(['=', '\0']);
            let field = || {
                let mut field = at("env");
                push_key(&mut field, key);
                field
            };
            ensure(fine, field, "this cannot be the name of a variable")?;
        }
        if let Some(health) = &self.health {
            check_health(health, at)?;
        }
        let rollout = self
            .rollout
            .over(&RolloutSettings::default())
            .map_err(|error| {
                let field = format!("rollout.{}", error.field.as_deref().unwrap_or_default());
                InputError::of_field(at(&field), error.message)
            })?;
        Ok(ServiceSettings {
            name: self.name,
            image: self.image,
            version,
            replicas: self.replicas,
            port: self.port,
            hosts: self.hosts,
            path_prefix: self.path_prefix,
            strip_prefix: self.strip_prefix,
            command: self.command,
            env: self.env,
            health: self.health,
            rollout,
        })
    }
}

fn check_health(health: &HealthSpec, at: &dyn Fn(&str) -> String) -> Result<(), InputError> {
    let path = health.path.starts_with('/');
    ensure(path, || at("health.path"), "has to begin with `/`")?;
    let interval = !health.interval.get().is_zero();
    ensure(
        interval,
        || at("health.interval"),
        "has to be longer than 0",
    )?;
    let timeout = !health.timeout.get().is_zero();
    ensure(timeout, || at("health.timeout"), "has to be longer than 0")?;
    ensure(
        health.rise > 0,
        || at("health.rise"),
        "has to be at least 1",
    )?;
    ensure(
        health.fall > 0,
        || at("health.fall"),
        "has to be at least 1",
    )
}

impl RolloutOverrides {
    /// The settings of `base` with these in place of its own. The error's field is one of the
    /// keys above.
    pub fn over(&self, base: &RolloutSettings) -> Result<RolloutSettings, InputError> {
        let strategy = match (&self.strategy, &self.steps) {
            (None, None) => base.strategy.clone(),
            (strategy, steps) => {
                let named = strategy.as_deref().unwrap_or("canary");
                let strategy: Strategy = named
                    .parse()
                    .map_err(|error: String| InputError::of_field("strategy", error))?;
                match (strategy, steps) {
                    (strategy, None) => strategy,
                    (Strategy::Canary(_), Some(shares)) => {
                        Strategy::check_shares(shares)
                            .map_err(|error| InputError::of_field("steps", error))?;
                        Strategy::Canary(shares.clone())
                    }
                    (strategy, Some(_)) => {
                        let message = format!("strategy `{strategy}` has its own steps");
                        return Err(InputError::of_field("steps", message));
                    }
                }
            }
        };
        let settings = RolloutSettings {
            strategy,
            look_every: self.look_every.unwrap_or(base.look_every),
            step_min_duration: self.step_min_duration.unwrap_or(base.step_min_duration),
            min_requests: self.min_requests.unwrap_or(base.min_requests),
            max_hold: self.max_hold.unwrap_or(base.max_hold),
            success_rate: self.success_rate.unwrap_or(base.success_rate),
            bake: self.bake.unwrap_or(base.bake),
            min_healthy_time: self.min_healthy_time.unwrap_or(base.min_healthy_time),
            start_timeout: self.start_timeout.unwrap_or(base.start_timeout),
        };
        let field = |name: &'static str| move || name.to_owned();
        ensure(
            settings.look_every >= Period::from_millis(10),
            field("look_every"),
            "has to be at least 10ms",
        )?;
        ensure(
            (0.0..=100.0).contains(&settings.success_rate),
            field("success_rate"),
            "a number from 0 to 100 is needed, in per cent",
        )?;
        ensure(
            !settings.start_timeout.get().is_zero(),
            field("start_timeout"),
            "has to be longer than 0",
        )?;
        ensure(
            settings.max_hold >= settings.step_min_duration,
            field("max_hold"),
            "has to be at least `step_min_duration`",
        )?;
        Ok(settings)
    }
}
