//! One simulated rollout: requests to candidate and stable, and the controller's verdict.

use std::time::Duration;

use admin_api::{Bucket, VersionStats};
use controller::plan::RolloutSettings;
use controller::verdict::{Case, Counts, Limits, Pair, Sample, Window};

use crate::rng::Rng;

/// Requests a second to both versions.
pub(super) const RATE: u64 = 500;
/// The length of the recent window, in requests: 10 s.
const RECENT: u64 = 10 * RATE;
/// Latency is evaluated once in this many requests to the candidate, since it reads two histograms.
const EVALUATE_LATENCY_EVERY: u64 = 10;
/// The responses of stable before the step, as the record of its latency.
const RECORD: u64 = 10_000;

/// How requests are assigned to the versions.
#[derive(Debug, Clone, Copy)]
pub(super) enum Assignment {
    /// By a low-discrepancy sequence, as the proxy does.
    Sequence,
    /// By chance.
    Coin,
}

/// The results of requests.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    /// Shares of failures, from 0 to 1.
    Failures { candidate: f64, stable: f64 },
    /// No failures, but latencies.
    Latency(Tail),
}

/// The latency of the candidate. Stable's latency is log-normal, with a median of 20 ms and a p99
/// of 102 ms.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tail {
    Same,
    TwiceAsSlow,
    /// The median of stable, and twice its p99.
    Longer,
}

const MEDIAN: f64 = 0.02;
const SIGMA: f64 = 0.7;
/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_348;

/// The default limits of a manifest, without a warm-up.
pub(super) fn limits() -> Limits {
    Limits {
        warm_up: Duration::ZERO,
        ..RolloutSettings::default().limits()
    }
}

/// Simulates a rollout. Returns the requests to the candidate until the rollback; `None` without a
/// rollback within `requests`.
pub(super) fn trial(
    share: f64,
    assignment: Assignment,
    stream: &Stream,
    requests: u64,
    seed: u64,
) -> Option<u64> {
    let mut rng = Rng::new(seed);
    let mut assigner = Assigner {
        share,
        assignment,
        point: rng.uniform(),
    };
    match *stream {
        Stream::Failures { candidate, stable } => failures(
            &mut rng,
            &mut assigner,
            Pair { candidate, stable },
            requests,
        ),
        Stream::Latency(tail) => latency(&mut rng, &mut assigner, tail, requests),
    }
}

struct Assigner {
    share: f64,
    assignment: Assignment,
    point: f64,
}

impl Assigner {
    /// Whether the next request goes to the candidate.
    fn is_candidates(&mut self, rng: &mut Rng) -> bool {
        match self.assignment {
            Assignment::Coin => rng.chance(self.share),
            Assignment::Sequence => {
                self.point += self.share;
                let due = self.point >= 1.0;
                self.point -= f64::from(u8::from(due));
                due
            }
        }
    }
}

/// A rollout that is evaluated after every request to the candidate.
fn failures(
    rng: &mut Rng,
    assigner: &mut Assigner,
    rates: Pair<f64>,
    requests: u64,
) -> Option<u64> {
    let limits = limits();
    let mut now = Pair::<Counts>::default();
    let mut recent = now;
    for request in 1.. {
        if request % RECENT == 0 {
            recent = now;
        }
        if !assigner.is_candidates(rng) {
            now.stable.attempts += 1;
            now.stable.failures += u64::from(rng.chance(rates.stable));
            continue;
        }
        now.candidate.attempts += 1;
        now.candidate.failures += u64::from(rng.chance(rates.candidate));
        if should_roll_back(&limits, now, recent, request) {
            return Some(now.candidate.attempts);
        }
        if now.candidate.attempts >= requests {
            break;
        }
    }
    None
}

/// The verdict on the counts `now`. `recent` are those at the beginning of the recent window.
pub(super) fn should_roll_back(
    limits: &Limits,
    now: Pair<Counts>,
    recent: Pair<Counts>,
    request: u64,
) -> bool {
    let since = |now: Counts, then: Counts| Counts {
        attempts: now.attempts - then.attempts,
        failures: now.failures - then.failures,
        ..Counts::default()
    };
    let sample = Sample {
        step: now,
        recent: Pair {
            candidate: since(now.candidate, recent.candidate),
            stable: since(now.stable, recent.stable),
        },
        elapsed: elapsed(request),
        ..Sample::default()
    };
    Case::against(limits, &sample).should_roll_back()
}

fn elapsed(request: u64) -> Duration {
    Duration::from_millis(request * 1000 / RATE)
}

/// A rollout with latencies, through the proxy's histogram and the controller's window.
fn latency(rng: &mut Rng, assigner: &mut Assigner, tail: Tail, requests: u64) -> Option<u64> {
    let limits = limits();
    let (mut candidate, mut stable) = (Histogram::default(), Histogram::default());
    for _ in 0..RECORD {
        stable.record(MEDIAN * (SIGMA * rng.normal()).exp());
    }
    let reading = |candidate: &Histogram, stable: &Histogram| Pair {
        candidate: candidate.stats(),
        stable: stable.stats(),
    };
    let (median, sigma) = match tail {
        Tail::Same => (MEDIAN, SIGMA),
        Tail::TwiceAsSlow => (2.0 * MEDIAN, SIGMA),
        Tail::Longer => (MEDIAN, SIGMA + 2.0_f64.ln() / Z99),
    };
    let mut window = Window::open(reading(&candidate, &stable));
    for request in 1.. {
        if !assigner.is_candidates(rng) {
            stable.record(MEDIAN * (SIGMA * rng.normal()).exp());
            continue;
        }
        candidate.record(median * (sigma * rng.normal()).exp());
        if candidate.responses % EVALUATE_LATENCY_EVERY == 0 {
            let sample = window.sample(&reading(&candidate, &stable), elapsed(request), &limits)?;
            if Case::against(&limits, &sample).should_roll_back() {
                return Some(candidate.responses);
            }
        }
        if candidate.responses >= requests {
            break;
        }
    }
    None
}

/// The proxy's histogram: eight buckets per octave, from 1 µs on.
struct Histogram {
    responses: u64,
    buckets: [u64; 216],
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            responses: 0,
            buckets: [0; 216],
        }
    }
}

impl Histogram {
    fn record(&mut self, seconds: f64) {
        let micros = ((seconds * 1e6) as u64).max(1);
        let octave = micros.ilog2() as usize;
        let part = ((micros << 3) >> octave) as usize & 7;
        let index = (octave * 8 + part).min(self.buckets.len() - 1);
        self.buckets[index] += 1;
        self.responses += 1;
    }

    fn stats(&self) -> VersionStats {
        let bound = |index: usize| {
            let part = 1.0 + (index % 8 + 1) as f64 / 8.0;
            2.0_f64.powi((index / 8) as i32) * part / 1e6
        };
        let mut stats = VersionStats::default();
        stats.responses.success = self.responses;
        stats.latency = self
            .buckets
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| Bucket {
                le: bound(index),
                count: *count,
            })
            .collect();
        stats
    }
}
