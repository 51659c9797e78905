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
mod entering;
mod gate;
mod observe;
mod stable;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use admin_api::Period;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::error::{Error, Fault, Result};
use crate::hooks::On;
use crate::journal::{Entering, Mark, Phase, RolloutRecord, Split, kept_by};
use crate::plan::Step;
use crate::project::Site;
use crate::project::containers::Dead;
use crate::verdict::{Figures, Limits, Verdict, judge};

pub use commands::{Ask, Handle};
pub(crate) use entering::split_text;
pub use observe::{Live, ProxySaid};

/// From one try to the next of what cannot be done now for reasons of our own.
const RETRY: Duration = Duration::from_secs(1);

/// Why a phase is left other than by its end.
enum Leave {
    /// Somebody asked for it.
    Enter(Box<Entering>),
    /// The candidate is not good enough.
    Bad {
        why: String,
        figures: Option<serde_json::Value>,
    },
    /// It cannot be done now, for reasons of our own.
    Retry(String),
}

impl From<Error> for Leave {
    fn from(error: Error) -> Self {
        let why = error.to_string();
        match error.fault() {
            Fault::Environment => Self::Retry(why),
            Fault::Candidate => Self::Bad { why, figures: None },
        }
    }
}

type Stay<T> = Result<T, Leave>;

/// One rollout, and the task that owns it.
struct Rollout {
    site: Arc<Site>,
    record: RolloutRecord,
    commands: mpsc::Receiver<commands::Command>,
    live: watch::Sender<Live>,
    /// Whoever asked for what is being entered: told when it is in the journal.
    on_enter: Vec<(oneshot::Sender<Result<String>>, String)>,
    /// Whoever asked for a split: told when the proxy has it.
    on_split: Vec<oneshot::Sender<Result<String>>>,
    /// Hooks that run now.
    hooks: Option<gate::Running>,
}

