//! The stable version's containers while a candidate takes over: fewer of them where the plan
//! says so, and all of them again before it is rolled back to.

use admin_api::HealthState;
use tokio::time::Instant;

use super::{DRAIN_WAIT, Rollout, Stay};
use crate::endpoints::{Dead, of_version};
use crate::store::Split;

impl Rollout {
    /// Takes containers of stable away, drained, until `keep` are left, so that there is room
    /// for the candidate's.
    pub(super) async fn lower_stable(&mut self, keep: Option<u32>) -> Stay<()> {
        let Some(keep) = keep else { return Ok(()) };
        {
            // Nobody brings back at this moment what an earlier step still had.
            let _alone = self.site.place_lock(&self.record.service).await;
            let mut of_stable = self.site.containers_of(&self.record.from).await?;
            let extra = of_stable.split_off(of_stable.len().min(keep as usize));
            self.site.retire(&self.record.service, &extra)?;
        }
        loop {
            let left = self.site.sweep(&self.record.service, DRAIN_WAIT).await?;
            if left.only_lasting() {
                return Ok(());
            }
            // A drain can take a while: a candidate that dies meanwhile is not waited for.
            self.observe().await?;
            self.rest(self.look_every()).await?;
        }
    }

    /// Sees to it that stable can carry what a split by hand gives it.
    pub(super) async fn raise_stable(&mut self, split: &Split) -> Stay<()> {
        let from = &self.record.from.version;
        if split.get(from).is_some_and(|weight| *weight > 0) {
            self.start_stable(self.replicas_by_hand(split, from)?)
                .await?;
            self.until_stable_serves().await?;
        }
        Ok(())
    }

    /// Starts containers of stable until there are so many.
    pub(super) async fn start_stable(&mut self, replicas: u32) -> Stay<()> {
        let (from, mut started) = (&self.record.from, Vec::new());
        self.site
            .start_missing(from, replicas, Dead::Replace, &mut started)
            .await?;
        if !started.is_empty() {
            self.site.push(&self.record.service).await?;
        }
        Ok(())
    }

    /// Where no container of stable serves, the candidate goes on, bad as it may be, until
    /// stable is there again: nobody at all would be worse. Where one serves, it is enough.
    pub(super) async fn until_stable_serves(&mut self) -> Stay<()> {
        let replicas = self.site.service(&self.record.service)?.replicas;
        let limit = self.record.settings.start_timeout.get();
        let began = Instant::now();
        let mut enough = 1;
        loop {
            let table = self.site.check_table(&self.record.service).await?;
            let serving = |version: &str| {
                let view = table.view.versions.get(version);
                let endpoints = view.map_or([].as_slice(), |view| view.endpoints.as_slice());
                endpoints
                    .iter()
                    .filter(|endpoint| endpoint.health == HealthState::Up)
                    .count()
            };
            let stable = serving(&self.record.from.version);
            let waited = began.elapsed() >= limit
                && !of_version(&table.containers, &self.record.from).is_empty();
            if stable >= enough || waited || serving(&self.record.to.version) == 0 {
                return Ok(());
            }
            enough = replicas as usize;
            self.start_stable(replicas).await?;
            let version = &self.record.from.version;
            self.trouble(format!(
                "{stable} of {enough} containers of {version} serve"
            ));
            self.rest(self.look_every()).await?;
        }
    }
}
