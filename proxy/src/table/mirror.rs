//! Which requests of a service are copied, to which version, and what came of the copies.
//!
//! Copies are counted apart: they are in the figures of no version. Beside them stands what the
//! clients got for the same requests, so that both can be compared.

use std::sync::Arc;
use std::time::Instant;

use admin_api::strict::InputError;
use admin_api::{CopyStats, MirrorSpec, MirrorStats, VersionStats};
use crossbeam_utils::CachePadded;

use crate::table::counts::elsewhere::{Elsewhere, ProcessId};
use crate::table::counts::figures::{Dropped, MirrorFigures};
use crate::table::counts::stats::{Failure, Stats};
use crate::table::counts::sync::{AtomicU64, Ordering};

/// Where the copies of a service's requests go, and what came of them so far.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// The version's place in its service.
    pub(crate) version: usize,
    spec: MirrorSpec,
    /// Of each worker, at one time.
    most: u64,
    /// The same in every table, while the version is.
    figures: Arc<Figures>,
}

#[derive(Debug)]
struct Figures {
    copies: Stats,
    originals: Stats,
    workers: Box<[CachePadded<Own>]>,
    /// What older processes have not copied.
    dropped_elsewhere: Elsewhere<Dropped>,
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
            format!("`{version}` is no version with endpoints"),
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
        return wrong(
            "max_in_flight",
            "0 copies at a time are none: 1 or more".into(),
        );
    }
    Ok(())
}

impl Mirror {
    /// What is copied as `spec` has it, to the version at this place. Figures of the same version
    /// go on.
    pub(crate) fn of(
        spec: MirrorSpec,
        version: usize,
        previous: Option<&Self>,
        workers: usize,
    ) -> Self {
        let known = previous.filter(|mirror| mirror.spec.version == spec.version);
        let figures = match known {
            Some(mirror) => mirror.figures.clone(),
            None => Arc::new(Figures {
                copies: Stats::new(workers),
                originals: Stats::new(workers),
                workers: (0..workers).map(|_| CachePadded::default()).collect(),
                dropped_elsewhere: Elsewhere::default(),
            }),
        };
        Self {
            version,
            most: u64::from(spec.max_in_flight).div_ceil(workers.max(1) as u64),
            spec,
            figures,
        }
    }

    /// As people write it.
    pub(crate) fn spec(&self) -> &MirrorSpec {
        &self.spec
    }

    pub(crate) fn stats(&self) -> MirrorStats {
        let MirrorFigures {
            version,
            copies,
            originals,
            dropped,
        } = self.figures();
        MirrorStats {
            version,
            copies: figures(copies.stats),
            originals: figures(originals.stats),
            dropped: dropped.0,
        }
    }

    /// What this process and older ones count.
    pub(crate) fn figures(&self) -> MirrorFigures {
        let dropped = |own: &CachePadded<Own>| own.dropped.load(Ordering::Relaxed);
        let mut dropped = Dropped(self.figures.workers.iter().map(dropped).sum());
        self.figures.dropped_elsewhere.add_to(&mut dropped);
        MirrorFigures {
            version: self.spec.version.clone(),
            copies: self.figures.copies.figures(),
            originals: self.figures.originals.figures(),
            dropped,
        }
    }

    /// What an older process counts.
    pub(crate) fn note(&self, process: ProcessId, figures: MirrorFigures) {
        // It may not know yet that another version has the copies now.
        if figures.version == self.spec.version {
            let own = &self.figures;
            own.copies.elsewhere.note(process, figures.copies);
            own.originals.elsewhere.note(process, figures.originals);
            own.dropped_elsewhere.note(process, figures.dropped);
        }
    }

    /// An older process has ended.
    pub(crate) fn elder_ended(&self, process: ProcessId) {
        self.figures.copies.elsewhere.ended(process);
        self.figures.originals.elsewhere.ended(process);
        self.figures.dropped_elsewhere.ended(process);
    }

    /// Somebody else counts the older processes that live.
    pub(crate) fn forget_elders(&self) {
        self.figures.copies.elsewhere.forget_present();
        self.figures.originals.elsewhere.forget_present();
        self.figures.dropped_elsewhere.forget_present();
    }

    /// What is counted of the copies.
    pub(crate) fn copies(&self) -> &Stats {
        &self.figures.copies
    }

    /// What a client got whose request was copied at `begun`.
    pub(crate) fn original_responded(&self, worker: usize, begun: Instant, status: u16) {
        let originals = &self.figures.originals;
        originals.response_began_after(worker, begun.elapsed());
        originals.responded(worker, status);
    }

    /// There was no response for a client whose request was copied.
    pub(crate) fn original_failed(&self, worker: usize, failure: Failure) {
        self.figures.originals.failed(worker, failure);
    }

    /// Whether the next request is one of so many of a hundred.
    pub(crate) fn is_its_turn(&self, worker: usize) -> bool {
        let turn = &self.figures.workers[worker].turn;
        let sum = turn.load(Ordering::Relaxed) + u64::from(self.spec.percent);
        turn.store(sum % 100, Ordering::Relaxed);
        sum >= 100
    }

    /// Takes a place among the copies under way, if one is left.
    pub(crate) fn add_in_flight(&self, worker: usize) -> bool {
        let in_flight = &self.figures.workers[worker].in_flight;
        let now = in_flight.load(Ordering::Relaxed);
        if now >= self.most {
            return false;
        }
        in_flight.store(now + 1, Ordering::Relaxed);
        true
    }

    /// A copy has ended.
    pub(crate) fn take_in_flight(&self, worker: usize) {
        let in_flight = &self.figures.workers[worker].in_flight;
        in_flight.store(in_flight.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }

    /// A request was not copied that was to be.
    pub(crate) fn drop_one(&self, worker: usize) {
        let dropped = &self.figures.workers[worker].dropped;
        dropped.store(dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

fn figures(read: VersionStats) -> CopyStats {
    CopyStats {
        responses: read.responses,
        failed_tries: read.failed_tries,
        latency: read.latency,
    }
}
