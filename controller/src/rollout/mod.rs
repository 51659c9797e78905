//! The life of a rollout, from top to bottom.
//!
//! ```text
//!  starting ──► checking ──► shifting ──► promoting ──► baking ──► draining ──► done
//!     │            │         │ ▲   │          │           │
//!     │            │         └─┘   │          │           │   promote: on to promoting, or
//!     │            │      step by  │          │           │   from baking to draining
//!     │            │        step   │          │           │
//!     └────────────┴───────────────┴──────────┴───────────┘
//!                  │  abort, a bad verdict, a container that exits, is not healthy,
//!                  ▼  cannot be started; anything that the proxy refuses
//!            rolling back ──► rolled back
//! ```
//!
//! *Paused* is no phase: a paused rollout stays where it is, is watched like any other, and
//! goes on by `resume`, `promote` or `abort`, or back by a bad verdict.
//!
//! One task owns a rollout. A phase is in the journal before any of its effects, and every
//! effect can be repeated, so a controller that was killed takes up the phase it finds and
//! goes on. What says nothing about the candidate (the proxy or the engine cannot be reached,
//! the disk is full) is tried again until it works; it is never judged.

mod capacity;
mod commands;
mod gate;
mod observe;
mod second_chance;
mod stable;
#[cfg(test)]
mod tests;
mod transition;

use std::sync::Arc;
use std::time::Duration;

use admin_api::Period;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::error::{Error, Fault, Result};
use crate::hooks::On;
use crate::journal::{Checkpoint, Phase, RolloutRecord, Split, Transition, kept_by};
use crate::plan::Step;
use crate::project::Project;
use crate::project::containers::Dead;
use crate::verdict::{Counts, Limits, NotJudged, Verdict, judge};

pub use commands::{Command, Handle};
pub use observe::{Live, ProxySaid};
pub(crate) use transition::split_text;

/// From one attempt to the next of what cannot be done now for reasons of our own.
const RETRY: Duration = Duration::from_secs(1);

/// Why a phase is left other than by its end.
enum PhaseExit {
    /// A command asked for it.
    Enter(Box<Transition>),
    /// The candidate is not good enough.
    Bad {
        why: String,
        stats: Option<serde_json::Value>,
    },
    /// It cannot be done now, for reasons of our own.
    Retry(String),
}

impl From<Error> for PhaseExit {
    fn from(error: Error) -> Self {
        let why = error.to_string();
        match error.fault() {
            Fault::Environment => Self::Retry(why),
            Fault::Candidate => Self::Bad { why, stats: None },
        }
    }
}

type PhaseResult<T> = Result<T, PhaseExit>;

/// One rollout, and the task that owns it.
struct Rollout {
    project: Arc<Project>,
    record: RolloutRecord,
    commands: mpsc::Receiver<commands::Request>,
    live: watch::Sender<Live>,
    /// The callers that asked for the phase being entered: they get their reply when it is in the
    /// journal.
    on_enter: Vec<(oneshot::Sender<Result<String>>, String)>,
    /// The callers that asked for a split: they get their reply when the proxy has it.
    on_split: Vec<oneshot::Sender<Result<String>>>,
    /// Hooks that run now.
    hooks: Option<gate::Running>,
    /// It was scaled, and containers that are too many by that may still be there.
    is_scaled: bool,
}

/// Begins a rollout that is in the journal, or takes it up where it was left.
pub fn spawn(project: Arc<Project>, mut record: RolloutRecord) -> Handle {
    // A clock that was set back since would keep the old version warm until it is there again.
    record.phase_since = record.phase_since.min(project.clock.now());
    let (sender, commands) = mpsc::channel(16);
    let (live, seen) = watch::channel(Live::of(&record));
    let rollout = Rollout {
        project,
        record,
        commands,
        live,
        on_enter: Vec::new(),
        on_split: Vec::new(),
        hooks: None,
        is_scaled: false,
    };
    Handle::new(sender, seen, tokio::spawn(rollout.run()))
}

