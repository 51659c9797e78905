//! What every verb and every rollout works on: the journal, the containers, the proxy.

mod authorities;
pub(crate) mod caller;
pub(crate) mod containers;
pub(crate) mod drain;
pub(crate) mod healthy;
pub(crate) mod host_sockets;
pub(crate) mod proxy;
pub(crate) mod reconcile;
pub mod secrets;
pub(crate) mod sockets;
pub(crate) mod upstreams;
pub(crate) mod webhooks;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::clock::Clock;
use crate::error::{Error, Exit, Result};
use crate::http::proxy_admin::ProxyAdmin;
use crate::journal::{Journal, NewEvent, ServiceRecord};
use crate::manifest::{ContainerTemplate, Manifest, RuntimeChoice, ServiceSettings};
use crate::runtime::{Container, Runtime, RuntimeError};
use authorities::Authorities;
use caller::Caller;
use host_sockets::HostSockets;
use secrets::Secrets;
use sockets::Sockets;

/// One project on one host, while it is up.
pub struct Project {
    /// The project's name.
    pub name: String,
    /// What is wanted and what was decided.
    pub journal: Arc<Journal>,
    /// What runs the containers.
    pub runtime: Arc<dyn Runtime>,
    /// The proxy.
    pub admin: ProxyAdmin,
    /// The time.
    pub clock: Clock,
    /// What containers are given as files.
    pub secrets: Secrets,
    /// Who signs the certificates of containers.
    pub(crate) authorities: Authorities,
    /// Where containers serve by unix socket.
    pub(crate) sockets: Sockets,
    /// Where clients reach the proxy.
    pub(crate) host_sockets: HostSockets,
    /// Replaced by `up`.
    manifest: RwLock<Arc<Manifest>>,
    /// Held from reading the containers to the proxy's response, so that an older table never
    /// overtakes a newer one. One for each service.
    pushing: Locks,
    /// Held while retired containers of a service are drained and stopped.
    pub(crate) sweeping: Locks,
    /// Held from reading what a service is to have and has, to the last container started or
    /// retired for it.
    placing: Locks,
}

impl Project {
    /// Puts the parts together.
    pub(crate) fn new(
        manifest: Manifest,
        journal: Arc<Journal>,
        runtime: Arc<dyn Runtime>,
        admin: ProxyAdmin,
        clock: Clock,
        files: ProjectFiles,
    ) -> Self {
        let ProjectFiles {
            secrets,
            authorities,
            sockets,
            host_sockets,
        } = files;
        Self {
            name: manifest.project.clone(),
            journal,
            runtime,
            admin,
            clock,
            secrets,
            authorities,
            sockets,
            host_sockets,
            manifest: RwLock::new(Arc::new(manifest)),
            pushing: Locks::default(),
            sweeping: Locks::default(),
            placing: Locks::default(),
        }
    }

    /// The manifest that holds now.
    pub fn manifest(&self) -> Arc<Manifest> {
        self.manifest
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Another manifest holds from now on.
    pub fn set_manifest(&self, manifest: Manifest) {
        *self
            .manifest
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(manifest);
    }

    /// The service, or an error that names those there are.
    pub fn service(&self, name: &str) -> Result<ServiceRecord> {
        let services = self.journal.services()?;
        if let Some(found) = services.iter().find(|service| service.name == name) {
            return Ok(found.clone());
        }
        let names: Vec<&str> = services
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        Err(Error::usage(no_such("service", name, &names)))
    }

    /// The folder of the manifest: what it names by relative paths is meant from there.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        let path = self.journal.applied()?.map(|applied| applied.path);
        let folder = path.as_deref().and_then(Path::parent);
        Ok(folder.unwrap_or(Path::new("/")).to_owned())
    }

