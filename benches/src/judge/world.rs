//! What becomes of simulated requests: which fail, and how long their responses take.

use crate::rng::Rng;

/// Requests a second to both versions.
pub(super) const RATE: f64 = 500.0;
/// How far apart the versions see the same incident at most, in seconds.
const APART: f64 = 1.0;
/// The failing share in a burst of one second.
const BURST: f64 = 0.3;

/// The two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Candidate,
    Stable,
}

/// What goes wrong, and with whom.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Shares of failures, from 0 to 1, each request by itself.
    Failures { candidate: f64, stable: f64 },
    /// Both fail 30% for a second every 15 s, and see it up to a second apart.
    SharedBursts,
    /// Both fail 0.1 to 5%, up and down within a minute.
    Drift,
    /// Both fail all requests of 5 s, and see it up to a second apart.
    Outage,
    /// 0.1% of the requests fail at both, at each of three attempts.
    Retries,
    /// Of 2,000 clients that keep their versions some make a hundred times the requests of others, and
    /// 1% always fail.
    Clients,
    /// Each request of this number fails.
    Periodic(u64),
    /// The first three requests of the candidate fail.
    FirstFail,
    /// Each version fails 30% for one second of so many, at moments of its own.
    OwnBursts(f64),
    /// From some moment on the candidate's share is twice as large, and both fail 5% in place of 0.1%.
    RateAndShare,
    /// No failures, but latencies.
    Latency(Tail),
}

/// The latency of the candidate. Stable's latency is log-normal, with a median of 20 ms and a p99
/// of 102 ms.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tail {
    Same,
    /// All by this factor.
    Slower(f64),
    /// The median of stable, and twice its p99.
    Longer,
    /// As fast, but each version stands still for half a second of 30, at moments of its own.
    OwnPauses,
}

const MEDIAN: f64 = 0.02;
const SIGMA: f64 = 0.7;
/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_348;
/// How often any request fails by itself.
const BASE: f64 = 0.001;

/// Clients that keep their versions.
struct Client {
    /// The candidate has those that are below its share.
    place: f64,
    fails: bool,
    has_failed: bool,
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcome {
    /// It fails, and counts.
    pub(super) fails: bool,
    /// Further attempts of it, which fail, too.
    pub(super) repeats: u64,
    /// It fails, and does not count: its client has failed before.
    pub(super) is_known: bool,
}

/// One simulated world.
pub(super) struct World {
    kind: Kind,
    /// When its incidents begin, for candidate and stable.
    phases: [f64; 2],
    /// When something changes.
    moment: f64,
    first: u64,
    clients: Vec<Client>,
    /// The sums of how many requests each client makes.
    activity: Vec<f64>,
}

impl World {
    pub(super) fn new(kind: Kind, length: f64, rng: &mut Rng) -> Self {
        let apart = APART * (2.0 * rng.uniform() - 1.0);
        let moment = length * rng.uniform();
        let phases = match kind {
            Kind::SharedBursts => {
                let phase = 15.0 * rng.uniform();
                [phase + apart, phase]
            }
            Kind::Outage => [moment + apart, moment],
            Kind::OwnBursts(every) => [every * rng.uniform(), every * rng.uniform()],
            Kind::Drift => [moment; 2],
            _ => [30.0 * rng.uniform(), 30.0 * rng.uniform()],
        };
        let (mut clients, mut activity) = (Vec::new(), Vec::new());
        if matches!(kind, Kind::Clients) {
            let mut sum = 0.0;
            for _ in 0..2000 {
                clients.push(Client {
                    place: rng.uniform(),
                    fails: rng.chance(0.01),
                    has_failed: false,
                });
                sum += (1.5 * rng.normal()).exp();
                activity.push(sum);
            }
        }
        Self {
            kind,
            phases,
            moment,
            first: 0,
            clients,
            activity,
        }
    }

    /// The factor of the candidate's share at this time.
    pub(super) fn share_factor(&self, at: f64) -> f64 {
        match self.kind {
            Kind::RateAndShare if at >= self.moment => 2.0,
            _ => 1.0,
        }
    }

    /// The split is another: who has failed counts again.
    pub(super) fn split_changes(&mut self) {
        for client in &mut self.clients {
            client.has_failed = false;
        }
    }

