//! One look at a candidate: its containers, its health, and its figures since the step began.

use std::sync::Arc;
use std::time::Duration;

use admin_api::{CopyStats, ServiceStats, ServiceView, VersionStats};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{PhaseExit, PhaseResult, Rollout};
use crate::error::{ContainerError, Error, Fault, Result};
use crate::journal::RolloutRecord;
use crate::project::healthy::Health;
use crate::verdict::{
    Case, Counts, Dealt, Family, Limits, NotJudged, Pair, Reading, Run, Sample, Verdict, Window,
};

/// How long the runtime may take to say that a container has exited which the proxy knows to be gone.
/// No request waits for it: stable has them all by then.
pub(super) const EXIT_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often a candidate whose figures are bad is looked at for a container that has exited.
const LOOKS_AFTER_BAD: usize = 2;

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

impl StepWatch {
    /// Which run of the step it is.
    pub(super) fn run(&self) -> &Run {
        self.window.run()
    }

    /// How long it is until the next look.
    pub(super) fn look_in(&self, look_every: Duration) -> Duration {
        self.window.run().look_in(look_every, self.watched)
    }

    /// The candidate is accused of this, and gets a second chance.
    pub(super) fn set_aside(&mut self, family: Family, why: String, sample: &Sample) {
        self.window.set_aside(family, why, sample);
    }
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
        let Some((now, dealt)) = self.reading(replicas).await? else {
            watch.last_sample = Instant::now();
            return Ok(None);
        };
        watch.watched += watch.last_sample.elapsed();
        watch.last_sample = Instant::now();
        let was_warm = watch.window.is_warm();
        let limits = self.record.settings.limits();
        let sample = watch.window.sample(&now, watch.watched, dealt, &limits);
        if sample.is_none() || watch.window.is_warm() != was_warm {
            self.keep(watch);
        }
        Ok(sample)
    }

    async fn reading(&mut self, replicas: u32) -> PhaseResult<Option<(Reading, Dealt)>> {
        let seen = match self.observe().await {
            Ok(seen) => seen,
            Err(error) if error.fault() == Fault::Environment => {
                self.note_error(error.to_string());
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let is_failing = seen.health.failing && seen.stable_is_well;
        if let (true, Some(down)) = (is_failing, seen.health.down.clone()) {
            self.leave_all_to_stable(&seen).await?;
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
        let dealt = self.dealt(&seen);
        let said = ProxySaid {
            view: seen.view,
            stats,
            at: Instant::now(),
        };
        self.live.send_modify(|live| {
            live.last_error = None;
            live.proxy = Some(Arc::new(said));
        });
        Ok(Some((reading, dealt)))
    }

    /// How the proxy deals the requests that the candidate is judged by.
    fn dealt(&self, seen: &Seen) -> Dealt {
        let view = &seen.view;
        let candidate_is_down = seen.health.down.is_some();
        if self.record.mirrors().is_some() {
            return Dealt {
                stable_is_due: true,
                by_client: None,
                candidate_is_down,
            };
        }
        let weight = |version| f64::from(view.split.get(version).copied().unwrap_or(0));
        let stable = weight(&self.record.from.version);
        let candidate = weight(&self.record.to.version);
        let share = candidate / (candidate + stable).max(1.0);
        Dealt {
            stable_is_due: stable > 0.0,
            by_client: view.traffic.sticky.is_some().then_some(share),
            candidate_is_down,
        }
    }

    /// The candidate is at its end: stable has all in one swap, so that no request waits until it is
    /// known why. Where the candidate still serves and stable has made room for it, stable first gets
    /// its containers back. The rollback that follows says the split again.
    async fn leave_all_to_stable(&self, seen: &Seen) -> PhaseResult<()> {
        let service = &self.record.service;
        let enough = match seen.health.up {
            0 => 1,
            _ => self.project.service(service)?.replicas,
        };
        let stable = Health::of(&seen.view, &self.record.from.version);
        if stable.up < enough {
            return Ok(());
        }
        self.project.journal.set_split(service, &self.split_of(0))?;
        if let Err(error) = self.project.push(service).await {
            self.note_error(error.to_string());
        }
        Ok(())
    }

    /// The candidate's figures are bad. Where that is since a container of it has exited, says so too:
    /// requests fail before anybody knows of the exit.
    pub(super) async fn bad(
        &mut self,
        why: String,
        stats: serde_json::Value,
    ) -> PhaseResult<PhaseExit> {
        let mut exit = None;
        for look in 0..LOOKS_AFTER_BAD {
            match self.observe().await {
                Err(error @ Error::Container(ContainerError::Exited { .. })) => exit = Some(error),
                Ok(seen) if seen.health.is_down() => {
                    self.leave_all_to_stable(&seen).await?;
                    exit = self.exit_of_candidate().await;
                }
                // It may be noticed a moment later than the failures are counted.
                _ if look + 1 < LOOKS_AFTER_BAD => {
                    sleep(LOOK_EVERY).await;
                    continue;
                }
                _ => {}
            }
            break;
        }
        let why = match exit {
            Some(exit) => format!("{exit}; {why}"),
            None => why,
        };
        let stats = Some(stats);
        Ok(PhaseExit::Bad { why, stats })
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
        let known = self.project.journal.window(self.record.id)?;
        let is_known = known.is_some();
        let window = match known {
            Some(window) => window,
            None => {
                let window = Window::open(self.stats().await?);
                match self.record.mirrors() {
                    Some(_) => window.with_record(self.stats_of_all().await?.stable),
                    None => window,
                }
            }
        };
        let watch = StepWatch {
            window,
            watched: Duration::ZERO,
            last_sample: Instant::now(),
        };
        if !is_known {
            self.keep(&watch);
        }
        Ok(watch)
    }

    /// A window that cannot be written down is a window all the same.
    pub(super) fn keep(&self, watch: &StepWatch) {
        if let Err(error) = self
            .project
            .journal
            .keep_window(self.record.id, &watch.window)
        {
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

    pub(super) fn show(&self, limits: &Limits, verdict: &Verdict, sample: &Sample) {
        let mut text = verdict.to_string();
        let not_judged = match verdict {
            Verdict::Advance => NotJudged::of(limits, sample).text(),
            Verdict::Hold { .. } => NotJudged::yet(limits, sample).text(),
            _ => None,
        };
        if let Some(not_judged) = not_judged {
            text.push_str(&format!("; {not_judged}"));
        }
        self.live.send_modify(|live| {
            live.candidate = sample.step.candidate;
            live.stable = sample.step.stable;
            live.verdict = Some(text);
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
        "run": sample.run,
        "recent": sample.recent,
        "kind_of_run": sample.kind,
        "record": sample.record,
        "slow_ms": sample.slow.map(|seconds| seconds * 1000.0),
        "elapsed_ms": millis(sample.elapsed),
        "evidence": Case::against(limits, sample),
        "not_judged": NotJudged::of(limits, sample).text(),
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
