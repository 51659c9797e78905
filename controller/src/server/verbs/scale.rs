//! `scale`: another number of stable containers.

use std::sync::Arc;

use crate::api::{Done, ScaleRequest};
use crate::error::{Error, Fault, Result};
use crate::journal::ServiceRecord;
use crate::manifest::MAX_REPLICAS;
use crate::project::Project;
use crate::project::caller::Caller;
use crate::project::containers::Dead;
use crate::project::drain::DRAIN_WAIT;
use crate::rollout::Command;
use crate::server::controller::{Controller, Up};

impl Controller {
    /// `scale`.
    pub(crate) async fn scale(&self, request: ScaleRequest, caller: &Caller) -> Result<Done> {
        let up = self.up()?;
        let _admitted = self.admit(&request.service, caller).await?;
        let _alone = self.alone(&up).await?;
        if request.replicas > MAX_REPLICAS {
            let message = format!(
                "{} containers: give a number from 0 to {MAX_REPLICAS}, such as 4",
                request.replicas
            );
            return Err(Error::usage(message));
        }
        Ok(Done::say(
            self.scale_to(&up, &request.service, request.replicas, caller)
                .await?,
        ))
    }

    pub(super) async fn scale_to(
        &self,
        up: &Arc<Up>,
        service: &str,
        replicas: u32,
        caller: &Caller,
    ) -> Result<String> {
        let project = &up.project;
        let before = project.service(service)?;
        if before.replicas == replicas {
            return Ok(format!(
                "{service} already has {replicas} containers: nothing to do"
            ));
        }
        if let Some(handle) = up.rollout(service) {
            if replicas == 0 || before.replicas == 0 {
                // There is nothing that the candidate could be compared with.
                self.check_no_rollout(up, service)?;
            }
            let scale = Command::Scale(replicas);
            let said = handle.send_by(caller.who(), scale).await;
            up.changed.notify_one();
            return said;
        }
        // Those that come have a place from the start, and those that go until they are chosen.
        let meanwhile = before.replicas.max(replicas);
        self.journal.set_replicas(service, meanwhile)?;
        self.start_more(project, &before, replicas).await?;
        self.retire_rest(project, &before, replicas).await?;
        let text = format!(
            "{service} has {replicas} containers; it had {}",
            before.replicas
        );
        project.note_of(caller, Some(service), "scale", &text)?;
        Ok(text)
    }

    /// Starts what is missing, and waits until all of it is healthy; else it is as it was.
    async fn start_more(
        &self,
        project: &Project,
        before: &ServiceRecord,
        replicas: u32,
    ) -> Result<()> {
        let service = &before.name;
        let mut started = Vec::new();
        let there = async {
            project
                .start_missing(&before.stable, replicas, Dead::Replace, &mut started)
                .await?;
            project.push(service).await?;
            project.until_healthy(&before.stable, replicas).await
        };
        let Err(error) = there.await else {
            return Ok(());
        };
        // What was started has been given requests perhaps, so it is drained.
        {
            let _alone = project.place_lock(service).await;
            self.journal.set_replicas(service, before.replicas)?;
            project.retire(service, &started)?;
        }
        project.sweep(service, DRAIN_WAIT).await?;
        Err(error)
    }

    /// Drains what is too much, and stops it; what the proxy cannot do without stays.
    async fn retire_rest(
        &self,
        project: &Project,
        before: &ServiceRecord,
        replicas: u32,
    ) -> Result<()> {
        let service = &before.name;
        let extra = {
            let _alone = project.place_lock(service).await;
            let extra = project
                .check_table(service)
                .await?
                .extra(&before.stable, replicas);
            project.retire(service, &extra)?;
            self.journal.set_replicas(service, replicas)?;
            extra
        };
        if replicas == 0 {
            // The proxy drains no service down to nothing, but gives receipts for what it has no more.
            project.push(service).await?;
        }
        let swept = project.sweep_out(service).await;
        if let Err(error) = &swept
            && error.fault() == Fault::Candidate
        {
            // The proxy needs them: those that stay do not serve any more.
            let _alone = project.place_lock(service).await;
            self.journal.set_replicas(service, before.replicas)?;
            project.keep_after_all(service, &extra).await?;
        }
        swept
    }
}
