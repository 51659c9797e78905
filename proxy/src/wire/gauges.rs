//! Memory in which something waits for the slower side: what each worker has of it, for its limits and
//! for the metric of all.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What one worker has. Its thread alone changes it, and has its line of the cache for itself.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct BufferedBytes {
    /// Of bodies that are read ahead.
    pub(crate) bodies: Gauge,
    /// Of responses that clients of HTTP/2 have no window for.
    pub(crate) responses: Gauge,
    /// Of requests over HTTP/2 that wait for their turn.
    pub(crate) requests: Gauge,
}

/// A number that one thread changes and any reads.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicUsize);

impl Gauge {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: usize) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, more: usize) {
        self.set(self.get() + more);
    }

    pub(crate) fn subtract(&self, less: usize) {
        self.set(self.get() - less);
    }
}
