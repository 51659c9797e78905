//! What one look at the figures says about a candidate: a pure function of limits, figures
//! and time.
//!
//! A candidate is condemned when so many failures would come by chance less than once in
//! 10,000 looks, if it failed as rarely as it has to: no more than `success_rate` allows, or
//! than stable fails in the same window, whichever is more. The test is the exact binomial
//! tail, so it holds for 3 requests as for 3 million.

use std::time::Duration;

use admin_api::VersionStats;
use serde::{Deserialize, Serialize};

/// So unlikely has a run of failures to be before it counts as the candidate's own.
const CHANCE: f64 = 1e-4;
/// One failure alone condemns nobody.
const FEWEST_FAILURES: u64 = 2;
/// From so many tries on, stable's figures count, whatever the candidate has.
const STABLE_TRIES: u64 = 20;

/// What a candidate has to keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// The success rate in per cent, 0 to 100.
    pub success_rate: f64,
    /// Tries of the candidate before a step may end well.
    pub min_requests: u64,
    /// How long a step lasts at least.
    pub step_min_duration: Duration,
}

/// What has come since the step began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Tries that ended.
    pub tries: u64,
    /// Those that count against the version.
    pub failures: u64,
}

impl Figures {
    /// What came between two readings; `None` when a counter went backwards, which is a proxy
    /// that has started again.
    pub fn between(before: &VersionStats, now: &VersionStats) -> Option<Self> {
        let tries = now.tries().checked_sub(before.tries())?;
        let failures = now.failures().checked_sub(before.failures())?;
        (failures <= tries).then_some(Self { tries, failures })
    }

    /// In per cent; `None` without tries.
    pub fn success_rate(self) -> Option<f64> {
        (self.tries > 0).then(|| 100.0 * (1.0 - ratio(self.failures, self.tries)))
    }
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
    /// The candidate is worse than it may be.
    RollBack {
        /// The figures that say so.
        why: String,
    },
    /// Something is wrong, and stable has it too.
    Inconclusive {
        /// The figures that say so.
        why: String,
    },
}

/// Judges the candidate by what came since the step began, `elapsed` ago.
pub fn judge(limits: &Limits, candidate: Figures, stable: Figures, elapsed: Duration) -> Verdict {
    let allowed = (1.0 - limits.success_rate / 100.0).clamp(0.0, 1.0);
    // A few stragglers of stable, after all the traffic has gone to the candidate, say nothing.
    let stable_counts = stable.tries >= STABLE_TRIES
        || (stable.tries > 0 && stable.tries.saturating_mul(2) >= candidate.tries);
    let expected = if stable_counts {
        allowed.max(ratio(stable.failures + 1, stable.tries + 2))
    } else {
        allowed
    };
    let fails_more_than = |rate: f64| {
        candidate.failures >= FEWEST_FAILURES
            && binomial_tail(candidate.tries, candidate.failures, rate) < CHANCE
    };
    if fails_more_than(expected) {
        return Verdict::RollBack {
            why: describe(limits, candidate, stable),
        };
    }
    let stable_fails = stable_counts
        && stable
            .success_rate()
            .is_some_and(|rate| rate < limits.success_rate);
    if stable_fails && fails_more_than(allowed) {
        return Verdict::Inconclusive {
            why: format!(
                "{}: stable fails as much",
                describe(limits, candidate, stable)
            ),
        };
    }
    if candidate.tries < limits.min_requests {
        let why = format!(
            "{} of {} requests so far",
            candidate.tries, limits.min_requests
        );
        return Verdict::Hold { why };
    }
    if elapsed < limits.step_min_duration {
        let left = limits.step_min_duration.saturating_sub(elapsed);
        return Verdict::Hold {
            why: format!("{} s to go", left.as_secs_f64().ceil()),
        };
    }
    let Some(rate) = candidate.success_rate() else {
        // Nobody asked for requests (`min_requests = 0`), and none came.
        return Verdict::Advance;
    };
    let as_good_as_stable =
        stable_counts && stable.success_rate().is_some_and(|stable| rate >= stable);
    if rate >= limits.success_rate || as_good_as_stable {
        return Verdict::Advance;
    }
    Verdict::Hold {
        why: describe(limits, candidate, stable),
    }
}