impl Rollout {
    async fn run(mut self) {
        while !self.record.phase.is_over() {
            let outcome = match self.record.phase {
                Phase::Starting => self.starting().await,
                Phase::Checking => self.checking().await,
                Phase::Shifting => self.shifting().await,
                Phase::Promoting => self.promoting().await,
                Phase::Baking => self.baking().await,
                Phase::Draining => self.draining().await,
                Phase::RollingBack => self.rolling_back().await,
                Phase::Done | Phase::RolledBack => break,
            };
            let next = match outcome {
                Ok(next) => next,
                Err(PhaseExit::Enter(next)) => *next,
                Err(PhaseExit::Bad { why, stats }) if self.can_roll_back() => {
                    self.roll_back(why, stats)
                }
                // There is nothing further back than these phases: they go on until they work.
                Err(PhaseExit::Bad { why, .. } | PhaseExit::Retry(why)) => {
                    self.note_error(why);
                    match self.rest(RETRY).await {
                        Err(PhaseExit::Enter(next)) => *next,
                        _ => continue,
                    }
                }
            };
            self.enter(next).await;
        }
        tracing::info!(rollout = self.record.id, phase = %self.record.phase, "over");
    }

    /// Starts the candidate's first containers, where there is room for them.
    async fn starting(&mut self) -> PhaseResult<Transition> {
        let Step {
            replicas, stable, ..
        } = self.step()?;
        self.lower_stable(stable).await?;
        self.project
            .start_missing(&self.record.to, replicas, Dead::Fail, &mut Vec::new())
            .await?;
        let text = format!(
            "{replicas} of {} started; they must be healthy for {}",
            self.record.to.version, self.record.settings.min_healthy_time
        );
        let paused = self.record.paused.clone();
        Ok(Transition {
            paused,
            ..Transition::new(Phase::Checking, 0, text)
        })
    }

    /// Waits until the proxy has seen the candidate healthy for a while. It gets no request.
    async fn checking(&mut self) -> PhaseResult<Transition> {
        let (replicas, healthy_for) = (
            self.step()?.replicas,
            self.record.settings.min_healthy_time.get(),
        );
        self.capacity(replicas, healthy_for).await?;
        while self.record.paused.is_some() || !self.is_prepared(0)? {
            self.rest(self.look_every()).await?;
            self.capacity(replicas, Duration::ZERO).await?;
        }
        Ok(self.shift_to(0, None))
    }

    /// Gives the candidate the step's share, and watches until the figures say what to do.
    async fn shifting(&mut self) -> PhaseResult<Transition> {
        let step = self.step()?;
        let (split, replicas) = match self.record.hand_split.clone() {
            None => {
                self.lower_stable(step.stable).await?;
                (self.split_of(step.share), step.replicas)
            }
            Some(split) => {
                self.raise_stable(&split).await?;
                let to = &self.record.to.version;
                let replicas = self.replicas_by_hand(&split, to)?;
                (split, replicas.max(1))
            }
        };
        self.capacity(replicas, Duration::ZERO).await?;
        let mut given = self.split_in(&self.run_so_far()?, &split);
        self.set_split(&given).await?;
        self.finish_scale(&split, replicas).await?;
        let mut watch = self.watch().await?;
        loop {
            self.rest(watch.look_in(self.look_every())).await?;
            let sample = self.sample(&mut watch, replicas).await?;
            self.follow(&watch, &split, &mut given).await?;
            let Some(sample) = sample else {
                continue;
            };
            let limits = self.limits_of(step);
            let verdict = judge(&limits, &sample);
            self.show(&limits, &verdict, &sample);
            match verdict {
                Verdict::RollBack { why } => {
                    let why = match watch.run().accused_of() {
                        Some(before) => format!("again: {why} (before that: {before})"),
                        None => why,
                    };
                    let stats = observe::stats_json(&limits, &sample);
                    return Err(self.bad(why, stats).await?);
                }
                Verdict::SetAside { family, why } => {
                    self.set_aside(&mut watch, (family, why), &sample)?;
                    self.follow(&watch, &split, &mut given).await?;
                }
                _ if self.record.paused.is_some() => {}
                // What was good enough once is only watched from then on.
                Verdict::Pause { why } if !self.record.has(Checkpoint::Watched) => {
                    self.pause(&why)?;
                }
                _ if (verdict == Verdict::Advance || self.record.has(Checkpoint::Watched))
                    && self.may_go_on(step)? =>
                {
                    let Counts {
                        failures, attempts, ..
                    } = sample.step.candidate;
                    let mut observed = format!("{failures} of {attempts} requests failed");
                    if let Some(not_judged) = NotJudged::of(&limits, &sample).text() {
                        observed.push_str(&format!("; {not_judged}"));
                    }
                    return Ok(self.after_step(&observed, observe::stats_json(&limits, &sample)));
                }
                _ => {}
            }
        }
    }

