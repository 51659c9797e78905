//! `status`, `history`, and how one rollout is doing.

use std::sync::Arc;
use std::time::Duration;

use admin_api::{EndpointView, HealthState};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::api::{
    EventsReply, EventsRequest, ExplainRequest, Explanation, HistoryReply, HistoryRequest,
    Progress, ProgressRequest, RolloutStatus, ServiceStatus, StatusReply, VersionStatus, Waiting,
};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::http::proxy_admin::AdminError;
use crate::journal::{EventFilter, Phase, RolloutRecord, ServiceRecord};
use crate::manifest::Listener;
use crate::project::upstreams::show_workers;
use crate::rollout::{Live, ProxySaid};
use crate::server::controller::{Controller, Up, lock};
use crate::server::differences::differences;
use crate::server::explain::explain;
use crate::server::waiting;
use crate::verdict::Counts;

/// A rollout's last look at the proxy is as good as another for so long.
const FRESH: Duration = Duration::from_millis(500);
const HISTORY: u32 = 100;
/// Restarts and errors that `status` shows are not older.
const HOUR: Millis = 3_600_000;
/// Events in one response.
const AT_ONCE: u32 = 1000;
/// A call that waits for news gets its response after so long without any.
const LONGEST_WAIT_MS: u64 = 10_000;

impl Controller {
    /// `status`.
    pub(crate) async fn status(&self) -> Result<StatusReply> {
        let up = self.up()?;
        let manifest = up.project.manifest();
        let records = self.journal.services()?;
        let queries = records.iter().map(|service| query_proxy(&up, service));
        let mut unreadable = None;
        let mut services = Vec::new();
        for (said, service) in join_all(queries).await.into_iter().zip(records) {
            let said = match said {
                Ok(said) => Some(said),
                Err(error) => {
                    unreadable.get_or_insert_with(|| error.to_string());
                    None
                }
            };
            let rollout = self.newest_rollout(&up, &service.name)?;
            let said = with_workers(&up, &service, said).await;
            let mut versions = versions(&service, rollout.as_ref(), said.as_deref());
            self.add_what_was(&up, &service.name, &mut versions, said.as_deref())?;
            let (last_error, last_error_at) = self.last_error_of(&up, &service.name)?;
            let settings = manifest.service(&service.name);
            let differences = settings.map(|settings| differences(settings, &service));
            services.push(ServiceStatus {
                differences: differences.unwrap_or_default(),
                generation: self.journal.generation(&service.name)?,
                last_error,
                last_error_at,
                waits: self.waits_of(&up, &service.name)?,
                name: service.name,
                stable: service.stable.version,
                previous: service.previous.map(|previous| previous.version),
                replicas: service.replicas,
                versions,
                rollout,
            });
        }
        let unhealed = lock(&up.last_error).first().map(ToString::to_string);
        Ok(StatusReply {
            project: up.project.name.clone(),
            runtime: up.project.runtime.name().to_owned(),
            listen: manifest
                .proxy
                .listeners
                .iter()
                .map(|listener| listener.address.to_string())
                .collect(),
            urls: manifest.proxy.listeners.iter().map(Listener::url).collect(),
            published: self.journal.proxy()?.published,
            last_error: unreadable.or(unhealed),
            services,
        })
    }

    /// Adds to each version what the journal and the readings before know of it.
    fn add_what_was(
        &self,
        up: &Up,
        service: &str,
        versions: &mut [VersionStatus],
        said: Option<&ProxySaid>,
    ) -> Result<()> {
        let deployed = self.journal.deployed(service)?;
        let restarts = self.journal.restarts(service, self.clock.now() - HOUR)?;
        let recent = lock(&up.recent);
        for version in versions {
            let name = &version.version;
            version.since = deployed.get(name).copied();
            if let Some((count, at)) = restarts.get(name) {
                version.restarts = *count;
                version.restarted = Some(*at);
            }
            let now = said.and_then(|said| said.stats.versions.get(name));
            version.last_minute = now.and_then(|now| recent.of(service, name, now));
        }
        Ok(())
    }

