//! The reasons of a verdict, in words.

use super::counts::RESPONSES_FOR_P99;
use super::counts::{Counts, millis};
use super::evidence::Evidence;
use super::{Limits, Pair, Sample};

/// `3 of 100 requests failed (97.0% succeeded, limit 99%; …)`.
pub(super) fn failures_text(limits: &Limits, of: Pair<Counts>) -> String {
    let Pair { candidate, stable } = of;
    let mut text = format!(
        "{} of {} requests failed ({:.1}% succeeded",
        candidate.failures,
        candidate.attempts,
        candidate.success_rate().unwrap_or(100.0),
    );
    if limits.success_rate > 0.0 {
        text.push_str(&format!(", limit {}%", limits.success_rate));
    }
    match stable.success_rate() {
        Some(rate) => text.push_str(&format!(
            "; stable: {} of {} failed, {rate:.1}% succeeded)",
            stable.failures, stable.attempts
        )),
        None => text.push(')'),
    }
    text
}

/// How much slower than stable.
pub(super) fn slower_text(sample: &Sample) -> String {
    let Pair { candidate, stable } = sample.run.map(|counts| counts.latency);
    format!(
        "p99 is {} ({} with stable): {} of {} responses took longer than stable's p99 was before, \
         {}; stable has {} of {}",
        candidate.p99_text(),
        stable.p99_text(),
        candidate.slow,
        candidate.responses,
        sample.slow.map_or("unknown".into(), millis),
        stable.slow,
        stable.responses,
    )
}

/// How much slower than `latency_p99`.
pub(super) fn too_slow_text(limits: &Limits, sample: &Sample) -> String {
    let Pair { candidate, stable } = sample.run.map(|counts| counts.latency);
    format!(
        "p99 is {}, limit {}: {} of {} responses took longer; stable has {} of {}",
        candidate.p99_text(),
        millis(limits.latency_p99.as_secs_f64()),
        candidate.over_limit,
        candidate.responses,
        stable.over_limit,
        stable.responses,
    )
}

/// Responses of the candidate within which twice as slow is found in half of all cases.
const RESPONSES_FOR_LATENCY: u64 = 30;

/// What the candidate is not judged by, as far as can be seen, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotJudged {
    failures: Option<String>,
    latency: Option<String>,
}

impl NotJudged {
    /// What a step that ends now has not judged.
    pub fn of(limits: &Limits, sample: &Sample) -> Self {
        Self {
            failures: failures_not_judged(limits, sample),
            latency: latency_not_judged(limits, sample),
        }
    }

    /// What a step that goes on does not judge yet: the requests that it lacks are its verdict.
    pub fn yet(limits: &Limits, sample: &Sample) -> Self {
        Self {
            failures: None,
            latency: latency_not_judged(limits, sample),
        }
    }

    /// In words; `None` where all is judged.
    pub fn text(&self) -> Option<String> {
        let named = [("failures", &self.failures), ("latency", &self.latency)];
        let parts = named.into_iter().filter_map(|(what, why)| {
            let why = why.as_ref()?;
            Some(format!("{what} ({why})"))
        });
        let parts: Vec<String> = parts.collect();
        (!parts.is_empty()).then(|| format!("{NOT_JUDGED}{}", parts.join(", ")))
    }
}

/// How [`NotJudged::text`] begins.
pub(crate) const NOT_JUDGED: &str = "not judged: ";

fn failures_not_judged(limits: &Limits, sample: &Sample) -> Option<String> {
    let (attempts, wanted) = (sample.step.candidate.attempts, limits.min_requests);
    (attempts < wanted).then(|| format!("{attempts} of {wanted} requests"))
}

fn latency_not_judged(limits: &Limits, sample: &Sample) -> Option<String> {
    let (ours, record) = (
        sample.step.candidate.latency.responses,
        sample.record.latency.responses,
    );
    let why = if limits.latency_tolerance >= 100.0 {
        "`latency_tolerance` is 100".to_owned()
    } else if !sample.is_warm {
        let warm_up = humantime::format_duration(limits.warm_up);
        format!("the first {warm_up} do not count")
    } else if record < RESPONSES_FOR_P99 {
        format!("stable had {record} of {RESPONSES_FOR_P99} responses before the step")
    } else if !sample.dealt.stable_is_due {
        "stable gets no requests; `latency_p99` alone counts".to_owned()
    } else if ours < RESPONSES_FOR_LATENCY {
        format!("{ours} of about {RESPONSES_FOR_LATENCY} responses needed")
    } else {
        return None;
    };
    Some(why)
}

/// What the evidence means: a bound of the probability that a candidate without a fault is rolled
/// back at this step.
pub(super) fn chance_text(evidence: Evidence) -> String {
    match evidence.value() {
        value if value >= 1e6 => "probability by chance: < 1 in 1000000".into(),
        value => format!("probability by chance: < 1 in {value:.0}"),
    }
}
