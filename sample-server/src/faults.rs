//! Fault injection: faults are spread by counting, not by chance.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::options::Config;
use crate::share::Spread;

/// The faults of one server, counted over all its connections.
#[derive(Debug)]
pub(crate) struct Faults {
    errors: Spread,
    cuts: Spread,
    crash_after: Option<u64>,
    taken: AtomicU64,
}

/// The faults of one response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The status is 500.
    pub(crate) error: bool,
    /// The body ends half-way.
    pub(crate) cut: bool,
}

impl Faults {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            errors: Spread::new(config.error_rate),
            // Shifted by half a phase, so that the responses that are cut are not those that are errors.
            cuts: Spread::with_half_phase(config.cut_body_rate),
            crash_after: config.crash_after,
            taken: AtomicU64::new(0),
        }
    }

    /// Counts a request. Returns whether it is the one that crashes the server.
    pub(crate) fn crashes(&self) -> bool {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        self.crash_after.is_some_and(|limit| before >= limit)
    }

    /// The faults of the next response.
    pub(crate) fn next(&self) -> Fault {
        Fault {
            error: self.errors.picks(),
            cut: self.cuts.picks(),
        }
    }
}

/// Whether `/healthz` is 200 when the server has this age.
pub(crate) fn is_healthy(config: &Config, age: Duration) -> bool {
    age >= config.ready_after && config.unhealthy_after.is_none_or(|end| age < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_after_the_last_allowed_one_crashes() {
        let faults = Faults::new(&Config {
            crash_after: Some(2),
            ..Config::default()
        });
        assert_eq!(
            [faults.crashes(), faults.crashes(), faults.crashes()],
            [false, false, true]
        );
    }

    #[test]
    fn health_has_a_beginning_and_an_end() {
        let config = Config {
            ready_after: Duration::from_secs(2),
            unhealthy_after: Some(Duration::from_secs(5)),
            ..Config::default()
        };
        let healthy_at = |secs| is_healthy(&config, Duration::from_secs(secs));
        assert_eq!([1, 2, 4, 5].map(healthy_at), [false, true, true, false]);
        assert!(is_healthy(&Config::default(), Duration::ZERO));
    }
}
