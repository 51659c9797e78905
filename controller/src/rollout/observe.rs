//! One look at a candidate: its containers, its health, and its figures since the step began.

use std::sync::Arc;
use std::time::Duration;

use admin_api::{CopyStats, ServiceStats, ServiceView, VersionStats};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{PhaseResult, Rollout};
use crate::error::{ContainerError, Error, Fault, Result};
use crate::journal::RolloutRecord;
use crate::project::healthy::Health;
use crate::verdict::{Case, Counts, Limits, Pair, Reading, Sample, Verdict, Window};

/// How long the runtime may take to say that a container has exited which the proxy knows to be gone.
const EXIT_WITHIN: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is known of a rollout now.
#[derive(Debug, Clone)]
pub struct Live {
    /// As the journal has it.
    pub record: RolloutRecord,
    /// The candidate's figures since the step began.
    pub candidate: Counts,
    /// Stable's, in the same window.
    pub stable: Counts,
    /// What the last look said.
    pub verdict: Option<String>,
    /// What cannot be done now, for reasons of our own.
    pub last_error: Option<String>,
    /// What the proxy reported at the last sample, for callers that need not query it.
    pub proxy: Option<Arc<ProxySaid>>,
}

/// What the proxy said of a service.
#[derive(Debug)]
pub struct ProxySaid {
    /// What it has.
    pub view: ServiceView,
    /// What came of the requests.
    pub stats: ServiceStats,
    /// When.
    pub at: Instant,
}

impl Live {
    /// Before the first look.
    pub(crate) fn of(record: &RolloutRecord) -> Self {
        Self {
            record: record.clone(),
            candidate: Counts::default(),
            stable: Counts::default(),
            verdict: None,
            last_error: None,
            proxy: None,
        }
    }
}

/// The window in which candidate and stable are compared, and how long it has been open.
pub(super) struct StepWatch {
    window: Window,
    /// Without the time in which nothing could be seen.
    watched: Duration,
    last_sample: Instant,
}

/// What is seen of the candidate, and whether stable serves beside it.
pub(super) struct Seen {
    /// Its containers that run.
    pub(super) running: u32,
    /// Its endpoints, as the proxy sees them.
    pub(super) health: Health,
    /// Whether stable serves: one of its endpoints is up, or it has none.
    pub(super) stable_is_well: bool,
    view: ServiceView,
}

impl Rollout {
    /// A container that has exited is an error.
    pub(super) async fn observe(&mut self) -> Result<Seen> {
        let candidate = self.project.observe(&self.record.to).await?;
        let stable = Health::of(&candidate.view, &self.record.from.version);
        Ok(Seen {
            running: candidate.running,
            health: candidate.health,
            stable_is_well: stable.serves(),
            view: candidate.view,
        })
    }

    /// What has come of candidate and stable since the window opened; `None` where that cannot
    /// be had now, which says nothing about the candidate.
    pub(super) async fn sample(
        &mut self,
        watch: &mut StepWatch,
        replicas: u32,
    ) -> PhaseResult<Option<Sample>> {
        let Some(now) = self.reading(replicas).await? else {
            watch.last_sample = Instant::now();
            return Ok(None);
        };
        watch.watched += watch.last_sample.elapsed();
        watch.last_sample = Instant::now();
        let was_warm = watch.window.is_warm();
        let limits = self.record.settings.limits();
        let sample = watch.window.sample(&now, watch.watched, &limits);
        if sample.is_none() || watch.window.is_warm() != was_warm {
            self.keep(&watch.window);
        }
        Ok(sample)
    }

