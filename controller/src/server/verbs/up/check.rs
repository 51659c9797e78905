//! Everything about an `up` that can be found out before anything is done.

use std::collections::BTreeMap;
use std::sync::Arc;

use admin_api::strict::InputError;

use super::diff::{self, Diff};
use super::proxy;
use crate::api::UpRequest;
use crate::error::{Error, Result};
use crate::journal::{Applied, NewVersion, Phase, RequestedService, ServiceRecord};
use crate::manifest::{Manifest, RuntimeChoice, ServiceSettings};
use crate::project::proxy as proxy_host;
use crate::project::sockets::Sockets;
use crate::runtime::RuntimeError;
use crate::server::controller::{Controller, Up, folder_of};
use crate::server::engine;
use crate::server::verbs::pull::located_image;
use crate::server::verbs::revision::Labels;

/// What an `up` of what is up already comes to.
pub(super) struct Checked {
    /// The manifest that has been in force.
    pub(super) before: Arc<Manifest>,
    /// What the journal has of it.
    pub(super) applied: Option<Applied>,
    /// Whether the manifest is another one now.
    pub(super) is_changed: bool,
    /// The new services.
    pub(super) fresh: Vec<(NewVersion, RequestedService)>,
    /// What is to be done about the services that were there before, each with what the manifest
    /// asks for now.
    pub(super) changes: Vec<(String, RequestedService, Diff)>,
    /// The services to be taken away.
    pub(super) gone: Vec<String>,
    /// The services that the manifest has no more and that run on.
    pub(super) kept: Vec<ServiceSettings>,
}

impl Checked {
    /// The services to be taken away, as they run.
    pub(super) fn leaving(&self) -> impl Iterator<Item = ServiceSettings> {
        let leaving = self
            .gone
            .iter()
            .filter_map(|name| self.before.service(name));
        leaving.cloned()
    }
}

impl Controller {
    /// What the first `up` makes of the manifest's services.
    pub(super) async fn check_first(
        &self,
        up: &Up,
        request: &UpRequest,
        manifest: &Manifest,
    ) -> Result<Vec<(NewVersion, RequestedService)>> {
        check_on_host(up, request, manifest)?;
        self.proxy_host(up)?.check(&manifest.proxy).await?;
        first_versions(up, request, manifest.services.iter()).await
    }

    /// What an `up` of what is up already comes to.
    pub(super) async fn check_again(
        &self,
        up: &Arc<Up>,
        request: &UpRequest,
        now: &Manifest,
    ) -> Result<Checked> {
        let before = up.project.manifest();
        check_unchangeable(up, &before, now)?;
        check_on_host(up, request, now)?;
        self.check_proxy(up, request, &before, now)?;
        let known = self.journal.services()?;
        let is_new = |s: &&ServiceSettings| known.iter().all(|known| known.name != s.name);
        let fresh = first_versions(up, request, now.services.iter().filter(is_new)).await?;
        let changes = self.changes(up, request, &before, now).await?;
        let (gone, kept) = self.no_longer_requested(up, request, now)?;
        let applied = self.journal.applied()?;
        let old = applied.as_ref();
        let old = old.and_then(|old| old.manifest().ok());
        Ok(Checked {
            before,
            applied,
            is_changed: old.is_none_or(|old| old != *now),
            fresh,
            changes,
            gone,
            kept,
        })
    }

    /// Whether a successor can take over what has changed of the proxy.
    fn check_proxy(
        &self,
        up: &Up,
        request: &UpRequest,
        before: &Manifest,
        now: &Manifest,
    ) -> Result<()> {
        let applied = self.journal.applied()?;
        let before = proxy::RequestedProxy {
            text: applied.as_ref().map_or("", |applied| &applied.text),
            proxy: &before.proxy,
        };
        let requested = proxy::RequestedProxy {
            text: &request.manifest,
            proxy: &now.proxy,
        };
        let is_published = self.journal.proxy()?.published.is_some();
        let publishes = is_published && up.kind == RuntimeChoice::Podman;
        proxy::check(&before, &requested, publishes)
            .map_err(|error| Error::refused(error.in_file(&request.path)))?;
        let addresses = now.proxy.listeners.iter().map(|one| one.address);
        let had = |address| {
            before
                .proxy
                .listeners
                .iter()
                .any(|one| one.address == address)
        };
        match publishes {
            true => Ok(()),
            false => proxy_host::check_ports(addresses.filter(|address| !had(*address))),
        }
    }

    /// What is to be done about the services that were there before, each with what the manifest
    /// asks for now. Refuses what could not be done now, before anything is.
    async fn changes(
        &self,
        up: &Arc<Up>,
        request: &UpRequest,
        before: &Manifest,
        now: &Manifest,
    ) -> Result<Vec<(String, RequestedService, Diff)>> {
        let known = self.journal.services()?;
        let is_known = |s: &&ServiceSettings| known.iter().any(|known| known.name == s.name);
        let wanted = first_versions(up, request, now.services.iter().filter(is_known)).await?;
        let mut changes = Vec::new();
        for (version, requested) in wanted {
            let service = up.project.service(&version.service)?;
            let was = service.requested.clone();
            let was = was.unwrap_or_else(|| requested_before(&service, before));
            let labels = Labels::of(&self.journal, &service.name, &version.version)?;
            let mut change = diff::diff(&service, &was, &requested, &version, &labels);
            let running = up.rollout(&service.name).map(|run| run.live().record);
            change.leave_to(running.as_ref());
            let goes_back = running.is_some_and(|run| run.phase == Phase::RollingBack);
            if change.replicas.is_some() && goes_back {
                self.check_no_rollout(up, &service.name)?;
            }
            if change.version.is_some() {
                self.check_can_begin(up, &service.name)?;
            }
            changes.push((service.name, requested, change));
        }
        Ok(changes)
    }

