//! What happens without a command: a proxy that is gone is started again, a table that was lost is
//! told again, a container that died is replaced, one that has no place here is drained and taken
//! away, and retired ones are seen to their end. While rollouts run, too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use admin_api::ServiceView;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use crate::error::Result;
use crate::journal::ServiceRecord;
use crate::project::Project;
use crate::project::containers::Dead;
use crate::project::reconcile::{DesiredVersion, compare, wanted};
use crate::runtime::Container;
use crate::server::controller::{Controller, Up, lock};

/// So often everything is looked at, also when the engine has told nothing.
const EVERY: Duration = Duration::from_secs(2);
/// One container that ends is several events, and rarely comes alone.
const SETTLE: Duration = Duration::from_millis(50);
/// So often nothing is found up before a controller in the background ends.
const IDLE_TICKS: u32 = 5;
const DRAIN_WAIT: Duration = Duration::from_millis(500);

impl Controller {
    /// Looks after everything, whenever the engine tells of a change and every two seconds.
    /// `until_down`: ends the controller when nothing has come up for a while.
    pub(crate) async fn keep_reconciling(self: Arc<Self>, until_down: bool) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = 0;
        loop {
            let ticked = self.next_occasion(&mut tick).await;
            // An `up` that has begun is in the journal, and not to be taken up beside it.
            let is_up = self.get_up().is_some() || {
                let _alone = self.changing.lock().await;
                self.take_up().await
            };
            if is_up {
                self.reconcile().await;
            }
            // A client may have read the history, and may do so again.
            let is_idle = is_up && self.get_up().is_none() && Arc::strong_count(&self.pulling) == 1;
            idle = match (is_idle, ticked) {
                (true, true) => idle + 1,
                (true, false) => idle,
                (false, _) => 0,
            };
            if until_down && idle >= IDLE_TICKS {
                self.finished.notify_one();
            }
        }
    }

    /// Whether it was the timer.
    async fn next_occasion(&self, tick: &mut Interval) -> bool {
        let up = self.get_up();
        let told = async {
            match &up {
                Some(up) => up.changed.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tick.tick() => true,
            () = told => {
                sleep(SETTLE).await;
                false
            }
        }
    }

    pub(super) async fn reconcile(&self) {
        // The holder of the lock does all this, too, or takes everything away.
        let Ok(_alone) = self.reconciling.try_lock() else {
            return;
        };
        let Some(up) = self.get_up() else { return };
        // A proxy that takes long to come back holds up no container.
        let proxy = async {
            self.reconcile_proxy(&up).await?;
            self.clear_table(&up.project).await
        };
        let (proxy, mut last_error) = tokio::join!(proxy, self.reconcile_services(&up));
        if let Err(error) = proxy {
            last_error.insert(0, format!("the proxy: {error}"));
        }
        if let Err(error) = self.sweep_aside(&up) {
            last_error.push(error.to_string());
        }
        let before = std::mem::replace(&mut *lock(&up.last_error), last_error.clone());
        for last_error in last_error.iter().filter(|one| !before.contains(one)) {
            tracing::warn!("{last_error}");
        }
    }

    async fn reconcile_proxy(&self, up: &Up) -> Result<()> {
        if self.journal.proxy()?.upgrade.is_some() {
            // The controller was killed in the middle of it.
            self.finish_proxy_upgrade(up).await?;
        }
        self.clear_old_proxies(up).await?;
        if up.project.admin.status().await.is_ok() {
            return Ok(());
        }
        self.proxy_host(up)?.ensure(&mut Vec::new()).await?;
        // It may have come back with nothing.
        up.changed.notify_one();
        Ok(())
    }

    /// Takes services out of the proxy that are in no journal: who began with them did not come to
    /// their end. The table is the controller's alone.
    async fn clear_table(&self, project: &Project) -> Result<()> {
        let in_proxy = project.admin.services().await?.services;
        let known = self.journal.services()?;
        let is_known = |name: &str| known.iter().any(|service| service.name == name);
        for ServiceView { name, .. } in in_proxy {
            if !is_known(&name) {
                tracing::info!("{name} is in the proxy and not in the journal: removing it");
                project.take_out(&name).await?;
            }
        }
        Ok(())
    }

    /// What could not be done, service by service.
    async fn reconcile_services(&self, up: &Up) -> Vec<String> {
        let services = match self.journal.services() {
            Ok(services) => services,
            Err(error) => return vec![error.to_string()],
        };
        // One that takes long holds up no other.
        let all = services
            .iter()
            .map(|service| self.reconcile_service(up, service));
        let outcomes = futures_util::future::join_all(all).await;
        let failed = services.iter().zip(outcomes).filter_map(|(service, done)| {
            let error = done.err()?;
            Some(format!("{}: {error}", service.name))
        });
        failed.collect()
    }

    async fn reconcile_service(&self, up: &Up, service: &ServiceRecord) -> Result<()> {
        let project = &up.project;
        if project.manifest().service(&service.name).is_none() {
            // An `up` without it was cut short.
            return project.remove(&service.name).await;
        }
        self.retire_extra(up, &service.name).await?;
        // Containers need no proxy to be started.
        let healed = self.heal(up, &service.name).await;
        let told = project.check_table(&service.name).await.map(|_| ());
        healed.and(told)
    }

    /// Sees retired containers to their end, also those whose service is there no more; each
    /// service's in a task of its own: one may take long to stop, and no other is to wait for it.
    fn sweep_aside(&self, up: &Up) -> Result<()> {
        let retired = self.journal.retired()?;
        let services: BTreeSet<String> = retired.into_iter().map(|one| one.service).collect();
        for service in services {
            if up.project.sweeping.of(&service).try_lock().is_err() {
                continue;
            }
            let project = up.project.clone();
            tokio::spawn(async move {
                if let Err(error) = project.sweep(&service, DRAIN_WAIT).await {
                    tracing::warn!("{service}: {error}");
                }
            });
        }
        Ok(())
    }

    /// The versions that have a place here, and the service's containers that are not retired.
    async fn wanted_and_live(
        &self,
        project: &Project,
        service: &str,
    ) -> Result<(Vec<DesiredVersion>, Vec<Container>)> {
        let record = project.service(service)?;
        let rollout = self.journal.running(service)?;
        let wanted = wanted(&record, rollout.as_ref());
        Ok((wanted, project.live_containers(service).await?))
    }

    /// Retires containers that have no place here.
    async fn retire_extra(&self, up: &Up, service: &str) -> Result<()> {
        let project = &up.project;
        // No other task starts or retires containers between this check and its result.
        let _alone = project.place_lock(service).await;
        let (wanted, containers) = self.wanted_and_live(project, service).await?;
        let extra = compare(&wanted, &containers).extra;
        if extra.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = extra.iter().map(|one| one.name.as_str()).collect();
        let text = format!(
            "{}: no longer needed; drained and removed",
            names.join(", ")
        );
        let extra: Vec<Container> = extra.into_iter().cloned().collect();
        project.retire(service, &extra)?;
        project.note(service, None, "healed", &text, None)
    }

    /// Replaces what has died or is missing.
    async fn heal(&self, up: &Up, service: &str) -> Result<()> {
        let project = &up.project;
        let (wanted, containers) = self.wanted_and_live(project, service).await?;
        if compare(&wanted, &containers).short.is_empty() || !lock(&up.backoff).may(service) {
            return Ok(());
        }
        // The dead are to get no requests while their successors start.
        let told = project.push(service).await;
        let mut started = Vec::new();
        let done = self.replace_dead(project, service, &mut started).await;
        if !started.is_empty() {
            lock(&up.backoff).healed(service);
            let names: Vec<&str> = started.iter().map(|one| one.name.as_str()).collect();
            let text = format!("{} replaced missing containers", names.join(", "));
            project.note(service, None, "healed", &text, None)?;
        }
        done.and(told)
    }

    async fn replace_dead(
        &self,
        project: &Project,
        service: &str,
        started: &mut Vec<Container>,
    ) -> Result<()> {
        let _alone = project.place_lock(service).await;
        let (wanted, containers) = self.wanted_and_live(project, service).await?;
        let mut stays = None;
        for (version, count) in compare(&wanted, &containers).short {
            let of_this = project
                .start_missing_alone(version, count, Dead::Replace, started)
                .await?;
            stays = stays.or(of_this);
        }
        stays.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests;
