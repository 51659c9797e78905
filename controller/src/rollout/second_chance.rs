//! The share of a candidate that was accused by what may be a single incident: none for a moment, and
//! then a part of it, until it is accused again or not ([`Run`]).

use super::observe::StepWatch;
use super::{PhaseResult, Rollout};
use crate::journal::{Split, Transition};
use crate::verdict::{Family, Run, RunKind, Sample};

impl Rollout {
    /// The run that the step was in when the journal was written, of the window that it has.
    pub(super) fn run_so_far(&self) -> PhaseResult<Run> {
        let window = self.project.journal.window(self.record.id)?;
        Ok(window.map_or_else(Run::default, |window| window.run().clone()))
    }

    /// What the step's split is in this run: what the candidate does not get, stable gets.
    pub(super) fn split_in(&self, run: &Run, of_step: &Split) -> Split {
        let mut split = of_step.clone();
        let (candidate, stable) = (&self.record.to.version, &self.record.from.version);
        let whole = of_step.get(candidate).copied().unwrap_or(0);
        let part = run.weight(whole);
        if part < whole {
            split.insert(candidate.clone(), part);
            *split.entry(stable.clone()).or_insert(0) += whole - part;
        }
        split
    }

    /// Gives the candidate what it gets in the run that it is in now, where that is not what it was
    /// given.
    pub(super) async fn follow(
        &mut self,
        watch: &StepWatch,
        of_step: &Split,
        given: &mut Split,
    ) -> PhaseResult<()> {
        let split = self.split_in(watch.run(), of_step);
        if split == *given {
            return Ok(());
        }
        self.keep(watch);
        if watch.run().kind() == RunKind::First {
            let text = format!("{} has its share again", self.record.to.version);
            self.note("passed", text)?;
        }
        self.set_split(&split).await?;
        *given = split;
        Ok(())
    }

    /// Takes the requests away from a candidate that is accused of this.
    pub(super) fn set_aside(
        &mut self,
        watch: &mut StepWatch,
        accused: (Family, String),
        sample: &Sample,
    ) -> PhaseResult<()> {
        let (family, why) = accused;
        let text = format!(
            "{} gets no requests for a moment, and then a second chance: {why}",
            self.record.to.version
        );
        watch.set_aside(family, why, sample);
        self.note("set-aside", text)
    }

    /// Writes into the history what changes neither phase nor step.
    fn note(&mut self, kind: &'static str, text: String) -> PhaseResult<()> {
        tracing::info!(rollout = self.record.id, "{text}");
        let transition = Transition {
            paused: self.record.paused.clone(),
            hand_split: self.record.hand_split.clone(),
            kind,
            ..Transition::new(self.record.phase, self.record.step, text)
        };
        let now = self.project.clock.now();
        self.record = self.project.journal.enter(&self.record, &transition, now)?;
        self.live
            .send_modify(|live| live.record = self.record.clone());
        Ok(())
    }
}
