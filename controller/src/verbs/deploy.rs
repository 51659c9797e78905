//! `deploy`: begins a rollout.

use std::sync::Arc;

use super::{Controller, Up};
use crate::api::{DeployRequest, Done};
use crate::caller::Caller;
use crate::engine;
use crate::error::{Error, Result};
use crate::manifest::{RolloutSettings, check_version, tag_of};
use crate::rollout::{Ask, Phase};
use crate::store::{NewRollout, NewVersion, ServiceRecord};

impl Controller {
    /// `deploy`.
    pub(crate) async fn deploy(&self, request: DeployRequest, caller: &Caller) -> Result<Done> {
        let up = self.up()?;
        let _admitted = self.admit(&request.service, caller).await?;
        let _alone = self.changing.lock().await;
        let done = self.begin(&up, request, caller).await;
        let forgotten = self.forget_secrets();
        done.and_then(|done| forgotten.map(|()| done))
    }

    pub(super) async fn begin(
        &self,
        up: &Arc<Up>,
        request: DeployRequest,
        caller: &Caller,
    ) -> Result<Done> {
        let site = &up.site;
        let service = site.service(&request.service)?;
        let manifest = site.manifest();
        let settings = manifest.service(&service.name).ok_or_else(|| {
            Error::Refused(format!(
                "the manifest has no service `{}` any more",
                service.name
            ))
        })?;
        let label = match request.version {
            Some(version) => version,
            None => tag_of(&request.image).map(str::to_owned).ok_or_else(|| {
                let image = &request.image;
                Error::Usage(format!(
                    "`{image}` has no tag to name the version by: add --version"
                ))
            })?,
        };
        check_version(&label).map_err(|error| Error::Usage(format!("--version: {error}")))?;
        let how = request.rollout.over(&settings.rollout).map_err(|error| {
            let flag = error.field.unwrap_or_default().replace('_', "-");
            Error::Usage(format!("--{flag}: {}", error.message))
        })?;
        let image = engine::image_from(up.kind, &request.dir, &request.image);
        let mut recipe = site.recipe(settings, &site.folder()?)?;
        recipe.env.extend(request.env);
        let candidate = NewVersion {
            service: service.name.clone(),
            version: label,
            resolved: site.runtime.resolve_image(&image).await?,
            pull_name: site.runtime.pull_name(&image).await?,
            image,
            recipe,
        };
        if request.dry_run {
            if !request.replace {
                self.check_can_begin(up, &service.name)?;
            }
            return Ok(match already_runs(&service, &candidate)? {
                Some(done) => done,
                None => dry_run(&service, &candidate, &how),
            });
        }
        if request.replace {
            self.replace(up, &candidate, caller).await?;
        }
        self.end_bake(up, &service.name).await?;
        // The bake's end may have gone the other way.
        let service = site.service(&service.name)?;
        if let Some(done) = already_runs(&service, &candidate)? {
            return Ok(done);
        }
        self.begin_rollout(up, &service, candidate, how, caller)
    }

    pub(super) fn begin_rollout(
        &self,
        up: &Arc<Up>,
        service: &ServiceRecord,
        to: NewVersion,
        settings: RolloutSettings,
        caller: &Caller,
    ) -> Result<Done> {
        let steps = settings.strategy.steps(service.replicas);
        let new = NewRollout {
            from: service.stable.id,
            to,
            settings,
            steps,
            who: caller.who.clone(),
        };
        let record = self.store.begin_rollout(&new, self.clock.now())?;
        let text = format!("{} begins: {}", record.title(), new.settings.strategy);
        let rollout = Some(record.id);
        up.run(record);
        Ok(Done {
            rollout,
            ..Done::say(text)
        })
    }

    /// Ends a running rollout for the candidate that is to take its place.
    async fn replace(&self, up: &Up, candidate: &NewVersion, caller: &Caller) -> Result<()> {
        let Some(handle) = up.rollout(&candidate.service) else {
            return Ok(());
        };
        let record = handle.live().record;
        if matches!(record.phase, Phase::Baking | Phase::Draining) {
            // It has been promoted: there is nothing to go back from.
            return Ok(());
        }
        let why = format!("replaced by {}", candidate.version);
        handle.ask_by(caller.who(), Ask::Abort { why }).await?;
        handle.ended().await;
        Ok(())
    }

    /// Refuses where a rollout is running that a deploy would not end by itself.
    pub(super) fn check_can_begin(&self, up: &Up, service: &str) -> Result<()> {
        let live = up.rollout(service).map(|handle| handle.live().record);
        match live {
            Some(record) if record.phase == Phase::Draining => Ok(()),
            Some(record) if record.phase == Phase::Baking && record.paused.is_none() => Ok(()),
            _ => self.check_no_rollout(up, service),
        }
    }

    /// Refuses where a rollout is running; one that only keeps the old version warm ends
    /// that, since the next version wants its place.
    pub(super) async fn end_bake(&self, up: &Up, service: &str) -> Result<()> {
        let Some(handle) = up.rollout(service) else {
            return Ok(());
        };
        self.check_can_begin(up, service)?;
        if handle.live().record.phase == Phase::Baking {
            // It may end by itself at this very moment, which is as good.
            let _ = handle.ask(Ask::Promote).await;
        }
        handle.ended().await;
        Ok(())
    }

    pub(super) fn check_no_rollout(&self, up: &Up, service: &str) -> Result<()> {
        let Some(handle) = up.rollout(service) else {
            return Ok(());
        };
        let record = handle.live().record;
        let paused = if record.paused.is_some() {
            ", paused"
        } else {
            ""
        };
        Err(Error::Refused(format!(
            "{} is running ({}{paused}): `crossfade promote` or `crossfade abort` ends it, and \
             `crossfade deploy --replace` begins another in its place",
            record.title(),
            record.phase
        )))
    }
}

/// What a deploy would do.
fn dry_run(service: &ServiceRecord, to: &NewVersion, how: &RolloutSettings) -> Done {
    let steps = how.strategy.steps(service.replicas);
    let mut lines = vec![
        format!(
            "{} {} → {}: {}",
            service.name, service.stable.version, to.version, how.strategy
        ),
        format!("image {} ({})", to.image, to.resolved),
        format!(
            "healthy for {} before its first request",
            how.min_healthy_time
        ),
    ];
    for (n, step) in steps.iter().enumerate() {
        lines.push(format!(
            "step {} of {}: {}",
            n + 1,
            steps.len(),
            step.plan(how)
        ));
    }
    lines.push(format!(
        "then {} is stable; {} stays warm for {}, and is drained and stopped",
        to.version, service.stable.version, how.bake
    ));
    lines.push("nothing was changed".into());
    Done {
        plan: steps,
        ..Done::say(lines.join("\n"))
    }
}

/// Nothing to do where the very version is stable; an error where another one has its name.
fn already_runs(service: &ServiceRecord, candidate: &NewVersion) -> Result<Option<Done>> {
    let stable = &service.stable;
    if stable.version != candidate.version {
        return Ok(None);
    }
    if (&stable.resolved, &stable.recipe) == (&candidate.resolved, &candidate.recipe) {
        let text = format!(
            "{} runs {} already: nothing to do",
            service.name, stable.version
        );
        return Ok(Some(Done::say(text)));
    }
    Err(Error::Usage(format!(
        "{} runs {} already, with another image or other settings: give this one another name \
         with --version",
        service.name, stable.version
    )))
}
