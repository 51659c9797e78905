//! What one look at the figures says about a candidate: a pure function of limits, figures
//! and time.
//!
//! ```text
//!                       does it fail, or respond late, more than stable does in the same
//!          ┌── yes ───  window?  More than its limits allow, where stable keeps them?
//!          ▼                                     │ no
//!      roll back                                 ▼
//!                       stable breaks the limits, too?  ── yes ──►  inconclusive ─┐
//!                                                │ no                             │
//!                                                ▼                                │ `max_hold`
//!                       too few requests, too early, in doubt?  ── yes ──►  hold ─┤
//!                                                │ no                             ▼
//!                                                ▼                              pause
//!                                             advance
//! ```
//!
//! Each accusation is a test that may be looked at after every request ([`evidence`] has the
//! proof): a candidate that is no worse than stable is rolled back in at most 1 of 100 steps,
//! however often one looks. What is said against it is in the figures, so it can be worked out
//! again from the history.
//!
//! Latency is counted later and judged more slowly than failures: a program that has just
//! started is slow, and slow responses come in clusters.

mod counts;
pub mod evidence;
mod reasons;
#[cfg(test)]
mod tests;
mod window;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use counts::{Counts, Latency};
use evidence::{Bets, Evidence, FAILURES, SLOWNESS, Share, against_limit, against_stable};
use reasons::{chance_text, failures_text, slower_text, too_slow_text};
pub use window::{Reading, Window};

/// How often at most a candidate without fault is rolled back, for each step: for its failures,
/// for more slow responses than stable's, and for a broken `latency_p99`. In all 1 in 100.
const CHANCE_OF_FAILURES: f64 = 0.005;
const CHANCE_OF_SLOWNESS: f64 = 0.004;
const CHANCE_OF_A_BROKEN_P99: f64 = 0.001;
/// The same, for the failures of each few seconds. Years of them are looked at.
const CHANCE_OF_A_BURST: f64 = 1e-6;
/// What a candidate has to be below to go on: it is not bad, but may turn out to be.
const DOUBT: f64 = 0.1;
/// Slow responses come in clusters: one of them is to be few among so many.
const RESPONSES_FOR_LATENCY: u64 = 500;
/// From so many attempts on stable can be compared with, whatever the candidate has.
const STABLE_ATTEMPTS: u64 = 20;
/// The share of responses that `latency_p99` allows to be slower.
const BEYOND_P99: f64 = 0.01;

/// What a candidate has to keep, and how long it is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// The success rate in percent, 0 to 100.
    pub success_rate: f64,
    /// How far below stable's it may be, in percentage points.
    pub success_rate_tolerance: f64,
    /// 99 of 100 responses take at most this long.
    pub latency_p99: Duration,
    /// How many more of its responses may be slower than stable's p99 was than of stable's, in
    /// percentage points.
    pub latency_tolerance: f64,
    /// How long latency does not count after a step began.
    pub warm_up: Duration,
    /// Attempts of the candidate before a step may end well.
    pub min_requests: u64,
    /// How long a step lasts at least.
    pub step_min_duration: Duration,
    /// How long it waits to end well.
    pub max_hold: Duration,
    /// What then.
    pub after_max_hold: AfterMaxHold,
}

/// What a step does that has waited for `max_hold`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterMaxHold {
    /// Waits for the user.
    #[default]
    Pause,
    /// Goes on, where nothing but requests was missing.
    Proceed,
}

/// What is known of candidate and stable at the same moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair<T> {
    /// The candidate's.
    pub candidate: T,
    /// Stable's.
    pub stable: T,
}

/// One look: what has come since the step began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Since the step began.
    pub step: Pair<Counts>,
    /// In the last few seconds.
    pub recent: Pair<Counts>,
    /// What stable did before that, for as long as the proxy has known it.
    pub record: Counts,
    /// What was slow for stable before that: its p99, in seconds, where it is known.
    pub slow: Option<f64>,
    /// Since the step began, without the time in which nothing could be seen.
    pub elapsed: Duration,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The step has gone well: take the next.
    Advance,
    /// Too early to say.
    Hold {
        /// What is missing.
        why: String,
    },
    /// Something is wrong, and stable has it too.
    Inconclusive {
        /// The figures that say so.
        why: String,
    },
    /// It has been held for too long: the user has to decide.
    Pause {
        /// What is missing.
        why: String,
    },
    /// The candidate is worse than it may be.
    RollBack {
        /// The figures that say so.
        why: String,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Advance => f.write_str("good"),
            Self::Hold { why } | Self::Pause { why } => f.write_str(why),
            Self::Inconclusive { why } => write!(f, "inconclusive: {why}"),
            Self::RollBack { why } => write!(f, "bad: {why}"),
        }
    }
}

