//! When the reconciler acts: at once when the runtime tells of a change, and less and less often on
//! a service whose containers die again and again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::runtime::Runtime;

/// How long to wait before a service is healed again: a container that dies again and again is
/// not replaced as fast as it dies.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    services: HashMap<String, Healing>,
}

/// When a service was healed last, and what is to be healed of it now.
#[derive(Debug)]
struct Healing {
    last: Instant,
    wait: Duration,
    /// It has lost all that served since: its requests wait.
    is_urgent: bool,
    /// It is not whole, and it is not yet time.
    waits: bool,
}

impl Healing {
    fn due(&self, first: Duration) -> Instant {
        let wait = if self.is_urgent {
            self.wait.min(first)
        } else {
            self.wait
        };
        self.last + wait
    }
}

impl Backoff {
    /// One that waits for `first`, then for twice as long each time, up to `longest`.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            services: HashMap::new(),
        }
    }

    /// Whether it is time. `is_urgent`: the service has lost all that served. Then it waits for
    /// `first` at most from one start to the next, until it is healed.
    pub(super) fn may(&mut self, service: &str, is_urgent: bool) -> bool {
        let Some(healing) = self.services.get_mut(service) else {
            return true;
        };
        healing.is_urgent |= is_urgent;
        healing.waits = Instant::now() < healing.due(self.first);
        !healing.waits
    }

    /// Until when this service waits; `None` where it does not.
    pub(super) fn waits(&self, service: &str) -> Option<Instant> {
        let healing = self.services.get(service).filter(|healing| healing.waits)?;
        let due = healing.due(self.first);
        (due > Instant::now()).then_some(due)
    }

    /// When it is time for a service that waits; `None` where none does.
    pub(super) fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let waiting = self.services.values().filter(|healing| healing.waits);
        let due = waiting.map(|healing| healing.due(self.first));
        due.filter(|due| *due > now).min()
    }

    /// It was healed now.
    pub(super) fn healed(&mut self, service: &str) {
        let wait = match self.services.get(service) {
            // It did not hold for long.
            Some(Healing { last, wait, .. }) if last.elapsed() < *wait * 4 => {
                (*wait * 2).min(self.longest)
            }
            _ => self.first,
        };
        let healing = Healing {
            last: Instant::now(),
            wait,
            is_urgent: false,
            waits: false,
        };
        self.services.insert(service.to_owned(), healing);
    }
}

/// That of containers that end.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60))
    }
}

/// Has `changed` told whenever the runtime tells of a change. Ended by dropping.
#[derive(Debug)]
pub(super) struct RuntimeWatch(tokio::task::JoinHandle<()>);

impl RuntimeWatch {
    pub(super) fn start(runtime: Arc<dyn Runtime>, changed: Arc<Notify>) -> Self {
        Self(tokio::spawn(async move { runtime.watch(&changed).await }))
    }
}

impl Drop for RuntimeWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, sleep_until};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_dies_again_and_again_is_replaced_more_and_more_slowly() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..9 {
            let began = Instant::now();
            while !backoff.may("web", false) {
                sleep_until(backoff.next().expect("it waits")).await;
            }
            waits.push(began.elapsed().as_secs());
            backoff.healed("web");
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(backoff.may("api", false), "each service has its own");
        sleep(Duration::from_secs(600)).await;
        backoff.healed("web");
        sleep(Duration::from_secs(1)).await;
        assert!(backoff.may("web", false), "it held for a while");
        assert_eq!(backoff.next(), None, "nothing waits");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_lost_all_that_served_waits_for_a_second_at_most() {
        let mut backoff = Backoff::default();
        for _ in 0..6 {
            while !backoff.may("web", false) {
                sleep_until(backoff.next().expect("it waits")).await;
            }
            backoff.healed("web");
        }
        assert!(!backoff.may("web", true), "it was started just now");
        sleep(Duration::from_secs(1)).await;
        assert!(
            backoff.may("web", false),
            "it still has nothing that serves"
        );
        backoff.healed("web");
        sleep(Duration::from_secs(1)).await;
        assert!(!backoff.may("web", false), "others serve");
    }
}
