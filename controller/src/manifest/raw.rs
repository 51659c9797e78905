//! `crossfade.toml` as people write it, and the checks that make it a [`super::Manifest`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use admin_api::strict::{InputError, push_key};
use admin_api::{
    BalanceSpec, EjectionSpec, ForceSpec, HealthSpec, Period, Protocol, StickySpec, TlsSpec,
    VersionSpec,
};
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::calls::{HookEntry, WebhookEntry, check_webhooks};
use super::container::{Volume, check_labels, check_limits, check_secrets, check_volumes};
use super::listener::{Listener, ListenerEntry};
use super::{ProxySettings, RuntimeChoice, ServiceSettings, Traffic};
use crate::plan::{Amount, RolloutSettings, Stage, Strategy};
use crate::verdict::AfterMaxHold;

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
    #[serde(default)]
    webhooks: Vec<WebhookEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proxy {
    image: Option<String>,
    program: Option<PathBuf>,
    listen: Option<Vec<SocketAddr>>,
    #[serde(default)]
    listeners: Vec<ListenerEntry>,
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
    #[serde(default)]
    secrets: BTreeMap<String, PathBuf>,
    #[serde(default)]
    volumes: Vec<Volume>,
    memory: Option<ByteSize>,
    cpus: Option<f64>,
    pids: Option<u32>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    protocol: Protocol,
    tls: Option<TlsSpec>,
    health: Option<HealthSpec>,
    #[serde(default)]
    balance: BalanceSpec,
    sticky: Option<StickySpec>,
    force: Option<ForceSpec>,
    ejection: Option<EjectionSpec>,
    #[serde(default)]
    rollout: RolloutOverrides,
}

/// The keys of `[services.rollout]`, all optional: what is absent keeps its default. The
/// flags of `crossfade deploy` are read into the same type and go through the same checks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutOverrides {
    /// `canary`, `blue-green`, `linear=20`, `steps=1,10,50,100`, `rolling` or `all-at-once`.
    pub strategy: Option<String>,
    /// The steps of a canary: shares in per cent, with holds and gates.
    pub steps: Option<Vec<Stage>>,
    /// How many more containers a rolling rollout may have than stable had.
    pub max_surge: Option<Amount>,
    /// How many fewer.
    pub max_unavailable: Option<Amount>,
    /// From one look at the figures to the next.
    pub look_every: Option<Period>,
    /// How long a step lasts at least.
    pub step_min_duration: Option<Period>,
    /// Requests that a step needs.
    pub min_requests: Option<u64>,
    /// How long a step may wait for them.
    pub max_hold: Option<Period>,
    /// `pause` or `proceed`.
    pub after_max_hold: Option<AfterMaxHold>,
    /// In per cent.
    pub success_rate: Option<f64>,
    /// How far below stable's it may be, in percentage points.
    pub success_rate_tolerance: Option<f64>,
    /// The time that 99 of 100 answers keep to.
    pub latency_p99: Option<Period>,
    /// How many more slow answers than stable's there may be, in percentage points.
    pub latency_tolerance: Option<f64>,
    /// How long latency does not count after a step began.
    pub warm_up: Option<Period>,
    /// How long the old version stays warm.
    pub bake: Option<Period>,
    /// How long a candidate has to be healthy before its first request.
    pub min_healthy_time: Option<Period>,
    /// How long a container may take to become healthy.
    pub start_timeout: Option<Period>,
    /// Checks of one's own around the steps.
    pub hooks: Option<Vec<HookEntry>>,
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
    /// The field of each listener's address, in the order in which they are checked.
    pub(super) fn listener_fields(&self) -> Vec<String> {
        let tables =
            (0..self.proxy.listeners.len()).map(|n| format!("proxy.listeners[{n}].address"));
        let plain = self.proxy.listen.as_ref().map_or(0, Vec::len);
        let plain = (0..plain).map(|n| format!("proxy.listen[{n}]"));
        tables.chain(plain).collect()
    }

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
        let webhooks = check_each("webhooks", self.webhooks, WebhookEntry::check)?;
        check_webhooks(&webhooks)?;
        Ok(super::Manifest {
            project: self.project,
            runtime: self.runtime,
            proxy,
            services,
            webhooks,
        })
    }
}

/// Checks every entry of a list, and names the one that is wrong.
fn check_each<T, U>(
    list: &str,
    entries: Vec<T>,
    check: impl Fn(T) -> Result<U, InputError>,
) -> Result<Vec<U>, InputError> {
    let entries = entries.into_iter().enumerate();
    let checked = entries.map(|(index, entry)| {
        check(entry).map_err(|error| {
            let key = error.field.unwrap_or_default();
            InputError::of_field(format!("{list}[{index}].{key}"), error.message)
        })
    });
    checked.collect()
}