    /// What cannot be done now of a service, else what went wrong within the last hour, and when.
    fn last_error_of(&self, up: &Up, service: &str) -> Result<(Option<String>, Option<Millis>)> {
        let unsolved = lock(&up.last_error)
            .iter()
            .find(|one| one.service.as_deref() == Some(service))
            .map(|one| one.why.clone());
        if unsolved.is_some() {
            return Ok((unsolved, None));
        }
        let event = self
            .journal
            .newest_failure(service, self.clock.now() - HOUR)?;
        Ok(event.map(|event| (event.text, event.at)).unzip())
    }

    /// What the controller waits for, of a service.
    fn waits_of(&self, up: &Up, service: &str) -> Result<Vec<Waiting>> {
        let manifest = up.project.manifest();
        let at = |instant: Instant| {
            let left = instant.saturating_duration_since(Instant::now());
            Some(waiting::later(self.clock.now(), left))
        };
        let mut waits = Vec::new();
        if let Some(due) = lock(&up.backoff).waits(service) {
            let what = "the next start in place of containers that end again and again".to_owned();
            let until = at(due);
            waits.push(Waiting { what, until });
        }
        if let Some(settings) = manifest.service(service) {
            let start_timeout = settings.rollout.start_timeout.get();
            let replace_after = settings.replace_after.get();
            for (name, since, is_given_up) in lock(&up.liveness).unhealthy(service) {
                let (what, until) = match is_given_up {
                    true => (
                        format!("one in place of {name} to be healthy"),
                        start_timeout,
                    ),
                    false => (
                        format!("{name}, which is unhealthy, to recover"),
                        replace_after,
                    ),
                };
                let until = (!until.is_zero()).then(|| at(since + until)).flatten();
                waits.push(Waiting { what, until });
            }
        }
        if let Some(handle) = up.rollout(service) {
            let live = handle.live();
            let drain_timeout = manifest.drain_timeout(service);
            let verdict = live.verdict.as_deref();
            let now = self.clock.now();
            waits.extend(waiting::of_rollout(
                &live.record,
                verdict,
                live.candidate.attempts,
                drain_timeout,
                now,
            ));
        }
        let retired = self.journal.retired()?;
        let draining = retired.iter().filter(|one| one.service == service).count();
        if draining > 0 {
            let plural = if draining == 1 { "" } else { "s" };
            waits.push(Waiting {
                what: format!("the last requests of {draining} container{plural}"),
                until: None,
            });
        }
        Ok(waits)
    }

    /// `history`. What was stays readable when nothing is up.
    pub(crate) fn history(&self, request: &HistoryRequest) -> Result<HistoryReply> {
        let service = request.service.as_deref();
        if let (Some(name), Some(up)) = (service, self.get_up()) {
            up.project.service(name)?;
        }
        let rollouts = self.journal.rollouts(service, HISTORY)?;
        let filter = EventFilter {
            service,
            ..EventFilter::default()
        };
        Ok(HistoryReply {
            rollouts: rollouts
                .iter()
                .map(|record| self.rollout_status(record))
                .collect(),
            events: self.journal.events(filter)?,
        })
    }

    /// `events`: those younger than the one known, as soon as there are some.
    pub(crate) async fn events(&self, request: EventsRequest) -> Result<EventsReply> {
        let service = request.service.as_deref();
        if let (Some(name), Some(up)) = (service, self.get_up()) {
            up.project.service(name)?;
        }
        let mut news = self.journal.news();
        let until = Instant::now() + Duration::from_millis(request.wait_ms.min(LONGEST_WAIT_MS));
        let after = request.after.unwrap_or(*news.borrow());
        loop {
            let events = self.journal.events_after(service, after, AT_ONCE)?;
            if !events.is_empty() || Instant::now() >= until {
                let last = events.last().map_or(after, |event| event.id);
                return Ok(EventsReply { events, last });
            }
            // The journal is never closed while the controller runs.
            let _ = tokio::time::timeout_at(until, news.changed()).await;
        }
    }

