//! `status`, `history`, and how one rollout is doing.

use std::time::Duration;

use admin_api::{HealthState, ServiceList, ServiceStats};

use super::{Controller, Up, lock};
use crate::api::{
    EventsReply, EventsRequest, ExplainRequest, Explanation, HistoryReply, HistoryRequest,
    Progress, ProgressRequest, RolloutStatus, ServiceStatus, StatusReply, VersionStatus,
};
use crate::error::{Error, Result};
use crate::explain::explain;
use crate::manifest::Listener;
use crate::rollout::{Live, Phase};
use crate::store::{EventFilter, RolloutRecord, ServiceRecord};
use crate::verdict::Figures;

const HISTORY: u32 = 100;
/// Events in one answer.
const AT_ONCE: u32 = 1000;
/// Whoever waits for news is answered after so long without any.
const LONGEST_WAIT_MS: u64 = 10_000;

impl Controller {
    /// `status`.
    pub(crate) async fn status(&self) -> Result<StatusReply> {
        let up = self.up()?;
        let manifest = up.site.manifest();
        let (views, mut trouble) = match up.site.admin.services().await {
            Ok(list) => (Some(list), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut services = Vec::new();
        for service in self.store.services()? {
            let stats = match up.site.admin.stats(&service.name).await {
                Ok(stats) => Some(stats),
                Err(error) => {
                    trouble.get_or_insert_with(|| error.to_string());
                    None
                }
            };
            let rollout = self.newest_rollout(&up, &service.name)?;
            let versions = versions(&service, rollout.as_ref(), views.as_ref(), stats.as_ref());
            services.push(ServiceStatus {
                generation: self.store.generation(&service.name)?,
                name: service.name,
                stable: service.stable.version,
                previous: service.previous.map(|previous| previous.version),
                replicas: service.replicas,
                versions,
                rollout,
            });
        }
        let unhealed = lock(&up.trouble).first().cloned();
        Ok(StatusReply {
            project: up.site.project.clone(),
            runtime: up.site.runtime.name().to_owned(),
            listen: manifest
                .proxy
                .listeners
                .iter()
                .map(|listener| listener.address.to_string())
                .collect(),
            urls: manifest.proxy.listeners.iter().map(Listener::url).collect(),
            trouble: trouble.or(unhealed),
            services,
        })
    }

    /// `history`. What was stays readable when nothing is up.
    pub(crate) fn history(&self, request: &HistoryRequest) -> Result<HistoryReply> {
        let service = request.service.as_deref();
        if let (Some(name), Some(up)) = (service, self.get_up()) {
            up.site.service(name)?;
        }
        let rollouts = self.store.rollouts(service, HISTORY)?;
        let filter = EventFilter {
            service,
            ..EventFilter::default()
        };
        Ok(HistoryReply {
            rollouts: rollouts
                .iter()
                .map(|record| self.rollout_status(record))
                .collect(),
            events: self.store.events(filter)?,
        })
    }

    /// `events`: those younger than the one known, as soon as there are some.
    pub(crate) async fn events(&self, request: EventsRequest) -> Result<EventsReply> {
        let service = request.service.as_deref();
        if let (Some(name), Some(up)) = (service, self.get_up()) {
            up.site.service(name)?;
        }
        let mut news = self.store.news();
        let until = tokio::time::Instant::now()
            + Duration::from_millis(request.wait_ms.min(LONGEST_WAIT_MS));
        let after = request.after.unwrap_or(*news.borrow());
        loop {
            let events = self.store.events_after(service, after, AT_ONCE)?;
            if !events.is_empty() || tokio::time::Instant::now() >= until {
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
            Some(id) => self.store.rollout(id)?,
            None => self.store.rollouts(None, 1)?.pop(),
        };
        let record = record.ok_or_else(|| match request.rollout {
            Some(id) => Error::Usage(format!("there is no rollout {id}: see `crossfade history`")),
            None => Error::Refused("there has been no rollout yet".into()),
        })?;
        let events = self.store.events(EventFilter {
            rollout: Some(record.id),
            ..EventFilter::default()
        })?;
        Ok(explain(self.rollout_status(&record), &record.steps, events))
    }

    /// How a rollout is doing, as soon as it has an event younger than the one known.
    pub(crate) async fn progress(&self, request: ProgressRequest) -> Result<Progress> {
        let mut news = self.store.news();
        let filter = EventFilter {
            rollout: Some(request.rollout),
            after: request.after,
            ..EventFilter::default()
        };
        let wait = Duration::from_millis(request.wait_ms.min(LONGEST_WAIT_MS));
        let until = tokio::time::Instant::now() + wait;
        loop {
            let events = self.store.events(filter)?;
            let waited = tokio::time::Instant::now() >= until;
            let record = self
                .store
                .rollout(request.rollout)?
                .ok_or_else(|| Error::Usage(format!("there is no rollout {}", request.rollout)))?;
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
        let newest = self.store.rollouts(Some(service), 1)?;
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
        trouble: live.trouble.clone().filter(|_| !record.phase.is_over()),
        candidate: live.candidate,
        stable: live.stable,
        created: record.created,
        ended: record.ended,
    }
}

/// Every version that the proxy has, and those that should be there.
fn versions(
    service: &ServiceRecord,
    rollout: Option<&RolloutStatus>,
    views: Option<&ServiceList>,
    stats: Option<&ServiceStats>,
) -> Vec<VersionStatus> {
    let view = views.and_then(|list| list.services.iter().find(|view| view.name == service.name));
    let mut names: Vec<&str> = view
        .map(|view| view.versions.keys().map(String::as_str).collect())
        .unwrap_or_else(|| service.split.keys().map(String::as_str).collect());
    if !names.contains(&service.stable.version.as_str()) {
        names.push(&service.stable.version);
    }
    let split = view.map_or(&service.split, |view| &view.split);
    let total: f64 = split.values().copied().map(f64::from).sum();
    let running = rollout.filter(|rollout| rollout.ended.is_none());
    let mut versions: Vec<VersionStatus> = names
        .into_iter()
        .map(|name| {
            let role = if name == service.stable.version {
                "stable"
            } else if running.is_some_and(|rollout| rollout.to == name) {
                "candidate"
            } else if running.is_some_and(|rollout| rollout.from == name) {
                "warm"
            } else {
                "draining"
            };
            let endpoints = view
                .and_then(|view| view.versions.get(name))
                .map(|version| version.endpoints.as_slice())
                .unwrap_or_default();
            let weight = split.get(name).copied().unwrap_or(0);
            let of = stats.and_then(|stats| stats.versions.get(name));
            let figures = Figures {
                tries: of.map_or(0, admin_api::VersionStats::tries),
                failures: of.map_or(0, admin_api::VersionStats::failures),
                ..Figures::default()
            };
            VersionStatus {
                version: name.to_owned(),
                role: role.to_owned(),
                weight,
                share: if total > 0.0 {
                    100.0 * f64::from(weight) / total
                } else {
                    0.0
                },
                healthy: endpoints
                    .iter()
                    .filter(|e| e.health == HealthState::Up)
                    .count(),
                endpoints: endpoints.len(),
                in_flight: of.map_or(0, |of| of.in_flight),
                requests: figures.tries,
                failures: figures.failures,
                success_rate: figures.success_rate(),
            }
        })
        .collect();
    versions.sort_by_key(|version| version.role != "stable");
    versions
}
