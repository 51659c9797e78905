//! A claim: the right to send one request to one endpoint.
//!
//! Every endpoint has one [`Claims`], with a slot for each worker. A worker writes only its own
//! slot, so taking a claim writes no cache line that another worker writes; a reader of the
//! number in flight sums the slots.
//!
//! ```text
//!   worker: own slot += 1          drain: retired = true
//!           fence(SeqCst)                 fence(SeqCst)
//!           retired? own slot -= 1        sum of slots == 0?  drained
//!                    and pick again
//! ```
//!
//! The two fences are totally ordered. If the worker's is first, the drain sees its slot; if
//! the drain's is first, the worker sees `retired` and backs out. So once a sum after the fence
//! was 0, no request is in flight and none will be. `tests/claim_protocol.rs` has loom try
//! every interleaving of this file.
//!
//! `retired` never goes back to false.

use crossbeam_utils::CachePadded;

use super::sync::{AtomicBool, AtomicU64, Ordering, fence};

/// What is in flight: each kind has its own time in a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    /// A request whose response has begun and goes on without a length.
    Stream,
    /// It goes on as a connection of another protocol.
    Upgraded,
}

/// The claims on one endpoint.
#[derive(Debug)]
pub(crate) struct Claims {
    retired: AtomicBool,
    slots: Box<[CachePadded<Slot>]>,
}

/// One worker's claims. Written by that worker alone, so a plain load and store will do.
#[derive(Debug)]
struct Slot {
    requests: AtomicU64,
    streams: AtomicU64,
    upgraded: AtomicU64,
    /// Claims ever taken.
    taken: AtomicU64,
    /// Of those: what the endpoint failed, and what says nothing about it.
    bad: AtomicU64,
    excused: AtomicU64,
}

/// What is in flight at one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InFlight {
    /// Requests in flight, streams not included.
    pub(crate) requests: u64,
    /// Requests whose responses have begun and go on without a length.
    pub(crate) streams: u64,
    /// Connections that were upgraded and are open.
    pub(crate) upgraded: u64,
}

/// What has come of the requests at one endpoint, since it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outcomes {
    pub(crate) good: u64,
    /// Failed attempts, and responses of class 5xx.
    pub(crate) bad: u64,
}

impl Outcomes {
    pub(crate) fn total(self) -> u64 {
        self.good + self.bad
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            good: self.good.saturating_sub(before.good),
            bad: self.bad.saturating_sub(before.bad),
        }
    }
}

impl std::ops::Add for Outcomes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            good: self.good + other.good,
            bad: self.bad + other.bad,
        }
    }
}

impl InFlight {
    pub(crate) fn is_empty(self) -> bool {
        self.requests == 0 && self.streams == 0 && self.upgraded == 0
    }
}

impl Claims {
    /// No claims, with a slot for each of `workers`.
    pub(crate) fn new(workers: usize) -> Self {
        let slot = || {
            CachePadded::new(Slot {
                requests: AtomicU64::new(0),
                streams: AtomicU64::new(0),
                upgraded: AtomicU64::new(0),
                taken: AtomicU64::new(0),
                bad: AtomicU64::new(0),
                excused: AtomicU64::new(0),
            })
        };
        Self {
            retired: AtomicBool::new(false),
            slots: (0..workers).map(|_| slot()).collect(),
        }
    }

    /// Takes a claim for `worker`, unless the endpoint is retired. To be called on that
    /// worker's thread only; every success is ended by one [`Claims::release`].
    #[must_use]
    pub(crate) fn take(&self, worker: usize) -> bool {
        let slot = &self.slots[worker];
        add(&slot.requests, 1);
        fence(Ordering::SeqCst);
        // Acquire: who sees this sees the table that was swapped in before it.
        if self.retired.load(Ordering::Acquire) {
            subtract(&slot.requests, 1);
            return false;
        }
        add(&slot.taken, 1);
        true
    }

    /// Turns a request's claim into a stream's.
    pub(crate) fn stream(&self, worker: usize) {
        let slot = &self.slots[worker];
        // As in `upgrade`.
        add(&slot.streams, 1);
        subtract(&slot.requests, 1);
    }

    /// Turns a request's claim into an upgraded connection's.
    pub(crate) fn upgrade(&self, worker: usize) {
        let slot = &self.slots[worker];
        // Up before down, and read the other way round: a reader sees at least one of them.
        add(&slot.upgraded, 1);
        subtract(&slot.requests, 1);
    }

    /// Ends a request's claim.
    pub(crate) fn release(&self, worker: usize) {
        subtract(&self.slots[worker].requests, 1);
    }

    /// Ends a stream's claim.
    pub(crate) fn release_stream(&self, worker: usize) {
        subtract(&self.slots[worker].streams, 1);
    }

    /// Ends an upgraded connection's claim.
    pub(crate) fn release_upgraded(&self, worker: usize) {
        subtract(&self.slots[worker].upgraded, 1);
    }

    /// The request of a claim, which is still held, came to nothing good: the endpoint's doing.
    pub(crate) fn went_bad(&self, worker: usize) {
        add(&self.slots[worker].bad, 1);
    }

    /// The request of a claim, which is still held, says nothing about the endpoint.
    pub(crate) fn excuse(&self, worker: usize) {
        add(&self.slots[worker].excused, 1);
    }

    /// What has come of the claims that were released. A worker that is busy may make it a
    /// little too low; the next reading has it.
    pub(crate) fn outcomes(&self) -> Outcomes {
        let sum = |cell: fn(&Slot) -> &AtomicU64| -> u64 {
            let cells = self.slots.iter();
            cells.map(|slot| cell(slot).load(Ordering::Acquire)).sum()
        };
        let taken = sum(|slot| &slot.taken);
        let open = sum(|slot| &slot.requests) + sum(|slot| &slot.streams);
        let (bad, excused) = (sum(|slot| &slot.bad), sum(|slot| &slot.excused));
        Outcomes {
            good: taken.saturating_sub(open + bad + excused),
            bad,
        }
    }

    /// No new claims from here on. One-way.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Whether new claims are refused.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// What is in flight. Once this was empty after [`Claims::retire`], no claim is held and
    /// none will be; a later sum may still show one that is just backing out.
    pub(crate) fn in_flight(&self) -> InFlight {
        let mut sum = InFlight {
            requests: 0,
            streams: 0,
            upgraded: 0,
        };
        for slot in &self.slots {
            sum.requests += slot.requests.load(Ordering::Acquire);
            sum.streams += slot.streams.load(Ordering::Acquire);
            sum.upgraded += slot.upgraded.load(Ordering::Acquire);
        }
        sum
    }

    /// What is in flight of `worker`'s own claims. Read by that worker, it costs nothing.
    pub(crate) fn own(&self, worker: usize) -> u64 {
        let slot = &self.slots[worker];
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        load(&slot.requests) + load(&slot.streams) + load(&slot.upgraded)
    }

    /// Claims ever taken.
    pub(crate) fn taken(&self) -> u64 {
        self.slots
            .iter()
            .map(|slot| slot.taken.load(Ordering::Relaxed))
            .sum()
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Release);
}

fn subtract(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) - n, Ordering::Release);
}
