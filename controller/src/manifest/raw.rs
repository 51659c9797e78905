//! `crossfade.toml` as people write it, and the checks that make it a [`super::Manifest`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use admin_api::flat::Flat;
use admin_api::names;
use admin_api::strict::{InputError, push_key};
use admin_api::{
    AccessLogSpec, Period, Protocol, ProxyLimits, ProxyTimeouts, TlsSpec, TrafficSettings,
    VersionSpec,
};
use bytesize::ByteSize;
use serde::{Deserialize, Deserializer};

use super::calls::{WebhookEntry, check_webhooks};
use super::checks::{check_each, ensure};
use super::container::{
    Volume, check_confinement, check_labels, check_limits, check_secrets, check_socket,
    check_volumes,
};
use super::listener::{Listener, ListenerEntry};
use super::overrides::RolloutOverrides;
use super::{ProxySettings, RuntimeChoice, ServiceSettings};
use crate::plan::RolloutSettings;
use crate::runtime::Confinement;

const DEFAULT_PORT: u16 = 8080;
/// How many containers a service may have.
pub(crate) const MAX_REPLICAS: u32 = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    project: Option<String>,
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
    #[serde(default)]
    timeouts: ProxyTimeouts,
    #[serde(default)]
    limits: ProxyLimits,
    access_log: Option<AccessLogSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct Service {
    name: String,
    image: String,
    version: Option<String>,
    #[serde(default = "default_replicas")]
    replicas: u32,
    port: Option<u16>,
    socket: Option<PathBuf>,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default = "default_prefix")]
    path_prefix: String,
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
    new_privileges: bool,
    user: Option<String>,
    #[serde(default)]
    cap_drop: Vec<String>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    tmpfs: Vec<String>,
    stop_timeout: Option<Period>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    protocol: Protocol,
    tls: Option<TlsSpec>,
    #[serde(default = "super::default_replace_after")]
    replace_after: Period,
    #[serde(default = "super::default_keep_images")]
    keep_images: u32,
    /// Its keys stand among the others.
    #[serde(skip)]
    traffic: TrafficSettings,
    #[serde(default)]
    rollout: RolloutOverrides,
}

impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut traffic = TrafficSettings::default();
        let service = Self::deserialize(Flat::new(deserializer, &mut traffic))?;
        Ok(Self { traffic, ..service })
    }
}

const fn default_replicas() -> u32 {
    1
}

fn default_prefix() -> String {
    "/".into()
}

fn name_is_fine(name: &str, longest: usize) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    begins && name.len() <= longest && name.chars().all(allowed)
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

    pub(super) fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// `project`: its name where none is written.
    pub(super) fn check(self, project: &str) -> Result<super::Manifest, InputError> {
        let project = self.project.unwrap_or_else(|| project.to_owned());
        ensure(
            name_is_fine(&project, super::LONGEST_PROJECT),
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
                    let message = format!("another service has the name `{}`", service.name);
                    return Err(InputError::of_field(at("name"), message));
                }
                let have_routes = !other.is_worker() && !service.is_worker();
                let same = other.path_prefix == service.path_prefix && other.hosts == service.hosts;
                if have_routes && same {
                    let message = format!(
                        "`{}` has the same hosts and path: change one of the two",
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
            "at least one [[services]] table is needed, with `name` and `image`: `crossfade init` writes one",
        )?;
        let webhooks = check_each("webhooks", self.webhooks, WebhookEntry::check)?;
        check_webhooks(&webhooks)?;
        Ok(super::Manifest {
            project,
            runtime: self.runtime,
            proxy,
            services,
            leaving: Vec::new(),
            webhooks,
        })
    }
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
            "at least one address is needed, such as \"127.0.0.1:8080\"",
        )?;
        ensure(
            admin_port != 0,
            || "proxy.admin_port".into(),
            "a port from 1 to 65535 is needed, such as 9900",
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
                "a port from 1 to 65535 is needed, such as \"127.0.0.1:8080\"",
            )?;
            ensure(
                address.port() != admin_port,
                field,
                "this is the port of `admin_port`",
            )?;
            ensure(seen.insert(address), field, "this address is listed twice")?;
        }
        let within = |table: &str, error: InputError| error.inside(&format!("proxy.{table}"));
        let timeouts = self.timeouts;
        let of_services = timeouts.of_services.check();
        of_services.map_err(|error| within("timeouts", error))?;
        ensure(
            timeouts.of_services.drain.is_none(),
            || "proxy.timeouts.drain".into(),
            "write it as `drain_timeout` of [proxy], such as drain_timeout = \"30s\"",
        )?;
        let limits = self.limits;
        limits.check().map_err(|error| within("limits", error))?;
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
            timeouts,
            limits,
            access_log: self.access_log,
        })
    }
}

