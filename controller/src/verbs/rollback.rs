//! `rollback`: back to the version before, at once where it is still warm.

use super::Controller;
use crate::api::{Done, RollbackRequest};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::plan::Strategy;
use crate::rollout::{Ask, Phase};
use crate::site::no_such;
use crate::store::{NewVersion, VersionRecord};

impl Controller {
    /// `rollback`.
    pub(crate) async fn rollback(&self, request: RollbackRequest, caller: &Caller) -> Result<Done> {
        let up = self.up()?;
        let service = up.site.service(&request.service)?;
        let _admitted = self.admit(&service.name, caller).await?;
        let target = self.target(&service.name, request.to.as_deref())?;
        if let Some(handle) = up.rollout(&service.name) {
            let record = handle.live().record;
            if record.phase == Phase::Draining {
                handle.ended().await;
            } else if target
                .as_ref()
                .is_none_or(|to| to.version == record.from.version)
            {
                let why = "rolled back by hand".to_owned();
                let said = handle.ask_by(caller.who(), Ask::Abort { why }).await?;
                return Ok(Done::say(said));
            } else {
                self.check_no_rollout(&up, &service.name)?;
            }
        }
        let _alone = self.changing.lock().await;
        let service = up.site.service(&request.service)?;
        let Some(target) = target.or_else(|| service.previous.clone()) else {
            return Err(Error::Refused(format!(
                "{} has had no version before {}",
                service.name, service.stable.version
            )));
        };
        if target.version == service.stable.version {
            let text = format!(
                "{} runs {} already: nothing to do",
                service.name, target.version
            );
            return Ok(Done::say(text));
        }
        self.check_no_rollout(&up, &service.name)?;
        up.site.runtime.resolve_image(&target.resolved).await?;
        let manifest = up.site.manifest();
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
            recipe: target.recipe,
        };
        self.begin_rollout(&up, &service, again, settings, caller)
    }

    fn target(&self, service: &str, to: Option<&str>) -> Result<Option<VersionRecord>> {
        let Some(to) = to else { return Ok(None) };
        if let Some(found) = self.store.version_named(service, to)? {
            return Ok(Some(found));
        }
        let labels = self.store.labels(service)?;
        let known: Vec<&str> = labels.iter().map(String::as_str).collect();
        Err(Error::Usage(no_such(
            &format!("version of {service}"),
            to,
            &known,
        )))
    }
}
