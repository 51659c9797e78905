//! Which requests of a service are copied, to which version, and what came of the copies.
//!
//! Copies are counted apart: they are in the figures of no version. Beside them stands what the
//! clients got for the same requests, so that both can be compared.

use std::sync::Arc;
use std::time::Instant;

use admin_api::strict::InputError;
use admin_api::{CopyStats, MirrorSpec, MirrorStats, VersionStats};
use crossbeam_utils::CachePadded;

use crate::table::counts::remote::{ProcessId, RemoteCounts};
use crate::table::counts::stats::{Failure, Stats};
use crate::table::counts::sync::{AtomicU64, Ordering};
use crate::table::counts::values::{Dropped, MirrorCounts};

/// Where the copies of a service's requests go, and what came of them so far.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// The version's place in its service.
    pub(crate) version: usize,
    spec: MirrorSpec,
    /// Of each worker, at one time.
    most: u64,
    /// The same in every table, while the version is.
    counts: Arc<SharedCounts>,
}

#[derive(Debug)]
struct SharedCounts {
    copies: Stats,
    originals: Stats,
    workers: Box<[CachePadded<Own>]>,
    /// What older processes have not copied.
    dropped_remote: RemoteCounts<Dropped>,
}

/// What one worker writes.
#[derive(Debug, Default)]
struct Own {
    /// What a request adds to, until it is enough for a copy.
    turn: AtomicU64,
    in_flight: AtomicU64,
    dropped: AtomicU64,
}

/// Checks where a service's copies go. The error's field is relative to the service.
pub(crate) fn check(
    spec: &MirrorSpec,
    has_endpoints: impl Fn(&str) -> bool,
) -> Result<(), InputError> {
    let wrong = |field: &str, message: String| {
        Err(InputError::of_field(format!("mirror.{field}"), message))
    };
    if !has_endpoints(&spec.version) {
        let version = &spec.version;
        return wrong(
            "version",
            format!("`{version}` is not a version with endpoints"),
        );
    }
    if !(1..=100).contains(&spec.percent) {
        let percent = spec.percent;
        return wrong(
            "percent",
            format!("{percent} is not a number from 1 to 100"),
        );
    }
    if spec.max_in_flight == 0 {
        return wrong("max_in_flight", "has to be at least 1".into());
    }
    Ok(())
}

impl Mirror {
    /// What is copied as `spec` has it, to the version at this place. The counts of the same
    /// version go on.
    pub(crate) fn of(
        spec: MirrorSpec,
        version: usize,
        previous: Option<&Self>,
        workers: usize,
    ) -> Self {
        let known = previous.filter(|mirror| mirror.spec.version == spec.version);
        let counts = match known {
            Some(mirror) => mirror.counts.clone(),
            None => Arc::new(SharedCounts {
                copies: Stats::new(workers),
                originals: Stats::new(workers),
                workers: (0..workers).map(|_| CachePadded::default()).collect(),
                dropped_remote: RemoteCounts::default(),
            }),
        };
        Self {
            version,
            most: u64::from(spec.max_in_flight).div_ceil(workers.max(1) as u64),
            spec,
            counts,
        }
    }

    /// Whether both have the same counts.
    pub(crate) fn counts_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.counts, &other.counts)
    }

    /// As people write it.
    pub(crate) fn spec(&self) -> &MirrorSpec {
        &self.spec
    }

    pub(crate) fn stats(&self) -> MirrorStats {
        let MirrorCounts {
            version,
            copies,
            originals,
            dropped,
        } = self.counts();
        MirrorStats {
            version,
            copies: copy_stats(copies.stats),
            originals: copy_stats(originals.stats),
            dropped: dropped.0,
        }
    }

    /// What this process and older ones count.
    pub(crate) fn counts(&self) -> MirrorCounts {
        let dropped = |own: &CachePadded<Own>| own.dropped.load(Ordering::Relaxed);
        let mut dropped = Dropped(self.counts.workers.iter().map(dropped).sum());
        self.counts.dropped_remote.add_to(&mut dropped);
        MirrorCounts {
            version: self.spec.version.clone(),
            copies: self.counts.copies.counts(),
            originals: self.counts.originals.counts(),
            dropped,
        }
    }

    /// What an older process counts.
    pub(crate) fn note(&self, process: ProcessId, counts: MirrorCounts) {
        // It may not know yet that another version has the copies now.
        if counts.version == self.spec.version {
            let own = &self.counts;
            own.copies.remote.note(process, counts.copies);
            own.originals.remote.note(process, counts.originals);
            own.dropped_remote.note(process, counts.dropped);
        }
    }

    /// An older process has ended.
    pub(crate) fn process_ended(&self, process: ProcessId) {
        self.counts.copies.remote.ended(process);
        self.counts.originals.remote.ended(process);
        self.counts.dropped_remote.ended(process);
    }

    /// Another process counts the older processes that live.
    pub(crate) fn forget_draining(&self) {
        self.counts.copies.remote.forget_present();
        self.counts.originals.remote.forget_present();
        self.counts.dropped_remote.forget_present();
    }

    /// What is counted of the copies.
    pub(crate) fn copies(&self) -> &Stats {
        &self.counts.copies
    }

    /// What a client got whose request was copied at `begun`.
    pub(crate) fn original_responded(&self, worker: usize, begun: Instant, status: u16) {
        let originals = &self.counts.originals;
        originals.response_began_after(worker, begun.elapsed());
        originals.responded(worker, status);
    }

    /// There was no response for a client whose request was copied.
    pub(crate) fn original_failed(&self, worker: usize, failure: Failure) {
        self.counts.originals.failed(worker, failure);
    }

    /// Whether the next request is one of so many of a hundred.
    pub(crate) fn is_its_turn(&self, worker: usize) -> bool {
        let turn = &self.counts.workers[worker].turn;
        let sum = turn.load(Ordering::Relaxed) + u64::from(self.spec.percent);
        turn.store(sum % 100, Ordering::Relaxed);
        sum >= 100
    }

    /// Takes a place among the copies under way, if one is left.
    pub(crate) fn add_in_flight(&self, worker: usize) -> bool {
        let in_flight = &self.counts.workers[worker].in_flight;
        let now = in_flight.load(Ordering::Relaxed);
        if now >= self.most {
            return false;
        }
        in_flight.store(now + 1, Ordering::Relaxed);
        true
    }

    /// A copy has ended.
    pub(crate) fn take_in_flight(&self, worker: usize) {
        let in_flight = &self.counts.workers[worker].in_flight;
        in_flight.store(in_flight.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }

    /// A request was not copied that was to be.
    pub(crate) fn drop_one(&self, worker: usize) {
        let dropped = &self.counts.workers[worker].dropped;
        dropped.store(dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

fn copy_stats(read: VersionStats) -> CopyStats {
    CopyStats {
        responses: read.responses,
        failed_tries: read.failed_tries,
        latency: read.latency,
    }
}
