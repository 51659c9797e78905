//! What is written down as a phase begins, with what the history says of it.

use super::{Phase, Rollout, Step};
use crate::journal::{Split, Transition};

impl Rollout {
    pub(super) fn shift_to(&self, step: usize, stats: Option<serde_json::Value>) -> Transition {
        let Some(next) = self.record.steps.get(step) else {
            let text = format!(
                "all containers of {} for all requests",
                self.record.to.version
            );
            return Transition {
                stats,
                ..Transition::new(Phase::Promoting, step, text)
            };
        };
        let text = format!(
            "step {} of {}: {} to {} on {} container{}",
            step + 1,
            self.record.steps.len(),
            next.what(),
            self.record.to.version,
            next.replicas,
            if next.replicas == 1 { "" } else { "s" },
        );
        Transition {
            stats,
            ..Transition::new(Phase::Shifting, step, text)
        }
    }

    pub(super) fn after_step(&self, observed: &str, stats: serde_json::Value) -> Transition {
        let mut next = self.shift_to(self.record.step + 1, Some(stats));
        let step = self.record.steps.get(self.record.step);
        let had = step.map_or_else(|| "100%".into(), Step::what);
        next.text.push_str(&format!(" (at {had} {observed})"));
        next
    }

    pub(super) fn roll_back(&self, why: String, stats: Option<serde_json::Value>) -> Transition {
        let text = format!("back to {}: {why}", self.record.from.version);
        let step = self.record.step;
        Transition {
            why: Some(why),
            stats,
            ..Transition::new(Phase::RollingBack, step, text)
        }
    }

    pub(super) fn drain_old(&self) -> Transition {
        let text = format!("{} finishes its requests", self.record.from.version);
        Transition::new(Phase::Draining, self.record.step, text)
    }
}

/// `90% 1.0.0, 10% 2.0.0`.
pub(crate) fn split_text(split: &Split) -> String {
    let total: f64 = split.values().copied().map(f64::from).sum();
    let share = |weight: u32| {
        if total > 0.0 {
            100.0 * f64::from(weight) / total
        } else {
            0.0
        }
    };
    let parts: Vec<String> = split
        .iter()
        .map(|(version, weight)| {
            let share = format!("{:.2}", share(*weight));
            let share = share.trim_end_matches('0').trim_end_matches('.');
            format!("{share}% {version}")
        })
        .collect();
    parts.join(", ")
}