    /// `explain`: why a rollout went as it went.
    pub(crate) fn explain(&self, request: &ExplainRequest) -> Result<Explanation> {
        let record = match request.rollout {
            Some(id) => self.journal.rollout(id)?,
            None => self.journal.rollouts(None, 1)?.pop(),
        };
        let record = record.ok_or_else(|| match request.rollout {
            Some(id) => Error::usage(format!("there is no rollout {id}: see `crossfade history`")),
            None => Error::refused("no rollout yet"),
        })?;
        let events = self.journal.events(EventFilter {
            rollout: Some(record.id),
            ..EventFilter::default()
        })?;
        Ok(explain(self.rollout_status(&record), &record.steps, events))
    }

    /// How a rollout is doing, as soon as it has an event younger than the one known.
    pub(crate) async fn progress(&self, request: ProgressRequest) -> Result<Progress> {
        let mut news = self.journal.news();
        let filter = EventFilter {
            rollout: Some(request.rollout),
            after: request.after,
            ..EventFilter::default()
        };
        let wait = Duration::from_millis(request.wait_ms.min(LONGEST_WAIT_MS));
        let until = Instant::now() + wait;
        loop {
            let events = self.journal.events(filter)?;
            let waited = Instant::now() >= until;
            let record = self
                .journal
                .rollout(request.rollout)?
                .ok_or_else(|| Error::usage(format!("there is no rollout {}", request.rollout)))?;
            if !events.is_empty() || waited || record.phase.is_over() {
                return Ok(Progress {
                    rollout: self.rollout_status(&record),
                    events,
                });
            }
            // The journal is never closed while the controller runs.
            let _ = tokio::time::timeout_at(until, news.changed()).await;
        }
    }

    fn newest_rollout(&self, up: &Up, service: &str) -> Result<Option<RolloutStatus>> {
        if let Some(handle) = up.rollout(service) {
            return Ok(Some(status_of(&handle.live())));
        }
        let newest = self.journal.rollouts(Some(service), 1)?;
        Ok(newest.first().map(|record| status_of(&Live::of(record))))
    }

    /// With what the running task has seen, where there is one.
    fn rollout_status(&self, record: &RolloutRecord) -> RolloutStatus {
        let running = self.get_up().and_then(|up| up.rollout(&record.service));
        let live = running
            .map(|handle| handle.live())
            .filter(|live| live.record.id == record.id);
        let mut live = live.unwrap_or_else(|| Live::of(record));
        // The journal is ahead of the task for a moment.
        live.record = record.clone();
        status_of(&live)
    }
}

pub(crate) fn status_of(live: &Live) -> RolloutStatus {
    let record = &live.record;
    RolloutStatus {
        id: record.id,
        service: record.service.clone(),
        from: record.from.version.clone(),
        to: record.to.version.clone(),
        strategy: record.settings.strategy.to_string(),
        phase: record.phase,
        step: (record.step + 1).min(record.steps.len()),
        steps: record.steps.len(),
        share: match record.phase {
            Phase::Shifting => record.steps.get(record.step).map_or(0, |step| step.share),
            Phase::Promoting | Phase::Baking | Phase::Draining | Phase::Done => 100,
            Phase::Starting | Phase::Checking | Phase::RollingBack | Phase::RolledBack => 0,
        },
        paused: record.paused.clone(),
        why: record.why.clone(),
        verdict: live.verdict.clone().filter(|_| !record.phase.is_over()),
        last_error: live.last_error.clone().filter(|_| !record.phase.is_over()),
        candidate: live.candidate,
        stable: live.stable,
        created: record.created,
        ended: record.ended,
    }
}

