//! `crossfade.toml` as people write it, and the checks that make it a [`super::Manifest`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use admin_api::flat::Flat;
use admin_api::route;
use admin_api::strict::{InputError, push_key};
use admin_api::{
    AccessLogSpec, PathSpec, Period, Protocol, ProxyLimits, ProxyTimeouts, ServiceSpec, TlsSpec,
    TrafficSettings, VersionSpec, WhenSpec,
};
use bytesize::ByteSize;
use serde::{Deserialize, Deserializer};

use super::calls::{WebhookEntry, check_webhooks};
use super::checks::{check_each, ensure};
use super::container::{
    Volume, check_confinement, check_labels, check_limits, check_secrets, check_socket,
    check_volumes,
};
use super::external::{self, EndpointEntry};
use super::listener::{Listener, ListenerEntry};
use super::overrides::RolloutOverrides;
use super::{ProxySettings, RuntimeChoice, ServiceSettings};
use crate::plan::RolloutSettings;
use crate::runtime::Confinement;

const DEFAULT_PORT: u16 = 8080;
const DEFAULT_REPLICAS: u32 = 1;
/// How many containers a service may have.
pub(crate) const MAX_REPLICAS: u32 = 1000;

/// Which requests a service is for: hosts, prefix, path and the rest.
type Routes = (Vec<String>, String, Option<PathSpec>, Option<WhenSpec>);

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
    standby: Option<bool>,
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
    image: Option<String>,
    #[serde(default)]
    endpoints: Vec<EndpointEntry>,
    #[serde(default)]
    split: BTreeMap<String, u32>,
    version: Option<String>,
    replicas: Option<u32>,
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
    replace_after: Option<Period>,
    keep_images: Option<u32>,
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
        let mut external: Vec<ServiceSpec> = Vec::new();
        let mut seen: Vec<(String, Option<Routes>)> = Vec::new();
        for (index, service) in self.services.into_iter().enumerate() {
            let at = |key: &str| format!("services[{index}].{key}");
            let own = (service.name.clone(), service.routes());
            match service.image {
                Some(_) => services.push(service.check(&at)?),
                None => external.push(service.check_external(&at)?),
            }
            for (other, routes) in &seen {
                if *other == own.0 {
                    let message = format!("another service has the name `{other}`");
                    return Err(InputError::of_field(at("name"), message));
                }
                if routes.is_some() && *routes == own.1 {
                    let message =
                        format!("`{other}` has the same hosts and path: change one of the two");
                    return Err(InputError::of_field(at("path_prefix"), message));
                }
            }
            seen.push(own);
        }
        ensure(
            !seen.is_empty(),
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
            external,
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
        ensure(
            !listen.is_empty() || !self.listeners.is_empty(),
            || "proxy.listen".into(),
            "at least one address is needed, such as \"127.0.0.1:8080\"",
        )?;
        ensure(
            self.admin_port != Some(0),
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
                Some(address.port()) != self.admin_port,
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
            admin_port: self.admin_port,
            standby: self.standby.unwrap_or(true),
            drain_timeout: self.drain_timeout.unwrap_or(Period::from_secs(30)),
            timeouts,
            limits,
            access_log: self.access_log,
        })
    }
}

impl Service {
    /// `None` of a worker, which has none.
    fn routes(&self) -> Option<Routes> {
        let TrafficSettings { path, when, .. } = &self.traffic;
        let hosts = self.hosts.clone();
        let routes = (hosts, self.path_prefix.clone(), path.clone(), when.clone());
        let is_worker = self.port == Some(0) && self.socket.is_none();
        (!is_worker).then_some(routes)
    }

