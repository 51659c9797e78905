//! The stable version's containers while a candidate takes over: fewer of them where the plan
//! says so, and all of them again before it is rolled back to.

use tokio::time::Instant;

use super::{Phase, PhaseResult, Rollout};
use crate::journal::{Split, kept_by};
use crate::project::containers::{Dead, of_version};
use crate::project::healthy::Health;

impl Rollout {
    /// Takes containers of stable away, drained, until `keep` are left, so that there is room
    /// for the candidate's.
    pub(super) async fn lower_stable(&mut self, keep: Option<u32>) -> PhaseResult<()> {
        let Some(keep) = keep else { return Ok(()) };
        {
            // The reconciler must not bring back what an earlier step still had.
            let _alone = self.project.place_lock(&self.record.service).await;
            let table = self.project.check_table(&self.record.service).await?;
            let extra = table.extra(&self.record.from, keep);
            self.project.retire(&self.record.service, &extra)?;
        }
        while self.project.sweep_on(&self.record.service).await? {
            // A drain can take a while: a candidate that dies meanwhile is not waited for.
            self.observe().await?;
            self.rest(self.look_every()).await?;
        }
        Ok(())
    }

    /// After a `scale`: stable has as many containers as it is to have, and of both versions those go
    /// that are too many. Those that come are there before.
    pub(super) async fn finish_scale(&mut self, split: &Split, candidates: u32) -> PhaseResult<()> {
        if !self.is_scaled {
            return Ok(());
        }
        let service = self.record.service.clone();
        let replicas = self.project.service(&service)?.replicas;
        let stable = kept_by(&self.record, replicas).unwrap_or(replicas);
        self.start_stable(stable).await?;
        if split
            .get(&self.record.from.version)
            .is_some_and(|weight| *weight > 0)
        {
            self.until_stable_serves(stable, stable).await?;
        }
        {
            let _alone = self.project.place_lock(&service).await;
            let table = self.project.check_table(&service).await?;
            for (version, keep) in [(&self.record.from, stable), (&self.record.to, candidates)] {
                self.project.retire(&service, &table.extra(version, keep))?;
            }
        }
        self.is_scaled = false;
        while self.project.sweep_on(&service).await? {
            self.observe().await?;
            self.rest(self.look_every()).await?;
        }
        Ok(())
    }

    /// Sees to it that stable can carry what a split by hand gives it.
    pub(super) async fn raise_stable(&mut self, split: &Split) -> PhaseResult<()> {
        let needed = self.replicas_by_hand(split, &self.record.from.version)?;
        if needed > 0 {
            self.start_stable(needed).await?;
            self.until_stable_serves(needed, needed).await?;
        }
        Ok(())
    }

    /// Starts containers of stable until there are so many.
    pub(super) async fn start_stable(&mut self, replicas: u32) -> PhaseResult<()> {
        let (from, mut started) = (&self.record.from, Vec::new());
        self.project
            .start_missing(from, replicas, Dead::Replace, &mut started)
            .await?;
        if !started.is_empty() {
            self.project.push(&self.record.service).await?;
        }
        Ok(())
    }

    /// Where fewer than `enough` containers of stable serve, the candidate goes on, bad as it may
    /// be, until there are `replicas` that do: none at all would be worse.
    pub(super) async fn until_stable_serves(
        &mut self,
        mut enough: u32,
        replicas: u32,
    ) -> PhaseResult<()> {
        let limit = self.record.settings.start_timeout.get();
        let began = Instant::now();
        loop {
            let table = self.project.check_table(&self.record.service).await?;
            let serving = |version: &str| Health::of(&table.view, version).up;
            let stable = serving(&self.record.from.version);
            let waited = began.elapsed() >= limit
                && !of_version(&table.containers, &self.record.from).is_empty();
            if stable >= enough || waited || serving(&self.record.to.version) == 0 {
                return Ok(());
            }
            enough = replicas;
            if self.record.phase == Phase::RollingBack {
                self.give_back(stable, replicas).await?;
            }
            self.start_stable(replicas).await?;
            let version = &self.record.from.version;
            self.note_error(format!(
                "{stable} of {enough} containers of {version} serve"
            ));
            self.rest(self.look_every()).await?;
        }
    }

    /// Gives stable what so many of its containers can carry, unless it has more.
    async fn give_back(&mut self, serving: u32, replicas: u32) -> PhaseResult<()> {
        let service = self.project.service(&self.record.service)?;
        let (from, to) = (&self.record.from.version, &self.record.to.version);
        let weight = |of| u64::from(service.split.get(of).copied().unwrap_or(0));
        let (has, all) = (weight(from), weight(from) + weight(to));
        if u64::from(serving) * all > has * u64::from(replicas) {
            let rest = replicas.saturating_sub(serving);
            let split = Split::from([(from.clone(), serving), (to.clone(), rest)]);
            self.set_split(&split).await?;
        }
        Ok(())
    }
}