/// What has been gathered for each accusation, for the history.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Case {
    /// It fails more than stable.
    pub fails_more_than_stable: Evidence,
    /// It fails more than `success_rate` allows.
    pub fails_more_than_allowed: Evidence,
    /// It has failed more than either in the last few seconds.
    pub fails_now: Evidence,
    /// More of its responses than of stable's are slow.
    pub slower_than_stable: Evidence,
    /// More of its responses are slow than `latency_p99` allows.
    pub slower_than_allowed: Evidence,
}

/// What a candidate is rolled back for.
#[derive(Debug, Clone, Copy)]
enum Accusation {
    Fails,
    FailsNow,
    SlowerThanStable,
    SlowerThanAllowed,
}

impl Case {
    /// What the figures say against the candidate.
    pub fn against(limits: &Limits, sample: &Sample) -> Self {
        let tolerance = limits.success_rate_tolerance / 100.0;
        let allowed = limits.failures_allowed();
        let failed = sample.step.map(Counts::failed);
        let failed_now = sample.recent.map(Counts::failed);
        let mut case = Self {
            fails_more_than_stable: worse(&FAILURES, failed, tolerance),
            fails_more_than_allowed: sample.breaks(
                &FAILURES,
                allowed,
                failed,
                sample.record.failed(),
            ),
            fails_now: if sample.compares() {
                worse(&FAILURES, failed_now, tolerance)
            } else {
                sample.breaks(&FAILURES, allowed, failed_now, sample.record.failed())
            },
            slower_than_stable: Evidence::NONE,
            slower_than_allowed: Evidence::NONE,
        };
        let latency = sample.step.map(|counts| counts.latency);
        if latency.candidate.responses >= RESPONSES_FOR_LATENCY {
            let over_limit = latency.map(Latency::over_limit);
            let record = sample.record.latency.over_limit();
            case.slower_than_stable =
                slower(latency.map(Latency::slow), limits.latency_tolerance / 100.0);
            case.slower_than_allowed = sample.breaks(&SLOWNESS, BEYOND_P99, over_limit, record);
        }
        case
    }

    /// Whether the candidate has to go.
    pub fn should_roll_back(&self) -> bool {
        self.proven().is_some()
    }

    /// What is proven against the candidate, and by what evidence. A new field has to be listed here,
    /// or nothing compiles.
    fn proven(&self) -> Option<(Accusation, Evidence)> {
        use Accusation::{Fails, FailsNow, SlowerThanAllowed, SlowerThanStable};
        let Self {
            fails_more_than_stable,
            fails_more_than_allowed,
            fails_now,
            slower_than_stable,
            slower_than_allowed,
        } = *self;
        [
            (Fails, fails_more_than_stable, CHANCE_OF_FAILURES),
            (Fails, fails_more_than_allowed, CHANCE_OF_FAILURES),
            (FailsNow, fails_now, CHANCE_OF_A_BURST),
            (SlowerThanStable, slower_than_stable, CHANCE_OF_SLOWNESS),
            (
                SlowerThanAllowed,
                slower_than_allowed,
                CHANCE_OF_A_BROKEN_P99,
            ),
        ]
        .into_iter()
        .find(|(_, evidence, chance)| evidence.reaches(*chance))
        .map(|(accusation, evidence, _)| (accusation, evidence))
    }
}

fn worse(bets: &Bets, of: Pair<Share>, tolerance: f64) -> Evidence {
    against_stable(bets, of.candidate, of.stable, tolerance)
}

/// More slow responses than stable has now, and more than the 1 in 100 that stable had before, by
/// more than the tolerance. Where stable has as many more itself it is added to what stable has.
fn slower(slow: Pair<Share>, tolerance: f64) -> Evidence {
    let stable = slow.stable.rate().unwrap_or(0.0);
    let beyond = (stable - BEYOND_P99).clamp(0.0, tolerance);
    against_limit(&SLOWNESS, slow.candidate, BEYOND_P99 + tolerance)
        .min(worse(&SLOWNESS, slow, beyond))
}

impl Limits {
    /// The share of requests that may fail, 0 to 1.
    fn failures_allowed(&self) -> f64 {
        (1.0 - self.success_rate / 100.0).clamp(0.0, 1.0)
    }
}

impl<T> Pair<T> {
    fn map<U>(self, of: impl Fn(T) -> U) -> Pair<U> {
        Pair {
            candidate: of(self.candidate),
            stable: of(self.stable),
        }
    }
}

impl Sample {
    /// Whether stable gets enough to be compared with. A few stragglers, after all the traffic
    /// has gone to the candidate, say nothing.
    fn compares(&self) -> bool {
        let Pair { candidate, stable } = self.step;
        stable.attempts >= STABLE_ATTEMPTS
            || (stable.attempts > 0 && stable.attempts.saturating_mul(2) >= candidate.attempts)
    }

    /// What is known of stable: in the same window, or else from before.
    fn known(&self) -> Counts {
        if self.compares() {
            self.step.stable
        } else {
            self.record
        }
    }