    /// Checks a service that has no containers of this project.
    fn check_external(self, at: &dyn Fn(&str) -> String) -> Result<ServiceSpec, InputError> {
        self.check_names(at)?;
        // Who has forgotten the image is not to be told of other keys.
        let replies = external::check_reply(self.endpoints.is_empty(), &self.traffic);
        replies.map_err(|error| InputError::of_field(at("image"), error.message))?;
        self.check_route(at)?;
        self.check_endpoints(at)?;
        for (key, is_set) in self.keys_of_containers() {
            let message =
                "belongs to containers: this service has no `image`, so it has none of its own";
            ensure(!is_set, || at(key), message)?;
        }
        let spec = ServiceSpec {
            name: self.name,
            hosts: self.hosts,
            path_prefix: self.path_prefix,
            traffic: self.traffic,
            ..ServiceSpec::default()
        };
        let transport = VersionSpec {
            protocol: self.protocol,
            tls: self.tls,
        };
        let spec = external::service(self.endpoints, self.split, &transport, spec);
        external::check(&spec).map_err(|error| InputError {
            field: error.field.as_deref().map(at),
            ..error
        })?;
        Ok(spec)
    }

    /// The keys that only containers have, and whether they are set.
    fn keys_of_containers(&self) -> [(&'static str, bool); 21] {
        [
            ("version", self.version.is_some()),
            ("replicas", self.replicas.is_some()),
            ("port", self.port.is_some()),
            ("socket", self.socket.is_some()),
            ("command", !self.command.is_empty()),
            ("env", !self.env.is_empty()),
            ("secrets", !self.secrets.is_empty()),
            ("volumes", !self.volumes.is_empty()),
            ("memory", self.memory.is_some()),
            ("cpus", self.cpus.is_some()),
            ("pids", self.pids.is_some()),
            ("new_privileges", self.new_privileges),
            ("user", self.user.is_some()),
            ("cap_drop", !self.cap_drop.is_empty()),
            ("read_only", self.read_only),
            ("tmpfs", !self.tmpfs.is_empty()),
            ("stop_timeout", self.stop_timeout.is_some()),
            ("labels", !self.labels.is_empty()),
            ("replace_after", self.replace_after.is_some()),
            ("keep_images", self.keep_images.is_some()),
            ("rollout", self.rollout != RolloutOverrides::default()),
        ]
    }

    /// The keys that only services without containers have.
    fn check_no_endpoints(&self, at: &dyn Fn(&str) -> String) -> Result<(), InputError> {
        for (key, is_set) in [
            ("endpoints", !self.endpoints.is_empty()),
            ("split", !self.split.is_empty()),
        ] {
            let message = "is for a service without `image`: here, containers are the endpoints";
            ensure(!is_set, || at(key), message)?;
        }
        Ok(())
    }

    fn check(self, at: &dyn Fn(&str) -> String) -> Result<ServiceSettings, InputError> {
        self.check_names(at)?;
        self.check_no_endpoints(at)?;
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
            image: self.image.unwrap_or_default(),
            version,
            replicas: self.replicas.unwrap_or(DEFAULT_REPLICAS),
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
            replace_after: self
                .replace_after
                .unwrap_or_else(super::default_replace_after),
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
        let image = self.image.as_deref();
        ensure(
            image != Some(""),
            || at("image"),
            "an image is needed, such as \"localhost/web:1.0.0\"",
        )
    }

    /// The label of the first version: as it is written, else the image's tag.
    fn version(&self, at: &dyn Fn(&str) -> String) -> Result<String, InputError> {
        let version = match &self.version {
            Some(version) => version.clone(),
            None => {
                let image = self.image.as_deref().unwrap_or_default();
                super::tag_of(image).map(str::to_owned).ok_or_else(|| {
                    let message = format!("`{image}` has no tag: add version = \"…\"");
                    InputError::of_field(at("version"), message)
                })?
            }
        };
        super::check_version(&version)
            .map_err(|message| InputError::of_field(at("version"), message))?;
        Ok(version)
    }

    fn check_route(&self, at: &dyn Fn(&str) -> String) -> Result<(), InputError> {
        ensure(
            self.replicas.unwrap_or(DEFAULT_REPLICAS) <= MAX_REPLICAS,
            || at("replicas"),
            "a whole number from 0 to 1000 is needed, such as 2",
        )?;
        ensure(
            self.path_prefix.starts_with('/'),
            || at("path_prefix"),
            "has to begin with `/`, such as \"/api\"",
        )?;
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
        let checked = self.traffic.check();
        let checked =
            checked.and_then(|()| route::check(&self.hosts, &self.path_prefix, &self.traffic));
        checked.map_err(|error| InputError {
            field: error.field.as_deref().map(at),
            ..error
        })
    }
}