/// Begins a rollout that is in the journal, or takes it up where it was left.
pub fn spawn(site: Arc<Site>, mut record: RolloutRecord) -> Handle {
    // A clock that was set back since would keep the old version warm until it is there again.
    record.phase_since = record.phase_since.min(site.clock.now());
    let (ask, commands) = mpsc::channel(16);
    let (live, seen) = watch::channel(Live::of(&record));
    let rollout = Rollout {
        site,
        record,
        commands,
        live,
        on_enter: Vec::new(),
        on_split: Vec::new(),
        hooks: None,
    };
    Handle::new(ask, seen, tokio::spawn(rollout.run()))
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
                Err(Leave::Enter(next)) => *next,
                Err(Leave::Bad { why, figures }) if self.can_roll_back() => {
                    self.roll_back(why, figures)
                }
                // There is nothing further back than these phases: they go on until they work.
                Err(Leave::Bad { why, .. } | Leave::Retry(why)) => {
                    self.trouble(why);
                    match self.rest(RETRY).await {
                        Err(Leave::Enter(next)) => *next,
                        _ => continue,
                    }
                }
            };
            self.enter(next).await;
        }
        tracing::info!(rollout = self.record.id, phase = %self.record.phase, "over");
    }

    /// Starts the candidate's first containers, where there is room for them.
    async fn starting(&mut self) -> Stay<Entering> {
        let Step {
            replicas, stable, ..
        } = self.step()?;
        self.lower_stable(stable).await?;
        self.site
            .start_missing(&self.record.to, replicas, Dead::Fail, &mut Vec::new())
            .await?;
        let text = format!(
            "{replicas} of {} started; the proxy has to see them healthy for {}",
            self.record.to.version, self.record.settings.min_healthy_time
        );
        let paused = self.record.paused.clone();
        Ok(Entering {
            paused,
            ..Entering::new(Phase::Checking, 0, text)
        })
    }

    /// Waits until the proxy has seen the candidate healthy for a while. It gets no request.
    async fn checking(&mut self) -> Stay<Entering> {
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
    async fn shifting(&mut self) -> Stay<Entering> {
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
        self.set_split(&split).await?;
        let mut watch = self.watch().await?;
        loop {
            self.rest(self.look_every()).await?;
            let Some(look) = self.look(&mut watch, replicas).await? else {
                continue;
            };
            let limits = self.limits_of(step);
            let verdict = judge(&limits, &look);
            self.show(&verdict, &look);
            match verdict {
                Verdict::RollBack { why } => {
                    let figures = Some(observe::figures(&limits, &look));
                    return Err(Leave::Bad { why, figures });
                }
                _ if self.record.paused.is_some() => {}
                // What was good enough once is only watched from then on.
                Verdict::Pause { why } if !self.record.has(Mark::Watched) => self.pause(&why)?,
                _ if (verdict == Verdict::Advance || self.record.has(Mark::Watched))
                    && self.may_go_on(step)? =>
                {
                    let Figures {
                        failures, tries, ..
                    } = look.step.candidate;
                    let observed = format!("{failures} of {tries} requests failed");
                    return Ok(self.after_step(&observed, observe::figures(&limits, &look)));
                }
                _ => {}
            }
        }
    }

    /// Gives the candidate every container it needs, then every request.
    async fn promoting(&mut self) -> Stay<Entering> {
        let replicas = self.site.service(&self.record.service)?.replicas;
        self.capacity(replicas, Duration::ZERO).await?;
        // Stable is who has the requests: not before the proxy has said so.
        let all = self.split_of(100);
        self.set_split(&all).await?;
        self.site
            .store
            .set_stable(&self.record.service, &self.record.to)?;
        let text = format!(
            "{} is stable and has all requests; {} stays warm for {}",
            self.record.to.version, self.record.from.version, self.record.settings.bake
        );
        Ok(Entering::new(Phase::Baking, self.record.step, text))
    }

    /// Keeps the old version warm, and watches the new one by its limits alone.
    async fn baking(&mut self) -> Stay<Entering> {
        let all_to_new = Split::from([(self.record.to.version.clone(), 100)]);
        let split = self.record.hand_split.clone().unwrap_or(all_to_new);
        let replicas = self.site.service(&self.record.service)?.replicas;
        self.raise_stable(&split).await?;
        self.set_split(&split).await?;
        let mut watch = None;
        loop {
            let baked = self.site.clock.since(self.record.phase_since);
            let left = self.record.settings.bake.get().saturating_sub(baked);
            let is_told = self.is_told(On::After, Mark::ToldPromoted)?;
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
            let Some(look) = self.look(watch, replicas).await? else {
                continue;
            };
            let limits = self.record.settings.limits();
            let verdict = judge(&limits, &look);
            self.show(&verdict, &look);
            if let Verdict::RollBack { why } = verdict {
                let figures = Some(observe::figures(&limits, &look));
                return Err(Leave::Bad { why, figures });
            }
        }
    }

    /// Lets the old version finish what it has, and stops it.
    async fn draining(&mut self) -> Stay<Entering> {
        self.site
            .store
            .set_previous(&self.record.service, &self.record.from)?;
        // A split that was set by hand while it baked ends here.
        self.site
            .store
            .set_stable(&self.record.service, &self.record.to)?;
        self.site.push(&self.record.service).await?;
        let old = self.site.containers_of(&self.record.from).await?;
        self.site.retire(&self.record.service, &old)?;
        self.until_drained().await?;
        let text = format!("{} is alone", self.record.to.version);
        Ok(Entering::new(Phase::Done, self.record.step, text))
    }

    /// Gives stable everything in one swap, lets the candidate finish what it has, and stops it.
    async fn rolling_back(&mut self) -> Stay<Entering> {
        let service = self.record.service.clone();
        let replicas = self.site.service(&service)?.replicas;
        // Those that made room for the candidate are started first. Where all are there, one that
        // serves is enough.
        let kept = kept_by(&self.record, replicas).unwrap_or(replicas);
        let enough = if kept < replicas { replicas } else { 1 };
        self.until_stable_serves(enough, replicas).await?;
        self.site.store.set_stable(&service, &self.record.from)?;
        self.site.push(&service).await?;
        self.start_stable(replicas).await?;
        let candidate = self.site.containers_of(&self.record.to).await?;
        self.site.retire(&service, &candidate)?;
        let told = Mark::ToldRolledBack;
        self.is_told(On::OnRollback, told)?;
        self.until_drained().await?;
        while !self.is_told(On::OnRollback, told)? {
            self.rest(self.look_every()).await?;
        }
        let text = format!(
            "{} has all requests, {} is gone",
            self.record.from.version, self.record.to.version
        );
        Ok(Entering::new(Phase::RolledBack, self.record.step, text))
    }

    async fn set_split(&mut self, split: &Split) -> Stay<()> {
        self.site.store.set_split(&self.record.service, split)?;
        self.site.push(&self.record.service).await?;
        for reply in self.on_split.drain(..) {
            let text = format!("{} now has {}", self.record.service, split_text(split));
            let _ = reply.send(Ok(text));
        }
        Ok(())
    }

    async fn until_drained(&mut self) -> Stay<()> {
        while self.site.sweep_on(&self.record.service).await? {
            self.rest(self.look_every()).await?;
        }
        Ok(())
    }

    fn can_roll_back(&self) -> bool {
        !matches!(self.record.phase, Phase::Draining | Phase::RollingBack)
    }

    fn step(&self) -> Stay<Step> {
        self.record
            .steps
            .get(self.record.step)
            .copied()
            .ok_or_else(|| Leave::Bad {
                why: format!("there is no step {}", self.record.step + 1),
                figures: None,
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
    async fn enter(&mut self, next: Entering) {
        if (next.phase, next.step) != (self.record.phase, self.record.step) {
            // What belonged to where it was is of no use any more.
            self.hooks = None;
        }
        loop {
            match self
                .site
                .store
                .enter(&self.record, &next, self.site.clock.now())
            {
                Ok(record) => self.record = record,
                Err(error) => {
                    self.trouble(error.to_string());
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

    /// Waits, and answers whoever asks for something meanwhile.
    async fn rest(&mut self, duration: Duration) -> Stay<()> {
        let until = Instant::now() + duration;
        loop {
            tokio::select! {
                () = sleep_until(until) => return Ok(()),
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command)?,
                    // Nobody is left who could ask.
                    None => {
                        sleep_until(until).await;
                        return Ok(());
                    }
                },
            }
        }
    }

    fn trouble(&self, trouble: String) {
        tracing::warn!(rollout = self.record.id, "{trouble}");
        self.live.send_modify(|live| live.trouble = Some(trouble));
    }
}