fn describe(limits: &Limits, candidate: Figures, stable: Figures) -> String {
    let mut text = format!(
        "{} of {} requests failed ({:.1}% succeeded, limit {}%",
        candidate.failures,
        candidate.tries,
        candidate.success_rate().unwrap_or(100.0),
        limits.success_rate,
    );
    match stable.success_rate() {
        Some(rate) => text.push_str(&format!(
            "; stable: {} of {} failed, {rate:.1}% succeeded)",
            stable.failures, stable.tries
        )),
        None => text.push(')'),
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// P(X ≥ k) for X binomial with n tries of probability p.
fn binomial_tail(n: u64, k: u64, p: f64) -> f64 {
    if k == 0 || p >= 1.0 {
        return 1.0;
    }
    if p <= 0.0 {
        return 0.0;
    }
    // Below the mean the tail is the greater part of the whole: no need to sum it.
    if ratio(k, n) <= p {
        return 1.0;
    }
    let first = ln_choose(n, k) + ratio(k, 1) * p.ln() + ratio(n - k, 1) * (-p).ln_1p();
    // Above the mean each term is smaller than the one before, so the sum in units of the
    // first term converges, and its size stays in the logarithm.
    let odds = p / (1.0 - p);
    let (mut term, mut sum) = (1.0, 1.0);
    for i in k..n {
        term *= ratio(n - i, i + 1) * odds;
        sum += term;
        if term < sum * 1e-12 {
            break;
        }
    }
    (first + sum.ln()).exp().min(1.0)
}

fn ln_choose(n: u64, k: u64) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// Exact sums for small numbers, Stirling's series above: its error there is below 1e-12.
fn ln_factorial(n: u64) -> f64 {
    if n < 32 {
        return (2..=n).map(|i| ratio(i, 1).ln()).sum();
    }
    let x = ratio(n, 1);
    let inverse = 1.0 / x;
    let correction = inverse / 12.0 - inverse.powi(3) / 360.0 + inverse.powi(5) / 1260.0;
    x * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI * x).ln() + correction
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        success_rate: 99.0,
        min_requests: 50,
        step_min_duration: Duration::from_secs(30),
    };

    /// `(failures, tries)` of candidate and stable, seconds since the step began.
    #[track_caller]
    fn check(candidate: (u64, u64), stable: (u64, u64), secs: u64, want: &str) {
        let figures = |(failures, tries)| Figures { tries, failures };
        let verdict = judge(
            &LIMITS,
            figures(candidate),
            figures(stable),
            Duration::from_secs(secs),
        );
        let got = match &verdict {
            Verdict::Advance => "advance",
            Verdict::Hold { .. } => "hold",
            Verdict::RollBack { .. } => "roll back",
            Verdict::Inconclusive { .. } => "inconclusive",
        };
        assert_eq!(
            got, want,
            "{candidate:?} against {stable:?} after {secs} s: {verdict:?}"
        );
    }

    #[test]
    fn no_data_is_neither_success_nor_failure() {
        check((0, 0), (0, 0), 0, "hold");
        check((0, 0), (0, 5000), 3600, "hold");
        check((0, 49), (0, 500), 60, "hold");
    }

    #[test]
    fn a_step_ends_well_with_enough_requests_and_time() {
        check((0, 50), (0, 500), 29, "hold");
        check((0, 50), (0, 500), 30, "advance");
        check((1, 100), (0, 900), 30, "advance");
        check((0, 5000), (0, 0), 30, "advance");
    }

    #[test]
    fn a_slightly_bad_candidate_is_held_not_condemned() {
        check((2, 100), (0, 900), 60, "hold");
    }

    #[test]
    fn a_candidate_as_good_as_a_bad_stable_advances() {
        check((15, 1000), (15, 1000), 60, "advance");
    }

    #[test]
    fn a_bad_candidate_is_condemned_before_there_are_enough_requests_to_advance() {
        check((3, 9), (0, 90), 1, "hold");
        check((4, 12), (0, 120), 1, "roll back");
        check((2, 2), (0, 500), 0, "hold");
        check((3, 3), (0, 500), 0, "roll back");
        check((333, 1000), (0, 9000), 1, "roll back");
        check((300_000, 1_000_000), (9_000, 1_000_000), 1, "roll back");
        check((20_000, 1_000_000), (1_000, 1_000_000), 1, "roll back");
    }

    #[test]
    fn one_failure_condemns_nobody() {
        check((1, 1), (0, 5000), 0, "hold");
        check((1, 50), (0, 5000), 60, "hold");
    }

    #[test]
    fn stable_failing_as_much_is_inconclusive() {
        check((500, 1000), (500, 1000), 60, "inconclusive");
        check((100, 1000), (900, 9000), 60, "inconclusive");
        check((50, 50), (50, 50), 60, "inconclusive");
    }

    #[test]
    fn stragglers_of_stable_excuse_nothing() {
        check((100, 1000), (1, 1), 1, "roll back");
        check((100, 1000), (0, 3), 1, "roll back");
    }

    #[track_caller]
    fn check_tail(n: u64, k: u64, p: f64, want: f64) {
        let got = binomial_tail(n, k, p);
        assert!(
            (got - want).abs() <= want * 1e-6,
            "P(X >= {k} | {n}, {p}) = {got}, not {want}"
        );
    }

    #[test]
    fn the_tail_is_exact_for_small_and_large_numbers() {
        check_tail(1, 1, 0.01, 0.01);
        check_tail(2, 2, 0.01, 1e-4);
        check_tail(3, 2, 0.5, 0.5 * 1.0 + 0.0);
        check_tail(10, 8, 0.1, 3.736e-7);
        check_tail(100, 10, 0.01, 7.631_587_5e-8);
        check_tail(100, 100, 0.5, 0.5_f64.powi(100));
        assert!(binomial_tail(1_000_000, 10_400, 0.01) < 1e-4);
        assert!(binomial_tail(1_000_000, 10_200, 0.01) > 1e-4);
        assert_eq!(binomial_tail(1_000_000_000, 500_000_000, 0.01), 0.0);
        assert_eq!(binomial_tail(10, 0, 0.0), 1.0);
        assert_eq!(binomial_tail(10, 1, 0.0), 0.0);
        assert_eq!(binomial_tail(10, 1, 1.0), 1.0);
    }

    #[test]
    fn the_logarithm_of_a_factorial_has_no_seam() {
        let exact = |n: u64| (2..=n).map(|i| ratio(i, 1).ln()).sum::<f64>();
        for n in [31, 32, 33, 100, 1000] {
            assert!((ln_factorial(n) - exact(n)).abs() < 1e-9, "{n}");
        }
    }

    #[test]
    fn a_counter_that_went_backwards_is_a_new_proxy() {
        let of = |success| {
            let mut stats = VersionStats::default();
            stats.responses.success = success;
            stats
        };
        assert_eq!(Figures::between(&of(10), &of(9)), None);
        let figures = Figures::between(&of(10), &of(12)).expect("forwards");
        assert_eq!(
            figures,
            Figures {
                tries: 2,
                failures: 0
            }
        );
    }
}
