//! Whether the candidate's responses are slower than stable's, from its first ones on.
//!
//! What a response says depends on how long it took, and on what stable's took before the step: of that
//! record comes, for each kind of slowness (all by a factor, the slow ones more, some much slower), a
//! ratio r for each bucket of the histogram: how much more frequent it would be. These ratios are the
//! bets of [`super::evidence`], with one bucket more or less in place of a failure: a response of the
//! candidate in bucket k wins r_k / m_k, one of stable 1 / m_k, with m_k = 1 + x(r_k − 1). Where the
//! candidate is no slower, the expected factor of a response is
//! 1 + x(1 − x) Σ (p_k − s_k)(r_k − 1)/m_k ≤ 1, for any ratios that rise with k: (r − 1)/m does, too.
//!
//! A response of the candidate counts as some buckets faster than it was: that much slowness is forgiven.

use admin_api::Bucket;

use super::evidence::ratio;

/// Buckets: 8 an octave, from 1 µs on.
const CELLS: usize = 216;
const PER_OCTAVE: f64 = 8.0;
/// So many buckets slower is as fast: 20%, and a little more for what lies between two buckets.
const FORGIVEN: f64 = 2.15;
/// The same where clients keep their versions: those that one version has may be slow by themselves.
const FORGIVEN_OF_CLIENTS: f64 = 5.0;
/// Ratios further from 1 are taken as these.
const MOST: f64 = 30.0;
/// Neighbours of a bucket, by which a record is smoothed.
const KERNEL: [f64; 7] = [1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0];
/// Kinds of slowness, and how much of the one unit is on each.
const KINDS: [(Kind, f64); 8] = [
    (Kind::Slower(1.3), 0.05),
    (Kind::Slower(1.6), 0.10),
    (Kind::Slower(2.0), 0.15),
    (Kind::Slower(4.0), 0.10),
    (Kind::Slower(10.0), 0.10),
    (Kind::Stretched(1.43), 0.30),
    (Kind::Stretched(1.2), 0.10),
    (Kind::Some, 0.10),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// All by this factor.
    Slower(f64),
    /// Those above the median: their distance from it, in octaves, is so many times as large.
    Stretched(f64),
    /// One of ten is ten times as slow.
    Some,
}

/// How many responses were in each bucket.
pub(super) type Histogram = Vec<u64>;

/// The bets that come of a record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slowness {
    /// For each kind, the ratio of each bucket.
    ratios: Vec<Vec<f64>>,
}

/// By bucket.
pub(super) fn histogram(buckets: &[Bucket]) -> Histogram {
    let mut cells = vec![0; CELLS];
    for bucket in buckets {
        cells[cell_of(bucket.le)] += bucket.count;
    }
    cells
}

/// The bucket with this upper bound, in seconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped before"
)]
fn cell_of(le: f64) -> usize {
    let micros = (le * 1e6).max(1.0);
    let octave = (micros * (1.0 - 1e-9)).log2().floor().max(0.0);
    let part = ((micros / octave.exp2() - 1.0) * PER_OCTAVE).round() - 1.0;
    let cell = octave * PER_OCTAVE + part.clamp(0.0, PER_OCTAVE - 1.0);
    (cell as usize).min(CELLS - 1)
}

/// What of the one unit is on each kind.
pub(super) fn stakes() -> [f64; 8] {
    KINDS.map(|(_, stake)| stake)
}

impl Slowness {
    /// Of what stable's responses took before.
    pub(super) fn of(record: &Histogram) -> Self {
        let total = ratio(record.iter().sum(), 1).max(1.0);
        let raw: Vec<f64> = record.iter().map(|n| ratio(*n, 1) / total).collect();
        let quantile = |share: f64| {
            let mut sum = 0.0;
            let at = raw.iter().position(|density| {
                sum += density;
                sum >= share
            });
            at.unwrap_or(CELLS - 1)
        };
        let (first, median, last) = (quantile(0.002), quantile(0.5), quantile(0.999));
        let fast = smoothed(&raw);
        let ratios = KINDS.map(|(kind, _)| {
            let slow = smoothed(&kind.of(&raw, median));
            rising(&slow, &fast, first, last)
        });
        Self {
            ratios: ratios.to_vec(),
        }
    }

    /// What each bet has won by the responses of one block.
    pub(super) fn won_in_block(
        &self,
        candidate: &Histogram,
        stable: &Histogram,
        by_client: bool,
    ) -> Vec<f64> {
        let (ours, theirs): (u64, u64) = (candidate.iter().sum(), stable.iter().sum());
        if ours == 0 {
            return vec![0.0; KINDS.len()];
        }
        let due = ratio(ours, ours + theirs);
        let forgiven = if by_client {
            FORGIVEN_OF_CLIENTS
        } else {
            FORGIVEN
        };
        let won = |ratios: &Vec<f64>| {
            let mut won = 0.0;
            for (cell, (ours, theirs)) in candidate.iter().zip(stable).enumerate() {
                if *ours > 0 {
                    let r = forgiving(ratios, cell, forgiven);
                    won += ratio(*ours, 1) * (r.ln() - (1.0 + due * (r - 1.0)).ln());
                }
                if *theirs > 0 {
                    let r = ratios[cell];
                    won -= ratio(*theirs, 1) * (1.0 + due * (r - 1.0)).ln();
                }
            }
            won
        };
        self.ratios.iter().map(won).collect()
    }
}

