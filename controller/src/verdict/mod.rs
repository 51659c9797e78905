//! What one look at the figures says about a candidate: a pure function of limits, figures
//! and time.
//!
//! ```text
//!                       does it fail, or respond late, more than stable does in the same
//!          ┌── yes ───  window?  More than its limits allow, where stable keeps them?
//!          ▼                                     │ no
//!  may that be a single                          ▼
//!       incident?       stable breaks the limits, too?  ── yes ──►  inconclusive ─┐
//!    │ no       │ yes                            │ no                             │
//!    ▼          ▼                                ▼                                │ `max_hold`
//! roll back  set aside  too few requests, too early, in doubt?  ── yes ──►  hold ─┤
//!    ▲          │                                │ no                             ▼
//!    └─ again ──┘                                ▼                              pause
//!                                             advance
//! ```
//!
//! Each accusation is a test that may be looked at after every request ([`evidence`] has the
//! proof): a candidate that is no worse than stable is rolled back for its failures in at most 3 of 200
//! steps, however often one looks, and for its latency in at most 1 of 100. What is said against it is in the figures, so it can be worked out
//! again from the history. What a single incident may explain takes the candidate's share away at once,
//! and gives it a second chance ([`run`]).
//!
//! Latency is counted later than failures: a program that has just started is slow.

mod counts;
pub mod evidence;
mod reasons;
mod run;
mod slowness;
#[cfg(test)]
mod tests;
mod window;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use counts::{Counts, Latency};
pub(crate) use counts::{quantile, since as buckets_since};
use evidence::{
    Bets, Evidence, FAILURES, SLOWNESS, Share, Weighed, against_limit, against_stable, enough,
};
pub(crate) use reasons::NOT_JUDGED;
pub use reasons::NotJudged;
use reasons::{chance_text, failures_text, slower_text, too_slow_text};
pub use run::{Run, RunKind};
pub use window::{Gathered, Reading, Window};

/// How often at most a candidate without fault is rolled back, for each step: in 1 of 100 for its failures
/// ([`enough`] is of the same chance), and in 1 of 100 for more slow responses than stable's or a broken
/// `latency_p99`. In the simulation in `benches` it is far less.
const CHANCE_OF_FAILURES: f64 = 0.01;
const CHANCE_OF_SLOWNESS: f64 = 0.009;
const CHANCE_OF_A_BROKEN_P99: f64 = 0.001;
/// The same, for the failures of each few seconds. Years of them are looked at.
const CHANCE_OF_A_BURST: f64 = 1e-6;
/// The same at most for each of two runs that both accuse the candidate: together 1 in 100.
const CHANCE_AGAIN: f64 = 0.1;
/// So many failures a candidate has at least that is suspected: a single one may be anybody's.
const SEVERAL: u64 = 2;
/// What a candidate has to be below to go on: it is not bad, but may turn out to be.
const DOUBT: f64 = 0.1;
/// From so many requests on it is known what stable does.
const STABLE_REQUESTS: u64 = 20;
/// So many requests of what stable did before are counted; a tenth of that has to be known.
const REQUESTS_BEFORE: u64 = 10_000;
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
    Pause,
    /// Goes on, where nothing but requests was missing: a service without traffic at night is
    /// deployed by the morning. What was not judged is written down.
    #[default]
    Proceed,
}

impl fmt::Display for AfterMaxHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pause => "pause",
            Self::Proceed => "proceed",
        })
    }
}

impl FromStr for AfterMaxHold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pause" => Ok(Self::Pause),
            "proceed" => Ok(Self::Proceed),
            other => Err(format!("`{other}` is neither `pause` nor `proceed`")),
        }
    }
}

/// What is known of candidate and stable at the same moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair<T> {
    /// The candidate's.
    pub candidate: T,
    /// Stable's.
    pub stable: T,
}

/// How the requests are dealt to candidate and stable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Dealt {
    /// Whether stable gets any.
    pub stable_is_due: bool,
    /// Where each client keeps its version: the candidate's share of the clients, 0 to 1. Who has
    /// failed is then counted by client, and how many requests each makes says nothing.
    pub by_client: Option<f64>,
    /// Whether a container of the candidate is not healthy now: then requests are not all that it
    /// lacks.
    pub candidate_is_down: bool,
}

/// What a candidate is accused of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Its requests fail.
    Fails,
    /// Its responses are late.
    Slow,
}

