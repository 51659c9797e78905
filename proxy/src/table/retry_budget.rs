//! How many retries a service may have: a share of its requests, so that retries cannot turn
//! an outage into a storm.

use crossbeam_utils::CachePadded;

use crate::table::counts::sync::{AtomicU64, Ordering};

/// In thousandths of a retry: each request allows half of one more.
const DEPOSIT: u64 = 500;
const PRICE: u64 = 1_000;
/// What can be saved up, and what a service begins with.
const MOST: u64 = 100 * PRICE;

/// The retries that each worker may still make for a service.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    workers: Box<[CachePadded<AtomicU64>]>,
}

impl RetryBudget {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers)
                .map(|_| CachePadded::new(AtomicU64::new(MOST)))
                .collect(),
        }
    }

    /// A new request came. To be called on that worker's thread only, like `withdraw`.
    pub(crate) fn deposit(&self, worker: usize) {
        let left = &self.workers[worker];
        left.store(
            (left.load(Ordering::Relaxed) + DEPOSIT).min(MOST),
            Ordering::Relaxed,
        );
    }

    /// Whether one more retry may be made.
    pub(crate) fn withdraw(&self, worker: usize) -> bool {
        let left = &self.workers[worker];
        let rest = left.load(Ordering::Relaxed).checked_sub(PRICE);
        if let Some(rest) = rest {
            left.store(rest, Ordering::Relaxed);
        }
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_the_savings_are_gone_every_second_request_may_be_retried() {
        let budget = RetryBudget::new(1);
        assert_eq!((0..1_000).filter(|_| budget.withdraw(0)).count(), 100);
        let retried = (0..1_000).filter(|_| {
            budget.deposit(0);
            budget.withdraw(0)
        });
        assert_eq!(retried.count(), 500);
    }
}
