//! The second chance of a candidate that is accused by what a single incident may explain.
//!
//! ```text
//! first run ── accused ──► aside: no requests ── 1 s ──► second run ── accused again ──► rolled back
//!     ▲                                                     │ 3 to 10 s, enough requests
//!     └─────────────────────────────────────────────────────┘
//! ```
//!
//! A pause, a cold start, or an outage that one version sees earlier than the other can look like a
//! candidate that fails half of its requests. Its clients are spared at once: it gets none for a moment.
//! Then it is tried again, by as few of them as tell. An accident does not happen twice in a few seconds;
//! a bad release does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::evidence::ratio;
use super::{Family, Sample};

/// How long a candidate gets nothing: longer than the incidents that are forgiven.
const ASIDE: Duration = Duration::from_secs(1);
/// How long the second run lasts, by how long the first one took until the candidate was accused.
const SECOND_RUN: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(10));
/// Requests to the candidate in a second run.
const REQUESTS: u64 = 30;
/// How long a run is looked at more often: a bad candidate is to cost few clients an error.
const YOUNG: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Which run of its step a candidate is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// It is judged by the step's requests.
    #[default]
    First,
    /// It was accused, and gets none for a moment.
    Aside,
    /// It is tried again, and goes if it is accused again.
    Second(Family),
}

/// The run of a step, and what the candidate was accused of before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    kind: RunKind,
    /// When it began; the time begins anew with the controller.
    #[serde(skip)]
    since: Duration,
    #[serde(skip)]
    looks: u32,
    accused: Option<Accused>,
}

/// What a candidate was accused of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Accused {
    family: Family,
    why: String,
    /// How long that took.
    after: Duration,
    /// Requests that it will have in a second of its second run.
    requests: u64,
    /// How many of its requests failed from one look to the next.
    failures_a_look: f64,
}

impl Run {
    /// Which run it is.
    pub fn kind(&self) -> RunKind {
        self.kind
    }

    /// What the candidate was accused of before this run.
    pub fn accused_of(&self) -> Option<&str> {
        self.accused.as_ref().map(|accused| accused.why.as_str())
    }

    /// How long it is until the next look, at `elapsed` since the step began.
    pub fn look_in(&self, look_every: Duration, elapsed: Duration) -> Duration {
        match elapsed.saturating_sub(self.since) < YOUNG {
            true => look_every.min(LOOK_EVERY),
            false => look_every,
        }
    }

    /// The candidate's weight, where a step gives it this one.
    pub fn weight(&self, of_step: u32) -> u32 {
        let failures = self.accused.as_ref().map_or(1.0, |of| of.failures_a_look);
        match self.kind {
            RunKind::First => of_step,
            RunKind::Aside => 0,
            // One failure from one look to the next tells.
            RunKind::Second(_) => divided(of_step, failures.max(1.0)),
        }
    }

    /// One look more, at `elapsed`, when the candidate has had so much in this run. Gives the run that
    /// the look belongs to; another one may begin with it.
    pub(super) fn look(&mut self, elapsed: Duration, candidate: Counts) -> RunKind {
        self.looks += 1;
        let (kind, lasted) = (self.kind, elapsed.saturating_sub(self.since));
        let next = match (kind, &self.accused) {
            (RunKind::Aside, Some(accused)) if lasted >= ASIDE => RunKind::Second(accused.family),
            (RunKind::Second(_), Some(accused))
                if lasted >= accused.after.clamp(SECOND_RUN.0, SECOND_RUN.1)
                    && candidate.attempts >= REQUESTS.max(2 * accused.requests) =>
            {
                RunKind::First
            }
            _ => kind,
        };
        if next != kind {
            (self.kind, self.since, self.looks) = (next, elapsed, 0);
            if next == RunKind::First {
                self.accused = None;
            }
        }
        kind
    }

    pub(super) fn set_aside(&self, family: Family, why: String, sample: &Sample) -> Self {
        let Counts {
            failures, attempts, ..
        } = sample.run.candidate;
        let after = sample.elapsed.saturating_sub(self.since);
        let failures_a_look = ratio(failures, u64::from(self.looks.max(1)));
        let a_second = ratio(attempts, 1) / after.as_secs_f64();
        let requests = a_second.min(ratio(attempts, 1)) / failures_a_look.max(1.0);
        Self {
            kind: RunKind::Aside,
            since: sample.elapsed,
            looks: 0,
            accused: Some(Accused {
                family,
                why,
                after,
                requests: whole(requests),
                failures_a_look,
            }),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and the weight"
)]
fn divided(weight: u32, by: f64) -> u32 {
    ((f64::from(weight) / by).ceil() as u32).clamp(weight.min(1), weight)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count; the cast saturates"
)]
fn whole(count: f64) -> u64 {
    count as u64
}