/// One look: what has come since the step began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Since the step began.
    pub step: Pair<Counts>,
    /// Since the run of the step began.
    pub run: Pair<Counts>,
    /// In the last few seconds.
    pub recent: Pair<Counts>,
    /// The evidence of the run's blocks.
    pub gathered: Gathered,
    /// What stable did before that, for as long as the proxy has known it.
    pub record: Counts,
    /// What was slow for stable before that: its p99, in seconds, where it is known.
    pub slow: Option<f64>,
    /// Whether latency counts by now.
    pub is_warm: bool,
    /// How the requests are dealt.
    pub dealt: Dealt,
    /// Which run it is.
    pub kind: RunKind,
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
    /// The candidate looks worse than it may be, but a single incident would look alike: it gets no
    /// requests for a moment, and then a second chance.
    SetAside {
        /// What it is accused of.
        family: Family,
        /// The figures that say so.
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
            Self::SetAside { why, .. } => write!(f, "bad, or an incident: {why}"),
            Self::RollBack { why } => write!(f, "bad: {why}"),
        }
    }
}

/// What has been gathered for each accusation, for the history.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Case {
    /// It fails more than stable.
    pub fails_more_than_stable: Weighed,
    /// It fails far more than stable did before, and more than stable does now: two keys
    /// ([`Weighed::and`]).
    pub fails_more_than_before: Weighed,
    /// It fails more than `success_rate` allows.
    pub fails_more_than_allowed: Weighed,
    /// It has failed more than either in the last few seconds.
    pub fails_now: Weighed,
    /// More of its responses than of stable's are slow.
    pub slower_than_stable: Weighed,
    /// More of its responses are slow than `latency_p99` allows.
    pub slower_than_allowed: Weighed,
}

/// What a candidate is rolled back for.
#[derive(Debug, Clone, Copy)]
enum Accusation {
    Fails,
    FailsNow,
    SlowerThanStable,
    SlowerThanAllowed,
}

impl Accusation {
    fn family(self) -> Family {
        match self {
            Self::Fails | Self::FailsNow => Family::Fails,
            Self::SlowerThanStable | Self::SlowerThanAllowed => Family::Slow,
        }
    }
}

/// What is proven against a candidate.
#[derive(Debug, Clone, Copy)]
struct Proof {
    accusation: Accusation,
    evidence: Evidence,
    /// A single incident may explain it.
    may_be_incident: bool,
}

impl Case {
    /// What the figures say against the candidate.
    pub fn against(limits: &Limits, sample: &Sample) -> Self {
        let tolerance = limits.success_rate_tolerance / 100.0;
        let allowed = limits.failures_allowed();
        let failed = sample.run.map(Counts::failed);
        let now = sample.recent.map(Counts::failed);
        let gathered = &sample.gathered;
        let record = sample.record.failed();
        let fails_now = match sample.dealt.stable_is_due {
            true => against_stable(&FAILURES, now.candidate, now.stable, tolerance),
            false => {
                sample
                    .breaks(&FAILURES, allowed, now, record, Weighed::default())
                    .all
            }
        };
        let over_limit = sample.run.map(|counts| counts.latency.over_limit());
        Self {
            fails_more_than_stable: gathered.fails,
            fails_more_than_before: sample.fails_more_than_before(tolerance),
            fails_more_than_allowed: sample.breaks(
                &FAILURES,
                allowed,
                failed,
                record,
                gathered.fails_at_all,
            ),
            fails_now: Weighed::at_once(fails_now),
            slower_than_stable: match sample.is_beyond(limits.latency_tolerance / 100.0) {
                true => gathered.slower,
                false => Weighed::default(),
            },
            slower_than_allowed: sample.breaks(
                &SLOWNESS,
                BEYOND_P99,
                over_limit,
                sample.record.latency.over_limit(),
                gathered.over_limit,
            ),
        }
    }

    /// What is proven against the candidate, and by what evidence. A new field has to be listed here,
    /// or nothing compiles.
    fn proven(&self, sample: &Sample) -> Option<Proof> {
        use Accusation::{Fails, FailsNow, SlowerThanAllowed, SlowerThanStable};
        let chance = Evidence::of_chance;
        let Self {
            fails_more_than_stable,
            fails_more_than_before,
            fails_more_than_allowed,
            fails_now,
            slower_than_stable,
            slower_than_allowed,
        } = *self;
        [
            (Fails, fails_more_than_stable, enough(sample.share())),
            (Fails, fails_more_than_before, chance(CHANCE_OF_FAILURES)),
            (Fails, fails_more_than_allowed, chance(CHANCE_OF_FAILURES)),
            (FailsNow, fails_now, chance(CHANCE_OF_A_BURST)),
            (
                SlowerThanStable,
                slower_than_stable,
                chance(CHANCE_OF_SLOWNESS),
            ),
            (
                SlowerThanAllowed,
                slower_than_allowed,
                chance(CHANCE_OF_A_BROKEN_P99),
            ),
        ]
        .into_iter()
        .find_map(|(accusation, of, enough)| sample.proves(accusation, of, enough))
    }
}

