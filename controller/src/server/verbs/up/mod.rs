//! `up`: network, proxy and stable containers, as the manifest has them. What runs already stays;
//! what was started is taken away again when something fails. `check` looks whether all of it can
//! be done, `apply` does it, and `report` says what was done.

mod apply;
mod check;
mod diff;
mod proxy;
mod report;

use std::sync::Arc;

use tokio::sync::MutexGuard;

use crate::api::{Done, UpRequest};
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::project::caller::Caller;
use crate::server::controller::{Controller, Up, lock};
use crate::server::engine;

impl Controller {
    /// `up`.
    pub(crate) async fn up_verb(&self, request: UpRequest, caller: &Caller) -> Result<Done> {
        let manifest = self.read_manifest(&request.manifest, &request.path)?;
        let _alone = self.changing.lock().await;
        let undisturbed = self.reconciling.lock().await;
        if let Some(last_error) = lock(&self.last_error).clone() {
            return Err(Error::unavailable(last_error));
        }
        let mut adopted = None;
        if self.get_up().is_none() {
            // Refused before anything is forgotten that it may need.
            let met = self.meet_unknown(&request, &manifest).await;
            if met.is_err() {
                self.finished.notify_one();
            }
            adopted = met?;
        }
        let result = match self.get_up() {
            None => self.first_up(&request, manifest, caller).await,
            Some(up) => {
                self.up_again(&up, &request, manifest, caller, undisturbed)
                    .await
            }
        };
        let forgotten = self.forget_secrets();
        match self.get_up() {
            // What else there is to do, as for a standby of the proxy, is not to wait.
            Some(up) => up.changed.notify_one(),
            // Nothing came of it: there is nothing to control.
            None => self.finished.notify_one(),
        }
        let done = result.and_then(|done| forgotten.map(|()| done))?;
        Ok(match adopted {
            Some(adopted) => Done {
                text: format!("{adopted}\n{}", done.text),
                ..done
            },
            None => done,
        })
    }

    async fn first_up(
        &self,
        request: &UpRequest,
        manifest: Manifest,
        caller: &Caller,
    ) -> Result<Done> {
        let engine = engine::choose(manifest.runtime, &manifest.project, &self.dir).await?;
        let why = engine.why.clone();
        let up = self.make_up(manifest.clone(), engine)?;
        let versions = self.check_first(&up, request, &manifest).await?;
        self.apply_first(&up, request, &versions).await?;
        for service in &manifest.services {
            let said = format!("up with {} × {}", service.version, service.replicas);
            up.project
                .note_of(caller, Some(&service.name), "up", &said)?;
        }
        *lock(&self.up) = Some(up);
        *lock(&self.leaving) = None;
        Ok(Done::say(report::first(&manifest, why.as_deref())))
    }

    async fn up_again(
        &self,
        up: &Arc<Up>,
        request: &UpRequest,
        manifest: Manifest,
        caller: &Caller,
        undisturbed: MutexGuard<'_, ()>,
    ) -> Result<Done> {
        let project = &up.project;
        let checked = self.check_again(up, request, &manifest).await?;
        let mut said = self
            .apply_again(up, request, manifest, &checked, caller)
            .await?;
        // Rollouts may have to end first, and healing goes on meanwhile.
        drop(undisturbed);
        let changes = checked.changes;
        let under_way = changes.iter().filter_map(|(.., change)| {
            let title = change.under_way.as_ref()?;
            Some(format!(
                "{title} brings what the manifest has, and is under way"
            ))
        });
        let under_way: Vec<String> = under_way.collect();
        let rollouts = self.carry_out(up, changes, caller, &mut said).await?;
        up.webhooks.follow(project)?;
        if let Some(what) = report::event(checked.is_changed, &said) {
            project.note_of(caller, None, "config", &what)?;
        }
        said.extend(under_way);
        let text = report::again(&project.name, checked.is_changed, said, &checked.kept);
        Ok(Done {
            rollouts,
            ..Done::say(text)
        })
    }
}