    /// The services that the manifest has no more: those to be taken away, and those that run on
    /// as they were.
    fn no_longer_requested(
        &self,
        up: &Arc<Up>,
        request: &UpRequest,
        now: &Manifest,
    ) -> Result<(Vec<String>, Vec<ServiceSettings>)> {
        let before = up.project.manifest();
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for service in self.journal.services()? {
            let name = service.name;
            if now.service(&name).is_some() {
                continue;
            }
            if now.external.iter().any(|one| one.name == name) {
                return Err(Error::refused(format!(
                    "{name} has containers, and no image in the manifest: take it out and run \
                     `crossfade up --prune` first"
                )));
            }
            let Some(settings) = before.service(&name).filter(|_| !request.prune) else {
                self.check_no_rollout(up, &name)?;
                gone.push(name);
                continue;
            };
            let same_route = |one: &&ServiceSettings| {
                !one.is_worker() && !settings.is_worker() && one.same_routes(settings)
            };
            if let Some(other) = now.services.iter().find(same_route) {
                return Err(Error::refused(format!(
                    "{} has the hosts and the path of {name}, which is no longer in the manifest and \
                     which runs on: `crossfade up --prune` removes it",
                    other.name
                )));
            }
            kept.push(settings.clone());
        }
        Ok((gone, kept))
    }
}

/// What the last `up` asked for, where an older release has not written it down.
fn requested_before(service: &ServiceRecord, before: &Manifest) -> RequestedService {
    let was = before.service(&service.name);
    RequestedService {
        image: was.map_or(&service.stable.image, |was| &was.image).clone(),
        version: was
            .map_or(&service.stable.version, |was| &was.version)
            .clone(),
        replicas: was.map_or(service.replicas, |was| was.replicas),
        template: service.stable.template.clone(),
        resolved: None,
    }
}

/// The error where an image is not to be had, with its service and its line.
fn missing_image(error: RuntimeError, service: &str, request: &UpRequest) -> Error {
    located_image(error, service, &request.manifest, &request.path)
}

/// What services are as versions, with their images looked up, and what is asked for by that.
async fn first_versions<'a>(
    up: &Up,
    request: &UpRequest,
    services: impl Iterator<Item = &'a ServiceSettings>,
) -> Result<Vec<(NewVersion, RequestedService)>> {
    let folder = folder_of(&request.path);
    let mut versions = Vec::new();
    for service in services {
        let image = engine::image_from(up.kind, folder, &service.image);
        let version = NewVersion {
            service: service.name.clone(),
            version: service.version.clone(),
            resolved: up
                .project
                .runtime
                .resolve_image(&image)
                .await
                .map_err(|error| missing_image(error, &service.name, request))?,
            pull_name: up.project.runtime.pull_name(&image).await?,
            image,
            template: up.project.template(service, folder)?,
            by_hand: Some(BTreeMap::new()),
        };
        let requested = RequestedService {
            image: service.image.clone(),
            version: service.version.clone(),
            replicas: service.replicas,
            template: version.template.clone(),
            resolved: Some(version.resolved.clone()),
        };
        versions.push((version, requested));
    }
    Ok(versions)
}

/// What the manifest names has to be there, and the runtime has to be able to give it.
fn check_on_host(up: &Up, request: &UpRequest, manifest: &Manifest) -> Result<()> {
    manifest
        .check_on_host(folder_of(&request.path), up.kind)
        .and_then(|()| check_sockets(&up.project.sockets, manifest))
        .map_err(|error| Error::Manifest {
            path: request.path.clone(),
            source: error.located_in(&request.manifest),
        })
}

fn check_sockets(sockets: &Sockets, manifest: &Manifest) -> Result<(), InputError> {
    for (index, service) in manifest.services.iter().enumerate() {
        let checked = service.socket.as_ref().map(|path| sockets.check(path));
        if let Some(Err(message)) = checked {
            let field = format!("services[{index}].socket");
            return Err(InputError::of_field(field, message));
        }
    }
    Ok(())
}

fn check_unchangeable(up: &Up, before: &Manifest, now: &Manifest) -> Result<()> {
    let refuse = |what: &str| {
        Err(Error::refused(format!(
            "{what}: run `crossfade down` and then `crossfade up` with the new manifest"
        )))
    };
    if before.project != now.project {
        return refuse(&format!(
            "project `{}` is up here, not `{}`",
            before.project, now.project
        ));
    }
    if now.runtime != RuntimeChoice::Auto && now.runtime != up.kind {
        return refuse(&format!(
            "the project runs on {}",
            up.project.runtime.name()
        ));
    }
    Ok(())
}