impl Limits {
    /// The share of requests that may fail, 0 to 1.
    fn failures_allowed(&self) -> f64 {
        (1.0 - self.success_rate / 100.0).clamp(0.0, 1.0)
    }
}

impl<T> Pair<T> {
    pub(crate) fn map<U>(self, of: impl Fn(T) -> U) -> Pair<U> {
        Pair {
            candidate: of(self.candidate),
            stable: of(self.stable),
        }
    }
}

impl Sample {
    /// The candidate's share of what was dealt in this run.
    fn share(&self) -> f64 {
        let dealt = self.run.map(Counts::failed);
        let measured = || dealt.candidate.among(dealt.stable);
        self.dealt.by_client.unwrap_or_else(measured)
    }

    /// Whether this evidence is enough for an accusation.
    fn proves(&self, accusation: Accusation, of: Weighed, enough: Evidence) -> Option<Proof> {
        let proof = |may_be_incident| Proof {
            accusation,
            evidence: of.all,
            may_be_incident,
        };
        let suspected = match (self.kind, accusation) {
            // Every few seconds are looked at by themselves.
            (RunKind::First, Accusation::FailsNow) => enough,
            _ => enough.root().min(Evidence::of_chance(CHANCE_AGAIN)),
        };
        let is_one_failure =
            accusation.family() == Family::Fails && self.run.candidate.failures < SEVERAL;
        let is_suspected = of.all >= suspected && !is_one_failure;
        match self.kind {
            // Where stable gets nothing there is no version to give the requests to for a moment.
            RunKind::First if !self.dealt.stable_is_due => (of.all >= enough).then(|| proof(false)),
            RunKind::First if of.is_of_one_moment() => is_suspected.then(|| proof(true)),
            RunKind::First => (of.all >= enough).then(|| proof(false)),
            RunKind::Second(family) => {
                let again = family == accusation.family() && is_suspected;
                (again || of.all >= enough).then(|| proof(false))
            }
            RunKind::Aside => None,
        }
    }

    /// What is known of stable: in the same window, or else from before.
    fn known(&self) -> Counts {
        let now = self.step.stable;
        if self.dealt.stable_is_due && now.attempts >= STABLE_REQUESTS {
            now
        } else {
            self.record
        }
    }

    /// Evidence that the candidate fails more than stable did before and now. What stable did before is
    /// many requests, so a few failures of the candidate tell; but both may fail more than before.
    fn fails_more_than_before(&self, tolerance: f64) -> Weighed {
        let before = self.record.failed().of_at_most(REQUESTS_BEFORE);
        if !self.dealt.stable_is_due
            || self.dealt.by_client.is_some()
            || before.whole < REQUESTS_BEFORE / 10
        {
            return Weighed::default();
        }
        let run = self.run.map(Counts::failed);
        let known = run.stable.and(before);
        let than_before = against_stable(&FAILURES, run.candidate, known, tolerance);
        self.gathered.fails.and(than_before)
    }

    /// Whether more of its responses are slow than may be: more than the 1 in 100 that stable had
    /// before, and than stable has now, by more than the tolerance.
    fn is_beyond(&self, tolerance: f64) -> bool {
        let slow = self.run.map(|counts| counts.latency.slow());
        let stable = slow.stable.rate().unwrap_or(0.0).max(BEYOND_P99);
        slow.candidate
            .rate()
            .is_some_and(|rate| rate > stable + tolerance)
    }

    /// Evidence that the candidate breaks a limit which stable keeps. While stable is due requests the
    /// candidate has to be worse than stable, too: this much says that it is.
    fn breaks(
        &self,
        bets: &Bets,
        allowed: f64,
        of: Pair<Share>,
        record: Share,
        worse: Weighed,
    ) -> Weighed {
        if !self.dealt.stable_is_due {
            let known = record.rate().filter(|_| record.whole >= STABLE_REQUESTS);
            let allowed = allowed.max(known.unwrap_or(0.0));
            return Weighed::at_large(against_limit(bets, of.candidate, allowed));
        }
        if of.stable.rate().is_none_or(|rate| rate > allowed) {
            return Weighed::default();
        }
        // That stable keeps it in these few requests may be luck: both have to be shown.
        Weighed::at_large(against_limit(bets, of.candidate, allowed)).min(worse)
    }
}

