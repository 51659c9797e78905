//! Requests of a service that wait, since none of its endpoints is up, until one is.

use std::sync::Arc;

use admin_api::WaitStats;

use crate::table::counts::remote::RemoteCounts;
use crate::table::counts::sync::{AtomicU64, Ordering};
use crate::table::counts::values::WaitCounts;

/// Requests of one service that wait at the same time; those beyond are refused at once.
const MAX_WAITING: u64 = 10_000;

/// Where the requests of a service wait. All tables that have the service share one.
#[derive(Debug, Default)]
pub(crate) struct WaitingRoom {
    waiting: AtomicU64,
    waited: AtomicU64,
    refused: AtomicU64,
    /// What older processes count.
    pub(crate) remote: RemoteCounts<WaitCounts>,
}

/// A place in a waiting room, until it is dropped: by a client that goes away, too.
#[derive(Debug)]
pub(crate) struct Seat(Arc<WaitingRoom>);

impl WaitingRoom {
    /// A place for one request, if one is left.
    pub(crate) fn seat(self: &Arc<Self>) -> Option<Seat> {
        self.waited.fetch_add(1, Ordering::Relaxed);
        // One that is dropped here gives its place back.
        let seat = Seat(self.clone());
        if self.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
            return Some(seat);
        }
        seat.refuse();
        None
    }

    /// What this process and older ones count.
    pub(crate) fn counts(&self) -> WaitCounts {
        let mut counts = WaitCounts {
            waiting: self.waiting.load(Ordering::Relaxed),
            waited: self.waited.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        };
        self.remote.add_to(&mut counts);
        counts
    }

    /// As the admin API shows it.
    pub(crate) fn stats(&self) -> WaitStats {
        let WaitCounts {
            waiting,
            waited,
            refused,
        } = self.counts();
        WaitStats {
            waiting,
            waited,
            refused,
        }
    }
}

impl Seat {
    /// No endpoint came up for its request, which waits no longer.
    pub(crate) fn refuse(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_requests_wait_than_there_are_places_and_a_place_is_given_back() {
        let room = Arc::new(WaitingRoom::default());
        let mut seats: Vec<Seat> = (0..MAX_WAITING).filter_map(|_| room.seat()).collect();
        assert_eq!(seats.len() as u64, MAX_WAITING);
        assert!(room.seat().is_none());
        let counts = room.counts();
        assert_eq!((counts.waiting, counts.refused), (MAX_WAITING, 1));
        seats.pop();
        let last = room.seat().unwrap();
        last.refuse();
        drop((last, seats));
        let counts = room.counts();
        assert_eq!((counts.waiting, counts.refused), (0, 2));
        assert_eq!(counts.waited, MAX_WAITING + 2);
    }
}