    /// How the containers of a version are made that is as `settings` have it, seen from `folder`.
    /// Keeps what its secrets, and who signs its containers' certificates, are now.
    pub(crate) fn template(
        &self,
        settings: &ServiceSettings,
        folder: &Path,
    ) -> Result<ContainerTemplate> {
        let keep = |(name, file): (&String, &PathBuf)| {
            let kept = self.secrets.keep(&folder.join(file));
            let id = kept.map_err(|error| {
                let what = format!("{}: secret `{name}`", settings.name);
                Error::caused(Exit::USAGE, what)(error)
            })?;
            Ok((name.clone(), id))
        };
        let mut transport = settings.transport.clone();
        if let Some(ca) = transport.tls.as_mut().and_then(|tls| tls.ca.as_mut()) {
            *ca = self.authorities.keep(&folder.join(&*ca))?;
        }
        Ok(ContainerTemplate {
            transport,
            command: settings.command.clone(),
            env: settings.env.clone(),
            port: settings.port,
            socket: settings.socket.clone(),
            secrets: settings.secrets.iter().map(keep).collect::<Result<_>>()?,
            volumes: settings
                .volumes
                .iter()
                .map(|volume| volume.seen_from(folder))
                .collect(),
            limits: settings.limits,
            new_privileges: settings.new_privileges,
            confinement: settings.confinement.clone(),
            stop_timeout: settings.stop_timeout,
            labels: settings.labels.clone(),
        })
    }

    /// Writes an event of a service.
    pub fn note(
        &self,
        service: &str,
        rollout: Option<i64>,
        kind: &str,
        text: &str,
        stats: Option<&serde_json::Value>,
    ) -> Result<()> {
        let event = NewEvent {
            rollout,
            service: Some(service),
            who: None,
            kind,
            text,
            stats,
        };
        self.journal.note(&event, self.clock.now())
    }

    /// Writes an event of a service, with the user that requested it.
    pub(crate) fn note_of(
        &self,
        caller: &Caller,
        service: Option<&str>,
        kind: &str,
        text: &str,
    ) -> Result<()> {
        let event = caller.event(service, kind, text);
        self.journal.note(&event, self.clock.now())
    }

    /// Stops a container and takes away what it had. Can be repeated.
    pub(crate) async fn remove_container(&self, container: &Container) -> Result<(), RuntimeError> {
        self.runtime.stop(&container.id).await?;
        self.sockets.forget(container);
        Ok(())
    }

    pub(crate) async fn push_lock(&self, service: &str) -> tokio::sync::OwnedMutexGuard<()> {
        self.pushing.of(service).lock_owned().await
    }

    pub(crate) async fn place_lock(&self, service: &str) -> tokio::sync::OwnedMutexGuard<()> {
        self.placing.of(service).lock_owned().await
    }
}

/// What a project has in its state folder for its containers.
pub(crate) struct ProjectFiles {
    secrets: Secrets,
    authorities: Authorities,
    sockets: Sockets,
    host_sockets: HostSockets,
}

impl ProjectFiles {
    /// Those in this state folder, for containers that run on `kind`.
    pub(crate) fn new(state: &Path, kind: RuntimeChoice) -> Self {
        Self {
            secrets: Secrets::new(state),
            authorities: Authorities::new(state, kind),
            sockets: Sockets::new(state, kind),
            host_sockets: HostSockets::new(state, kind),
        }
    }
}

/// A lock for each service.
#[derive(Debug, Default)]
pub(crate) struct Locks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    pub(crate) fn of(&self, service: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(service.to_owned()).or_default().clone()
    }
}

/// `there is no version `2.0.1`, only 1.0.0, 2.0.0`. Versions are named alike, so none is suggested.
pub(crate) fn no_such_version(what: &str, version: &str, known: &[&str]) -> String {
    match known {
        [] => format!("there is no {what} `{version}`"),
        known => format!("there is no {what} `{version}`, only {}", known.join(", ")),
    }
}

/// `there is no service `wbe`, only web; did you mean `web`?`
pub(crate) fn no_such(what: &str, name: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return format!("there is no {what} `{name}`");
    }
    let list = known.join(", ");
    let hint = admin_api::strict::closest(name, known.iter().copied())
        .map(|meant| format!("; did you mean `{meant}`?"))
        .unwrap_or_default();
    format!("there is no {what} `{name}`, only {list}{hint}")
}
