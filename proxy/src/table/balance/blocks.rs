//! Dividing a service's requests over its versions: permuted blocks.
//!
//! A circle is cut into [`PLACES`] places of the same length, and the split says whose arc each is on.
//! Every block of as many requests gets each of the places once, in an order by chance. So over any
//! run of n requests a version's count is within a few of n times its share, where a coin would be off
//! by the square root of n; and yet which requests of a block a version gets is a matter of chance, so
//! that nothing periodic in the traffic stays on one version. The verdict on a version rests on that.
//!
//! From block to block the point inside each place moves by the golden ratio, so that an arc that
//! ends inside of a place has its part of the blocks. Each worker has blocks of its own and writes
//! nothing that another one writes; they outlive swaps of the table, so a share of 1% is not starved by
//! frequent ones.

use crossbeam_utils::CachePadded;

use super::sequence::GOLDEN;
use crate::table::counts::sync::{AtomicU8, AtomicU64, Ordering};
use crate::table::rendezvous::mix;

/// Requests of a block.
pub(crate) const PLACES: usize = 32;
const SHIFT: u32 = PLACES.ilog2();

/// The blocks of every worker.
#[derive(Debug)]
pub(crate) struct PermutedBlocks {
    workers: Box<[CachePadded<Pair>]>,
}

#[derive(Debug)]
struct Pair {
    next: Block,
    /// For what could not go where it was drawn: were it drawn again from the same places, the
    /// shares of those that come after it would move.
    redraw: Block,
}

/// The block that one worker is in.
#[derive(Debug)]
struct Block {
    /// How many of its places are drawn.
    drawn: AtomicU8,
    /// First those that are drawn, then those that are left.
    places: [AtomicU8; PLACES],
    /// The point inside each place.
    inside: AtomicU64,
    /// Of the generator of pseudo-random numbers.
    state: AtomicU64,
}

impl PermutedBlocks {
    /// Blocks that have nothing in common.
    pub(crate) fn new(workers: usize) -> Self {
        let pair = || Pair {
            next: Block::new(),
            redraw: Block::new(),
        };
        Self {
            workers: (0..workers).map(|_| CachePadded::new(pair())).collect(),
        }
    }

    /// The point of the next request of `worker`. To be called on that worker's thread only, like all
    /// of these.
    pub(crate) fn next(&self, worker: usize) -> u64 {
        self.workers[worker].next.draw()
    }

    /// The point of a request that cannot go where it was drawn.
    pub(crate) fn redraw(&self, worker: usize) -> u64 {
        self.workers[worker].redraw.draw()
    }
}

impl Block {
    fn new() -> Self {
        Self {
            drawn: AtomicU8::new(0),
            places: std::array::from_fn(|place| AtomicU8::new(place as u8)),
            inside: AtomicU64::new(rand::random()),
            state: AtomicU64::new(rand::random()),
        }
    }

    /// One of the places that are left (Fisher and Yates), and the point inside of it. Only one thread
    /// writes here, so that these are plain loads and stores.
    fn draw(&self) -> u64 {
        let state = self.state.load(Ordering::Relaxed).wrapping_add(GOLDEN);
        self.state.store(state, Ordering::Relaxed);
        let drawn = usize::from(self.drawn.load(Ordering::Relaxed)) % PLACES;
        let left = (PLACES - drawn) as u64;
        let chosen = drawn + (((mix(state) >> 32) * left) >> 32) as usize;
        let place = self.places[chosen].load(Ordering::Relaxed);
        let first = self.places[drawn].load(Ordering::Relaxed);
        self.places[chosen].store(first, Ordering::Relaxed);
        self.places[drawn].store(place, Ordering::Relaxed);
        self.drawn.store(drawn as u8 + 1, Ordering::Relaxed);
        let mut inside = self.inside.load(Ordering::Relaxed);
        if drawn == 0 {
            inside = inside.wrapping_add(GOLDEN);
            self.inside.store(inside, Ordering::Relaxed);
        }
        (u64::from(place) << (u64::BITS - SHIFT)) | (inside >> SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::balance::sequence::WeightedRing;
    use crate::table::balance::sequence::tests::check_shares;

    #[track_caller]
    fn check(weights: &[u32], draws: usize) {
        let blocks = PermutedBlocks::new(1);
        check_shares(weights, draws, 10.0, || blocks.next(0));
    }

    #[test]
    fn over_any_run_each_count_is_within_a_few_of_its_share() {
        for _ in 0..10 {
            check(&[90, 10], 10_000);
            check(&[50, 50], 10_000);
            check(&[1, 99], 10_000);
            check(&[1, 1, 1, 1], 10_000);
            check(&[7, 0, 2, 1], 10_000);
        }
    }

    /// Fibonacci numbers are where the golden ratio comes back to nearly the same point.
    #[test]
    fn nothing_periodic_stays_on_one_version() {
        for share in [10, 50] {
            let ring = WeightedRing::new([100 - share, share]);
            for period in [2, 7, 10, 21, 32, 64, 89, 144, 233, 1_000] {
                let blocks = PermutedBlocks::new(1);
                let mut hits = 0;
                for n in 0..1_000 * period {
                    let at = ring.at(blocks.next(0)).unwrap();
                    hits += usize::from(n % period == 0 && at == 1);
                }
                // 1,000 draws of a coin have a standard deviation of 16 at most.
                let want = 10 * share as usize;
                assert!(
                    hits.abs_diff(want) < 80,
                    "{hits} of each {period}th at {share}%"
                );
            }
        }
    }

    #[test]
    fn every_order_of_a_block_is_drawn_as_often() {
        let blocks = PermutedBlocks::new(1);
        // How often the k-th request of a block is in the first quarter of the circle, and with its
        // neighbour.
        let (mut first, mut both) = ([0usize; PLACES], 0usize);
        for _ in 0..20_000 {
            let points: [u64; PLACES] = std::array::from_fn(|_| blocks.next(0));
            let is_first = points.map(|point| point < 1 << 62);
            for (count, is_first) in first.iter_mut().zip(is_first) {
                *count += usize::from(is_first);
            }
            both += usize::from(is_first[11] && is_first[12]);
        }
        // 5,000 and 8/32 * 7/31 of 20,000, give or take 61 and 32.
        assert!(first.iter().all(|n| n.abs_diff(5_000) < 360), "{first:?}");
        assert!(both.abs_diff(1_129) < 190, "{both}");
    }
}
