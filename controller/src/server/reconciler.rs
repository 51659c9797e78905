//! What happens without a command: a proxy that is gone is started again, a table that was lost is
//! told again, a container that died or is unhealthy for long is replaced, one that has no place here
//! is drained and taken away, and retired ones are seen to their end. While rollouts run, too.

mod proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use admin_api::ServiceView;
use tokio::time::{Instant, sleep, sleep_until};

use crate::error::{Error, Result};
use crate::journal::{self, ServiceRecord};
use crate::project::Project;
use crate::project::containers::{Dead, of_version};
use crate::project::healthy::{endpoint_of, has_lost_all, has_unhealthy};
use crate::project::reconcile::{DesiredVersion, Number, Unfit, compare, wanted};
use crate::runtime::{Container, ContainerState, label};
use crate::server::controller::{Controller, Unsolved, Up, lock};
use crate::server::liveness::{Sighting, Times};
use crate::state_dir;

/// So often everything is looked at while something is not as it should be, or no one tells of changes.
const EVERY: Duration = Duration::from_secs(2);
/// The same where all is well, and engine and proxy tell of every change.
const EVERY_AT_REST: Duration = Duration::from_secs(60);
/// So often it is looked whether a reading of the counters is due.
const READ_EVERY: Duration = Duration::from_secs(10);
/// One container that ends is several events, and rarely comes alone.
const SETTLE: Duration = Duration::from_millis(50);
/// So often nothing is found up before a controller in the background ends.
const IDLE_TICKS: u32 = 5;
const DRAIN_WAIT: Duration = Duration::from_millis(500);

