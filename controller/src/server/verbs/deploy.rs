//! `deploy`: begins a rollout.

use std::sync::Arc;
use std::time::Duration;

use admin_api::Period;

use crate::api::{DeployRequest, Done};
use crate::error::{Error, Result};
use crate::journal::{NewRollout, NewVersion, Phase, RequestedService, ServiceRecord};
use crate::manifest::{ServiceSettings, check_version, tag_of, without_revision};
use crate::plan::{self, RolloutSettings, Step, Traffic};
use crate::project::caller::Caller;
use crate::rollout::{Command, Handle};
use crate::server::controller::{Controller, Up, lock};
use crate::server::engine;
use crate::server::verbs::revision::{Labels, with_a_free_label};

/// How much longer a rollout's end may take than its starts and drains.
const MARGIN: Duration = Duration::from_secs(60);

impl Controller {
    /// `deploy`.
    pub(crate) async fn deploy(&self, request: DeployRequest, caller: &Caller) -> Result<Done> {
        let up = self.up()?;
        let _admitted = self.admit(&request.service, caller).await?;
        loop {
            let alone = self.alone(&up).await?;
            let begun = self.begin(&up, &request, caller).await;
            let forgotten = self.forget_secrets();
            match begun.and_then(|begun| forgotten.map(|()| begun))? {
                Begun::Done(done) => return Ok(done),
                Begun::After(ending) => {
                    // No other caller is to wait for it.
                    drop(alone);
                    ending.wait(&up, caller).await?;
                }
            }
        }
    }

    async fn begin(&self, up: &Arc<Up>, request: &DeployRequest, caller: &Caller) -> Result<Begun> {
        let project = &up.project;
        let service = project.service(&request.service)?;
        let manifest = project.manifest();
        let settings = manifest.service(&service.name).ok_or_else(|| {
            Error::refused(format!(
                "service `{}` is no longer in the manifest",
                service.name
            ))
        })?;
        let (image, label) = requested(up, request, settings)?;
        let how = request
            .rollout
            .over(&settings.rollout)
            .map_err(Error::flag)?;
        let mut template = project.template(settings, &project.folder()?)?;
        template.env.extend(request.env.clone());
        let candidate = NewVersion {
            service: service.name.clone(),
            version: label,
            resolved: project.runtime.resolve_image(&image).await?,
            pull_name: project.runtime.pull_name(&image).await?,
            image,
            template,
            by_hand: Some(request.env.clone()),
        };
        if request.dry_run && !request.replace {
            self.check_can_begin(up, &service.name)?;
        }
        // Before anything is ended for it.
        let runs = already_runs(&service, &candidate, request.version.is_some())?;
        let candidate = match request.version {
            Some(_) => candidate,
            None => {
                let labels = Labels::of(&self.journal, &service.name, &candidate.version)?;
                with_a_free_label(candidate, &service, &labels)
            }
        };
        let forecast = forecast(up, &service, &candidate, &how).await;
        if request.dry_run {
            let done = runs.unwrap_or_else(|| Done {
                forecast,
                ..dry_run(&service, &candidate, &how)
            });
            return Ok(Begun::Done(done));
        }
        let replaced_by = request.replace.then_some(candidate.version.as_str());
        if let Some(ending) = self.in_the_way(up, &service.name, replaced_by)? {
            return Ok(Begun::After(ending));
        }
        if let Some(done) = runs {
            return Ok(Begun::Done(done));
        }
        let done = self.begin_rollout(up, &service, candidate, how, None, caller)?;
        Ok(Begun::Done(Done { forecast, ..done }))
    }

    /// `requested`: what an `up` asks for by it.
    pub(super) fn begin_rollout(
        &self,
        up: &Arc<Up>,
        service: &ServiceRecord,
        to: NewVersion,
        settings: RolloutSettings,
        requested: Option<RequestedService>,
        caller: &Caller,
    ) -> Result<Done> {
        let (steps, settings) = steps_of(service, &to, settings);
        let new = NewRollout {
            from: service.stable.id,
            to,
            settings,
            steps,
            who: caller.who.clone(),
            requested,
        };
        let record = self.journal.begin_rollout(&new, self.clock.now())?;
        let text = format!("{} begins: {}", record.title(), new.settings.strategy);
        let rollout = Some(record.id);
        up.run(record);
        Ok(Done {
            rollout,
            ..Done::say(text)
        })
    }

    /// The rollout that is to end before the service can have the next one. Refuses where
    /// the user has to end it, and the next one is not to take its place.
    pub(super) fn in_the_way(
        &self,
        up: &Up,
        service: &str,
        replaced_by: Option<&str>,
    ) -> Result<Option<Ending>> {
        let Some(handle) = up.rollout(service) else {
            return Ok(None);
        };
        let is_promoted = matches!(handle.live().record.phase, Phase::Baking | Phase::Draining);
        let command = match replaced_by {
            Some(version) if !is_promoted => Command::Abort {
                why: format!("replaced by {version}"),
            },
            // There is nothing to go back from, and the next version wants the place of the old
            // one, which is only kept warm.
            _ => {
                self.check_can_begin(up, service)?;
                Command::Promote
            }
        };
        Ok(Some(Ending { handle, command }))
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
        Err(Error::refused(format!(
            "{} is running ({}{paused}): `crossfade promote` or `crossfade abort` ends it, and \
             `crossfade deploy --replace` begins another in its place",
            record.title(),
            record.phase
        )))
    }
}