    /// Gives the candidate every container it needs, then every request.
    async fn promoting(&mut self) -> PhaseResult<Transition> {
        let replicas = self.project.service(&self.record.service)?.replicas;
        self.capacity(replicas, Duration::ZERO).await?;
        // Stable is who has the requests: not before the proxy has said so.
        let all = self.split_of(100);
        self.set_split(&all).await?;
        self.project
            .journal
            .set_stable(&self.record.service, &self.record.to)?;
        let text = format!(
            "{} is stable and gets all requests; {} stays warm for {}",
            self.record.to.version, self.record.from.version, self.record.settings.bake
        );
        Ok(Transition::new(Phase::Baking, self.record.step, text))
    }

    /// Keeps the old version warm, and watches the new one by its limits alone.
    async fn baking(&mut self) -> PhaseResult<Transition> {
        let all_to_new = Split::from([(self.record.to.version.clone(), 100)]);
        let split = self.record.hand_split.clone().unwrap_or(all_to_new);
        let replicas = self.project.service(&self.record.service)?.replicas;
        self.raise_stable(&split).await?;
        self.set_split(&split).await?;
        if self.is_scaled {
            self.capacity(replicas, Duration::ZERO).await?;
            self.finish_scale(&split, replicas).await?;
        }
        let mut watch = None;
        loop {
            let baked = self.project.clock.since(self.record.phase_since);
            let left = self.record.settings.bake.get().saturating_sub(baked);
            let is_told = self.is_told(On::After, Checkpoint::ToldPromoted)?;
            if left.is_zero() && is_told && self.record.paused.is_none() {
                return Ok(self.drain_old());
            }
            let rest = if left.is_zero() {
                self.look_every()
            } else {
                left.min(self.look_every())
            };
            let watch = match &mut watch {
                Some(watch) => watch,
                None => watch.insert(self.watch().await?),
            };
            self.rest(rest).await?;
            let Some(sample) = self.sample(watch, replicas).await? else {
                continue;
            };
            let limits = self.record.settings.limits();
            let verdict = judge(&limits, &sample);
            self.show(&limits, &verdict, &sample);
            if let Verdict::RollBack { why } | Verdict::SetAside { why, .. } = verdict {
                let stats = observe::stats_json(&limits, &sample);
                return Err(self.bad(why, stats).await?);
            }
        }
    }

    /// Lets the old version finish what it has, and stops it.
    async fn draining(&mut self) -> PhaseResult<Transition> {
        self.project
            .journal
            .set_previous(&self.record.service, &self.record.from)?;
        // A split that was set by hand while it baked ends here.
        self.project
            .journal
            .set_stable(&self.record.service, &self.record.to)?;
        if let Some(requested) = &self.record.requested {
            let service = &self.record.service;
            self.project.journal.set_requested(service, requested)?;
        }
        self.project.push(&self.record.service).await?;
        let old = self.project.containers_of(&self.record.from).await?;
        self.project.retire(&self.record.service, &old)?;
        self.until_drained().await?;
        let text = format!("{} is alone", self.record.to.version);
        Ok(Transition::new(Phase::Done, self.record.step, text))
    }

    /// Gives stable everything in one swap, lets the candidate finish what it has, and stops it.
    async fn rolling_back(&mut self) -> PhaseResult<Transition> {
        let service = self.record.service.clone();
        let replicas = self.project.service(&service)?.replicas;
        // Those that made room for the candidate are started first. Where all are there, one that
        // serves is enough.
        let kept = kept_by(&self.record, replicas).unwrap_or(replicas);
        let enough = if kept < replicas { replicas } else { 1 };
        self.until_stable_serves(enough, replicas).await?;
        self.project
            .journal
            .set_stable(&service, &self.record.from)?;
        self.project.push(&service).await?;
        self.start_stable(replicas).await?;
        let candidate = self.project.containers_of(&self.record.to).await?;
        self.project.retire(&service, &candidate)?;
        let told = Checkpoint::ToldRolledBack;
        self.is_told(On::OnRollback, told)?;
        self.until_drained().await?;
        while !self.is_told(On::OnRollback, told)? {
            self.rest(self.look_every()).await?;
        }
        let text = format!(
            "{} gets all requests; {} is removed",
            self.record.from.version, self.record.to.version
        );
        Ok(Transition::new(Phase::RolledBack, self.record.step, text))
    }