impl Controller {
    /// Looks after everything, whenever the engine or the proxy tells of a change, every minute, and
    /// every two seconds while something is not as it should be.
    /// `until_down`: ends the controller when nothing has come up for a while.
    pub(crate) async fn keep_reconciling(self: Arc<Self>, until_down: bool) {
        let mut last = None;
        let mut idle = 0;
        loop {
            let ticked = match last {
                Some(last) => self.next_occasion(last).await,
                None => true,
            };
            last = Some(Instant::now());
            // An `up` that has begun is in the journal, and not to be taken up beside it.
            let is_up = self.get_up().is_some() || {
                let _alone = self.changing.lock().await;
                self.take_up().await
            };
            if is_up {
                self.reconcile().await;
            }
            // A client may have read the history, and may do so again. A verb may take long.
            let is_gone = self.get_up().is_none() && self.wants_nothing();
            let is_idle = is_up && is_gone && Arc::strong_count(&self.busy) == 1;
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

    /// Waits for the next occasion to look at everything. Whether it was the timer.
    async fn next_occasion(&self, last: Instant) -> bool {
        let up = self.get_up();
        loop {
            let told = async {
                match &up {
                    Some(up) => up.changed.notified().await,
                    None => std::future::pending().await,
                }
            };
            let due = up.as_ref().and_then(|up| lock(&up.backoff).next());
            let is_time = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let every = match up.as_ref().is_some_and(|up| self.is_at_rest(up)) {
                true => EVERY_AT_REST,
                false => EVERY,
            };
            tokio::select! {
                () = sleep_until(last + every) => return true,
                () = is_time => return false,
                () = told => {
                    sleep(SETTLE).await;
                    return false;
                }
                () = sleep(READ_EVERY) => {}
            }
            if let Some(up) = &up {
                self.read_counters(up).await;
            }
        }
    }

    /// Whether all is as it should be, and whatever changes is told.
    fn is_at_rest(&self, up: &Up) -> bool {
        up.table.works()
            && lock(&up.last_error).is_empty()
            && lock(&up.backoff).next().is_none()
            && lock(&up.liveness).is_calm()
            && !up.lacks_standby.load(Ordering::Relaxed)
            && !self.may_have_old_images(up)
            && self
                .journal
                .retired()
                .is_ok_and(|retired| retired.is_empty())
    }

    /// Keeps a reading of each service's counters, where one is due.
    async fn read_counters(&self, up: &Up) {
        for service in self.journal.services().unwrap_or_default() {
            self.read_counters_of(up, &service.name).await;
        }
    }

    async fn read_counters_of(&self, up: &Up, service: &str) {
        if lock(&up.recent).is_due(service)
            && let Ok(stats) = up.project.admin.stats(service).await
        {
            lock(&up.recent).keep(&stats);
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
            self.clear_table(&up.project).await?;
            up.project.check_external().await
        };
        let (proxy, mut last_error) = tokio::join!(proxy, self.reconcile_services(&up));
        if let Err(error) = proxy {
            let why = format!("the proxy: {error}");
            last_error.insert(0, Unsolved { service: None, why });
        }
        state_dir::keep_reserve(&self.dir);
        if let Err(error) = self.journal.copy_daily(&self.dir.join(journal::FILE)) {
            let why = format!("the journal cannot be copied: {error}");
            last_error.push(Unsolved { service: None, why });
        }
        if let Err(error) = self.forget_images(&up).await {
            let why = format!("images that are no longer kept cannot be removed: {error}");
            last_error.push(Unsolved { service: None, why });
        }
        if let Err(error) = self.sweep_aside(&up) {
            last_error.push(unsolved(&error));
        }
        let before = std::mem::replace(&mut *lock(&up.last_error), last_error.clone());
        for last_error in last_error.iter().filter(|one| !before.contains(one)) {
            tracing::warn!("{last_error}");
        }
    }

    /// What could not be done, service by service.
    async fn reconcile_services(&self, up: &Up) -> Vec<Unsolved> {
        let services = match self.journal.services() {
            Ok(services) => services,
            Err(error) => return vec![unsolved(&error)],
        };
        // One that takes long holds up no other.
        let all = services
            .iter()
            .map(|service| self.reconcile_service(up, service));
        let outcomes = futures_util::future::join_all(all).await;
        let failed = services.iter().zip(outcomes).filter_map(|(service, done)| {
            let error = done.err()?;
            Some(Unsolved {
                service: Some(service.name.clone()),
                why: error.to_string(),
            })
        });
        failed.collect()
    }

    async fn reconcile_service(&self, up: &Up, service: &ServiceRecord) -> Result<()> {
        let project = &up.project;
        if project.manifest().service(&service.name).is_none() {
            // An `up` without it was cut short.
            return project.remove(&service.name).await;
        }
        // As it is before anything is put right.
        let view = project.admin.service(&service.name).await.ok();
        if view.as_ref().is_some_and(has_unhealthy) {
            // The proxy knows of a container that has ended before the runtime tells of it.
            project.runtime.list().await?;
        }
        self.read_counters_of(up, &service.name).await;
        if let Some(view) = &view {
            self.look_after_unhealthy(up, &service.name, view).await?;
        }
        let unfit = lock(&up.liveness).unfit(&service.name);
        self.retire_extra(up, &service.name, &unfit).await?;
        // Containers need no proxy to be started.
        let healed = self.heal(up, &service.name, view.as_ref(), &unfit).await;
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
    async fn retire_extra(&self, up: &Up, service: &str, unfit: &Unfit) -> Result<()> {
        let project = &up.project;
        // No other task starts or retires containers between this check and its result.
        let _alone = project.place_lock(service).await;
        let (wanted, containers) = self.wanted_and_live(project, service).await?;
        let extra = compare(&wanted, &containers, unfit).extra;
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

    /// Gives up containers that are unhealthy for long, and retires those in whose place others are
    /// healthy.
    async fn look_after_unhealthy(&self, up: &Up, service: &str, view: &ServiceView) -> Result<()> {
        let project = &up.project;
        let manifest = project.manifest();
        let Some(settings) = manifest.service(service) else {
            return Ok(());
        };
        let times = Times {
            replace_after: settings.replace_after.get(),
            start_timeout: settings.rollout.start_timeout.get(),
        };
        let _alone = project.place_lock(service).await;
        let (wanted, containers) = self.wanted_and_live(project, service).await?;
        let sightings = sightings(&wanted, &containers, view);
        let seen = lock(&up.liveness).see(service, &sightings, times);
        if let Some(first) = seen.fallen.first() {
            let why = reason_of(view, &containers, first).unwrap_or("no reason is known");
            let verb = if seen.fallen.len() > 1 { "are" } else { "is" };
            let text = format!("{} {verb} unhealthy: {why}", seen.fallen.join(", "));
            project.note(service, None, "unhealthy", &text, None)?;
        }
        for (name, unhealthy_for) in &seen.recovered {
            let seconds = unhealthy_for.as_secs_f64();
            let text = format!("{name} is healthy again; it was unhealthy for {seconds:.0} s");
            project.note(service, None, "healed", &text, None)?;
        }
        for (name, unhealthy_for) in &seen.given_up {
            let why = reason_of(view, &containers, name).unwrap_or("no reason is known");
            let text = format!(
                "{name} has been unhealthy for {} s: {why}; another one is started in its place",
                unhealthy_for.as_secs()
            );
            project.note(service, None, "unhealthy", &text, None)?;
        }
        for name in &seen.kept {
            let text = format!(
                "none in place of {name} was healthy within {}: it stays",
                settings.rollout.start_timeout
            );
            project.note(service, None, "unhealthy", &text, None)?;
        }
        if seen.succeeded.is_empty() {
            return Ok(());
        }
        let text = format!(
            "{}: replaced; drained and removed",
            seen.succeeded.join(", ")
        );
        let mut old = containers;
        old.retain(|container| seen.succeeded.contains(&container.name));
        project.retire(service, &old)?;
        project.note(service, None, "healed", &text, None)
    }

    /// Replaces what has died or is missing.
    async fn heal(
        &self,
        up: &Up,
        service: &str,
        view: Option<&ServiceView>,
        unfit: &Unfit,
    ) -> Result<()> {
        let project = &up.project;
        let (wanted, containers) = self.wanted_and_live(project, service).await?;
        let short = compare(&wanted, &containers, unfit).short;
        if short.is_empty() {
            return Ok(());
        }
        let is_urgent = view.is_some_and(|view| {
            let mut versions = short.iter().map(|(version, _)| *version);
            versions.any(|version| has_lost_all(view, version, &containers))
        });
        if !lock(&up.backoff).may(service, is_urgent) {
            return Ok(());
        }
        // The dead are to get no requests while their successors start.
        let told = project.push(service).await;
        let mut started = Vec::new();
        let replaced = self.replace_dead(project, service, unfit, &mut started);
        let (noted, done) = tokio::join!(self.note_dead(up, service, &containers), replaced);
        noted?;
        if !started.is_empty() {
            lock(&up.backoff).healed(service);
            let names: Vec<&str> = started.iter().map(|one| one.name.as_str()).collect();
            let why = match unfit.given_up.is_empty() {
                true => "replaced missing containers",
                false => "started in place of unhealthy or missing containers",
            };
            let text = format!("{} {why}", names.join(", "));
            let stats = restarts_json(&started);
            project.note(service, None, "healed", &text, Some(&stats))?;
        }
        done.and(told)
    }

    /// Writes down how containers have ended, and what they said last; once for each.
    async fn note_dead(&self, up: &Up, service: &str, containers: &[Container]) -> Result<()> {
        let is_dead = |one: &&Container| matches!(one.state, ContainerState::Exited(_));
        let mut dead: Vec<&Container> = containers.iter().filter(is_dead).collect();
        // The id of a process is its name, which another has after it.
        let now = dead.iter().map(|one| one.id.clone()).collect();
        let told = lock(&up.told_dead).insert(service.to_owned(), now);
        dead.retain(|one| told.as_ref().is_none_or(|told| !told.contains(&one.id)));
        for container in dead {
            let text = up.project.exit_of(container).await.to_string();
            up.project.note(service, None, "died", &text, None)?;
        }
        Ok(())
    }

    async fn replace_dead(
        &self,
        project: &Project,
        service: &str,
        unfit: &Unfit,
        started: &mut Vec<Container>,
    ) -> Result<()> {
        let _alone = project.place_lock(service).await;
        let (wanted, containers) = self.wanted_and_live(project, service).await?;
        let mut stays = None;
        for (version, count) in compare(&wanted, &containers, unfit).short {
            let of_this = project
                .start_missing_alone(version, count, Dead::Replace, started)
                .await?;
            stays = stays.or(of_this);
        }
        stays.map_or(Ok(()), Err)
    }
}

fn unsolved(error: &Error) -> Unsolved {
    let why = error.to_string();
    Unsolved { service: None, why }
}

/// The containers that run, of versions whose number is not their rollout's business.
fn sightings(
    wanted: &[DesiredVersion],
    containers: &[Container],
    view: &ServiceView,
) -> Vec<Sighting> {
    let mut sightings = Vec::new();
    for DesiredVersion { version, number } in wanted {
        let (Number::Exactly(count) | Number::AtLeast(count)) = *number else {
            continue;
        };
        let theirs = of_version(containers, version).into_iter();
        let running = theirs.filter(|one| one.state == ContainerState::Running);
        sightings.extend(running.map(|container| Sighting {
            name: container.name.clone(),
            version: version.id,
            count,
            health: endpoint_of(view, container).map(|endpoint| endpoint.health),
        }));
    }
    sightings
}

/// How many containers of each version were started in the place of others.
fn restarts_json(started: &[Container]) -> serde_json::Value {
    let mut restarts = BTreeMap::<&str, u64>::new();
    for container in started {
        let version = container.labels.get(label::VERSION);
        *restarts
            .entry(version.map_or("", String::as_str))
            .or_default() += 1;
    }
    serde_json::json!({ "restarts": restarts })
}

/// Why the last probe of a container failed.
fn reason_of<'v>(view: &'v ServiceView, containers: &[Container], name: &str) -> Option<&'v str> {
    let container = containers.iter().find(|one| one.name == name)?;
    endpoint_of(view, container)?.reason.as_deref()
}

#[cfg(test)]
mod tests;
