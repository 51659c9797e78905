//! Dividing a version's requests over its endpoints without a coin: a low-discrepancy sequence.
//!
//! Each context moves a point around a circle by the golden ratio, and the wheel says whose arc
//! the point is on. Over any run of n draws, every arc's count is within a few of n times its
//! share, where a coin would be off by the square root of n. Each worker has a point of its
//! own, so a context writes nothing that another worker writes; the points outlive swaps of the
//! table, so a share of 1% is not starved by frequent ones.

use crossbeam_utils::CachePadded;

use crate::table::counts::sync::{AtomicU64, Ordering};

/// 2^64 divided by the golden ratio.
pub(super) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// What a round adds to itself, so that it does not meet the very same points for ever.
const DRIFT: u64 = GOLDEN >> 17;

/// Points on the circle for each worker.
#[derive(Debug)]
pub(crate) struct Sequence {
    workers: Box<[CachePadded<AtomicU64>]>,
}

impl Sequence {
    /// Points at random places, so that workers do not step alike.
    pub(crate) fn new(workers: usize) -> Self {
        let point = || AtomicU64::new(rand::random());
        Self {
            workers: (0..workers).map(|_| CachePadded::new(point())).collect(),
        }
    }

    /// The next point of `worker`. To be called on that worker's thread only, like all of these.
    pub(crate) fn next(&self, worker: usize) -> u64 {
        self.advance(worker, GOLDEN)
    }

    /// The same, with a step of the caller's choice.
    pub(crate) fn advance(&self, worker: usize, step: u64) -> u64 {
        let point = &self.workers[worker];
        let next = point.load(Ordering::Relaxed).wrapping_add(step);
        point.store(next, Ordering::Relaxed);
        next
    }
}

/// Arcs of a circle, as long as the weights are to each other.
#[derive(Debug, Default)]
pub(crate) struct WeightedRing {
    /// Where each arc ends, in units of weight.
    ends: Box<[u64]>,
    step: u64,
}

impl WeightedRing {
    pub(crate) fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let (mut total, mut count, mut heaviest) = (0, 0, 0);
        let ends = weights.into_iter().map(|weight| {
            total += u64::from(weight);
            count += u64::from(weight > 0);
            heaviest = heaviest.max(u64::from(weight));
            total
        });
        let ends = ends.collect();
        let step = if count > 0 && total == count * heaviest {
            (u64::MAX / count).wrapping_add(1 + DRIFT)
        } else {
            GOLDEN
        };
        Self { ends, step }
    }

    /// From one turn to the next: where all arcs are alike, the length of one of them, which
    /// gives each its turn once in a round.
    pub(crate) fn step(&self) -> u64 {
        self.step
    }

    /// Whose arc `point` is on. `None` where every weight is 0.
    pub(crate) fn at(&self, point: u64) -> Option<usize> {
        let total = self.ends.last().copied().filter(|total| *total > 0)?;
        let place = ((u128::from(point) * u128::from(total)) >> 64) as u64;
        Some(self.ends.partition_point(|end| *end <= place))
    }

    /// Whether the arc has any length.
    pub(crate) fn has(&self, index: usize) -> bool {
        let before = index.checked_sub(1).map_or(0, |i| self.ends[i]);
        self.ends[index] > before
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Over any run of these points, each count is less than `off` from its share.
    #[track_caller]
    pub(in crate::table::balance) fn check_shares(
        weights: &[u32],
        draws: usize,
        off: f64,
        next: impl Fn() -> u64,
    ) {
        let ring = WeightedRing::new(weights.iter().copied());
        let total: u32 = weights.iter().sum();
        let mut counts = vec![0u64; weights.len()];
        for n in 1..=draws {
            counts[ring.at(next()).unwrap()] += 1;
            for (count, weight) in counts.iter().zip(weights) {
                let want = n as f64 * f64::from(*weight) / f64::from(total);
                assert!(
                    (*count as f64 - want).abs() < off,
                    "{counts:?} after {n} draws of {weights:?}"
                );
            }
        }
    }

    #[track_caller]
    fn check(weights: &[u32], draws: usize) {
        let sequence = Sequence::new(1);
        check_shares(weights, draws, 6.0, || sequence.next(0));
    }

    #[test]
    fn over_any_run_each_count_is_within_a_few_of_its_share() {
        for _ in 0..20 {
            check(&[90, 10], 10_000);
            check(&[50, 50], 10_000);
            check(&[1, 99], 10_000);
            check(&[1, 1, 1, 1], 10_000);
            check(&[7, 0, 2, 1], 10_000);
        }
    }

    #[test]
    fn where_all_weights_are_the_same_each_has_its_turn_once_in_a_round() {
        for count in 1..=9 {
            let ring = WeightedRing::new(std::iter::repeat_n(3, count));
            let sequence = Sequence::new(1);
            let turn = || ring.at(sequence.advance(0, ring.step())).unwrap();
            let rounds = 10_000 / count;
            let mut counts = vec![0usize; count];
            let mut repeats = 0;
            let mut last = usize::MAX;
            for _ in 0..rounds * count {
                let at = turn();
                counts[at] += 1;
                repeats += usize::from(at == last);
                last = at;
            }
            assert!(counts.iter().all(|n| n.abs_diff(rounds) <= 1), "{counts:?}");
            assert!(count == 1 || repeats <= 1, "{repeats} repeats of {count}");
        }
    }

    #[test]
    fn weight_0_is_never_drawn() {
        let (ring, sequence) = (WeightedRing::new([0, 100, 0]), Sequence::new(1));
        assert!((0..10_000).all(|_| ring.at(sequence.next(0)) == Some(1)));
        assert!(ring.has(1) && !ring.has(0) && !ring.has(2));
        assert_eq!(ring.at(0), Some(1));
        assert_eq!(ring.at(u64::MAX), Some(1));
    }

    #[test]
    fn where_every_weight_is_0_none_is_drawn() {
        assert_eq!(WeightedRing::new([0, 0]).at(7), None);
        assert_eq!(WeightedRing::new([]).at(7), None);
    }
}