/// What came of a deploy.
enum Begun {
    Done(Done),
    /// Nothing, until this has ended.
    After(Ending),
}

/// A rollout that is to end, and how it is asked to.
pub(super) struct Ending {
    pub(super) handle: Arc<Handle>,
    pub(super) command: Command,
}

impl Ending {
    /// Sees the rollout to its end, for about as long as that may take.
    pub(super) async fn wait(self, up: &Up, caller: &Caller) -> Result<()> {
        let Self { handle, command } = self;
        let record = handle.live().record;
        let drains = up.project.manifest().drain_timeout(&record.service);
        let starts = record.settings.start_timeout.get();
        let limit = drains + starts + MARGIN;
        let ended = async {
            let is_abort = matches!(command, Command::Abort { .. });
            let said = handle.send_by(caller.who(), command).await;
            // One that bakes may end by itself at this very moment, which is as good.
            if is_abort {
                said?;
            }
            handle.ended().await;
            Ok(())
        };
        tokio::time::timeout(limit, ended)
            .await
            .unwrap_or_else(|_| {
                let live = handle.live();
                let last_error = live.last_error.map(|last_error| format!(": {last_error}"));
                Err(Error::refused(format!(
                    "{} is {} and has not ended within {} s{}; try again",
                    live.record.title(),
                    live.record.phase,
                    limit.as_secs(),
                    last_error.unwrap_or_default(),
                )))
            })
    }
}

/// The steps of a rollout, and its settings. Where no request can judge it, there is one step, and nothing
/// is kept warm: workers of two versions would both work.
fn steps_of(
    service: &ServiceRecord,
    to: &NewVersion,
    settings: RolloutSettings,
) -> (Vec<Step>, RolloutSettings) {
    if service.replicas > 0 && !to.template.is_worker() {
        return (settings.strategy.steps(service.replicas), settings);
    }
    let min_healthy_time = match service.replicas {
        0 => Period::from_secs(0),
        _ => settings.min_healthy_time,
    };
    let settings = RolloutSettings {
        bake: Period::from_secs(0),
        min_healthy_time,
        ..settings
    };
    (plan::unjudged(service.replicas), settings)
}

/// How long a rollout takes by the traffic of the last minute, as far as that is known.
async fn forecast(
    up: &Up,
    service: &ServiceRecord,
    to: &NewVersion,
    how: &RolloutSettings,
) -> Option<String> {
    if service.replicas == 0 || to.template.is_worker() {
        return None;
    }
    let stats = up.project.admin.stats(&service.name).await.ok();
    let traffic = stats.and_then(|stats| {
        let recent = lock(&up.recent);
        let of_each = stats.versions.iter();
        let of_each = of_each.filter_map(|(name, now)| recent.of(&service.name, name, now));
        of_each
            .map(|one| Traffic {
                per_second: one.per_second,
                seconds: one.seconds,
            })
            .reduce(|all, one| Traffic {
                per_second: all.per_second + one.per_second,
                ..all
            })
    });
    let steps = how.strategy.steps(service.replicas);
    Some(plan::forecast(how, &steps, service.replicas, traffic))
}

/// What a deploy would do.
fn dry_run(service: &ServiceRecord, to: &NewVersion, how: &RolloutSettings) -> Done {
    let (steps, how) = steps_of(service, to, how.clone());
    let how = &how;
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

/// The image and the label that are asked for: those of the flags, else of the manifest.
fn requested(
    up: &Up,
    request: &DeployRequest,
    settings: &ServiceSettings,
) -> Result<(String, String)> {
    let (image, label) = match &request.image {
        Some(image) => (
            engine::image_from(up.kind, &request.dir, image),
            tag_of(image),
        ),
        None => (
            engine::image_from(up.kind, &up.project.folder()?, &settings.image),
            Some(settings.version.as_str()),
        ),
    };
    let label = request.version.as_deref().or(label);
    let label =
        label.ok_or_else(|| Error::usage(format!("`{image}` has no tag: add --version")))?;
    check_version(label).map_err(|error| Error::usage(format!("--version: {error}")))?;
    Ok((image, label.to_owned()))
}

/// Nothing to do where the very version is stable; an error where another one has its name. The same
/// image with other contents or settings is a revision of it, unless the label is given: `is_named`.
fn already_runs(
    service: &ServiceRecord,
    candidate: &NewVersion,
    is_named: bool,
) -> Result<Option<Done>> {
    let stable = &service.stable;
    let label = match is_named {
        true => stable.version.as_str(),
        false => without_revision(&stable.version),
    };
    if label != candidate.version {
        return Ok(None);
    }
    if (&stable.resolved, &stable.template) == (&candidate.resolved, &candidate.template) {
        let text = format!(
            "{} already runs {}: nothing to do",
            service.name, stable.version
        );
        return Ok(Some(Done::say(text)));
    }
    if !is_named && stable.image == candidate.image {
        return Ok(None);
    }
    Err(Error::usage(format!(
        "{} already runs {} with another image or other settings: give this one another name \
         with --version",
        service.name, stable.version
    )))
}
