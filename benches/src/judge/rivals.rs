//! The judges: the controller, which evaluates every 250 ms (each second from the second minute on,
//! to save time here), and the rules of Flagger and Argo
//! Rollouts.
//!
//! Flagger (`docs/gitbook/usage/how-it-works.md`, `pkg/controller/scheduler.go`): at every interval
//! the success rate of the last minute is compared with 99%. Checks that fail, or find no data, are
//! counted. The count is never reset, and is compared with `threshold` at the beginning of the next
//! interval. The example has an interval of 60 s and a threshold of 10; the default threshold is 1.
//!
//! Argo Rollouts (`docs/features/analysis.md`, `analysis/analysis.go`): a measurement fails below
//! 95%, and the rollout is aborted when more than `failureLimit` measurements have failed; the
//! default is 0. The query is an `irate`: the last two samples of Prometheus, here 15 s apart,
//! independent of the range. The examples measure every 5 minutes with a `failureLimit` of 3, and 5
//! times, once a minute, with the default.
//!
//! Neither compares the candidate with stable.

use std::time::Duration;

use controller::verdict::{Counts, Dealt, Pair, Verdict, Window, judge};

use super::comparison::SHARE;
use super::trial::{Counters, limits, look_every, reading};
use super::world::RATE;
use crate::rng::Rng;

/// The length of a step in seconds.
pub(super) const HORIZON: f64 = 1800.0;
/// From when on the controller is simulated by the second.
const LATER: Duration = Duration::from_secs(60);
/// The time between two samples of Prometheus.
const SCRAPE: f64 = 15.0;

/// A judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judge {
    Crossfade,
    FlaggerExample,
    FlaggerDefault,
    ArgoExample,
    ArgoDefault,
}

impl Judge {
    pub(super) const ALL: [Self; 5] = [
        Self::Crossfade,
        Self::FlaggerExample,
        Self::FlaggerDefault,
        Self::ArgoExample,
        Self::ArgoDefault,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crossfade => "crossfade",
            Self::FlaggerExample => "Flagger, every 60 s, threshold 10",
            Self::FlaggerDefault => "Flagger, every 60 s, threshold 1",
            Self::ArgoExample => "Argo, every 300 s, failureLimit 3",
            Self::ArgoDefault => "Argo, 5 × 60 s, failureLimit 0",
        }
    }

    /// When it rolls the candidate back, in seconds since the step began, and what the candidate had
    /// until then, or until the end.
    pub(super) fn rolls_back(self, requests: &Requests) -> (Option<f64>, Counts) {
        let at = match self {
            Self::Crossfade => return crossfade(requests),
            Self::FlaggerExample => flagger(requests, 10),
            Self::FlaggerDefault => flagger(requests, 1),
            Self::ArgoExample => argo(requests, 300.0, usize::MAX, 3),
            Self::ArgoDefault => argo(requests, 60.0, 5, 0),
        };
        (at, requests.candidate.at(at.unwrap_or(HORIZON)))
    }
}

/// The requests of a step, the same for every judge.
pub(super) struct Requests {
    pub(super) candidate: Failing,
    stable: Failing,
}

/// The requests to one version: their rate, and the numbers of those that fail.
pub(super) struct Failing {
    rate: f64,
    failing: Vec<u64>,
}

impl Requests {
    pub(super) fn new(rng: &mut Rng, share: f64, candidate: f64, stable: f64) -> Self {
        Self {
            candidate: Failing::new(rng, RATE * share, candidate),
            stable: Failing::new(rng, RATE * (1.0 - share), stable),
        }
    }
}

impl Failing {
    fn new(rng: &mut Rng, rate: f64, chance: f64) -> Self {
        let last = (rate * HORIZON) as u64;
        let mut failing = Vec::new();
        let mut next = rng.gap(chance);
        while next < last {
            failing.push(next);
            next = next.saturating_add(1).saturating_add(rng.gap(chance));
        }
        Self { rate, failing }
    }

    /// The counts after this time.
    pub(super) fn at(&self, seconds: f64) -> Counts {
        self.of((seconds * self.rate) as u64)
    }