impl Service {
    fn check(self, at: &dyn Fn(&str) -> String) -> Result<ServiceSettings, InputError> {
        self.check_names(at)?;
        let version = self.version(at)?;
        self.check_route(at)?;
        check_secrets(&self.secrets, at)?;
        check_volumes(&self.volumes, at)?;
        check_labels(&self.labels, at)?;
        if let Some(socket) = &self.socket {
            ensure(
                self.port.is_none(),
                || at("socket"),
                "`port` is set, too: leave one of the two out",
            )?;
            check_socket(socket, &self.volumes, at)?;
        }
        let limits = check_limits(self.memory, self.cpus, self.pids, at)?;
        let confinement = Confinement {
            user: self.user.clone(),
            cap_drop: self.cap_drop.clone(),
            read_only: self.read_only,
            tmpfs: self.tmpfs.clone(),
        };
        check_confinement(&confinement, &self.volumes, at)?;
        self.check_endpoints(at)?;
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
            port: self.port.unwrap_or(DEFAULT_PORT),
            socket: self.socket,
            hosts: self.hosts,
            path_prefix: self.path_prefix,
            command: self.command,
            env: self.env,
            secrets: self.secrets,
            volumes: self.volumes,
            limits,
            new_privileges: self.new_privileges,
            confinement,
            stop_timeout: self.stop_timeout,
            labels: self.labels,
            transport: VersionSpec {
                protocol: self.protocol,
                tls: self.tls,
            },
            replace_after: self.replace_after,
            keep_images: self.keep_images,
            traffic: self.traffic,
            rollout,
        })
    }

    fn check_names(&self, at: &dyn Fn(&str) -> String) -> Result<(), InputError> {
        ensure(
            name_is_fine(&self.name, 63),
            || at("name"),
            "use 1 to 63 letters, digits, `-`, `_` or `.`, a letter or digit first",
        )?;
        ensure(
            !self.image.is_empty(),
            || at("image"),
            "an image is needed, such as \"localhost/web:1.0.0\"",
        )
    }

    /// The label of the first version: as it is written, else the image's tag.
    fn version(&self, at: &dyn Fn(&str) -> String) -> Result<String, InputError> {
        let version = match &self.version {
            Some(version) => version.clone(),
            None => super::tag_of(&self.image)
                .map(str::to_owned)
                .ok_or_else(|| {
                    let message = format!("`{}` has no tag: add version = \"…\"", self.image);
                    InputError::of_field(at("version"), message)
                })?,
        };
        super::check_version(&version)
            .map_err(|message| InputError::of_field(at("version"), message))?;
        Ok(version)
    }

    fn check_route(&self, at: &dyn Fn(&str) -> String) -> Result<(), InputError> {
        ensure(
            self.replicas <= MAX_REPLICAS,
            || at("replicas"),
            "a whole number from 0 to 1000 is needed, such as 2",
        )?;
        ensure(
            self.path_prefix.starts_with('/'),
            || at("path_prefix"),
            "has to begin with `/`, such as \"/api\"",
        )?;
        for (index, host) in self.hosts.iter().enumerate() {
            let read = names::host(host);
            read.map_err(|message| InputError::of_field(at(&format!("hosts[{index}]")), message))?;
        }
        for key in self.env.keys() {
            let fine = !key.is_empty() && !key.contains(['=', '\0']);
            let field = || {
                let mut field = at("env");
                push_key(&mut field, key);
                field
            };
            ensure(fine, field, "not a valid variable name")?;
        }
        Ok(())
    }

    /// How the containers are reached, and what the proxy does with them and with their requests.
    fn check_endpoints(&self, at: &dyn Fn(&str) -> String) -> Result<(), InputError> {
        if self.port == Some(0) {
            let message = "a worker (port = 0) has no route and no traffic: leave it out, or set the \
                           port on which the containers serve, such as 8080";
            for (key, is_set) in [
                ("hosts", !self.hosts.is_empty()),
                ("path_prefix", self.path_prefix != default_prefix()),
                ("protocol", self.protocol != Protocol::default()),
                ("tls", self.tls.is_some()),
                ("health", self.traffic.health.is_some()),
            ] {
                ensure(!is_set, || at(key), message)?;
            }
            ensure(
                self.traffic == TrafficSettings::default(),
                || at("port"),
                "a worker (port = 0) has no traffic: leave out what the proxy does with requests, \
                 such as `sticky` or `timeouts`",
            )?;
        }
        if let Some(tls) = &self.tls {
            ensure(
                tls.verify || tls.ca.is_none(),
                || at("tls.ca"),
                "has no effect with `verify = false`: leave one of them out",
            )?;
        }
        self.traffic.check().map_err(|error| InputError {
            field: error.field.as_deref().map(at),
            ..error
        })
    }
}