    async fn set_split(&mut self, split: &Split) -> PhaseResult<()> {
        self.project
            .journal
            .set_split(&self.record.service, split)?;
        self.project.push(&self.record.service).await?;
        for reply in self.on_split.drain(..) {
            let text = format!("{} now has {}", self.record.service, split_text(split));
            let _ = reply.send(Ok(text));
        }
        Ok(())
    }

    async fn until_drained(&mut self) -> PhaseResult<()> {
        while self.project.sweep_on(&self.record.service).await? {
            self.rest(self.look_every()).await?;
        }
        Ok(())
    }

    fn can_roll_back(&self) -> bool {
        !matches!(self.record.phase, Phase::Draining | Phase::RollingBack)
    }

    fn step(&self) -> PhaseResult<Step> {
        self.record
            .steps
            .get(self.record.step)
            .copied()
            .ok_or_else(|| PhaseExit::Bad {
                why: format!("step {} does not exist", self.record.step + 1),
                stats: None,
            })
    }

    fn split_of(&self, share: u8) -> Split {
        Split::from([
            (
                self.record.from.version.clone(),
                u32::from(100 - share.min(100)),
            ),
            (self.record.to.version.clone(), u32::from(share)),
        ])
    }

    /// What holds for one step: the settings, and what the step has instead.
    fn limits_of(&self, step: Step) -> Limits {
        let limits = self.record.settings.limits();
        let hold = step.hold.map_or(limits.step_min_duration, Period::get);
        Limits {
            min_requests: step.min_requests.unwrap_or(limits.min_requests),
            step_min_duration: hold,
            // A step that lasts long by itself is not paused for it.
            max_hold: limits.max_hold.max(hold),
            // What clients ask wrongly fails as a copy, too: copies are held to what their
            // originals came to, and to nothing else.
            success_rate: match step.mirror {
                Some(_) => 0.0,
                None => limits.success_rate,
            },
            ..limits
        }
    }

    fn look_every(&self) -> Duration {
        self.record.settings.look_every.get()
    }

    /// Writes down that the phase begins. Nothing goes on before that is on the disk.
    async fn enter(&mut self, next: Transition) {
        if (next.phase, next.step) != (self.record.phase, self.record.step) {
            // What belonged to where it was is of no use any more.
            self.hooks = None;
        }
        loop {
            match self
                .project
                .journal
                .enter(&self.record, &next, self.project.clock.now())
            {
                Ok(record) => self.record = record,
                Err(error) => {
                    self.note_error(error.to_string());
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
            break;
        }
        tracing::info!(rollout = self.record.id, phase = %self.record.phase, "{}", next.text);
        for (reply, text) in self.on_enter.drain(..) {
            let _ = reply.send(Ok(text));
        }
        if self.record.hand_split.is_none() {
            for reply in self.on_split.drain(..) {
                let why = format!("the split was not set: {}", next.text);
                let _ = reply.send(Err(Error::refused(why)));
            }
        }
        self.live.send_replace(Live::of(&self.record));
    }

    /// Waits, and carries out commands that come meanwhile.
    async fn rest(&mut self, duration: Duration) -> PhaseResult<()> {
        let until = Instant::now() + duration;
        loop {
            tokio::select! {
                () = sleep_until(until) => return Ok(()),
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command)?,
                    // No caller is left.
                    None => {
                        sleep_until(until).await;
                        return Ok(());
                    }
                },
            }
        }
    }

    fn note_error(&self, error: String) {
        tracing::warn!(rollout = self.record.id, "{error}");
        self.live.send_modify(|live| live.last_error = Some(error));
    }
}
