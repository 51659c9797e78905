//! A service that is held: its new requests wait for its release.
//!
//! ```text
//!          hold                        release, or the service is gone
//!   flows ──────► held ─────────────────────────────────────────────────► flows
//!                 │ a place in the queue: waits, for `max_hold` at most
//!                 └ none, or waited too long: 503 with Retry-After
//! ```
//!
//! All tables that have the service held share one [`Hold`]. A release swaps in a table without it
//! first, and wakes the requests that wait after that: they read the newest table, and are routed
//! anew.

use std::sync::Arc;

use admin_api::{HoldSpec, HoldView};
use tokio::sync::watch;

use crate::table::counts::remote::RemoteCounts;
use crate::table::counts::sync::{AtomicU64, Ordering};
use crate::table::counts::values::HoldCounts;

/// A service that is held.
#[derive(Debug)]
pub(crate) struct Hold {
    spec: HoldSpec,
    waiting: AtomicU64,
    /// Requests that waited too long, or found the queue full.
    refused: AtomicU64,
    released: watch::Sender<bool>,
    /// What older processes count.
    pub(crate) remote: RemoteCounts<HoldCounts>,
}

/// What came of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    Released,
    /// There is no place, or it took longer than `max_hold`.
    Refused,
}

/// A place in the queue, until it is dropped: by a client that goes away, too.
struct QueueSlot<'h>(&'h AtomicU64);

impl Hold {
    pub(crate) fn new(spec: HoldSpec) -> Arc<Self> {
        Arc::new(Self {
            spec,
            waiting: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            released: watch::channel(false).0,
            remote: RemoteCounts::default(),
        })
    }

    /// With what it was asked for.
    pub(crate) fn spec(&self) -> &HoldSpec {
        &self.spec
    }

    /// As the admin API shows it.
    pub(crate) fn view(&self) -> HoldView {
        let HoldCounts { waiting, refused } = self.counts();
        HoldView {
            max_hold: self.spec.max_hold,
            max_waiting: self.spec.max_waiting,
            waiting,
            refused,
        }
    }

    /// What this process and older ones count.
    pub(crate) fn counts(&self) -> HoldCounts {
        let mut counts = HoldCounts {
            waiting: self.waiting.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        };
        self.remote.add_to(&mut counts);
        counts
    }

    /// Waits until the release.
    pub(crate) async fn wait(&self) -> Waited {
        let mut released = self.released.subscribe();
        let place = self.place();
        let is_released = released.wait_for(|released| *released);
        let Some(_place) = place else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Waited::Refused;
        };
        match tokio::time::timeout(self.spec.max_hold.get(), is_released).await {
            // An error means that the hold is gone: it goes on, too.
            Ok(_) => Waited::Released,
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Waited::Refused
            }
        }
    }

    fn place(&self) -> Option<QueueSlot<'_>> {
        let place = QueueSlot(&self.waiting);
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        // One that is dropped here gives its place back.
        (before < self.spec.max_waiting).then_some(place)
    }

    /// Lets all waiting requests go on, and those that come. Call it once the table without it
    /// is in force.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }
}

impl Drop for QueueSlot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hold(max_hold: &str, max_waiting: u64) -> Arc<Hold> {
        Hold::new(HoldSpec {
            max_hold: max_hold.parse().unwrap(),
            max_waiting,
        })
    }

    async fn wait_for(hold: &Hold, waiting: u64) {
        while hold.view().waiting != waiting {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_requests_go_on_at_the_release() {
        let hold = hold("10s", 100);
        let waits = (0..100).map(|_| {
            let hold = hold.clone();
            tokio::spawn(async move { hold.wait().await })
        });
        let waits: Vec<_> = waits.collect();
        wait_for(&hold, 100).await;
        hold.release();
        for wait in waits {
            assert_eq!(wait.await.unwrap(), Waited::Released);
        }
        assert_eq!((hold.view().waiting, hold.view().refused), (0, 0));
        assert_eq!(hold.wait().await, Waited::Released, "one that came late");
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_waits_longer_than_max_hold_or_beyond_the_queue() {
        let hold = hold("10s", 1);
        let first = hold.clone();
        let first = tokio::spawn(async move { first.wait().await });
        wait_for(&hold, 1).await;
        let began = tokio::time::Instant::now();
        assert_eq!(hold.wait().await, Waited::Refused, "the queue is full");
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(first.await.unwrap(), Waited::Refused);
        assert_eq!(began.elapsed(), Duration::from_secs(10));
        assert_eq!((hold.view().waiting, hold.view().refused), (0, 2));
    }

    #[tokio::test]
    async fn a_client_that_goes_away_gives_its_place_back() {
        let hold = hold("10s", 1);
        let gone = hold.clone();
        let gone = tokio::spawn(async move { gone.wait().await });
        wait_for(&hold, 1).await;
        gone.abort();
        wait_for(&hold, 0).await;
    }
}
