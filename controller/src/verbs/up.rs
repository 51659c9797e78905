//! `up`: network, proxy and stable containers, as the manifest has them. What runs already
//! stays; what was started is taken away again when something fails.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use admin_api::HealthState;

use super::{Controller, Up, lock};
use crate::api::{DeployRequest, Done, UpRequest};
use crate::caller::Caller;
use crate::endpoints::Dead;
use crate::engine;
use crate::error::{Error, Result};
use crate::manifest::{Manifest, RolloutOverrides, RuntimeChoice, ServiceSettings};
use crate::proxy::{self, ProxyHost};
use crate::runtime::{Container, ContainerState};
use crate::site::Site;
use crate::state_dir;
use crate::store::{Applied, NewVersion, VersionRecord};

const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Controller {
    /// `up`.
    pub(crate) async fn up_verb(&self, request: UpRequest, caller: &Caller) -> Result<Done> {
        let manifest = Manifest::parse(&request.manifest).map_err(|source| Error::Manifest {
            path: request.path.clone(),
            source,
        })?;
        let _alone = self.changing.lock().await;
        let _undisturbed = self.reconciling.lock().await;
        if let Some(trouble) = lock(&self.trouble).clone() {
            return Err(Error::Unavailable(trouble));
        }
        let result = match self.get_up() {
            None => self.first_up(&request, manifest, caller).await,
            Some(up) => self.up_again(&up, &request, manifest, caller).await,
        };
        if self.get_up().is_none() {
            // Nothing came of it: there is nothing to control.
            self.finished.notify_one();
        }
        result
    }

    async fn first_up(
        &self,
        request: &UpRequest,
        manifest: Manifest,
        caller: &Caller,
    ) -> Result<Done> {
        let engine = engine::choose(manifest.runtime, &manifest.project, &self.dir).await?;
        let applied = Applied {
            text: request.manifest.clone(),
            path: request.path.clone(),
            runtime: engine.kind,
            boot: state_dir::boot(),
        };
        let why = engine.why.clone();
        let listen = listen_text(&manifest);
        let up = self.make_up(manifest.clone(), engine)?;
        let host = self.proxy_host(&up);
        host.check(&manifest.proxy).await?;
        let versions = first_versions(&up, request, manifest.services.iter()).await?;

        proxy::forget(&self.dir)?;
        // Everything is there that can be looked up beforehand: now it is wanted.
        self.store.apply(&applied, self.clock.now())?;
        for (version, replicas) in &versions {
            self.store
                .add_service(version, *replicas, self.clock.now())?;
        }
        let mut started = Vec::new();
        if let Err(error) = self.start(&up, &mut started).await {
            undo(&up.site, started).await;
            // An engine that made the network and cannot take it away says so in the log.
            if let Err(error) = up.site.runtime.remove_network().await {
                tracing::warn!("the network stays: {error}");
            }
            self.store
                .clear(&format!("up failed: {error}"), self.clock.now())?;
            return Err(error);
        }
        let names: Vec<String> = manifest
            .services
            .iter()
            .map(|s| format!("{} {} × {}", s.name, s.version, s.replicas))
            .collect();
        let mut text = format!("{} up: {}, on {listen}", manifest.project, names.join(", "));
        if let Some(why) = why {
            text = format!("{} {why}\n{text}", manifest.project);
        }
        for service in &manifest.services {
            let said = format!("up with {} × {}", service.version, service.replicas);
            up.site.note_of(caller, Some(&service.name), "up", &said)?;
        }
        *lock(&self.up) = Some(up);
        Ok(Done::say(text))
    }

    async fn up_again(
        &self,
        up: &Arc<Up>,
        request: &UpRequest,
        manifest: Manifest,
        caller: &Caller,
    ) -> Result<Done> {
        let site = &up.site;
        let before = site.manifest();
        check_unchangeable(up, &before, &manifest)?;
        let known = self.store.services()?;
        let is_new = |s: &&ServiceSettings| known.iter().all(|known| known.name != s.name);
        let fresh = first_versions(up, request, manifest.services.iter().filter(is_new)).await?;
        let gone: Vec<String> = known
            .iter()
            .filter(|known| manifest.service(&known.name).is_none())
            .map(|known| known.name.clone())
            .collect();
        for name in &gone {
            self.check_no_rollout(up, name)?;
        }

        let applied = Applied {
            text: request.manifest.clone(),
            path: request.path.clone(),
            runtime: up.kind,
            boot: state_dir::boot(),
        };
        let old = self.store.applied()?;
        self.store.apply(&applied, self.clock.now())?;
        for (version, replicas) in &fresh {
            self.store
                .add_service(version, *replicas, self.clock.now())?;
        }
        site.set_manifest(manifest.clone());
        let mut said = Vec::new();
        for name in &gone {
            self.remove(site, name).await?;
            said.push(format!("{name} is gone: the manifest has it no more"));
        }
        for service in &manifest.services {
            let was = before.service(&service.name);
            if was.is_some_and(|was| was.replicas != service.replicas) {
                said.push(
                    self.scale_to(up, &service.name, service.replicas, caller)
                        .await?,
                );
            }
        }
        let mut started = Vec::new();
        if let Err(error) = self.start(up, &mut started).await {
            undo(site, started).await;
            for (version, _) in &fresh {
                self.store.remove_service(&version.service)?;
            }
            if let Some(old) = old {
                self.store.apply(&old, self.clock.now())?;
                site.set_manifest((*before).clone());
            }
            return Err(error);
        }
        for (version, replicas) in &fresh {
            said.push(format!(
                "{} {} × {replicas} is up",
                version.service, version.version
            ));
        }
        let replaced = started.len().saturating_sub(
            fresh
                .iter()
                .map(|(_, replicas)| *replicas as usize)
                .sum::<usize>(),
        );
        if replaced > 0 {
            said.push(format!("started again what was missing: {replaced}"));
        }
        for service in &manifest.services {
            if let Some(was) = before.service(&service.name) {
                said.extend(
                    self.deploy_changed(up, request, was, service, caller)
                        .await?,
                );
            }
        }
        up.webhooks.follow(site);
        if *before != manifest {
            let what = if said.is_empty() {
                String::new()
            } else {
                format!(": {}", said.join("; "))
            };
            let text = format!("the manifest has changed{what}");
            site.note_of(caller, None, "config", &text)?;
        }
        if said.is_empty() {
            said.push(format!("{} is up already: nothing to do", manifest.project));
        }
        Ok(Done::say(said.join("\n")))
    }

    /// Proxy, containers, table; and waits until the proxy sees all of them healthy.
    async fn start(&self, up: &Arc<Up>, started: &mut Vec<Container>) -> Result<()> {
        let site = &up.site;
        site.runtime.ensure_network().await?;
        self.proxy_host(up).ensure(started).await?;
        let services = self.store.services()?;
        for service in &services {
            if up.rollout(&service.name).is_none() {
                let replicas = service.replicas;
                site.start_missing(&service.stable, replicas, Dead::Replace, started)
                    .await?;
            }
            site.push(&service.name).await?;
        }
        for service in &services {
            if up.rollout(&service.name).is_none() {
                self.until_healthy(site, &service.stable, service.replicas)
                    .await?;
            }
        }
        Ok(())
    }

    /// Waits until the proxy sees so many containers of the version healthy.
    pub(super) async fn until_healthy(
        &self,
        site: &Site,
        version: &VersionRecord,
        replicas: u32,
    ) -> Result<()> {
        let manifest = site.manifest();
        let limit = manifest
            .service(&version.service)
            .map_or(Duration::from_secs(60), |service| {
                service.rollout.start_timeout.get()
            });
        let began = tokio::time::Instant::now();
        loop {
            let table = site.check_table(&version.service).await?;
            let ours = crate::endpoints::of_version(&table.containers, version);
            let exited = |state| matches!(state, ContainerState::Exited(_));
            if let Some(dead) = ours.into_iter().find(|container| exited(container.state)) {
                return Err(site.exit_of(dead).await);
            }
            let endpoints = table.view.versions.get(&version.version);
            let endpoints = endpoints
                .map(|v| v.endpoints.as_slice())
                .unwrap_or_default();
            let up = endpoints
                .iter()
                .filter(|e| e.health == HealthState::Up)
                .count();
            if up >= replicas as usize {
                return Ok(());
            }
            if began.elapsed() >= limit {
                let down = endpoints.iter().find(|e| e.health != HealthState::Up);
                let reason = down.map_or_else(String::new, |e| {
                    let reason = e.reason.as_deref().unwrap_or("not checked yet");
                    format!(": {} is {}: {reason}", e.address, e.health)
                });
                return Err(Error::Refused(format!(
                    "{up} of {replicas} containers of {} {} were healthy within {} s{reason}",
                    version.service,
                    version.version,
                    limit.as_secs()
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A change of image or version in the manifest is a rollout.
    async fn deploy_changed(
        &self,
        up: &Arc<Up>,
        request: &UpRequest,
        was: &ServiceSettings,
        is: &ServiceSettings,
        caller: &Caller,
    ) -> Result<Option<String>> {
        let stable = up.site.service(&is.name)?.stable;
        if (&was.image, &was.version) == (&is.image, &is.version) {
            if was.env != is.env || was.command != is.command {
                return Ok(Some(format!(
                    "{}: env and command hold from the next version on; {} keeps its own",
                    is.name, stable.version
                )));
            }
            return Ok(None);
        }
        if stable.version == is.version {
            return Ok(None);
        }
        let deploy = DeployRequest {
            service: is.name.clone(),
            image: is.image.clone(),
            version: Some(is.version.clone()),
            env: [].into(),
            rollout: RolloutOverrides::default(),
            dir: folder_of(&request.path).to_owned(),
            dry_run: false,
            replace: false,
        };
        Ok(Some(self.begin(up, deploy, caller).await?.text))
    }

    /// Takes a service out of the proxy, and its containers away, drained.
    pub(super) async fn remove(&self, site: &Site, name: &str) -> Result<()> {
        let containers = site.live_containers(name).await?;
        site.retire(name, &containers)?;
        while site.sweep(name, Duration::from_secs(1)).await?.containers > 0 {}
        match site.admin.delete_service(name).await {
            Err(error) if !error.is_unknown() => return Err(error.into()),
            _ => {}
        }
        self.store.remove_service(name)
    }

    pub(super) fn proxy_host<'a>(&'a self, up: &'a Up) -> ProxyHost<'a> {
        ProxyHost {
            site: &up.site,
            state: &self.dir,
            kind: up.kind,
        }
    }
}

/// Looks the images of new services up, before anything is started.
async fn first_versions<'a>(
    up: &Up,
    request: &UpRequest,
    services: impl Iterator<Item = &'a ServiceSettings>,
) -> Result<Vec<(NewVersion, u32)>> {
    let mut versions = Vec::new();
    for service in services {
        let image = engine::image_from(up.kind, folder_of(&request.path), &service.image);
        let version = NewVersion {
            service: service.name.clone(),
            version: service.version.clone(),
            resolved: up.site.runtime.resolve_image(&image).await?,
            image,
            command: service.command.clone(),
            env: service.env.clone(),
            port: service.port,
        };
        versions.push((version, service.replicas));
    }
    Ok(versions)
}

fn check_unchangeable(up: &Up, before: &Manifest, now: &Manifest) -> Result<()> {
    let refuse = |what: &str| {
        Err(Error::Refused(format!(
            "{what}: `crossfade down` first, then `crossfade up` with the new manifest"
        )))
    };
    if before.project != now.project {
        return refuse(&format!(
            "project `{}` is up here, not `{}`",
            before.project, now.project
        ));
    }
    if now.runtime != RuntimeChoice::Auto && now.runtime != up.kind {
        return refuse(&format!("it runs on {} now", up.site.runtime.name()));
    }
    if before.proxy != now.proxy {
        return refuse("[proxy] has changed, and the proxy is running");
    }
    Ok(())
}

/// Takes away what was started, last first: whoever joins a holder goes before it.
async fn undo(site: &Site, started: Vec<Container>) {
    for container in started.into_iter().rev() {
        if let Err(error) = site.runtime.stop(&container.id).await {
            tracing::warn!("{} stays: {error}", container.name);
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn listen_text(manifest: &Manifest) -> String {
    let listen: Vec<String> = manifest
        .proxy
        .listen
        .iter()
        .map(|a| format!("http://{a}"))
        .collect();
    listen.join(" and ")
}