    async fn reading(&mut self, replicas: u32) -> PhaseResult<Option<Reading>> {
        let seen = match self.observe().await {
            Ok(seen) => seen,
            Err(error) if error.fault() == Fault::Environment => {
                self.note_error(error.to_string());
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let is_failing = seen.health.failing && seen.stable_is_well;
        if let (true, Some(down)) = (is_failing, seen.health.down) {
            let exit = self.exit_of_candidate().await;
            return Err(exit
                .unwrap_or_else(|| ContainerError::from(down).into())
                .into());
        }
        if seen.running < replicas {
            // A container was removed by hand.
            self.capacity(replicas, Duration::ZERO).await?;
            return Ok(None);
        }
        let stats = match self.project.admin.stats(&self.record.service).await {
            Ok(stats) => stats,
            Err(error) => {
                self.note_error(error.to_string());
                return Ok(None);
            }
        };
        let reading = self.reading_of(stats.clone());
        let said = ProxySaid {
            view: seen.view,
            stats,
            at: Instant::now(),
        };
        self.live.send_modify(|live| {
            live.last_error = None;
            live.proxy = Some(Arc::new(said));
        });
        Ok(Some(reading))
    }

    /// The proxy knows that a container is gone before the runtime says that it has exited, which says
    /// more: waits a moment for that.
    async fn exit_of_candidate(&self) -> Option<Error> {
        let began = Instant::now();
        loop {
            if let Err(error @ Error::Container(ContainerError::Exited { .. })) =
                self.project.observe(&self.record.to).await
            {
                return Some(error);
            }
            if began.elapsed() >= EXIT_WITHIN {
                return None;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Opens the window of this step, or takes up the one that the journal has: then the
    /// figures go on, and only the time begins anew.
    pub(super) async fn watch(&mut self) -> Result<StepWatch> {
        let window = match self.project.journal.window(self.record.id)? {
            Some(window) => window,
            None => {
                let mut window = Window::open(self.stats().await?);
                if self.record.mirrors().is_some() {
                    window = window.with_record(self.stats_of_all().await?.stable);
                }
                self.keep(&window);
                window
            }
        };
        Ok(StepWatch {
            window,
            watched: Duration::ZERO,
            last_sample: Instant::now(),
        })
    }

    /// A window that cannot be written down is a window all the same.
    fn keep(&self, window: &Window) {
        if let Err(error) = self.project.journal.keep_window(self.record.id, window) {
            self.note_error(error.to_string());
        }
    }

    async fn stats(&self) -> Result<Reading> {
        let stats = self.project.admin.stats(&self.record.service).await?;
        Ok(self.reading_of(stats))
    }

    /// What the candidate is judged by: what came of its requests, or of its copies.
    fn reading_of(&self, stats: ServiceStats) -> Reading {
        if self.record.mirrors().is_none() {
            return self.reading_of_all(stats);
        }
        let mirror = stats.mirror.unwrap_or_default();
        if mirror.version != self.record.to.version {
            // A proxy that has started again, and knows of no copies yet.
            return Reading::default();
        }
        Pair {
            candidate: of_copies(mirror.copies),
            stable: of_copies(mirror.originals),
        }
    }

    async fn stats_of_all(&self) -> Result<Reading> {
        let stats = self.project.admin.stats(&self.record.service).await?;
        Ok(self.reading_of_all(stats))
    }

    fn reading_of_all(&self, stats: ServiceStats) -> Reading {
        let ServiceStats { mut versions, .. } = stats;
        let candidate = versions.remove(&self.record.to.version).unwrap_or_default();
        let stable = versions
            .remove(&self.record.from.version)
            .unwrap_or_default();
        Pair { candidate, stable }
    }

    pub(super) fn show(&self, verdict: &Verdict, sample: &Sample) {
        self.live.send_modify(|live| {
            live.candidate = sample.step.candidate;
            live.stable = sample.step.stable;
            live.verdict = Some(verdict.to_string());
        });
    }
}

/// The figures of copies, or of their originals. A response that is an error of its client's counts
/// as failed, whichever version sent it: the same requests should get the same responses.
fn of_copies(stats: CopyStats) -> VersionStats {
    let CopyStats {
        mut responses,
        failed_tries,
        latency,
    } = stats;
    responses.server_error += std::mem::take(&mut responses.client_error);
    VersionStats {
        responses,
        failed_tries,
        latency,
        ..VersionStats::default()
    }
}

/// A decision's figures for the history: enough to make it again.
pub(super) fn stats_json(limits: &Limits, sample: &Sample) -> serde_json::Value {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    json!({
        "candidate": sample.step.candidate,
        "stable": sample.step.stable,
        "recent": sample.recent,
        "record": sample.record,
        "slow_ms": sample.slow.map(|seconds| seconds * 1000.0),
        "elapsed_ms": millis(sample.elapsed),
        "evidence": Case::against(limits, sample),
        "limits": {
            "success_rate": limits.success_rate,
            "success_rate_tolerance": limits.success_rate_tolerance,
            "latency_p99_ms": millis(limits.latency_p99),
            "latency_tolerance": limits.latency_tolerance,
            "min_requests": limits.min_requests,
            "step_min_duration_ms": millis(limits.step_min_duration),
        },
    })
}
