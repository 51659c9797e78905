//! `scale`: another number of stable containers.

use std::sync::Arc;
use std::time::Duration;

use super::{Controller, Up};
use crate::api::{Done, ScaleRequest};
use crate::caller::Caller;
use crate::endpoints::Dead;
use crate::error::{Error, Result};

impl Controller {
    /// `scale`.
    pub(crate) async fn scale(&self, request: ScaleRequest, caller: &Caller) -> Result<Done> {
        let up = self.up()?;
        let _admitted = self.admit(&request.service, caller).await?;
        let _alone = self.alone(&up).await?;
        if !(1..=1000).contains(&request.replicas) {
            let message = format!(
                "{} containers: give a number from 1 to 1000",
                request.replicas
            );
            return Err(Error::Usage(message));
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
        let site = &up.site;
        let before = site.service(service)?;
        self.check_no_rollout(up, service)?;
        if before.replicas == replicas {
            return Ok(format!(
                "{service} has {replicas} containers already: nothing to do"
            ));
        }
        self.store.set_replicas(service, replicas)?;
        let mut started = Vec::new();
        let grown = async {
            site.start_missing(&before.stable, replicas, Dead::Replace, &mut started)
                .await?;
            site.push(service).await?;
            let wanted = replicas.max(before.replicas.min(replicas));
            self.until_healthy(site, &before.stable, wanted).await
        };
        if let Err(error) = grown.await {
            // As it was: what was started has been given requests perhaps, so it is drained.
            self.store.set_replicas(service, before.replicas)?;
            site.retire(service, &started)?;
            site.sweep(service, Duration::from_secs(1)).await?;
            return Err(error);
        }
        let mut containers = site.containers_of(&before.stable).await?;
        let extra = containers.split_off(containers.len().min(replicas as usize));
        site.retire(service, &extra)?;
        while !site
            .sweep(service, Duration::from_secs(1))
            .await?
            .only_lasting()
        {}
        let text = format!(
            "{service} has {replicas} containers; it had {}",
            before.replicas
        );
        site.note_of(caller, Some(service), "scale", &text)?;
        Ok(text)
    }
}
