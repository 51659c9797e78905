//! How many requests may be given up, which HTTP/2 does by resetting their streams: by one client,
//! and on one connection to an endpoint. An attacker makes work by resets (CVE-2023-44487), and so
//! many servers end a connection on which there are too many, with all that is on it.

use std::cell::Cell;
use std::rc::Rc;

use super::backlog::Backlog;
use crate::wire::timer::Millis;

/// Requests that a client may give up before its further ones go over a connection of their own, and
/// how many more each second.
const SHARED: u32 = 200;
const SHARED_PER_SECOND: u32 = 20;

/// How often its size a budget can be overdrawn: time makes good what is beyond.
const MOST_OWED: i64 = -4;

/// A number of resets, which time refills.
#[derive(Debug)]
pub(crate) struct ResetBudget {
    /// In thousandths, as all of it.
    most: i64,
    per_second: i64,
    /// Below 0: so much was taken that was not there.
    left: Cell<i64>,
    at: Cell<Millis>,
}

impl ResetBudget {
    /// So many, and so many more each second.
    pub(crate) fn new(most: u32, per_second: u32) -> Self {
        let most = i64::from(most) * 1_000;
        Self {
            most,
            per_second: i64::from(per_second),
            left: Cell::new(most),
            at: Cell::new(0),
        }
    }

    /// How many are left; below 0: how many were taken that were not there.
    pub(crate) fn left(&self, now: Millis) -> i64 {
        self.refill(now).div_euclid(1_000)
    }

    /// Takes one, also where none is left.
    pub(crate) fn take(&self, now: Millis) {
        let least = MOST_OWED * self.most;
        self.left.set(least.max(self.refill(now) - 1_000));
    }

    /// Gives one back.
    pub(crate) fn give(&self) {
        self.left.set(self.most.min(self.left.get() + 1_000));
    }

    fn refill(&self, now: Millis) -> i64 {
        let since = now.saturating_sub(self.at.get());
        if since > 0 {
            self.at.set(now);
            let more = i64::try_from(since).unwrap_or(i64::MAX);
            let left = self.left.get();
            let refilled = left.saturating_add(more.saturating_mul(self.per_second));
            self.left.set(self.most.min(refilled));
        }
        self.left.get()
    }
}

/// A client of HTTP/2, as the connections to endpoints know it that its requests share with those of
/// other clients.
#[derive(Debug)]
pub(crate) struct Sharer {
    resets: ResetBudget,
    /// What it does not take of its responses.
    backlog: Backlog,
    /// Bytes of bodies that are taken up for it or from it.
    pub(crate) buffered: Cell<usize>,
}

impl Sharer {
    pub(crate) fn new(backlog: Backlog) -> Rc<Self> {
        Rc::new(Self {
            resets: ResetBudget::new(SHARED, SHARED_PER_SECOND),
            backlog,
            buffered: Cell::new(0),
        })
    }

    pub(crate) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// It gave a request up.
    pub(crate) fn gave_up(&self, now: Millis) {
        self.resets.take(now);
    }

    /// Whether its requests may be on the same connection as those of others.
    pub(crate) fn may_share(&self, now: Millis) -> bool {
        self.resets.left(now) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_refilled_by_time_and_by_what_is_given_back() {
        let budget = ResetBudget::new(2, 10);
        for _ in 0..3 {
            budget.take(5_000);
        }
        for (now, want) in [(5_000, -1), (5_099, -1), (5_100, 0), (5_200, 1), (9_000, 2)] {
            assert_eq!(budget.left(now), want, "at {now}");
        }
        budget.give();
        assert_eq!(budget.left(9_000), 2, "it is full");
        budget.take(9_000);
        budget.give();
        assert_eq!(budget.left(9_000), 2);
        budget.take(9_000);
        assert_eq!(budget.left(8_000), 1, "no time has passed");
        for _ in 0..100 {
            budget.take(9_000);
        }
        assert_eq!(budget.left(9_000), -8);
    }
}
