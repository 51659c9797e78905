//! One look at a candidate: its containers, its health, and its figures since the step began.

use std::time::Duration;

use admin_api::{HealthState, ServiceStats, VersionStats};
use serde_json::json;
use tokio::time::Instant;

use super::{Rollout, Stay};
use crate::endpoints::of_version;
use crate::error::{Error, Result};
use crate::runtime::ContainerState;
use crate::store::RolloutRecord;
use crate::verdict::{Figures, Verdict};

/// What is known of a rollout now.
#[derive(Debug, Clone)]
pub struct Live {
    /// As the journal has it.
    pub record: RolloutRecord,
    /// The candidate's figures since the step began.
    pub candidate: Figures,
    /// Stable's, in the same window.
    pub stable: Figures,
    /// What the last look said.
    pub verdict: Option<String>,
    /// What cannot be done now, for reasons of our own.
    pub trouble: Option<String>,
}

impl Live {
    /// Before the first look.
    pub(crate) fn of(record: &RolloutRecord) -> Self {
        Self {
            record: record.clone(),
            candidate: Figures::default(),
            stable: Figures::default(),
            verdict: None,
            trouble: None,
        }
    }
}

/// What came since the step began is what is there now less what was there then.
pub(super) struct Window {
    candidate: VersionStats,
    stable: VersionStats,
    /// How long it has been open, without the time in which nothing could be seen.
    watched: Duration,
    last_look: Instant,
}

impl Window {
    pub(super) fn elapsed(&self) -> Duration {
        self.watched
    }

    /// `saw`: whether the look came to something.
    fn looked(&mut self, saw: bool) {
        if saw {
            self.watched += self.last_look.elapsed();
        }
        self.last_look = Instant::now();
    }
}

/// What the proxy has seen of the candidate.
pub(super) struct Seen {
    /// Its endpoints that get requests.
    pub(super) up: u32,
    /// Its containers that run.
    pub(super) running: u32,
    /// What its first endpoint that is down says.
    pub(super) down: Option<String>,
    /// Whether a check of the candidate has failed.
    pub(super) failing: bool,
    /// Whether none of stable's endpoints is down.
    pub(super) stable_is_well: bool,
}

impl Rollout {
    /// A container that has exited is an error.
    pub(super) async fn observe(&mut self) -> Result<Seen> {
        let table = self.site.check_table(&self.record.service).await?;
        let candidates = of_version(&table.containers, &self.record.to);
        let exited = |state| matches!(state, ContainerState::Exited(_));
        if let Some(dead) = candidates.iter().find(|container| exited(container.state)) {
            return Err(self.site.exit_of(dead).await);
        }
        let running = candidates
            .iter()
            .filter(|c| c.state == ContainerState::Running)
            .count();
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        let (mut up, mut down, mut failing) = (0, None, false);
        if let Some(version) = table.view.versions.get(&self.record.to.version) {
            for endpoint in &version.endpoints {
                match endpoint.health {
                    HealthState::Up => up += 1,
                    HealthState::Draining => {}
                    HealthState::Down | HealthState::Unresolved => {
                        failing |= endpoint.reason.is_some();
                        down.get_or_insert_with(|| {
                            let reason = endpoint.reason.as_deref().unwrap_or("not checked yet");
                            format!("{} is {}: {reason}", endpoint.address, endpoint.health)
                        });
                    }
                }
            }
        }
        let stable = table.view.versions.get(&self.record.from.version);
        let stable_is_well = stable.is_none_or(|version| {
            version
                .endpoints
                .iter()
                .all(|endpoint| matches!(endpoint.health, HealthState::Up | HealthState::Draining))
        });
        Ok(Seen {
            up,
            running,
            down,
            failing,
            stable_is_well,
        })
    }

    /// The figures of candidate and stable since the window opened; `None` where they cannot be
    /// had now, which says nothing about the candidate.
    pub(super) async fn look(
        &mut self,
        window: &mut Window,
        replicas: u32,
    ) -> Stay<Option<(Figures, Figures)>> {
        let figures = self.figures_since(window, replicas).await;
        window.looked(matches!(figures, Ok(Some(_))));
        figures
    }

    async fn figures_since(
        &mut self,
        window: &mut Window,
        replicas: u32,
    ) -> Stay<Option<(Figures, Figures)>> {
        let seen = match self.observe().await {
            Ok(seen) => seen,
            Err(error) if error.is_ours() => {
                self.trouble(error.to_string());
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if let (true, Some(down)) = (seen.failing && seen.stable_is_well, seen.down) {
            return Err(Error::Refused(down).into());
        }
        if seen.running < replicas {
            // Somebody took a container away by hand.
            self.capacity(replicas, Duration::ZERO).await?;
            return Ok(None);
        }
        let (candidate, stable) = match self.stats().await {
            Ok(stats) => stats,
            Err(error) => {
                self.trouble(error.to_string());
                return Ok(None);
            }
        };
        let figures = Figures::between(&window.candidate, &candidate)
            .zip(Figures::between(&window.stable, &stable));
        if figures.is_none() {
            // Counters went backwards: the proxy has started again, and counts anew.
            window.candidate = candidate;
            window.stable = stable;
        }
        self.live.send_modify(|live| live.trouble = None);
        Ok(figures)
    }

    pub(super) async fn open_window(&mut self) -> Result<Window> {
        let (candidate, stable) = self.stats().await?;
        Ok(Window {
            watched: Duration::ZERO,
            last_look: Instant::now(),
            candidate,
            stable,
        })
    }

    async fn stats(&self) -> Result<(VersionStats, VersionStats)> {
        let ServiceStats { mut versions, .. } = self.site.admin.stats(&self.record.service).await?;
        let candidate = versions.remove(&self.record.to.version).unwrap_or_default();
        let stable = versions
            .remove(&self.record.from.version)
            .unwrap_or_default();
        Ok((candidate, stable))
    }

    pub(super) fn show(&self, verdict: &Verdict, candidate: Figures, stable: Figures) {
        let text = match verdict {
            Verdict::Advance => "good".to_owned(),
            Verdict::Hold { why } => why.clone(),
            Verdict::RollBack { why } => format!("bad: {why}"),
            Verdict::Inconclusive { why } => format!("inconclusive: {why}"),
        };
        self.live.send_modify(|live| {
            live.candidate = candidate;
            live.stable = stable;
            live.verdict = Some(text);
        });
    }

    pub(super) fn figures(
        &self,
        candidate: Figures,
        stable: Figures,
        window: &Window,
    ) -> serde_json::Value {
        json!({
            "candidate": candidate,
            "stable": stable,
            "elapsed_ms": u64::try_from(window.elapsed().as_millis()).unwrap_or(u64::MAX),
            "limits": {
                "success_rate": self.record.settings.success_rate,
                "min_requests": self.record.settings.min_requests,
                "step_min_duration": self.record.settings.step_min_duration,
            },
        })
    }
}
