//! One simulated rollout: requests to candidate and stable, and the controller's verdict.

use std::time::Duration;

use admin_api::{Bucket, VersionStats};
use controller::plan::RolloutSettings;
use controller::verdict::{Dealt, Limits, Pair, Verdict, Window, judge};

use super::world::{Kind, RATE, Side, World};
use crate::rng::Rng;

/// The requests to stable before the step: its record.
const RECORD: u64 = 10_000;
/// Requests of a block of the proxy's.
const PLACES: usize = 32;

/// The default limits of a manifest, without a warm-up.
pub(super) fn limits() -> Limits {
    Limits {
        warm_up: Duration::ZERO,
        ..RolloutSettings::default().limits()
    }
}

/// How often the controller looks.
pub(super) fn look_every() -> Duration {
    RolloutSettings::default().look_every.get()
}

/// What a rollout came to that was rolled back.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct RolledBack {
    /// Requests to the candidate until then.
    pub(super) requests: u64,
    pub(super) seconds: f64,
    /// Errors of the candidate that clients received.
    pub(super) errors: u64,
}

/// A rollout in which the candidate gets this share, for so many requests to both.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    pub(super) kind: Kind,
    /// The candidate's share in percent.
    pub(super) share: u32,
    pub(super) requests: u64,
}

impl Scenario {
    /// `None` without a rollback.
    pub(super) fn trial(&self, seed: u64) -> Option<RolledBack> {
        Trial::new(*self, seed).run()
    }
}

struct Trial {
    scenario: Scenario,
    rng: Rng,
    world: World,
    dealer: Dealer,
    now: Pair<Counters>,
    window: Window,
    errors: u64,
}

impl Trial {
    fn new(scenario: Scenario, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let length = scenario.requests as f64 / RATE;
        let world = World::new(scenario.kind, length, &mut rng);
        let mut now = Pair::<Counters>::default();
        for _ in 0..RECORD {
            now.stable.requests += 1;
            now.stable.failures += u64::from(world.failed_before(&mut rng));
            if let Some(latency) = world.latency_before(&mut rng) {
                now.stable.latency.record(latency);
            }
        }
        Self {
            window: Window::open(reading(&now)),
            dealer: Dealer::new(&mut rng),
            scenario,
            rng,
            world,
            now,
            errors: 0,
        }
    }

    fn run(mut self) -> Option<RolledBack> {
        let limits = limits();
        let (mut number, mut elapsed, mut before) = (0, Duration::ZERO, 0);
        while number < self.scenario.requests {
            elapsed += self.window.run().look_in(look_every(), elapsed);
            let seconds = elapsed.as_secs_f64();
            let weight = self.window.run().weight(self.weight_of_step(seconds));
            let until = (seconds * RATE) as u64;
            if before != weight {
                self.world.split_changes();
            }
            before = weight;
            for number in number..until {
                self.request(number, f64::from(weight) / 100.0);
            }
            number = until;
            let dealt = self.dealt(weight);
            let now = reading(&self.now);
            let sample = self.window.sample(&now, elapsed, dealt, &limits)?;
            match judge(&limits, &sample) {
                Verdict::RollBack { .. } => {
                    return Some(RolledBack {
                        requests: self.now.candidate.requests,
                        seconds,
                        errors: self.errors,
                    });
                }
                Verdict::SetAside { family, why } => self.window.set_aside(family, why, &sample),
                _ => {}
            }
        }
        None
    }

    fn weight_of_step(&self, seconds: f64) -> u32 {
        let share = f64::from(self.scenario.share) * self.world.share_factor(seconds);
        share.min(80.0) as u32
    }

    fn dealt(&self, weight: u32) -> Dealt {
        let by_client = matches!(self.scenario.kind, Kind::Clients);
        Dealt {
            stable_is_due: true,
            by_client: by_client.then(|| f64::from(weight) / 100.0),
            candidate_is_down: false,
        }
    }

    fn request(&mut self, number: u64, share: f64) {
        let rng = &mut self.rng;
        let client = self.world.client(share, rng);
        let side = match client {
            Some((_, side)) => side,
            None => self.dealer.deal(share, rng),
        };
        let client = client.map(|(client, _)| client);
        let outcome = self.world.outcome(side, number, client, rng);
        let counters = match side {
            Side::Candidate => &mut self.now.candidate,
            Side::Stable => &mut self.now.stable,
        };
        if let Some(latency) = self.world.latency(side, number, rng) {
            counters.latency.record(latency);
        }
        if outcome.is_known {
            return;
        }
        counters.requests += 1;
        counters.failures += u64::from(outcome.fails);
        counters.repeats += outcome.repeats;
        if side == Side::Candidate {
            self.errors += u64::from(outcome.fails);
        }
    }
}

/// The proxy's permuted blocks, of one worker.
struct Dealer {
    places: [u8; PLACES],
    drawn: usize,
    inside: f64,
}

impl Dealer {
    fn new(rng: &mut Rng) -> Self {
        Self {
            places: std::array::from_fn(|place| place as u8),
            drawn: PLACES,
            inside: rng.uniform(),
        }
    }

    fn deal(&mut self, share: f64, rng: &mut Rng) -> Side {
        if self.drawn == PLACES {
            self.drawn = 0;
            self.inside = (self.inside + 0.618_033_988_749_895).fract();
        }
        let chosen = self.drawn + rng.below((PLACES - self.drawn) as u64) as usize;
        self.places.swap(self.drawn, chosen);
        let place = f64::from(self.places[self.drawn]) + self.inside;
        self.drawn += 1;
        match place < share * PLACES as f64 {
            true => Side::Candidate,
            false => Side::Stable,
        }
    }
}

/// The proxy's counters of one version.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) requests: u64,
    pub(super) failures: u64,
    repeats: u64,
    latency: Histogram,
}

impl Counters {
    pub(super) fn of(requests: u64, failures: u64) -> Self {
        Self {
            requests,
            failures,
            ..Self::default()
        }
    }

    fn stats(&self) -> VersionStats {
        let mut stats = VersionStats::default();
        stats.responses.success = self.requests - self.failures;
        stats.failed_tries.reset = self.failures + self.repeats;
        stats.repeated.failed_tries.reset = self.repeats;
        stats.latency = self.latency.buckets();
        stats
    }
}

/// What a controller reads.
pub(super) fn reading(now: &Pair<Counters>) -> Pair<VersionStats> {
    Pair {
        candidate: now.candidate.stats(),
        stable: now.stable.stats(),
    }
}

/// The proxy's histogram: eight buckets per octave, from 1 µs on. Empty without responses.
#[derive(Default)]
struct Histogram {
    buckets: Vec<u64>,
}

impl Histogram {
    fn record(&mut self, seconds: f64) {
        self.buckets.resize(216, 0);
        let micros = ((seconds * 1e6) as u64).max(1);
        let octave = micros.ilog2() as usize;
        let part = ((micros << 3) >> octave) as usize & 7;
        let index = (octave * 8 + part).min(self.buckets.len() - 1);
        self.buckets[index] += 1;
    }

    fn buckets(&self) -> Vec<Bucket> {
        let bound = |index: usize| {
            let part = 1.0 + (index % 8 + 1) as f64 / 8.0;
            2.0_f64.powi((index / 8) as i32) * part / 1e6
        };
        let counts = self.buckets.iter().enumerate();
        counts
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| Bucket {
                le: bound(index),
                count: *count,
            })
            .collect()
    }
}