/// What the proxy reports of a service. A running rollout polls it all the time, so that no client
/// has to wait for it; but after a change of the split, it is queried anew.
async fn query_proxy(up: &Up, service: &ServiceRecord) -> Result<Arc<ProxySaid>, AdminError> {
    let known = up.rollout(&service.name).and_then(|run| run.live().proxy);
    let known = known
        .filter(|said| said.at.elapsed() <= FRESH)
        .filter(|said| {
            service
                .split
                .iter()
                .all(|(version, weight)| said.view.split.get(version).unwrap_or(&0) == weight)
        });
    if let Some(known) = known {
        return Ok(known);
    }
    let admin = &up.project.admin;
    let (view, stats) = tokio::try_join!(admin.service(&service.name), admin.stats(&service.name))?;
    Ok(Arc::new(ProxySaid {
        view,
        stats,
        at: Instant::now(),
    }))
}

/// Adds what runs of a service that serves nothing, of which the proxy does not know.
async fn with_workers(
    up: &Up,
    service: &ServiceRecord,
    said: Option<Arc<ProxySaid>>,
) -> Option<Arc<ProxySaid>> {
    let Some(known) = &said else { return said };
    if !service.stable.template.is_worker() {
        return said;
    }
    let Ok(containers) = up.project.live_containers(&service.name).await else {
        return said;
    };
    let mut view = known.view.clone();
    // A rollout's look has them already.
    view.versions.clear();
    show_workers(&mut view, &containers);
    Some(Arc::new(ProxySaid {
        view,
        stats: known.stats.clone(),
        at: known.at,
    }))
}

/// Every version that the proxy has, and those that should be there.
fn versions(
    service: &ServiceRecord,
    rollout: Option<&RolloutStatus>,
    said: Option<&ProxySaid>,
) -> Vec<VersionStatus> {
    let view = said.map(|said| &said.view);
    let stats = said.map(|said| &said.stats);
    let mut names: Vec<&str> = view
        .map(|view| view.versions.keys().map(String::as_str).collect())
        .unwrap_or_else(|| service.split.keys().map(String::as_str).collect());
    if !names.contains(&service.stable.version.as_str()) {
        names.push(&service.stable.version);
    }
    let split = view.map_or(&service.split, |view| &view.split);
    let total: f64 = split.values().copied().map(f64::from).sum();
    let running = rollout.filter(|rollout| rollout.ended.is_none());
    let status = |name: &str| {
        let endpoints = view
            .and_then(|view| view.versions.get(name))
            .map(|version| version.endpoints.as_slice())
            .unwrap_or_default();
        let is_up = |one: &&EndpointView| one.health == HealthState::Up;
        let weight = split.get(name).copied().unwrap_or(0);
        let of = stats.and_then(|stats| stats.versions.get(name));
        let stats = Counts {
            attempts: of.map_or(0, admin_api::VersionStats::attempts),
            failures: of.map_or(0, admin_api::VersionStats::failures),
            ..Counts::default()
        };
        VersionStatus {
            version: name.to_owned(),
            role: role(name, service, running).to_owned(),
            weight,
            share: if total > 0.0 {
                100.0 * f64::from(weight) / total
            } else {
                0.0
            },
            healthy: endpoints.iter().filter(is_up).count(),
            endpoints: endpoints.len(),
            in_flight: of.map_or(0, |of| of.in_flight),
            requests: stats.attempts,
            failures: stats.failures,
            success_rate: stats.success_rate(),
            since: None,
            restarts: 0,
            restarted: None,
            last_minute: None,
        }
    };
    let mut versions: Vec<VersionStatus> = names.into_iter().map(status).collect();
    versions.sort_by_key(|version| version.role != "stable");
    versions
}

/// What a version is to its service, `running` being the rollout that runs.
fn role(name: &str, service: &ServiceRecord, running: Option<&RolloutStatus>) -> &'static str {
    match running {
        _ if name == service.stable.version => "stable",
        Some(rollout) if rollout.to == name => "candidate",
        Some(rollout) if rollout.from == name => "warm",
        _ => "draining",
    }
}
