//! An `up` that was checked is done: the journal first, then containers, proxy and tables. What was
//! started is taken away again when something fails.

use std::sync::Arc;

use admin_api::strict::InputError;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream;

use super::check::Checked;
use super::diff::Diff;
use super::{proxy, report};
use crate::api::UpRequest;
use crate::clock::boot;
use crate::error::{Error, Result};
use crate::http::proxy_admin::AdminError;
use crate::journal::{Applied, NewVersion, RequestedService, ServiceRecord};
use crate::manifest::{Manifest, RuntimeChoice, ServiceSettings};
use crate::project::Project;
use crate::project::caller::Caller;
use crate::project::containers::Dead;
use crate::project::proxy as proxy_host;
use crate::project::upstreams::predecessors;
use crate::runtime::Container;
use crate::server::controller::{Controller, Up, lock};

/// So many services are started at once. Podman takes turns itself: with more it is no faster.
const ON_PODMAN: usize = 2;
const ON_PROCESSES: usize = 8;

impl Controller {
    /// Starts everything.
    pub(super) async fn apply_first(
        &self,
        up: &Arc<Up>,
        request: &UpRequest,
        versions: &[(NewVersion, RequestedService)],
    ) -> Result<()> {
        proxy_host::forget(&self.dir)?;
        // Everything is there that can be looked up beforehand: now it is wanted.
        self.record(up, request, Vec::new(), versions)?;
        let mut started = Vec::new();
        let done = match self.start(up, &[], &mut started).await {
            Ok(()) => proxy_host::check_addresses(&up.project.manifest().proxy).await,
            error => error,
        };
        let Err(error) = done else {
            return Ok(());
        };
        undo(&up.project, started).await;
        up.project.host_sockets.close();
        // The network is left over: the log says why.
        if let Err(error) = up.project.runtime.remove_network().await {
            tracing::warn!("the network cannot be removed: {error}");
        }
        self.journal
            .clear(&format!("up failed: {error}"), self.clock.now())?;
        Err(error)
    }

    /// Brings the proxy and the services to what the manifest asks for, but for changes of services
    /// that were there before. Says what was done.
    pub(super) async fn apply_again(
        &self,
        up: &Arc<Up>,
        request: &UpRequest,
        mut manifest: Manifest,
        checked: &Checked,
        caller: &Caller,
    ) -> Result<Vec<String>> {
        let project = &up.project;
        manifest.services.extend(checked.kept.iter().cloned());
        // Those that go run on until all others are healthy: a new one may get their routes.
        let mut with_leaving = manifest.clone();
        with_leaving.services.extend(checked.leaving());
        with_leaving.leaving.clone_from(&checked.gone);
        let run_on = checked.kept.iter().cloned().chain(checked.leaving());
        self.record(up, request, run_on.collect(), &checked.fresh)?;
        let gone = checked.before.external.iter();
        let gone = gone.filter(|one| with_leaving.external.iter().all(|now| now.name != one.name));
        for one in gone {
            // Another may get its routes. The reconciler does it again.
            project.take_out(&one.name).await?;
        }
        project.set_manifest(with_leaving);
        let mut started = Vec::new();
        if let Err(error) = self.start(up, &checked.gone, &mut started).await {
            self.take_back(project, checked, started).await?;
            return Err(error);
        }
        let mut said = self.take_away(up, request, manifest, checked).await?;
        let changed = self.change_proxy(up, &checked.before, caller).await?;
        let reached = proxy_host::check_addresses(&project.manifest().proxy).await;
        reached.map_err(|error| match &changed {
            Some(what) => Error::unavailable(format!("{error}; {what}")),
            None => error,
        })?;
        said.extend(changed);
        said.extend(report::started(&checked.fresh, started.len()));
        Ok(said)
    }

