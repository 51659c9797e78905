//! What a worker counts that belongs to no version.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::access_log::lost::Lost;
use crate::table::counts::remote::RemoteCounts;
use crate::table::counts::sync::{AtomicU64, Ordering};
use crate::table::counts::values::{BufferedCounts, ProcessCounts};
use crate::wire::gauges::{BufferedBytes, Gauge};
use crate::wire::reply::LocalReply;

/// The counters of all workers.
#[derive(Debug)]
pub(crate) struct Counters {
    workers: Box<[CachePadded<Cells>]>,
    /// Lines of the access log.
    pub(crate) lost_lines: Arc<Lost>,
    /// What older processes count.
    pub(crate) remote: RemoteCounts<ProcessCounts>,
}

#[derive(Debug)]
struct Cells {
    connections: AtomicU64,
    accepted: AtomicU64,
    handshakes_failed: AtomicU64,
    /// Those that found all places of their listener taken.
    waited: AtomicU64,
    /// Those whose address has as many connections as it may have.
    turned_away: AtomicU64,
    /// Requests that too much waits before.
    streams_refused: AtomicU64,
    buffered: Arc<BufferedBytes>,
    refused: [AtomicU64; LocalReply::COUNT],
}

/// One worker's own counters, for that worker's thread alone.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    counters: Arc<Counters>,
    worker: usize,
}

/// One open client connection, until it is dropped.
pub(crate) struct OpenConnection(Own);

impl Default for Cells {
    fn default() -> Self {
        Self {
            connections: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            streams_refused: AtomicU64::new(0),
            buffered: Arc::default(),
            refused: [const { AtomicU64::new(0) }; LocalReply::COUNT],
        }
    }
}

impl Counters {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| CachePadded::default()).collect(),
            lost_lines: Arc::new(Lost::new(workers)),
            remote: RemoteCounts::default(),
        }
    }

    pub(crate) fn own(self: &Arc<Self>, worker: usize) -> Own {
        Own {
            counters: self.clone(),
            worker,
        }
    }

    /// Open client connections of this process.
    pub(crate) fn connections(&self) -> u64 {
        self.sum(|cells| &cells.connections)
    }

    /// What this process and older ones count.
    pub(crate) fn counts(&self) -> ProcessCounts {
        let mut counts = ProcessCounts {
            connections: self.connections(),
            accepted: self.sum(|cells| &cells.accepted),
            handshakes_failed: self.sum(|cells| &cells.handshakes_failed),
            waited: self.sum(|cells| &cells.waited),
            turned_away: self.sum(|cells| &cells.turned_away),
            lost_lines: self.lost_lines.total(),
            streams_refused: self.sum(|cells| &cells.streams_refused),
            buffered: self.buffered(),
            refused: BTreeMap::new(),
        };
        for reply in LocalReply::ALL {
            let label = reply.label().to_owned();
            let count = self.sum(|cells| &cells.refused[reply as usize]);
            *counts.refused.entry(label).or_default() += count;
        }
        self.remote.add_to(&mut counts);
        counts
    }

    fn buffered(&self) -> BufferedCounts {
        let sum = |gauge: fn(&BufferedBytes) -> &Gauge| {
            let workers = self.workers.iter();
            workers
                .map(|cells| gauge(&cells.buffered).get() as u64)
                .sum()
        };
        BufferedCounts {
            bodies: sum(|buffered| &buffered.bodies),
            responses: sum(|buffered| &buffered.responses),
            requests: sum(|buffered| &buffered.requests),
        }
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

    /// Memory in which something waits.
    pub(crate) fn buffered(&self) -> &Arc<BufferedBytes> {
        &self.cells().buffered
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

    /// A client has to wait until another one has left.
    pub(crate) fn waits(&self) {
        add(&self.cells().waited, 1);
    }

    /// A client's connection is closed at once.
    pub(crate) fn turns_away(&self) {
        add(&self.cells().turned_away, 1);
    }

    /// A request over HTTP/2 is refused, since too much waits for its client or for all.
    pub(crate) fn refuses_stream(&self) {
        add(&self.cells().streams_refused, 1);
    }

    /// The proxy sends its own response to a request.
    pub(crate) fn refused(&self, reply: LocalReply) {
        add(&self.cells().refused[reply as usize], 1);
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
