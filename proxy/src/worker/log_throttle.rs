//! Something that may happen a thousand times a second, and that a log says once in a while.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long nothing is said after something was.
const SILENCE: Duration = Duration::from_secs(10);

/// One thing to say, of one thread.
#[derive(Default)]
pub(crate) struct LogThrottle {
    said: Cell<Option<Instant>>,
    times: Cell<u64>,
}

impl LogThrottle {
    /// It has happened. Gives how often since it was last said, if it is to be said now.
    pub(crate) fn happened(&self, now: Instant) -> Option<u64> {
        self.times.set(self.times.get() + 1);
        let is_due = self
            .said
            .get()
            .is_none_or(|said| now.saturating_duration_since(said) >= SILENCE);
        is_due.then(|| {
            self.said.set(Some(now));
            self.times.take()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_once_in_a_while() {
        let throttle = LogThrottle::default();
        let start = Instant::now();
        assert_eq!(throttle.happened(start), Some(1));
        for second in 1..10 {
            let later = start + Duration::from_secs(second);
            assert_eq!(throttle.happened(later), None, "after {second} s");
        }
        assert_eq!(throttle.happened(start + SILENCE), Some(10));
    }
}
