//! `rollback`: back to the version before, at once where it is still warm.

use super::deploy::Ending;
use crate::api::{Done, RollbackRequest};
use crate::error::{Error, Result};
use crate::journal::{NewVersion, Phase, VersionRecord};
use crate::plan::Strategy;
use crate::project::caller::Caller;
use crate::project::no_such_version;
use crate::project::secrets::Secrets;
use crate::rollout::Command;
use crate::runtime::{Runtime, RuntimeError};
use crate::server::controller::Controller;

impl Controller {
    /// `rollback`.
    pub(crate) async fn rollback(&self, request: RollbackRequest, caller: &Caller) -> Result<Done> {
        let up = self.up()?;
        let service = up.project.service(&request.service)?;
        let _admitted = self.admit(&service.name, caller).await?;
        let target = self.target(&service.name, request.to.as_deref())?;
        if let Some(handle) = up.rollout(&service.name) {
            let record = handle.live().record;
            if record.phase == Phase::Draining {
                let command = Command::Promote;
                Ending { handle, command }.wait(&up, caller).await?;
            } else if target
                .as_ref()
                .is_none_or(|to| to.version == record.from.version)
            {
                let why = "rolled back by hand".to_owned();
                let said = handle.send_by(caller.who(), Command::Abort { why }).await?;
                return Ok(Done {
                    undone: Some(record.id),
                    ..Done::say(said)
                });
            } else {
                self.check_no_rollout(&up, &service.name)?;
            }
        }
        let _alone = self.alone(&up).await?;
        let service = up.project.service(&request.service)?;
        let Some(target) = target.or_else(|| service.previous.clone()) else {
            return Err(Error::refused(format!(
                "{} has no version before {}",
                service.name, service.stable.version
            )));
        };
        if target.version == service.stable.version {
            let text = format!(
                "{} already runs {}: nothing to do",
                service.name, target.version
            );
            return Ok(Done::say(text));
        }
        self.check_no_rollout(&up, &service.name)?;
        must_be_here(up.project.runtime.as_ref(), &target).await?;
        must_be_kept(&up.project.secrets, &target)?;
        let manifest = up.project.manifest();
        let mut settings = manifest
            .service(&service.name)
            .map(|s| s.rollout.clone())
            .unwrap_or_default();
        // It has run before: as soon as it is healthy it gets everything.
        settings.strategy = Strategy::AllAtOnce;
        let again = NewVersion {
            service: target.service,
            version: target.version,
            image: target.image,
            resolved: target.resolved,
            pull_name: target.pull_name,
            template: target.template,
            by_hand: target.by_hand,
        };
        self.begin_rollout(&up, &service, again, settings, None, caller)
    }

    fn target(&self, service: &str, to: Option<&str>) -> Result<Option<VersionRecord>> {
        let Some(to) = to else { return Ok(None) };
        if let Some(found) = self.journal.version_named(service, to)? {
            return Ok(Some(found));
        }
        let labels = self.journal.labels(service)?;
        let known: Vec<&str> = labels.iter().map(String::as_str).collect();
        Err(Error::usage(no_such_version(
            &format!("version of {service}"),
            to,
            &known,
        )))
    }
}

/// Secrets are kept for the versions that one can go back to by themselves.
fn must_be_kept(secrets: &Secrets, target: &VersionRecord) -> Result<()> {
    let kept = &target.template.secrets;
    match kept.iter().find(|(_, id)| !secrets.file(id).exists()) {
        None => Ok(()),
        Some((name, _)) => Err(Error::refused(format!(
            "{} {} cannot be started again: its secret `{name}` is no longer kept; \
             `crossfade deploy {} --image {}` starts it with the current one",
            target.service, target.version, target.service, target.image
        ))),
    }
}

/// The very image that the version had has to be on this host, or to be pulled again.
async fn must_be_here(runtime: &dyn Runtime, target: &VersionRecord) -> Result<()> {
    match runtime.resolve_image(&target.resolved).await {
        Err(RuntimeError::ImageNotFound { .. }) => {}
        there => return Ok(there.map(|_| ())?),
    }
    let Some(name) = &target.pull_name else {
        return Err(Error::refused(format!(
            "{} {} cannot be started again: its image ({}, {}) is no longer on this host, and \
             was built here",
            target.service, target.version, target.image, target.resolved
        )));
    };
    runtime.pull_image(name, &|_| {}).await?;
    runtime.resolve_image(&target.resolved).await?;
    Ok(())
}
