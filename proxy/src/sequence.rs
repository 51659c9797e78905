//! Dividing requests by weight without a coin: a low-discrepancy sequence.
//!
//! Each draw moves a point around a circle by the golden ratio, and the wheel says whose arc
//! the point is on. Over any run of n draws, every arc's count is within a few of n times its
//! share, where a coin would be off by the square root of n. Each worker has a point of its
//! own, so a draw writes nothing that another worker writes; the points outlive swaps of the
//! table, so a share of 1% is not starved by frequent ones.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering};

/// 2^64 divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// One point on the circle for each worker.
#[derive(Debug)]
pub(crate) struct Sequence {
    points: Box<[CachePadded<AtomicU64>]>,
}

impl Sequence {
    /// Points at random places, so that workers do not step alike.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            points: (0..workers)
                .map(|_| CachePadded::new(AtomicU64::new(rand::random())))
                .collect(),
        }
    }

    /// The next point of `worker`. To be called on that worker's thread only.
    pub(crate) fn next(&self, worker: usize) -> u64 {
        let point = &self.points[worker];
        let next = point.load(Ordering::Relaxed).wrapping_add(STEP);
        point.store(next, Ordering::Relaxed);
        next
    }
}

/// Arcs of a circle, as long as the weights are to each other.
#[derive(Debug, Default)]
pub(crate) struct Wheel {
    /// Where each arc ends, in units of weight.
    ends: Box<[u64]>,
}

impl Wheel {
    pub(crate) fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let ends = weights.into_iter().scan(0, |end, weight| {
            *end += u64::from(weight);
            Some(*end)
        });
        Self {
            ends: ends.collect(),
        }
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
mod tests {
    use super::*;

    #[track_caller]
    fn check(weights: &[u32], draws: usize) {
        let (wheel, sequence) = (Wheel::new(weights.iter().copied()), Sequence::new(1));
        let total: u32 = weights.iter().sum();
        let mut counts = vec![0u64; weights.len()];
        for n in 1..=draws {
            counts[wheel.at(sequence.next(0)).unwrap()] += 1;
            for (count, weight) in counts.iter().zip(weights) {
                let want = n as f64 * f64::from(*weight) / f64::from(total);
                assert!(
                    (*count as f64 - want).abs() < 6.0,
                    "{counts:?} after {n} draws of {weights:?}"
                );
            }
        }
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
    fn weight_0_is_never_drawn() {
        let (wheel, sequence) = (Wheel::new([0, 100, 0]), Sequence::new(1));
        assert!((0..10_000).all(|_| wheel.at(sequence.next(0)) == Some(1)));
        assert!(wheel.has(1) && !wheel.has(0) && !wheel.has(2));
        assert_eq!(wheel.at(0), Some(1));
        assert_eq!(wheel.at(u64::MAX), Some(1));
    }

    #[test]
    fn where_every_weight_is_0_nobody_is_drawn() {
        assert_eq!(Wheel::new([0, 0]).at(7), None);
        assert_eq!(Wheel::new([]).at(7), None);
    }
}
