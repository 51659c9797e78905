//! How the proxy and its infra container are started, and the config file that the proxy reads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::{self, At};
use super::{ADMIN, AdminAt, CONFIG, INFRA, INSIDE, PROXY, ProxyHost, STATE_FILE};
use super::{admin_address, certificates, token};
use crate::error::Result;
use crate::manifest::{Listener, ProxySettings, RuntimeChoice};
use crate::runtime::{
    Confinement, ContainerSpec, Mount, Network, Privileges, Publish, Relabel, ResourceLimits, label,
};
use crate::state_dir::{self, proxy_folder, write_private};

/// The ports inside the container: clients, then admin, where that has one.
const FIRST_PORT: u16 = 8080;
const ADMIN_INSIDE: u16 = 9900;
/// The name under which containers on any project's network find the proxy.
const ALIAS: &str = "crossfade";
/// The infra container only waits.
const INFRA_MEMORY: u64 = 64 << 20;
const INFRA_PIDS: u32 = 64;
/// Threads: those that carry traffic, one for each core, and those that wait for files.
const PROXY_PIDS: u32 = 2048;

/// What is left at SIGTERM is finished until the drain's end; then it may still say goodbye.
const STOP_MARGIN: Duration = Duration::from_secs(10);

impl ProxyHost<'_> {
    pub(super) fn write_config(&self, settings: &ProxySettings) -> Result<()> {
        let folder = proxy_folder(self.state);
        state_dir::make(&folder)?;
        token(&folder)?;
        write_private(&folder.join(CONFIG), &self.config_text(settings)?)
    }

    pub(super) fn config_text(&self, settings: &ProxySettings) -> Result<String> {
        match self.kind {
            RuntimeChoice::Process => {
                let folder = proxy_folder(self.state);
                let admin = match AdminAt::of(&folder, settings) {
                    AdminAt::Port(port) => format!("127.0.0.1:{port}"),
                    AdminAt::Socket(socket) => format!("unix:{}", socket.display()),
                };
                let at = if self.has_host_sockets() {
                    At::Host
                } else {
                    At::Own
                };
                let listeners = settings.listeners.iter();
                let listeners = listeners.map(|listener| (listener, at(listener.address)));
                self.config(&folder, admin, listeners, settings)
            }
            _ => {
                let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
                // Containers that call the proxy by its name do not reach the host's sockets.
                let inside = inside_ports(settings).map(|(_, port)| At::Own(any(port)));
                let inside = settings.listeners.iter().zip(inside);
                let host = settings
                    .listeners
                    .iter()
                    .filter(|_| self.has_host_sockets());
                let host = host.map(|listener| (listener, At::Host(listener.address)));
                let all = host.chain(inside);
                let admin = match AdminAt::of(&proxy_folder(self.state), settings) {
                    AdminAt::Port(_) => any(ADMIN_INSIDE).to_string(),
                    AdminAt::Socket(_) => format!("unix:{INSIDE}/{ADMIN}"),
                };
                self.config(Path::new(INSIDE), admin, all, settings)
            }
        }
    }

    pub(super) fn infra_spec(&self, settings: &ProxySettings) -> Result<ContainerSpec> {
        let mut publish: Vec<Publish> = inside_ports(settings)
            .filter(|_| !self.has_host_sockets())
            .map(|(host, container_port)| Publish {
                host,
                container_port,
            })
            .collect();
        publish.extend(admin_address(self.state, settings).map(|host| Publish {
            host,
            container_port: ADMIN_INSIDE,
        }));
        let mut aliases = vec![ALIAS.to_owned(), self.project.name.clone()];
        aliases.dedup();
        Ok(ContainerSpec {
            command: vec!["--hold".into()],
            privileges: Privileges::None,
            limits: ResourceLimits {
                memory: Some(INFRA_MEMORY),
                pids: Some(INFRA_PIDS),
                millicpus: None,
            },
            network: Network::Project { aliases },
            publish,
            stop_timeout: STOP_MARGIN,
            ..self.spec(INFRA, settings)?
        })
    }

    pub(super) fn proxy_spec(&self, settings: &ProxySettings) -> Result<ContainerSpec> {
        let folder = proxy_folder(self.state);
        let podman = self.kind == RuntimeChoice::Podman;
        let seen_as = if podman {
            PathBuf::from(INSIDE)
        } else {
            folder.clone()
        };
        let config = seen_as.join(CONFIG).to_string_lossy().into_owned();
        let network = if podman {
            Network::Container(self.name(INFRA))
        } else {
            Network::Project {
                aliases: Vec::new(),
            }
        };
        // The proxy writes what it was told last into its folder.
        let mount = Mount {
            host: folder,
            container: INSIDE.into(),
            read_only: false,
            relabel: Relabel::Shared,
        };
        let mut spec = self.spec(PROXY, settings)?;
        spec.labels
            .insert(label::SETTINGS.into(), self.settings_label(settings)?);
        Ok(ContainerSpec {
            command: vec!["--config".into(), config],
            network,
            mounts: self.certificate_folders(settings)?.chain([mount]).collect(),
            limits: ResourceLimits {
                memory: most_of_the_memory(),
                pids: Some(PROXY_PIDS),
                millicpus: None,
            },
            stop_timeout: settings.drain_timeout.get() + STOP_MARGIN,
            name: self.proxy_name(),
            ..spec
        })
    }

    fn spec(&self, role: &str, settings: &ProxySettings) -> Result<ContainerSpec> {
        let labels = [
            (label::PROJECT.to_owned(), self.project.name.clone()),
            (label::ROLE.to_owned(), role.to_owned()),
        ];
        Ok(ContainerSpec {
            name: self.name(role),
            image: self.image_text(settings)?,
            command: Vec::new(),
            env: [].into(),
            labels: labels.into(),
            network: Network::Project {
                aliases: Vec::new(),
            },
            publish: Vec::new(),
            mounts: Vec::new(),
            secrets: [].into(),
            limits: ResourceLimits::default(),
            // Certificates, and sockets of containers, may belong to any user.
            privileges: Privileges::FilesAlone,
            confinement: Confinement::default(),
            port: None,
            socket: None,
            stop_timeout: STOP_MARGIN,
        })
    }

    /// What the proxy is told at its start. It sees its folder as `folder`, and certificates where
    /// the host has them.
    fn config<'a>(
        &self,
        folder: &Path,
        admin: String,
        listeners: impl Iterator<Item = (&'a Listener, At)>,
        settings: &ProxySettings,
    ) -> Result<String> {
        let config = config::Config {
            admin,
            folder,
            state_file: STATE_FILE,
            settings,
            keeper: self.has_host_sockets(),
            listeners,
            manifest: &self.project.folder()?,
        };
        Ok(config.text())
    }

    /// The folders of the certificates, for a container to see them where the host has them.
    fn certificate_folders(&self, settings: &ProxySettings) -> Result<impl Iterator<Item = Mount>> {
        let from = self.project.folder()?;
        let tls = settings
            .listeners
            .iter()
            .filter_map(|listener| listener.tls.as_ref());
        let folders = certificates::folders_of(tls.flat_map(|tls| tls.files(&from)));
        Ok(folders.into_iter().map(|folder| Mount {
            host: folder.clone(),
            container: folder,
            read_only: true,
            relabel: Relabel::Shared,
        }))
    }
}

/// Three quarters of the host's memory: what the proxy takes is to leave the host alive, and is not
/// to end the proxy a moment before. `None` where the kernel does not say how much there is.
fn most_of_the_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024 / 4 * 3)
}

/// Each address of the host with the port that it leads to inside, in the order of the listeners.
/// The ports do not depend on that order: they are published once, and the manifest may change.
pub(super) fn inside_ports(
    settings: &ProxySettings,
) -> impl Iterator<Item = (SocketAddr, u16)> + '_ {
    let addresses = settings.listeners.iter().map(|listener| listener.address);
    let ports: BTreeMap<SocketAddr, u16> = addresses
        .clone()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .zip(FIRST_PORT..)
        .collect();
    addresses.filter_map(move |address| Some((address, *ports.get(&address)?)))
}
