//! *Capacity before share*: the candidate's containers, started and seen healthy before they get
//! what the step gives them.

use std::time::Duration;

use tokio::time::Instant;

use super::{PhaseResult, Rollout};
use crate::error::{Error, Fault};
use crate::journal::Split;
use crate::plan::replicas_for_split;
use crate::project::containers::Dead;

impl Rollout {
    /// Sees to it that the candidate has so many containers, and that the proxy has seen them
    /// healthy, for so long.
    pub(super) async fn capacity(
        &mut self,
        replicas: u32,
        healthy_for: Duration,
    ) -> PhaseResult<()> {
        self.start_candidates(replicas).await?;
        let limit = self.record.settings.start_timeout;
        let (mut waited, mut waited_for_both) = (Duration::ZERO, Duration::ZERO);
        let mut healthy_since = None;
        loop {
            match self.observe().await {
                // A container was removed by hand.
                Ok(seen) if seen.running < replicas => {
                    healthy_since = None;
                    self.start_candidates(replicas).await?;
                }
                Ok(seen) if seen.health.up >= replicas && seen.health.down.is_none() => {
                    let since: Instant = *healthy_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= healthy_for {
                        return Ok(());
                    }
                }
                // Whatever takes stable down, too, is not the candidate's fault. It is waited for,
                // but visibly: the rollout is paused.
                Ok(seen) if !seen.stable_is_well => {
                    healthy_since = None;
                    let why = format!("{} is not healthy, either", self.record.from.version);
                    if waited_for_both >= limit.get() && self.record.paused.is_none() {
                        self.pause(&format!("{why}: waited for {limit}"))?;
                    }
                    self.note_error(why);
                    waited_for_both += self.look_every();
                }
                Ok(seen) => {
                    healthy_since = None;
                    if waited >= limit.get() {
                        let of = self.record.to.version.clone();
                        let limit = limit.to_string();
                        let project = &self.project;
                        let error = project.too_few_healthy(seen.health, replicas, of, limit);
                        let error = error.await;
                        return Err(Error::from(error).into());
                    }
                    waited += self.look_every();
                }
                // Time in which the proxy could not be asked does not count, either.
                Err(error) if error.fault() == Fault::Environment => {
                    self.note_error(error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
            self.rest(self.look_every()).await?;
        }
    }

    async fn start_candidates(&mut self, replicas: u32) -> PhaseResult<()> {
        let to = &self.record.to;
        self.project
            .start_missing(to, replicas, Dead::Fail, &mut Vec::new())
            .await?;
        self.project.push(&self.record.service).await?;
        Ok(())
    }

    /// How many containers of the version a split by hand needs.
    pub(super) fn replicas_by_hand(&self, split: &Split, version: &str) -> PhaseResult<u32> {
        let stable = self.project.service(&self.record.service)?.replicas;
        Ok(replicas_for_split(stable, split, version))
    }
}