/// Judges the candidate by one look.
pub fn judge(limits: &Limits, sample: &Sample) -> Verdict {
    let case = Case::against(limits, sample);
    if let Some(proof) = case.proven(sample) {
        let (why, family) = (
            rollback_reason(limits, sample, proof),
            proof.accusation.family(),
        );
        return match proof.may_be_incident {
            true => Verdict::SetAside { family, why },
            false => Verdict::RollBack { why },
        };
    }
    let candidate = sample.step.candidate;
    let hold_reason = hold_reason(limits, sample, &case);
    let few = candidate.attempts < limits.min_requests;
    let keeps_limit = |rate| rate >= limits.success_rate;
    let lacks_only_requests = few
        && hold_reason.is_none()
        && !sample.dealt.candidate_is_down
        && sample.kind == RunKind::First
        && candidate.success_rate().is_none_or(keeps_limit);
    let left = limits.step_min_duration.saturating_sub(sample.elapsed);
    let waits = if let Some(why) = as_bad_as_stable(limits, sample) {
        Verdict::Inconclusive { why }
    } else if sample.kind != RunKind::First {
        let why = "it was accused, and has a second chance".into();
        Verdict::Hold { why }
    } else if few {
        let (attempts, wanted) = (candidate.attempts, limits.min_requests);
        let mut why = format!("{attempts} of {wanted} requests so far");
        if let Some(hold_reason) = &hold_reason {
            why.push_str(&format!("; {hold_reason}"));
        }
        why.push_str(&countdown(limits, sample, lacks_only_requests));
        Verdict::Hold { why }
    } else if !left.is_zero() {
        let why = format!("{} s to go", left.as_secs_f64().ceil());
        Verdict::Hold { why }
    } else if let Some(mut why) = hold_reason {
        why.push_str(&countdown(limits, sample, false));
        Verdict::Hold { why }
    } else {
        return Verdict::Advance;
    };
    match waits {
        Verdict::Hold { why } | Verdict::Inconclusive { why }
            if sample.elapsed >= limits.max_hold =>
        {
            if lacks_only_requests && limits.after_max_hold == AfterMaxHold::Proceed {
                return Verdict::Advance;
            }
            let held = humantime::format_duration(limits.max_hold);
            let why = format!("held for {held}: {why}");
            Verdict::Pause { why }
        }
        waits => waits,
    }
}

/// What becomes of a step that is held, and when; in steps of 10 s, so that it is not news each time.
fn countdown(limits: &Limits, sample: &Sample, lacks_only_requests: bool) -> String {
    let left = limits.max_hold.saturating_sub(sample.elapsed).as_secs();
    if left == 0 {
        return String::new();
    }
    let then = match limits.after_max_hold {
        AfterMaxHold::Proceed if lacks_only_requests => "goes on without them",
        _ => "pauses",
    };
    let left = Duration::from_secs(left.div_ceil(10) * 10);
    format!("; {then} in {}", humantime::format_duration(left))
}

/// What is proven against the candidate, in words.
fn rollback_reason(limits: &Limits, sample: &Sample, proof: Proof) -> String {
    let text = match proof.accusation {
        Accusation::Fails => failures_text(limits, sample.run),
        Accusation::FailsNow => {
            let now = failures_text(limits, sample.recent);
            return format!("in the last few seconds, {now}");
        }
        Accusation::SlowerThanStable => slower_text(sample),
        Accusation::SlowerThanAllowed => too_slow_text(limits, sample),
    };
    format!("{text}; {}", chance_text(proof.evidence))
}

/// Whether both break `success_rate`, so that it says nothing about the candidate.
fn as_bad_as_stable(limits: &Limits, sample: &Sample) -> Option<String> {
    let allowed = limits.failures_allowed();
    let failed = sample.step.map(Counts::failed);
    let stable_fails =
        sample.dealt.stable_is_due && failed.stable.rate().is_some_and(|rate| rate > allowed);
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
    if case.fails_more_than_stable.all.reaches(DOUBT) {
        return Some(format!("in doubt: {}", failures_text(limits, sample.step)));
    }
    if case.slower_than_stable.all.reaches(DOUBT) {
        return Some(format!("in doubt: {}", slower_text(sample)));
    }
    None
}
