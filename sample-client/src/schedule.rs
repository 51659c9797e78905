//! The times at which requests are due.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Hands out one ticket for each request, in the order in which they are due. The first free
/// connection takes the next ticket, so a ticket waits only while all connections are busy.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    interval: Option<Duration>,
    count: u64,
    taken: AtomicU64,
}

/// The right to send one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// When to send it; `None`: at once.
    pub(crate) due: Option<Instant>,
}

impl Schedule {
    /// The first request is due at `start`. Without an interval every request is due at once. No
    /// request is due after `duration`.
    pub(crate) fn new(
        start: Instant,
        interval: Option<Duration>,
        count: Option<u64>,
        duration: Option<Duration>,
    ) -> Self {
        let room = interval
            .zip(duration)
            .map(|(interval, duration)| steps(duration, interval));
        let count = count.into_iter().chain(room).min().unwrap_or(u64::MAX);
        Self {
            start,
            interval,
            count,
            taken: AtomicU64::new(0),
        }
    }

    /// The next ticket, or `None` if all are taken.
    pub(crate) fn take(&self) -> Option<Ticket> {
        // Relaxed: no other memory depends on this counter.
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        if number >= self.count {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Ticket {
            due: self
                .interval
                .map(|interval| self.start + times(interval, number)),
        })
    }

    /// How many requests were due before `now` and found no free connection.
    pub(crate) fn overdue(&self, now: Instant) -> u64 {
        let Some(interval) = self.interval else {
            return 0;
        };
        let due = steps(now.saturating_duration_since(self.start), interval);
        due.min(self.count)
            .saturating_sub(self.taken.load(Ordering::Relaxed))
    }
}

/// How many of the times 0, 1, 2, … intervals lie before `time`.
fn steps(time: Duration, interval: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(interval.as_nanos().max(1))).unwrap_or(u64::MAX)
}

/// `Duration` multiplies by `u32` only, and an `f64` loses nanoseconds after days.
fn times(interval: Duration, number: u64) -> Duration {
    let nanos = interval.as_nanos() * u128::from(number);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Duration = Duration::from_millis(100);

    #[test]
    fn tickets_are_due_one_interval_after_the_other() {
        let start = Instant::now();
        let schedule = Schedule::new(start, Some(TENTH), Some(3), None);
        let dues: Vec<_> = std::iter::from_fn(|| schedule.take())
            .map(|t| t.due)
            .collect();
        assert_eq!(
            dues,
            [Some(start), Some(start + TENTH), Some(start + 2 * TENTH)]
        );
        assert_eq!(schedule.take(), None);
    }

    #[test]
    fn nothing_is_due_once_the_time_is_over() {
        for (duration, want) in [(TENTH * 3, 3), (TENTH * 3 + TENTH / 2, 4), (TENTH * 30, 10)] {
            let start = Instant::now();
            let schedule = Schedule::new(start, Some(TENTH), Some(10), Some(duration));
            assert_eq!(
                std::iter::from_fn(|| schedule.take()).count(),
                want,
                "{duration:?}"
            );
        }
    }

    #[test]
    fn without_an_interval_all_are_due_at_once() {
        let schedule = Schedule::new(Instant::now(), None, None, None);
        assert_eq!(schedule.take(), Some(Ticket { due: None }));
        assert_eq!(schedule.overdue(Instant::now() + TENTH), 0);
    }

    #[test]
    fn what_was_due_and_not_taken_is_overdue() {
        let start = Instant::now();
        let schedule = Schedule::new(start, Some(TENTH), Some(8), None);
        schedule.take();
        assert_eq!(schedule.overdue(start), 0);
        assert_eq!(schedule.overdue(start + 5 * TENTH), 4);
        assert_eq!(schedule.overdue(start + 500 * TENTH), 7);
    }
}
