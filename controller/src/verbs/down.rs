//! `down`: takes away exactly what carries the project's label.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Controller, lock};
use crate::api::{Done, DownRequest};
use crate::endpoints::ENDPOINT;
use crate::engine;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::proxy::{HOLDER, PROXY};
use crate::runtime::{Container, Runtime, label};

impl Controller {
    /// `down`. The proxy goes first and finishes what it has, then the containers behind it,
    /// then the holder, then the network.
    pub(crate) async fn down(&self, request: DownRequest) -> Result<Done> {
        let _alone = self.changing.lock().await;
        let (project, runtime) = match self.get_up() {
            Some(up) => {
                self.stop();
                (up.site.project.clone(), up.site.runtime.clone())
            }
            None => {
                if let Some(trouble) = lock(&self.trouble).clone() {
                    return Err(Error::Unavailable(trouble));
                }
                let Some(text) = request.manifest else {
                    self.finished.notify_one();
                    return Ok(Done::say("nothing is up here"));
                };
                let manifest = Manifest::parse(&text).map_err(|source| Error::Manifest {
                    path: "crossfade.toml".into(),
                    source,
                })?;
                let engine = engine::choose(manifest.runtime, &manifest.project, &self.dir).await?;
                (manifest.project, engine.runtime)
            }
        };
        let containers = runtime.list().await?;
        for role in [Some(PROXY), Some(ENDPOINT), Some(HOLDER), None] {
            stop_role(&runtime, &containers, role).await?;
        }
        runtime.remove_network().await?;
        self.store.clear("crossfade down", self.clock.now())?;
        *lock(&self.up) = None;
        self.finished.notify_one();
        Ok(Done::say(match containers.len() {
            0 => format!("nothing of {project} was running"),
            n => format!("{project} is down: {n} taken away"),
        }))
    }
}

/// Stops those in one role at once; `None`: those that have no role we know.
async fn stop_role(
    runtime: &Arc<dyn Runtime>,
    containers: &[Container],
    role: Option<&str>,
) -> Result<()> {
    let mut stopping = JoinSet::new();
    for container in containers {
        let known = container
            .labels
            .get(label::ROLE)
            .map(String::as_str)
            .filter(|role| [PROXY, ENDPOINT, HOLDER].contains(role));
        if known == role {
            let (runtime, id) = (runtime.clone(), container.id.clone());
            stopping.spawn(async move { runtime.stop(&id).await });
        }
    }
    let mut failed = None;
    while let Some(stopped) = stopping.join_next().await {
        if let Ok(Err(error)) = stopped {
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}
