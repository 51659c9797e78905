//! What stands between a step that went well and the next one: hooks, and a gate. The candidate
//! is watched on while any of them is waited for.

use std::path::PathBuf;

use tokio::task::JoinSet;

use super::{PhaseExit, PhaseResult, Rollout};
use crate::error::Result;
use crate::hooks::{About, Hook, NotPassed, On};
use crate::journal::Checkpoint;
use crate::plan::Step;

/// Hooks that run now, one after the other. Ended when dropped.
pub(super) struct Running {
    on: On,
    step: usize,
    task: JoinSet<Result<String, NotPassed>>,
}

/// How hooks of one kind stand.
enum Hooks {
    /// They passed, or there are none.
    Passed,
    /// Not ended yet.
    Running,
    /// What the one said that failed.
    Failed(String),
    /// Why one could not find out what it was to.
    Unknown(String),
}

impl Rollout {
    /// Whether a step whose figures are good may be left now.
    pub(super) fn may_go_on(&mut self, step: Step) -> PhaseResult<bool> {
        let now = self.record.step;
        if self.waits(step) {
            self.mark(now, Checkpoint::Watched)?;
        }
        match self.hooks(On::Confirm, now, Checkpoint::Confirmed)? {
            Hooks::Passed => {}
            Hooks::Running => return Ok(false),
            Hooks::Failed(why) => return Err(PhaseExit::Bad { why, stats: None }),
            Hooks::Unknown(why) => {
                self.pause(&why)?;
                return Ok(false);
            }
        }
        if step.gate && !self.record.has(Checkpoint::Agreed) {
            self.mark(now, Checkpoint::AtGate)?;
            self.pause("at a gate: `crossfade resume` continues")?;
            return Ok(false);
        }
        if now + 1 == self.record.steps.len() {
            return Ok(true);
        }
        self.is_prepared(now + 1)
    }

    /// Whether the step may begin, as far as its hooks are concerned.
    pub(super) fn is_prepared(&mut self, step: usize) -> PhaseResult<bool> {
        match self.hooks(On::BeforeStep, step, Checkpoint::Prepared)? {
            Hooks::Passed => Ok(true),
            Hooks::Running => Ok(false),
            Hooks::Failed(why) | Hooks::Unknown(why) => {
                self.pause(&why)?;
                Ok(false)
            }
        }
    }

    /// Whether the hooks that run at the end have run. Failing changes nothing.
    pub(super) fn is_told(&mut self, on: On, mark: Checkpoint) -> Result<bool> {
        let step = self.record.step;
        match self.hooks(on, step, mark)? {
            Hooks::Passed => Ok(true),
            Hooks::Running => Ok(false),
            Hooks::Failed(_) | Hooks::Unknown(_) => {
                self.mark(step, mark)?;
                Ok(true)
            }
        }
    }

    /// Whether anything but the figures decides when the step ends.
    fn waits(&self, step: Step) -> bool {
        step.gate || !self.record.settings.hooks.is_empty()
    }

    /// Begins the hooks of this kind unless they passed, or looks how they are doing.
    fn hooks(&mut self, on: On, step: usize, mark: Checkpoint) -> Result<Hooks> {
        let of_kind = |hook: &&Hook| hook.on == on;
        let hooks: Vec<Hook> = self
            .record
            .settings
            .hooks
            .iter()
            .filter(of_kind)
            .cloned()
            .collect();
        if hooks.is_empty() || self.record.checkpoints.contains(&(step, mark)) {
            return Ok(Hooks::Passed);
        }
        let names: Vec<String> = hooks.iter().map(Hook::to_string).collect();
        let names = names.join(", ");
        let ended = match &mut self.hooks {
            Some(running) if (running.on, running.step) == (on, step) => {
                running.task.try_join_next()
            }
            _ => {
                self.note_hook(&format!("{names} begins"))?;
                self.begin_hooks(on, step, hooks)?;
                return Ok(Hooks::Running);
            }
        };
        let Some(ended) = ended else {
            return Ok(Hooks::Running);
        };
        self.hooks = None;
        let cut = |error| Err(NotPassed::Failed(format!("it was interrupted: {error}")));
        match ended.unwrap_or_else(cut) {
            Ok(said) => {
                self.mark(step, mark)?;
                let colon = if said.is_empty() { "" } else { ": " };
                self.note_hook(&format!("{names} passed{colon}{said}"))?;
                Ok(Hooks::Passed)
            }
            Err(NotPassed::Failed(why)) => {
                self.note_hook(&why)?;
                Ok(Hooks::Failed(why))
            }
            Err(NotPassed::Unknown(why)) => {
                self.note_hook(&why)?;
                Ok(Hooks::Unknown(why))
            }
        }
    }

    fn begin_hooks(&mut self, on: On, step: usize, hooks: Vec<Hook>) -> Result<()> {
        let live = self.live.borrow().clone();
        let last = self.record.steps.len().saturating_sub(1);
        let about = About {
            hook: on,
            project: self.project.name.clone(),
            service: self.record.service.clone(),
            rollout: self.record.id,
            from: self.record.from.version.clone(),
            to: self.record.to.version.clone(),
            step: step.min(last) + 1,
            steps: self.record.steps.len(),
            share: self.record.steps.get(step).map_or(100, |step| step.share),
            candidate: live.candidate,
            stable: live.stable,
            why: self.record.why.clone(),
        };
        let folder = self.project.folder()?;
        let mut task = JoinSet::new();
        task.spawn(run_all(hooks, about, folder));
        self.hooks = Some(Running { on, step, task });
        Ok(())
    }

    fn note_hook(&self, text: &str) -> Result<()> {
        let rollout = Some(self.record.id);
        self.project
            .note(&self.record.service, rollout, "hook", text, None)
    }

    /// Writes down that a step has this behind it.
    pub(super) fn mark(&mut self, step: usize, mark: Checkpoint) -> Result<()> {
        if self.record.checkpoints.insert((step, mark)) {
            let marked = self.project.journal.mark(self.record.id, step, mark);
            if marked.is_err() {
                self.record.checkpoints.remove(&(step, mark));
            }
            return marked;
        }
        Ok(())
    }
}

async fn run_all(hooks: Vec<Hook>, about: About, folder: PathBuf) -> Result<String, NotPassed> {
    let mut last = String::new();
    for hook in hooks {
        last = hook
            .run(&about, &folder)
            .await
            .map_err(|error| match error {
                NotPassed::Failed(why) => NotPassed::Failed(format!("{hook} failed: {why}")),
                NotPassed::Unknown(why) => {
                    NotPassed::Unknown(format!("{hook} had no result: {why}"))
                }
            })?;
    }
    Ok(last)
}
