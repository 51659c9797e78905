//! What older processes of the proxy count of something that this one counts too: the sum of both
//! is what there is.
//!
//! A process that has ended leaves what it has counted up: a counter never goes back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of a process, drawn when it starts.
pub(crate) type ProcessId = u64;

/// Figures that can be summed.
pub(crate) trait Counts: Clone + Default {
    /// Adds another process's.
    fn add(&mut self, other: &Self);

    /// What is left of them when their process has ended: what was going on is over.
    fn clear_gauges(&mut self);
}

/// The figures of other processes.
#[derive(Debug, Default)]
pub(crate) struct RemoteCounts<T>(Mutex<Inner<T>>);

#[derive(Debug, Default)]
struct Inner<T> {
    /// Of processes that have ended.
    past: T,
    present: BTreeMap<ProcessId, T>,
}

impl<T: Counts> RemoteCounts<T> {
    /// What a process counts now.
    pub(crate) fn note(&self, process: ProcessId, counts: T) {
        self.inner().present.insert(process, counts);
    }

    /// A process has ended.
    pub(crate) fn ended(&self, process: ProcessId) {
        let mut inner = self.inner();
        if let Some(mut counts) = inner.present.remove(&process) {
            counts.clear_gauges();
            inner.past.add(&counts);
        }
    }

    /// Another process counts the processes that live.
    pub(crate) fn forget_present(&self) {
        self.inner().present.clear();
    }

    /// Of one process, where it has said anything.
    pub(crate) fn of(&self, process: ProcessId) -> Option<T> {
        self.inner().present.get(&process).cloned()
    }

    /// Adds everything to what this process counts.
    pub(crate) fn add_to(&self, own: &mut T) {
        let inner = self.inner();
        own.add(&inner.past);
        inner.present.values().for_each(|counts| own.add(counts));
    }

    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Default, PartialEq)]
    struct Doors {
        open: u64,
        ever: u64,
    }

    impl Counts for Doors {
        fn add(&mut self, other: &Self) {
            self.open += other.open;
            self.ever += other.ever;
        }

        fn clear_gauges(&mut self) {
            self.open = 0;
        }
    }

    #[test]
    fn what_has_ended_leaves_its_counters_and_nothing_that_goes_on() {
        let remote = RemoteCounts::default();
        let sum = || {
            let mut own = Doors { open: 1, ever: 1 };
            remote.add_to(&mut own);
            (own.open, own.ever)
        };
        remote.note(7, Doors { open: 2, ever: 10 });
        remote.note(8, Doors { open: 1, ever: 5 });
        assert_eq!(sum(), (4, 16));
        remote.note(7, Doors { open: 1, ever: 12 });
        remote.ended(7);
        remote.ended(7);
        assert_eq!(sum(), (2, 18));
        remote.forget_present();
        assert_eq!(sum(), (1, 13));
    }
}
