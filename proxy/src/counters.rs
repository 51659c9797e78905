//! What a worker counts that belongs to no version.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::reply::Refusal;
use crate::sync::{AtomicU64, Ordering};

/// The counters of all workers.
#[derive(Debug)]
pub(crate) struct Counters {
    workers: Box<[CachePadded<Cells>]>,
}

#[derive(Debug, Default)]
struct Cells {
    connections: AtomicU64,
    accepted: AtomicU64,
    handshakes_failed: AtomicU64,
    refused: [AtomicU64; Refusal::COUNT],
}

/// One worker's own counters, for that worker's thread alone.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    counters: Arc<Counters>,
    worker: usize,
}

/// One open client connection, until it is dropped.
pub(crate) struct OpenConnection(Own);

impl Counters {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| CachePadded::default()).collect(),
        }
    }

    pub(crate) fn own(self: &Arc<Self>, worker: usize) -> Own {
        Own {
            counters: self.clone(),
            worker,
        }
    }

    /// Open client connections.
    pub(crate) fn connections(&self) -> u64 {
        self.sum(|cells| &cells.connections)
    }

    /// Client connections ever accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.sum(|cells| &cells.accepted)
    }

    /// Clients that did not get through the TLS handshake.
    pub(crate) fn handshakes_failed(&self) -> u64 {
        self.sum(|cells| &cells.handshakes_failed)
    }

    /// Requests that the proxy answered itself, for this reason.
    pub(crate) fn refused(&self, refusal: Refusal) -> u64 {
        self.sum(|cells| &cells.refused[refusal as usize])
    }

    fn sum(&self, cell: impl Fn(&Cells) -> &AtomicU64) -> u64 {
        self.workers
            .iter()
            .map(|cells| cell(cells).load(Ordering::Relaxed))
            .sum()
    }
}

impl Own {
    fn cells(&self) -> &Cells {
        &self.counters.workers[self.worker]
    }

    /// A client has connected.
    pub(crate) fn connection(&self) -> OpenConnection {
        add(&self.cells().connections, 1);
        add(&self.cells().accepted, 1);
        OpenConnection(self.clone())
    }

    /// A client did not get through the TLS handshake.
    pub(crate) fn handshake_failed(&self) {
        add(&self.cells().handshakes_failed, 1);
    }

    /// The proxy answers a request itself.
    pub(crate) fn refused(&self, refusal: Refusal) {
        add(&self.cells().refused[refusal as usize], 1);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let connections = &self.0.cells().connections;
        connections.store(connections.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}