    /// Whose the next request is, where its client has a version of its own, and who that is.
    pub(super) fn client(&self, share: f64, rng: &mut Rng) -> Option<(usize, Side)> {
        let all = self.activity.last()?;
        let at = all * rng.uniform();
        let client = self.activity.partition_point(|sum| *sum <= at);
        let side = match self.clients.get(client)?.place < share {
            true => Side::Candidate,
            false => Side::Stable,
        };
        Some((client, side))
    }

    /// What becomes of a request, the `number`th of all.
    pub(super) fn outcome(
        &mut self,
        side: Side,
        number: u64,
        client: Option<usize>,
        rng: &mut Rng,
    ) -> Outcome {
        let at = number as f64 / RATE;
        let phase = self.phases[usize::from(side == Side::Stable)];
        let fails = |chance: f64, rng: &mut Rng| Outcome {
            fails: rng.chance(chance),
            ..Outcome::default()
        };
        match self.kind {
            Kind::Latency(_) => Outcome::default(),
            Kind::Failures { candidate, stable } => match side {
                Side::Candidate => fails(candidate, rng),
                Side::Stable => fails(stable, rng),
            },
            Kind::SharedBursts => fails(burst(at, phase, 15.0), rng),
            Kind::OwnBursts(every) => fails(burst(at, phase, every), rng),
            Kind::Drift => {
                let wave = (1.0 - (at / 60.0 * std::f64::consts::TAU + phase).cos()) / 2.0;
                fails(BASE + 0.049 * wave, rng)
            }
            Kind::Outage => match (phase..phase + 5.0).contains(&at) {
                true => fails(1.0, rng),
                false => fails(BASE, rng),
            },
            Kind::Retries => {
                let fails = rng.chance(BASE);
                Outcome {
                    fails,
                    repeats: 2 * u64::from(fails),
                    is_known: false,
                }
            }
            Kind::Periodic(period) => Outcome {
                fails: number.is_multiple_of(period),
                ..Outcome::default()
            },
            Kind::FirstFail => {
                let is_first = side == Side::Candidate && self.first < 3;
                self.first += u64::from(is_first);
                fails(if is_first { 1.0 } else { BASE }, rng)
            }
            Kind::RateAndShare => fails(if at < self.moment { BASE } else { 0.05 }, rng),
            Kind::Clients => match client.and_then(|client| self.clients.get_mut(client)) {
                Some(client) if client.fails || rng.chance(BASE) => {
                    let is_known = std::mem::replace(&mut client.has_failed, true);
                    Outcome {
                        fails: !is_known,
                        repeats: 0,
                        is_known,
                    }
                }
                _ => Outcome::default(),
            },
        }
    }

    /// How long a response takes, in seconds; `None` where nothing depends on it.
    pub(super) fn latency(&self, side: Side, number: u64, rng: &mut Rng) -> Option<f64> {
        let Kind::Latency(tail) = self.kind else {
            return None;
        };
        let (mut median, mut sigma) = (MEDIAN, SIGMA);
        match tail {
            Tail::Slower(factor) if side == Side::Candidate => median *= factor,
            Tail::Longer if side == Side::Candidate => sigma += 2.0_f64.ln() / Z99,
            _ => {}
        }
        let latency = median * (sigma * rng.normal()).exp();
        let Tail::OwnPauses = tail else {
            return Some(latency);
        };
        let phase = self.phases[usize::from(side == Side::Stable)];
        let since = (number as f64 / RATE - phase).rem_euclid(30.0);
        Some(latency + (0.5 - since).max(0.0))
    }

    /// Whether a request to stable failed before the step: what goes wrong in the step was not there yet.
    pub(super) fn failed_before(&self, rng: &mut Rng) -> bool {
        rng.chance(match self.kind {
            Kind::Failures { stable, .. } => stable,
            Kind::Periodic(period) => 1.0 / period as f64,
            Kind::Latency(_) => 0.0,
            _ => BASE,
        })
    }

    /// How long a response of stable took before the step; `None` where nothing depends on it.
    pub(super) fn latency_before(&self, rng: &mut Rng) -> Option<f64> {
        matches!(self.kind, Kind::Latency(_)).then(|| MEDIAN * (SIGMA * rng.normal()).exp())
    }
}

/// The chance of a failure, with a burst of a second in each `every`.
fn burst(at: f64, phase: f64, every: f64) -> f64 {
    match (at - phase).rem_euclid(every) < 1.0 {
        true => BURST,
        false => BASE,
    }
}
