//! Lines that were lost: how many, and why, which the log of the process says once in a while.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::time::Instant;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);
/// How long nothing is said after something was.
const SILENCE: Duration = Duration::from_secs(10);

/// How many lines were lost.
#[derive(Debug)]
pub(crate) struct Lost {
    /// Of each worker: as many as may wait did.
    by_workers: Box<[CachePadded<AtomicU64>]>,
    /// They could not be written.
    by_writer: AtomicU64,
    /// Why not, the last time.
    reason: Mutex<Option<String>>,
}

/// Lines that could not be written.
#[derive(Debug)]
pub(super) struct Failed {
    /// Bytes that were, before.
    pub(super) written: usize,
    pub(super) why: String,
}

impl Failed {
    pub(super) fn new(written: usize, error: &io::Error) -> Self {
        Self {
            written,
            why: error.to_string(),
        }
    }
}

impl Lost {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            by_workers: (0..workers).map(|_| CachePadded::default()).collect(),
            by_writer: AtomicU64::new(0),
            reason: Mutex::default(),
        }
    }

    /// How many lines were lost in all.
    pub(crate) fn total(&self) -> u64 {
        let of_workers = self.by_workers.iter();
        let of_workers: u64 = of_workers.map(|lost| lost.load(Ordering::Relaxed)).sum();
        of_workers + self.by_writer.load(Ordering::Relaxed)
    }

    /// One more that a worker had no room for. For that worker's thread alone.
    pub(super) fn no_room(&self, worker: usize) {
        if let Some(lost) = self.by_workers.get(worker) {
            lost.store(lost.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// So many more that could not be written. For the writer alone.
    pub(super) fn unwritten(&self, lines: u64, why: String) {
        self.by_writer.fetch_add(lines, Ordering::Relaxed);
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// What was lost before is written again.
    pub(super) fn is_well(&self) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn reason(&self) -> String {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason
            .clone()
            .unwrap_or_else(|| "they are not taken as fast as they come".to_owned())
    }
}

/// Says how many lines are lost, for as long as the process runs.
pub(super) async fn watch(lost: Arc<Lost>, target: String) {
    let (mut said, mut last) = (0, None::<Instant>);
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        let is_due = last.is_none_or(|last| last.elapsed() >= SILENCE);
        if is_due && lost.total() > said {
            last = Some(Instant::now());
            said = say(&lost, &target, said);
        }
    }
}

/// Says how many lines are lost. Gives how many were said to be.
pub(super) fn say(lost: &Lost, target: &str, said: u64) -> u64 {
    let total = lost.total();
    let (lines, reason) = (total - said, lost.reason());
    tracing::warn!(to = %target, lines, total, "lines of the access log are lost: {reason}");
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_lost_are_counted_wherever_that_is() {
        let lost = Lost::new(2);
        lost.no_room(0);
        lost.no_room(1);
        lost.no_room(1);
        assert_eq!(lost.total(), 3);
        assert!(lost.reason().contains("as fast as they come"));
        lost.unwritten(5, "the disk is full".to_owned());
        assert_eq!(lost.total(), 8);
        assert_eq!(lost.reason(), "the disk is full");
        lost.is_well();
        assert!(lost.reason().contains("as fast as they come"));
    }
}