impl Proxy {
    fn check(self) -> Result<ProxySettings, InputError> {
        let listen = self
            .listen
            .unwrap_or_else(|| match self.listeners.as_slice() {
                [] => vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080))],
                _ => Vec::new(),
            });
        let admin_port = self.admin_port.unwrap_or(9900);
        ensure(
            !listen.is_empty() || !self.listeners.is_empty(),
            || "proxy.listen".into(),
            "at least one address is needed",
        )?;
        ensure(
            admin_port != 0,
            || "proxy.admin_port".into(),
            "a port from 1 to 65535 is needed",
        )?;
        let plain = listen.iter().enumerate();
        let plain = plain.map(|(index, address)| (format!("proxy.listen[{index}]"), *address));
        let tables = self.listeners.iter().enumerate();
        let tables = tables.map(|(index, entry)| {
            let field = format!("proxy.listeners[{index}].address");
            (field, entry.address)
        });
        let mut seen = BTreeSet::new();
        for (field, address) in plain.chain(tables) {
            let field = || field.clone();
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
            ensure(seen.insert(address), field, "this address is there already")?;
        }
        // In this order, so that an index here is the one in the file.
        let mut listeners = check_each("proxy.listeners", self.listeners, ListenerEntry::check)?;
        listeners.extend(listen.into_iter().map(Listener::plain));
        Ok(ProxySettings {
            image: self
                .image
                .unwrap_or_else(|| "localhost/crossfade-proxy:latest".into()),
            program: self.program,
            listeners,
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
        check_secrets(&self.secrets, at)?;
        check_volumes(&self.volumes, at)?;
        check_labels(&self.labels, at)?;
        let limits = check_limits(self.memory, self.cpus, self.pids, at)?;
        if let Some(tls) = &self.tls {
            ensure(
                tls.verify || tls.ca.is_none(),
                || at("tls.ca"),
                "has no effect with `verify = false`: leave one of them out",
            )?;
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
            secrets: self.secrets,
            volumes: self.volumes,
            limits,
            labels: self.labels,
            reach: VersionSpec {
                protocol: self.protocol,
                tls: self.tls,
            },
            health: self.health,
            traffic: Traffic {
                balance: self.balance,
                sticky: self.sticky,
                force: self.force,
                ejection: self.ejection,
            },
            rollout,
        })
    }
}

fn check_health(health: &HealthSpec, at: &dyn Fn(&str) -> String) -> Result<(), InputError> {
    health.check().map_err(|error| InputError {
        field: error.field.map(|field| at(&format!("health.{field}"))),
        ..error
    })
}

impl RolloutOverrides {
    /// The settings of `base` with these in place of its own. The error's field is one of the
    /// keys above.
    pub fn over(&self, base: &RolloutSettings) -> Result<RolloutSettings, InputError> {
        let settings = RolloutSettings {
            strategy: self.strategy_over(&base.strategy)?,
            look_every: self.look_every.unwrap_or(base.look_every),
            step_min_duration: self.step_min_duration.unwrap_or(base.step_min_duration),
            min_requests: self.min_requests.unwrap_or(base.min_requests),
            max_hold: self.max_hold.unwrap_or(base.max_hold),
            after_max_hold: self.after_max_hold.unwrap_or(base.after_max_hold),
            success_rate: self.success_rate.unwrap_or(base.success_rate),
            success_rate_tolerance: self
                .success_rate_tolerance
                .unwrap_or(base.success_rate_tolerance),
            latency_p99: self.latency_p99.unwrap_or(base.latency_p99),
            latency_tolerance: self.latency_tolerance.unwrap_or(base.latency_tolerance),
            warm_up: self.warm_up.unwrap_or(base.warm_up),
            bake: self.bake.unwrap_or(base.bake),
            min_healthy_time: self.min_healthy_time.unwrap_or(base.min_healthy_time),
            start_timeout: self.start_timeout.unwrap_or(base.start_timeout),
            hooks: match &self.hooks {
                Some(entries) => check_each("hooks", entries.clone(), HookEntry::check)?,
                None => base.hooks.clone(),
            },
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
            (0.0..=100.0).contains(&settings.success_rate_tolerance),
            field("success_rate_tolerance"),
            "a number from 0 to 100 is needed, in percentage points",
        )?;
        ensure(
            !settings.latency_p99.get().is_zero(),
            field("latency_p99"),
            "has to be longer than 0",
        )?;
        ensure(
            (0.0..=100.0).contains(&settings.latency_tolerance),
            field("latency_tolerance"),
            "a number from 0 to 100 is needed, in percentage points",
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

    /// The strategy that is named, or that of `base`, with the keys that belong to it.
    fn strategy_over(&self, base: &Strategy) -> Result<Strategy, InputError> {
        let mut strategy = match &self.strategy {
            None => base.clone(),
            Some(named) => named
                .parse()
                .map_err(|error: String| InputError::of_field("strategy", error))?,
        };
        if let Some(stages) = &self.steps {
            let Strategy::Canary(of_canary) = &mut strategy else {
                let message = format!("strategy `{strategy}` has its own steps");
                return Err(InputError::of_field("steps", message));
            };
            Strategy::check_stages(stages).map_err(|error| InputError::of_field("steps", error))?;
            of_canary.clone_from(stages);
        }
        let (surge, unavailable) = (self.max_surge, self.max_unavailable);
        if surge.is_none() && unavailable.is_none() {
            return Ok(strategy);
        }
        let field = if surge.is_some() {
            "max_surge"
        } else {
            "max_unavailable"
        };
        let Strategy::Rolling {
            max_surge,
            max_unavailable,
        } = &mut strategy
        else {
            let message = format!("only strategy `rolling` has it, not `{strategy}`");
            return Err(InputError::of_field(field, message));
        };
        *max_surge = surge.unwrap_or(*max_surge);
        *max_unavailable = unavailable.unwrap_or(*max_unavailable);
        let nothing = |amount: Amount| amount.of(100) == 0;
        ensure(
            !(nothing(*max_surge) && nothing(*max_unavailable)),
            || field.into(),
            "max_surge and max_unavailable cannot both be 0: nothing could be replaced",
        )?;
        Ok(strategy)
    }
}