    /// Takes away the services that are to go, once the others have their routes.
    async fn take_away(
        &self,
        up: &Up,
        request: &UpRequest,
        manifest: Manifest,
        checked: &Checked,
    ) -> Result<Vec<String>> {
        if checked.gone.is_empty() {
            up.project.set_manifest(manifest);
            return Ok(Vec::new());
        }
        let before = up.project.manifest();
        let waiting = manifest.services.iter().filter_map(|service| {
            let replaced = predecessors(&before, &service.name);
            let replaced: Vec<String> = replaced.map(|one| one.name.clone()).collect();
            (!replaced.is_empty()).then(|| (service.name.clone(), replaced))
        });
        let waiting: Vec<(String, Vec<String>)> = waiting.collect();
        up.project.hand_routes_over(&waiting, manifest).await?;
        self.record(up, request, checked.kept.clone(), &[])?;
        let mut said = Vec::new();
        for name in &checked.gone {
            up.project.remove(name).await?;
            said.push(format!(
                "{name} is removed: it is no longer in the manifest"
            ));
        }
        Ok(said)
    }

    /// Writes down what is wanted from now on.
    fn record(
        &self,
        up: &Up,
        request: &UpRequest,
        kept: Vec<ServiceSettings>,
        fresh: &[(NewVersion, RequestedService)],
    ) -> Result<()> {
        let applied = Applied {
            text: request.manifest.clone(),
            path: request.path.clone(),
            runtime: up.kind,
            boot: boot(),
            kept,
            project: up.project.name.clone(),
        };
        self.journal.apply(&applied, self.clock.now())?;
        for (version, requested) in fresh {
            self.journal
                .add_service(version, requested.replicas, self.clock.now())?;
            self.journal.set_requested(&version.service, requested)?;
        }
        Ok(())
    }

    /// After a start that failed: new services are gone again, and the manifest is the one before.
    async fn take_back(
        &self,
        project: &Project,
        checked: &Checked,
        started: Vec<Container>,
    ) -> Result<()> {
        for (version, _) in &checked.fresh {
            // If the proxy cannot be reached now, the reconciler removes it later.
            let gone = project.take_out(&version.service).await;
            if let Err(error) = gone {
                tracing::warn!(
                    "{} cannot be removed from the proxy: {error}",
                    version.service
                );
            }
        }
        undo(project, started).await;
        for (version, _) in &checked.fresh {
            self.journal.remove_service(&version.service)?;
        }
        if let Some(old) = &checked.applied {
            self.journal.apply(old, self.clock.now())?;
            project.set_manifest((*checked.before).clone());
        }
        Ok(())
    }

    /// Has a successor take over where the proxy that runs is not as the manifest has it, be it
    /// because that has changed, or because one could not take over before. Says what came of it.
    async fn change_proxy(
        &self,
        up: &Up,
        before: &Manifest,
        caller: &Caller,
    ) -> Result<Option<String>> {
        let now = up.project.manifest();
        let changed = proxy::changed(&before.proxy, &now.proxy);
        // One that was chosen by hand stays, unless the manifest names another.
        let another = changed.contains(&"image") || changed.contains(&"program");
        let image = self.journal.proxy()?.image.filter(|_| !another);
        if changed.is_empty() && self.proxy_host(up)?.runs_as(&now.proxy).await? {
            return Ok(None);
        }
        let what = match changed.as_slice() {
            [] => "the proxy does not have the manifest's settings".to_owned(),
            keys => format!("proxy.{} changed", keys.join(", proxy.")),
        };
        // What else there is to do does not depend on it.
        Ok(Some(match self.upgrade_proxy_to(up, image, caller).await {
            Ok(said) => format!("{what}: {said}"),
            Err(error) => {
                format!("{what}, but it is unchanged; `crossfade up` tries again: {error}")
            }
        }))
    }

