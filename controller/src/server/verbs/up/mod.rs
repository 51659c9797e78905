//! `up`: network, proxy and stable containers, as the manifest has them. What runs already
//! stays; what was started is taken away again when something fails.

mod diff;
mod proxy;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use admin_api::HealthState;
use admin_api::strict::InputError;
use tokio::sync::MutexGuard;

use crate::api::{Done, UpRequest};
use crate::clock::boot;
use crate::error::{Error, Result};
use crate::http::proxy_admin::AdminError;
use crate::journal::{Applied, Asked, NewVersion, VersionRecord};
use crate::manifest::{Listener, Manifest, Recipe, RuntimeChoice, ServiceSettings};
use crate::project::Site;
use crate::project::caller::Caller;
use crate::project::containers::Dead;
use crate::project::proxy::{self as proxy_host, ProxyHost};
use crate::project::secrets::Secrets;
use crate::runtime::{Container, ContainerState};
use crate::server::controller::{Controller, Up, folder_of, lock};
use crate::server::engine;
use diff::Change;

const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Controller {
    /// `up`.
    pub(crate) async fn up_verb(&self, request: UpRequest, caller: &Caller) -> Result<Done> {
        let manifest = Manifest::parse(&request.manifest).map_err(|source| Error::Manifest {
            path: request.path.clone(),
            source,
        })?;
        let _alone = self.changing.lock().await;
        let undisturbed = self.reconciling.lock().await;
        if let Some(trouble) = lock(&self.trouble).clone() {
            return Err(Error::Unavailable(trouble));
        }
        let result = match self.get_up() {
            None => self.first_up(&request, manifest, caller).await,
            Some(up) => {
                self.up_again(&up, &request, manifest, caller, undisturbed)
                    .await
            }
        };
        let forgotten = self.forget_secrets();
        if self.get_up().is_none() {
            // Nothing came of it: there is nothing to control.
            self.finished.notify_one();
        }
        result.and_then(|done| forgotten.map(|()| done))
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
            boot: boot(),
            kept: Vec::new(),
        };
        let why = engine.why.clone();
        let listen = listen_text(&manifest);
        let up = self.make_up(manifest.clone(), engine)?;
        check_place(request, &manifest, up.kind)?;
        let host = self.proxy_host(&up)?;
        host.check(&manifest.proxy).await?;
        let versions = first_versions(&up, request, manifest.services.iter()).await?;

        proxy_host::forget(&self.dir)?;
        // Everything is there that can be looked up beforehand: now it is wanted.
        self.store.apply(&applied, self.clock.now())?;
        for (version, asked) in &versions {
            self.store
                .add_service(version, asked.replicas, self.clock.now())?;
            self.store.set_asked(&version.service, asked)?;
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
        mut manifest: Manifest,
        caller: &Caller,
        undisturbed: MutexGuard<'_, ()>,
    ) -> Result<Done> {
        let site = &up.site;
        let before = site.manifest();
        check_unchangeable(up, &before, &manifest)?;
        check_place(request, &manifest, up.kind)?;
        self.check_proxy(up, request, &before, &manifest)?;
        let known = self.store.services()?;
        let is_new = |s: &&ServiceSettings| known.iter().all(|known| known.name != s.name);
        let fresh = first_versions(up, request, manifest.services.iter().filter(is_new)).await?;
        let changes = self.changes(up, request, &before, &manifest).await?;
        let (gone, kept) = self.no_more_asked_for(up, request, &manifest)?;

        let applied = Applied {
            text: request.manifest.clone(),
            path: request.path.clone(),
            runtime: up.kind,
            boot: boot(),
            kept: kept.clone(),
        };
        let is_changed = Manifest::parse(&request.manifest).is_ok_and(|now| {
            let old = self.store.applied().ok().flatten();
            let old = old.and_then(|old| Manifest::parse(&old.text).ok());
            old.is_none_or(|old| old != now)
        });
        manifest.services.extend(kept);
        let old = self.store.applied()?;
        self.store.apply(&applied, self.clock.now())?;
        for (version, asked) in &fresh {
            self.store
                .add_service(version, asked.replicas, self.clock.now())?;
            self.store.set_asked(&version.service, asked)?;
        }
        site.set_manifest(manifest);
        let mut said = Vec::new();
        // First: another service may want their routes.
        for name in &gone {
            self.remove(site, name).await?;
            said.push(format!("{name} is gone: the manifest has it no more"));
        }
        let mut started = Vec::new();
        if let Err(error) = self.start(up, &mut started).await {
            for (version, _) in &fresh {
                // Where the proxy cannot be told now, tending tells it.
                let gone = site.take_out(&version.service).await;
                if let Err(error) = gone {
                    tracing::warn!("{} stays in the proxy: {error}", version.service);
                }
            }
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
        said.extend(self.change_proxy(up, &before, caller).await?);
        said.extend(started_text(&fresh, started.len()));
        // Rollouts may have to end first, and nobody goes without healing for that.
        drop(undisturbed);
        let rollouts = self.carry_out(up, changes, caller, &mut said).await?;
        up.webhooks.follow(site)?;
        if is_changed || !said.is_empty() {
            let what = match (is_changed, said.join("; ")) {
                (false, what) => what,
                (true, what) if what.is_empty() => "the manifest has changed".to_owned(),
                (true, what) => format!("the manifest has changed: {what}"),
            };
            site.note_of(caller, None, "config", &what)?;
        }
        if said.is_empty() {
            said.push(match is_changed {
                true => format!("{} is up, as the manifest now has it", site.project),
                false => format!("{} is up already: nothing to do", site.project),
            });
        }
        for one in &applied.kept {
            said.push(format!(
                "{} runs on, though the manifest has it no more: `crossfade up --prune` takes it away",
                one.name
            ));
        }
        Ok(Done {
            rollouts,
            ..Done::say(said.join("\n"))
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
        let applied = self.store.applied()?;
        let before = proxy::Asked {
            text: applied.as_ref().map_or("", |applied| &applied.text),
            proxy: &before.proxy,
        };
        let asked = proxy::Asked {
            text: &request.manifest,
            proxy: &now.proxy,
        };
        proxy::check(&before, &asked, up.kind)
            .map_err(|error| Error::Refused(error.in_file(&request.path)))?;
        let addresses = now.proxy.listeners.iter().map(|one| one.address);
        let had = |address| {
            before
                .proxy
                .listeners
                .iter()
                .any(|one| one.address == address)
        };
        match up.kind {
            RuntimeChoice::Podman => Ok(()),
            _ => proxy_host::check_ports(addresses.filter(|address| !had(*address))),
        }
    }

    /// Has a successor take over where the proxy that runs is not as the manifest has it, be it
    /// because that has changed, or because one could not take over before. Says what came of it.
    async fn change_proxy(
        &self,
        up: &Up,
        before: &Manifest,
        caller: &Caller,
    ) -> Result<Option<String>> {
        let now = up.site.manifest();
        let changed = proxy::changed(&before.proxy, &now.proxy);
        // One that was chosen by hand stays, unless the manifest names another.
        let another = changed.contains(&"image") || changed.contains(&"program");
        let image = self.store.proxy()?.image.filter(|_| !another);
        if changed.is_empty() && self.proxy_host(up)?.runs_as(&now.proxy).await? {
            return Ok(None);
        }
        let what = match changed.as_slice() {
            [] => "the proxy is not as the manifest has it".to_owned(),
            keys => format!("proxy.{} changed", keys.join(", proxy.")),
        };
        // What else there is to do does not depend on it.
        Ok(Some(match self.upgrade_proxy_to(up, image, caller).await {
            Ok(said) => format!("{what}: {said}"),
            Err(error) => {
                format!("{what}, but it is as it was; `crossfade up` tries again: {error}")
            }
        }))
    }

    /// What is to be done about the services that were there before, each with what the manifest
    /// asks for now. Refuses what could not be done now, before anything is.
    async fn changes(
        &self,
        up: &Arc<Up>,
        request: &UpRequest,
        before: &Manifest,
        now: &Manifest,
    ) -> Result<Vec<(String, Asked, Change)>> {
        let known = self.store.services()?;
        let is_known = |s: &&ServiceSettings| known.iter().any(|known| known.name == s.name);
        let wanted = first_versions(up, request, now.services.iter().filter(is_known)).await?;
        let mut changes = Vec::new();
        for (version, asked) in wanted {
            let service = up.site.service(&version.service)?;
            let was = service.asked.clone().unwrap_or_else(|| {
                // An older release has not written it down.
                let was = before.service(&service.name);
                Asked {
                    image: was.map_or(&service.stable.image, |was| &was.image).clone(),
                    version: was
                        .map_or(&service.stable.version, |was| &was.version)
                        .clone(),
                    replicas: was.map_or(service.replicas, |was| was.replicas),
                    recipe: service.stable.recipe.clone(),
                }
            });
            let labels = self.store.labels(&service.name)?;
            let change = diff::change(&service, &was, &asked, &version, &labels);
            if change.replicas.is_some() {
                self.check_no_rollout(up, &service.name)?;
            }
            if change.version.is_some() {
                self.check_can_begin(up, &service.name)?;
            }
            changes.push((service.name, asked, change));
        }
        Ok(changes)
    }

    /// The services that the manifest has no more: those to be taken away, and those that run on
    /// as they were.
    fn no_more_asked_for(
        &self,
        up: &Arc<Up>,
        request: &UpRequest,
        now: &Manifest,
    ) -> Result<(Vec<String>, Vec<ServiceSettings>)> {
        let before = up.site.manifest();
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for service in self.store.services()? {
            let name = service.name;
            if now.service(&name).is_some() {
                continue;
            }
            let Some(settings) = before.service(&name).filter(|_| !request.prune) else {
                self.check_no_rollout(up, &name)?;
                gone.push(name);
                continue;
            };
            let same_route = |one: &&ServiceSettings| {
                (&one.hosts, &one.path_prefix) == (&settings.hosts, &settings.path_prefix)
            };
            if let Some(other) = now.services.iter().find(same_route) {
                return Err(Error::Refused(format!(
                    "{} has the hosts and the path of {name}, which the manifest has no more and \
                     which runs on: `crossfade up --prune` takes it away",
                    other.name
                )));
            }
            kept.push(settings.clone());
        }
        Ok((gone, kept))
    }

    /// Scales, and begins rollouts. Gives their numbers.
    async fn carry_out(
        &self,
        up: &Arc<Up>,
        changes: Vec<(String, Asked, Change)>,
        caller: &Caller,
        said: &mut Vec<String>,
    ) -> Result<Vec<i64>> {
        let mut rollouts = Vec::new();
        for (name, asked, change) in changes {
            if let Some(replicas) = change.replicas {
                said.push(self.scale_to(up, &name, replicas, caller).await?);
            }
            if let Some(version) = change.version {
                if let Some(ending) = self.in_the_way(up, &name, None)? {
                    ending.wait(up, caller).await?;
                }
                let service = up.site.service(&name)?;
                let manifest = up.site.manifest();
                let settings = manifest.service(&name).map(|s| s.rollout.clone());
                let settings = settings.unwrap_or_default();
                let done = self.begin_rollout(up, &service, version, settings, caller)?;
                said.push(done.text);
                rollouts.extend(done.rollout);
            }
            // Not before: an `up` that is cut short is carried out by the next one.
            self.store.set_asked(&name, &asked)?;
        }
        Ok(rollouts)
    }

    /// Takes away the secrets of versions that nobody can go back to.
    pub(super) fn forget_secrets(&self) -> Result<()> {
        let mut used = BTreeSet::new();
        let mut use_all = |recipe: &Recipe| used.extend(recipe.secrets.values().cloned());
        for service in self.store.services()? {
            use_all(&service.stable.recipe);
            service.previous.iter().for_each(|one| use_all(&one.recipe));
            service.asked.iter().for_each(|one| use_all(&one.recipe));
        }
        for rollout in self.store.unfinished()? {
            use_all(&rollout.from.recipe);
            use_all(&rollout.to.recipe);
        }
        Secrets::new(&self.dir).retain(&used)
    }

    /// Proxy, containers, table; and waits until the proxy sees all of them healthy.
    async fn start(&self, up: &Arc<Up>, started: &mut Vec<Container>) -> Result<()> {
        let site = &up.site;
        site.runtime.ensure_network().await?;
        self.proxy_host(up)?.ensure(started).await?;
        let services = self.store.services()?;
        for service in &services {
            if up.rollout(&service.name).is_none() {
                let replicas = service.replicas;
                site.start_missing(&service.stable, replicas, Dead::Replace, started)
                    .await?;
            }
            site.check_table(&service.name)
                .await
                .map_err(|error| self.located(error, &service.name))?;
        }
        for service in &services {
            if up.rollout(&service.name).is_none() {
                self.until_healthy(site, &service.stable, service.replicas)
                    .await?;
            }
        }
        Ok(())
    }

    /// A refusal of the proxy, as one of the manifest's field that it is about.
    fn located(&self, error: Error, service: &str) -> Error {
        let Error::Proxy(AdminError::Refused {
            message,
            field: Some(field),
            ..
        }) = &error
        else {
            return error;
        };
        // What is said of a version is a key of its service here.
        let of_version = [".tls", ".protocol"]
            .iter()
            .find_map(|key| field.rfind(key));
        let field = match of_version.filter(|_| field.starts_with("versions.")) {
            Some(at) => &field[at + 1..],
            None => field,
        };
        let Ok(Some(applied)) = self.store.applied() else {
            return error;
        };
        let manifest = Manifest::parse(&applied.text).ok();
        let index = manifest.and_then(|manifest| {
            let mut names = manifest.services.iter().map(|service| &service.name);
            names.position(|name| name == service)
        });
        match index {
            Some(index) => Error::Manifest {
                path: applied.path,
                source: InputError::of_field(format!("services[{index}].{field}"), message)
                    .located_in(&applied.text),
            },
            None => error,
        }
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
            let ours = crate::project::containers::of_version(&table.containers, version);
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

    /// Takes a service out of the proxy, and its containers away, drained. Those that have only
    /// streams left may stay for as long as these do.
    pub(in crate::server) async fn remove(&self, site: &Site, name: &str) -> Result<()> {
        let containers = site.live_containers(name).await?;
        site.retire(name, &containers)?;
        // Out of the table as a whole: the proxy drains no service down to nothing. It gives
        // receipts for what it has taken out.
        site.take_out(name).await?;
        // What lasts is seen to its end aside.
        while !site
            .sweep(name, Duration::from_secs(1))
            .await?
            .only_lasting()
        {}
        self.store.remove_service(name)
    }

    pub(in crate::server) fn proxy_host<'a>(&'a self, up: &'a Up) -> Result<ProxyHost<'a>> {
        Ok(ProxyHost {
            site: &up.site,
            state: &self.dir,
            kind: up.kind,
            record: self.store.proxy()?,
        })
    }
}

/// What services are as versions, with their images looked up, and what is asked for by that.
async fn first_versions<'a>(
    up: &Up,
    request: &UpRequest,
    services: impl Iterator<Item = &'a ServiceSettings>,
) -> Result<Vec<(NewVersion, Asked)>> {
    let folder = folder_of(&request.path);
    let mut versions = Vec::new();
    for service in services {
        let image = engine::image_from(up.kind, folder, &service.image);
        let version = NewVersion {
            service: service.name.clone(),
            version: service.version.clone(),
            resolved: up.site.runtime.resolve_image(&image).await?,
            pull_name: up.site.runtime.pull_name(&image).await?,
            image,
            recipe: up.site.recipe(service, folder)?,
        };
        let asked = Asked {
            image: service.image.clone(),
            version: service.version.clone(),
            replicas: service.replicas,
            recipe: version.recipe.clone(),
        };
        versions.push((version, asked));
    }
    Ok(versions)
}

/// What was started: new services, and what was missing of others.
fn started_text(fresh: &[(NewVersion, Asked)], started: usize) -> Vec<String> {
    let mut said = Vec::new();
    let mut of_fresh = 0;
    for (version, asked) in fresh {
        of_fresh += asked.replicas as usize;
        said.push(format!(
            "{} {} × {} is up",
            version.service, version.version, asked.replicas
        ));
    }
    let replaced = started.saturating_sub(of_fresh);
    if replaced > 0 {
        said.push(format!("started again what was missing: {replaced}"));
    }
    said
}

/// What the manifest names has to be there, and the runtime has to be able to give it.
fn check_place(request: &UpRequest, manifest: &Manifest, kind: RuntimeChoice) -> Result<()> {
    manifest
        .check_place(folder_of(&request.path), kind)
        .map_err(|error| Error::Manifest {
            path: request.path.clone(),
            source: error.located_in(&request.manifest),
        })
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

fn listen_text(manifest: &Manifest) -> String {
    let listen: Vec<String> = manifest.proxy.listeners.iter().map(Listener::url).collect();
    listen.join(" and ")
}
