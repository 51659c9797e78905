//! One rollout: requests dealt to candidate and stable, and the controller's verdict on them.

use std::time::Duration;

use admin_api::{Bucket, VersionStats};
use controller::plan::RolloutSettings;
use controller::verdict::{Case, Figures, Limits, Look, Pair, Window};

use super::rng::Rng;

/// Requests a second, in all.
pub(super) const RATE: u64 = 500;
/// So long the last seconds are, in which a burst is looked for.
const RECENT: u64 = 10 * RATE;
/// A look at latency reads two histograms: so often it is taken, in requests to the candidate.
const LOOK_AT_LATENCY: u64 = 10;
/// What stable has answered before the step, so that it is known what is slow.
const RECORD: u64 = 10_000;

/// How requests are dealt to the versions.
#[derive(Debug, Clone, Copy)]
pub(super) enum Assignment {
    /// As the proxy does: by a low-discrepancy sequence.
    Sequence,
    /// By chance.
    Coin,
}

/// What comes of the requests.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    /// So many fail, as parts of 1.
    Failures { candidate: f64, stable: f64 },
    /// None fails, but the candidate may be slow.
    Latency(Tail),
}

/// How slow a candidate is. Stable's latency is log-normal, with a median of 20 ms and a p99 of
/// 102 ms.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tail {
    Same,
    TwiceAsSlow,
    /// As fast as stable for half of the requests, with a p99 that is doubled.
    Longer,
}

const MEDIAN: f64 = 0.02;
const SIGMA: f64 = 0.7;
/// The 99th of 100 of the bell curve.
const Z99: f64 = 2.326_348;

/// What a manifest has that says nothing of it, with latency counted from the first answer.
pub(super) fn limits() -> Limits {
    Limits {
        warm_up: Duration::ZERO,
        ..RolloutSettings::default().limits()
    }
}

/// After how many requests to the candidate it is rolled back, if it is within `requests`.
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
    /// Whether the next request is the candidate's.
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

/// Looked at after every request to the candidate.
fn failures(
    rng: &mut Rng,
    assigner: &mut Assigner,
    rates: Pair<f64>,
    requests: u64,
) -> Option<u64> {
    let limits = limits();
    let mut now = Pair::<Figures>::default();
    let mut recent = now;
    for request in 1.. {
        if request % RECENT == 0 {
            recent = now;
        }
        if !assigner.is_candidates(rng) {
            now.stable.tries += 1;
            now.stable.failures += u64::from(rng.chance(rates.stable));
            continue;
        }
        now.candidate.tries += 1;
        now.candidate.failures += u64::from(rng.chance(rates.candidate));
        if should_roll_back(&limits, now, recent, request) {
            return Some(now.candidate.tries);
        }
        if now.candidate.tries >= requests {
            break;
        }
    }
    None
}

/// Whether the figures `now` speak against the candidate; `recent` are those of some seconds ago.
pub(super) fn should_roll_back(
    limits: &Limits,
    now: Pair<Figures>,
    recent: Pair<Figures>,
    request: u64,
) -> bool {
    let since = |now: Figures, then: Figures| Figures {
        tries: now.tries - then.tries,
        failures: now.failures - then.failures,
        ..Figures::default()
    };
    let look = Look {
        step: now,
        recent: Pair {
            candidate: since(now.candidate, recent.candidate),
            stable: since(now.stable, recent.stable),
        },
        elapsed: elapsed(request),
        ..Look::default()
    };
    Case::against(limits, &look).condemns()
}

fn elapsed(request: u64) -> Duration {
    Duration::from_millis(request * 1000 / RATE)
}

/// Through the proxy's histogram and the controller's window, as in earnest.
fn latency(rng: &mut Rng, assigner: &mut Assigner, tail: Tail, requests: u64) -> Option<u64> {
    let limits = limits();
    let (mut candidate, mut stable) = (Histogram::default(), Histogram::default());
    for _ in 0..RECORD {
        stable.answer(MEDIAN * (SIGMA * rng.normal()).exp());
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
            stable.answer(MEDIAN * (SIGMA * rng.normal()).exp());
            continue;
        }
        candidate.answer(median * (sigma * rng.normal()).exp());
        if candidate.answers % LOOK_AT_LATENCY == 0 {
            let look = window.look(&reading(&candidate, &stable), elapsed(request), &limits)?;
            if Case::against(&limits, &look).condemns() {
                return Some(candidate.answers);
            }
        }
        if candidate.answers >= requests {
            break;
        }
    }
    None
}

/// Eight buckets an octave, from 1 µs on, as the proxy has them.
struct Histogram {
    answers: u64,
    buckets: [u64; 216],
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            answers: 0,
            buckets: [0; 216],
        }
    }
}

impl Histogram {
    fn answer(&mut self, seconds: f64) {
        let micros = ((seconds * 1e6) as u64).max(1);
        let octave = micros.ilog2() as usize;
        let part = ((micros << 3) >> octave) as usize & 7;
        let index = (octave * 8 + part).min(self.buckets.len() - 1);
        self.buckets[index] += 1;
        self.answers += 1;
    }

    fn stats(&self) -> VersionStats {
        let bound = |index: usize| {
            let part = 1.0 + (index % 8 + 1) as f64 / 8.0;
            2.0_f64.powi((index / 8) as i32) * part / 1e6
        };
        let mut stats = VersionStats::default();
        stats.responses.success = self.answers;
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