    /// Scales, and begins rollouts. Gives their numbers.
    pub(super) async fn carry_out(
        &self,
        up: &Arc<Up>,
        changes: Vec<(String, RequestedService, Diff)>,
        caller: &Caller,
        said: &mut Vec<String>,
    ) -> Result<Vec<i64>> {
        let mut rollouts = Vec::new();
        for (name, requested, change) in changes {
            if let Some(replicas) = change.replicas {
                said.push(self.scale_to(up, &name, replicas, caller).await?);
            }
            let Some(version) = change.version else {
                if change.under_way.is_none() {
                    // Not before: an `up` that is cut short is carried out by the next one.
                    self.journal.set_requested(&name, &requested)?;
                }
                continue;
            };
            if let Some(ending) = self.in_the_way(up, &name, None)? {
                ending.wait(up, caller).await?;
            }
            let service = up.project.service(&name)?;
            let manifest = up.project.manifest();
            let settings = manifest.service(&name).map(|s| s.rollout.clone());
            let settings = settings.unwrap_or_default();
            if let Some(before) = &service.requested {
                // The rest is done once the rollout is, if it comes to its end.
                let replicas = requested.replicas;
                let before = RequestedService {
                    replicas,
                    ..before.clone()
                };
                self.journal.set_requested(&name, &before)?;
            }
            let requested = Some(requested);
            let done = self.begin_rollout(up, &service, version, settings, requested, caller)?;
            said.push(done.text);
            rollouts.extend(done.rollout);
        }
        Ok(rollouts)
    }

    /// Proxy, containers, table; and waits until the proxy sees all of them healthy, but those that
    /// are leaving.
    async fn start(
        &self,
        up: &Arc<Up>,
        leaving: &[String],
        started: &mut Vec<Container>,
    ) -> Result<()> {
        let project = &up.project;
        project.runtime.ensure_network().await?;
        self.proxy_host(up)?.ensure_or_publish(started).await?;
        let mut services = self.journal.services()?;
        services.retain(|service| !leaving.contains(&service.name));
        let at_once = match up.kind {
            RuntimeChoice::Podman => ON_PODMAN,
            _ => ON_PROCESSES,
        };
        let starting: Vec<_> = services
            .iter()
            .map(|service| self.start_service(up, service))
            .collect();
        let mut starting = stream::iter(starting).buffer_unordered(at_once);
        let mut failed = None;
        while let Some((these, done)) = starting.next().await {
            // What was started beside it has to be known, too.
            started.extend(these);
            failed = failed.or(done.err());
        }
        if let Some(error) = failed {
            return Err(error);
        }
        up.project.check_external().await?;
        let whole = services.iter().map(|service| self.until_whole(up, service));
        try_join_all(whole).await?;
        Ok(())
    }

    /// Starts what is missing of one service, and tells the proxy. What was started is given back however
    /// it ends.
    async fn start_service(
        &self,
        up: &Up,
        service: &ServiceRecord,
    ) -> (Vec<Container>, Result<()>) {
        let (project, name) = (&up.project, &service.name);
        let mut started = Vec::new();
        let done = async {
            if up.rollout(name).is_none() {
                let replicas = service.replicas;
                project
                    .start_missing(&service.stable, replicas, Dead::Replace, &mut started)
                    .await?;
            }
            let told = project.check_table(name).await;
            told.map(|_| ()).map_err(|error| self.located(error, name))
        };
        let done = done.await;
        (started, done)
    }

    /// Waits until the proxy sees all containers of a service healthy.
    async fn until_whole(&self, up: &Up, service: &ServiceRecord) -> Result<()> {
        if up.rollout(&service.name).is_some() {
            return Ok(());
        }
        let project = &up.project;
        project
            .until_healthy(&service.stable, service.replicas)
            .await?;
        let containers = project.containers_of(&service.stable).await?;
        let names = containers.into_iter().map(|container| container.name);
        lock(&up.liveness).were_healthy(&service.name, names);
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
        let Ok(Some(applied)) = self.journal.applied() else {
            return error;
        };
        let manifest = applied.manifest().ok();
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
}

/// Removes what was started, last first: the proxy goes before the infra container that it joins.
async fn undo(project: &Project, started: Vec<Container>) {
    for container in started.into_iter().rev() {
        if let Err(error) = project.remove_container(&container).await {
            tracing::warn!("{} cannot be removed: {error}", container.name);
        }
    }
}
