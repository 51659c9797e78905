//! `down`: takes away exactly what carries the project's label.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::api::{Done, DownRequest};
use crate::error::{Error, Result};
use crate::manifest::RuntimeChoice;
use crate::project::caller::Caller;
use crate::project::containers::ENDPOINT;
use crate::project::proxy::{self, INFRA, PROXY};
use crate::project::secrets::Secrets;
use crate::project::sockets::Sockets;
use crate::runtime::{Container, Runtime, label};
use crate::server::controller::{Controller, lock};
use crate::server::engine;
use crate::state_dir;

/// How often it looks whether anything is left.
const MOST_PASSES: usize = 3;

impl Controller {
    /// `down`. The proxy goes first and finishes what it has, then the containers behind it,
    /// then the infra container, then the network.
    pub(crate) async fn down(&self, request: DownRequest, caller: &Caller) -> Result<Done> {
        let _alone = self.changing.lock().await;
        let _undisturbed = self.reconciling.lock().await;
        let Some((project, runtime)) = self.what_to_take_down(request).await? else {
            self.finished.notify_one();
            return Ok(Done::say("no project is up here"));
        };
        *lock(&self.leaving) = Some((project.clone(), runtime.clone()));
        // Nothing of it is wanted any more, whatever happens on the way.
        let is_written = self.forget_all(&project, caller).is_ok()
            || state_dir::give_reserve(&self.dir) && self.forget_all(&project, caller).is_ok();
        // A container may be listed in more than one pass.
        let mut taken = BTreeSet::new();
        // A rollout that was just stopped may have had one in the making.
        for _ in 0..MOST_PASSES {
            let containers = runtime.list().await?;
            if containers.is_empty() {
                break;
            }
            let standbys: Vec<&Container> = proxy::standbys(&project, &containers).collect();
            let counted = containers.iter().filter(|one| !standbys.contains(one));
            taken.extend(counted.map(|one| one.id.clone()));
            // One that waits to take the proxy's place is not to do so now. It is not counted, since it
            // may not have been started yet.
            stop(&runtime, standbys.into_iter()).await?;
            for role in [Some(PROXY), Some(ENDPOINT), Some(INFRA), None] {
                stop_role(&runtime, &containers, role).await?;
            }
        }
        runtime.remove_network().await?;
        proxy::forget(&self.dir)?;
        Secrets::new(&self.dir).retain(&[].into())?;
        Sockets::new(&self.dir, RuntimeChoice::Auto).forget_all();
        let done = match taken.len() {
            0 => format!("nothing of {project} was running"),
            1 => format!("{project} is down: 1 container removed"),
            n => format!("{project} is down: {n} containers removed"),
        };
        if !is_written {
            // There is more room by now.
            self.forget_all(&project, caller).map_err(|error| {
                let folder = self.dir.display();
                Error::refused(format!(
                    "{done}; but {error}, so the next controller would start it again: free space \
                     in {folder}, and run `crossfade down` once more"
                ))
            })?;
        }
        *lock(&self.leaving) = None;
        self.finished.notify_one();
        Ok(Done::say(done))
    }

    /// Writes down that nothing is wanted any more.
    fn forget_all(&self, project: &str, caller: &Caller) -> Result<()> {
        self.journal.clear("crossfade down", self.clock.now())?;
        self.note_of(caller, "down", None, &format!("{project} goes down"))
    }

    /// The project and its runtime: what is up, what a `down` before could not finish, or what
    /// the manifest names.
    async fn what_to_take_down(
        &self,
        request: DownRequest,
    ) -> Result<Option<(String, Arc<dyn Runtime>)>> {
        if let Some(up) = self.get_up() {
            self.stop();
            *lock(&self.up) = None;
            // The proxy that ends has them, and no client is to wait for another.
            up.project.host_sockets.close();
            return Ok(Some((up.project.name.clone(), up.project.runtime.clone())));
        }
        if let Some(leaving) = lock(&self.leaving).clone() {
            return Ok(Some(leaving));
        }
        if let Some(last_error) = lock(&self.last_error).clone() {
            return Err(Error::unavailable(last_error));
        }
        let Some(text) = request.manifest else {
            return Ok(None);
        };
        let path = request.path.unwrap_or_else(|| "crossfade.toml".into());
        let manifest = self.read_manifest(&text, &path)?;
        let engine = engine::choose(manifest.runtime, &manifest.project, &self.dir).await?;
        Ok(Some((manifest.project, engine.runtime)))
    }
}

/// Stops those in one role at once; `None`: those that have no role we know.
async fn stop_role(
    runtime: &Arc<dyn Runtime>,
    containers: &[Container],
    role: Option<&str>,
) -> Result<()> {
    let is_meant = |container: &&Container| {
        let known = container.labels.get(label::ROLE).map(String::as_str);
        known.filter(|role| [PROXY, ENDPOINT, INFRA].contains(role)) == role
    };
    stop(runtime, containers.iter().filter(is_meant)).await
}

/// Stops these at once.
async fn stop(
    runtime: &Arc<dyn Runtime>,
    containers: impl Iterator<Item = &Container>,
) -> Result<()> {
    let mut stopping = JoinSet::new();
    for container in containers {
        let (runtime, id) = (runtime.clone(), container.id.clone());
        stopping.spawn(async move { runtime.stop(&id).await });
    }
    let mut failed = None;
    while let Some(stopped) = stopping.join_next().await {
        if let Ok(Err(error)) = stopped {
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}