    /// Evidence that the candidate breaks a limit which stable keeps.
    fn breaks(&self, bets: &Bets, allowed: f64, of: Pair<Share>, record: Share) -> Evidence {
        if !self.compares() {
            let known = record.rate().filter(|_| record.whole >= STABLE_ATTEMPTS);
            return against_limit(bets, of.candidate, allowed.max(known.unwrap_or(0.0)));
        }
        if of.stable.rate().is_some_and(|rate| rate > allowed) {
            return Evidence::NONE;
        }
        // That stable keeps it in these few requests may be luck: both have to be shown.
        against_limit(bets, of.candidate, allowed).min(worse(bets, of, 0.0))
    }
}

/// Judges the candidate by one look.
pub fn judge(limits: &Limits, sample: &Sample) -> Verdict {
    let case = Case::against(limits, sample);
    if let Some(why) = rollback_reason(limits, sample, &case) {
        return Verdict::RollBack { why };
    }
    let candidate = sample.step.candidate;
    let hold_reason = hold_reason(limits, sample, &case);
    let few = candidate.attempts < limits.min_requests;
    let left = limits.step_min_duration.saturating_sub(sample.elapsed);
    let waits = if let Some(why) = as_bad_as_stable(limits, sample) {
        Verdict::Inconclusive { why }
    } else if few {
        let (attempts, wanted) = (candidate.attempts, limits.min_requests);
        let mut why = format!("{attempts} of {wanted} requests so far");
        if let Some(hold_reason) = &hold_reason {
            why.push_str(&format!("; {hold_reason}"));
        }
        Verdict::Hold { why }
    } else if !left.is_zero() {
        let why = format!("{} s to go", left.as_secs_f64().ceil());
        Verdict::Hold { why }
    } else if let Some(why) = hold_reason.clone() {
        Verdict::Hold { why }
    } else {
        return Verdict::Advance;
    };
    match waits {
        Verdict::Hold { why } | Verdict::Inconclusive { why }
            if sample.elapsed >= limits.max_hold =>
        {
            if few && hold_reason.is_none() && limits.after_max_hold == AfterMaxHold::Proceed {
                return Verdict::Advance;
            }
            let held = humantime::format_duration(limits.max_hold);
            let why = format!("held for {held}: {why}");
            Verdict::Pause { why }
        }
        waits => waits,
    }
}

/// Why the candidate has to go.
fn rollback_reason(limits: &Limits, sample: &Sample, case: &Case) -> Option<String> {
    let (accusation, evidence) = case.proven()?;
    let text = match accusation {
        Accusation::Fails => failures_text(limits, sample.step),
        Accusation::FailsNow => {
            let now = failures_text(limits, sample.recent);
            return Some(format!("in the last few seconds, {now}"));
        }
        Accusation::SlowerThanStable => slower_text(sample),
        Accusation::SlowerThanAllowed => too_slow_text(limits, sample),
    };
    Some(format!("{text}; {}", chance_text(evidence)))
}

/// Whether both break `success_rate`, so that it says nothing about the candidate.
fn as_bad_as_stable(limits: &Limits, sample: &Sample) -> Option<String> {
    let allowed = limits.failures_allowed();
    let failed = sample.step.map(Counts::failed);
    let stable_fails = sample.compares() && failed.stable.rate().is_some_and(|rate| rate > allowed);
    let fails = || against_limit(&FAILURES, failed.candidate, allowed).reaches(CHANCE_OF_FAILURES);
    (stable_fails && fails()).then(|| {
        format!(
            "{}: stable fails as often",
            failures_text(limits, sample.step)
        )
    })
}

/// What is not bad enough to roll back, and not good enough to go on.
fn hold_reason(limits: &Limits, sample: &Sample, case: &Case) -> Option<String> {
    let (candidate, known) = (sample.step.candidate, sample.known());
    if let Some(rate) = candidate.success_rate() {
        let as_good_as_stable = known
            .success_rate()
            .is_some_and(|stable| rate + limits.success_rate_tolerance >= stable);
        if rate < limits.success_rate && !as_good_as_stable {
            return Some(failures_text(limits, sample.step));
        }
    }
    // One slow response breaks no p99.
    let over_limit = candidate.latency.over_limit();
    let too_slow = over_limit.part.saturating_sub(1).saturating_mul(100) > over_limit.whole;
    let stable_is_too_slow = known
        .latency
        .over_limit()
        .rate()
        .is_some_and(|rate| rate > BEYOND_P99);
    if too_slow && !stable_is_too_slow {
        return Some(too_slow_text(limits, sample));
    }
    if case.fails_more_than_stable.reaches(DOUBT) {
        return Some(format!("in doubt: {}", failures_text(limits, sample.step)));
    }
    if case.slower_than_stable.reaches(DOUBT) {
        return Some(format!("in doubt: {}", slower_text(sample)));
    }
    None
}