/// The ratio of what took as long as this bucket says, less so many buckets: between those of two.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a few buckets"
)]
fn forgiving(ratios: &[f64], cell: usize, forgiven: f64) -> f64 {
    let ln = |less: f64| ratios[cell.saturating_sub(less as usize)].ln();
    let part = forgiven.fract();
    ((1.0 - part) * ln(forgiven.floor()) + part * ln(forgiven.ceil())).exp()
}

impl Kind {
    /// The record, were it slower like this.
    fn of(self, record: &[f64], median: usize) -> Vec<f64> {
        let octaves = |factor: f64| PER_OCTAVE * factor.log2();
        let at = |cell: usize| ratio(cell as u64, 1);
        match self {
            Self::Slower(factor) => moved(record, |cell| at(cell) + octaves(factor)),
            Self::Stretched(by) => moved(record, |cell| {
                at(cell.min(median)) + by * at(cell.saturating_sub(median))
            }),
            Self::Some => {
                let slow = moved(record, |cell| at(cell) + octaves(10.0));
                let both = record.iter().zip(slow);
                both.map(|(fast, slow)| 0.9 * fast + 0.1 * slow).collect()
            }
        }
    }
}

/// Every bucket at another place, which may be between two.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "places are not negative"
)]
fn moved(record: &[f64], to: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut moved = vec![0.0; CELLS];
    for (cell, density) in record.iter().enumerate() {
        let place = to(cell);
        let (low, part) = (place.floor() as usize, place.fract());
        moved[low.min(CELLS - 1)] += density * (1.0 - part);
        moved[(low + 1).min(CELLS - 1)] += density * part;
    }
    moved
}

fn smoothed(record: &[f64]) -> Vec<f64> {
    let all: f64 = KERNEL.iter().sum();
    let half = KERNEL.len() / 2;
    let of = |cell: usize| {
        let near = KERNEL.iter().enumerate().map(|(at, weight)| {
            let neighbour = (cell + at).checked_sub(half);
            let density = neighbour.and_then(|at| record.get(at)).copied();
            weight * density.unwrap_or(0.0)
        });
        near.sum::<f64>() / all
    };
    (0..CELLS).map(of).collect()
}

/// How much more frequent each bucket is; never less than in the one before, and constant where the
/// record has next to nothing.
fn rising(slow: &[f64], fast: &[f64], first: usize, last: usize) -> Vec<f64> {
    let mut ratios = vec![1.0; CELLS];
    let mut so_far: Option<f64> = None;
    for cell in first..=last {
        if fast[cell] > 0.0 {
            let ratio = (slow[cell] / fast[cell]).clamp(1.0 / MOST, MOST);
            so_far = Some(so_far.map_or(ratio, |before| before.max(ratio)));
        }
        ratios[cell] = so_far.unwrap_or(1.0);
    }
    let (lowest, highest) = (ratios[first], ratios[last]);
    ratios[..first].fill(lowest);
    ratios[last..].fill(highest);
    ratios
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy's bounds, as JSON has them.
    fn bound(cell: usize) -> f64 {
        let octave = 2f64.powi(i32::try_from(cell / 8).expect("few"));
        octave * (1.0 + (cell % 8 + 1) as f64 / 8.0) / 1e6
    }

    #[test]
    fn a_bucket_is_known_by_its_bound() {
        for cell in 0..CELLS {
            assert_eq!(cell_of(bound(cell)), cell);
        }
    }

    /// Responses around a bucket.
    fn around(cell: usize, each: u64) -> Histogram {
        let mut cells = vec![0; CELLS];
        for (at, weight) in [1, 4, 6, 4, 1].into_iter().enumerate() {
            cells[cell + 4 * at] = each * weight;
        }
        cells
    }

    #[test]
    fn the_ratios_rise() {
        let slowness = Slowness::of(&around(100, 1000));
        for ratios in &slowness.ratios {
            assert!(ratios.is_sorted(), "{ratios:?}");
        }
    }

    #[track_caller]
    fn won(candidate: usize) -> f64 {
        let slowness = Slowness::of(&around(100, 1000));
        let won = slowness.won_in_block(&around(candidate, 2), &around(100, 18), false);
        won.into_iter().fold(f64::NEG_INFINITY, f64::max)
    }

    #[test]
    fn what_is_slower_wins_and_what_is_as_fast_or_a_little_slower_does_not() {
        assert!(won(108) > 2.0, "twice as slow: {}", won(108));
        assert!(won(124) > 10.0, "eight times: {}", won(124));
        for as_fast in [92, 100, 102] {
            assert!(won(as_fast) < 0.0, "{as_fast}: {}", won(as_fast));
        }
    }
}