    /// The counts after so many requests.
    fn of(&self, attempts: u64) -> Counts {
        Counts {
            attempts,
            failures: self.failing.partition_point(|request| *request < attempts) as u64,
            ..Counts::default()
        }
    }

    /// The success rate between two times, in percent; `None` without requests.
    fn success_rate(&self, from: f64, to: f64) -> Option<f64> {
        let (from, to) = (self.at(from), self.at(to));
        let between = Counts {
            attempts: to.attempts - from.attempts,
            failures: to.failures - from.failures,
            ..Counts::default()
        };
        between.success_rate()
    }
}

fn crossfade(requests: &Requests) -> (Option<f64>, Counts) {
    let limits = limits();
    let counters = |of: Counts| Counters::of(of.attempts, of.failures);
    let mut window = Window::open(reading(&Pair::default()));
    let dealt = Dealt {
        stable_is_due: true,
        by_client: None,
        candidate_is_down: false,
    };
    let (mut elapsed, mut had) = (Duration::ZERO, Counts::default());
    // Requests to the candidate and to stable, by the weight that the candidate has.
    let (mut ours, mut theirs) = (0.0, 0.0);
    while elapsed.as_secs_f64() < HORIZON {
        let look = match elapsed < LATER {
            true => window.run().look_in(look_every(), elapsed),
            false => Duration::from_secs(1),
        };
        elapsed += look;
        let weight = f64::from(window.run().weight((SHARE * 100.0) as u32)) / 100.0;
        let all = RATE * look.as_secs_f64();
        (ours, theirs) = (ours + all * weight, theirs + all * (1.0 - weight));
        had = requests.candidate.of(ours as u64);
        let stable = requests.stable.of(theirs as u64);
        let now = reading(&Pair {
            candidate: counters(had),
            stable: counters(stable),
        });
        let Some(sample) = window.sample(&now, elapsed, dealt, &limits) else {
            break;
        };
        match judge(&limits, &sample) {
            Verdict::RollBack { .. } => return (Some(elapsed.as_secs_f64()), had),
            Verdict::SetAside { family, why } => window.set_aside(family, why, &sample),
            _ => {}
        }
    }
    (None, had)
}

fn flagger(requests: &Requests, threshold: u32) -> Option<f64> {
    let mut failed = 0;
    for tick in 1..=(HORIZON / 60.0) as u32 {
        let now = f64::from(tick) * 60.0;
        if failed >= threshold {
            return Some(now);
        }
        let rate = requests.candidate.success_rate(now - 60.0, now);
        failed += u32::from(rate.is_none_or(|rate| rate < 99.0));
    }
    None
}

fn argo(requests: &Requests, interval: f64, count: usize, failure_limit: u32) -> Option<f64> {
    let mut failed = 0;
    // The first measurement, at the start, finds no data. That is an error, which counts
    // separately.
    let times = (1..=(HORIZON / interval) as u32).map(|number| f64::from(number) * interval);
    for now in times.take(count) {
        let rate = requests.candidate.success_rate(now - SCRAPE, now);
        failed += u32::from(rate.is_none_or(|rate| rate < 95.0));
        if failed > failure_limit {
            return Some(now);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(judge: Judge, candidate: f64, want: Option<f64>) {
        let requests = Requests::new(&mut Rng::new(1), 0.1, candidate, 0.0);
        assert_eq!(judge.rolls_back(&requests).0, want, "{judge:?}");
    }

    #[test]
    fn a_dead_candidate_is_rolled_back_at_the_time_of_the_rules() {
        // At once it gets nothing; that it is rolled back takes a second chance.
        check(Judge::Crossfade, 1.0, Some(1.3));
        check(Judge::FlaggerExample, 1.0, Some(11.0 * 60.0));
        check(Judge::FlaggerDefault, 1.0, Some(120.0));
        check(Judge::ArgoExample, 1.0, Some(4.0 * 300.0));
        check(Judge::ArgoDefault, 1.0, Some(60.0));
    }

    #[test]
    fn a_perfect_candidate_is_never_rolled_back() {
        for judge in Judge::ALL {
            check(judge, 0.0, None);
        }
    }
}
