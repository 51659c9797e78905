//! What came of the attempts at a version, counted by each worker in cells of its own.

use std::time::Duration;

use admin_api::{Bucket, FailedAttempts, ForcedStats, Responses, VersionStats};
use crossbeam_utils::CachePadded;

use crate::table::counts::remote::RemoteCounts;
use crate::table::counts::sync::{AtomicU64, Ordering};
use crate::table::counts::values::VersionCounts;

/// Buckets an octave, so a bucket is at most 12.5% wide.
const PER_OCTAVE: usize = 8;
/// From 1 µs to 2^27 µs (134 s); what is longer is in the last bucket.
const OCTAVES: usize = 27;

/// The cumulative figures of one version. They live as long as the version is in the table.
#[derive(Debug)]
pub(crate) struct Stats {
    workers: Box<[CachePadded<Counters>]>,
    /// What older processes count.
    pub(crate) remote: RemoteCounts<VersionCounts>,
}

#[derive(Debug)]
struct Counters {
    /// Of requests whose version the split drew.
    drawn: OutcomeCells,
    /// Of requests whose client named the version.
    forced: OutcomeCells,
    diverted: AtomicU64,
    panicked: AtomicU64,
    latency: Box<[AtomicU64]>,
    latency_sum_micros: AtomicU64,
}

/// What came of attempts.
#[derive(Debug, Default)]
pub(crate) struct OutcomeCells {
    /// By status class, 1xx first.
    responses: [AtomicU64; 5],
    failed: FailedCells,
    client_gone: AtomicU64,
}

/// By whom a request's version was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChosenBy {
    /// By the split, or by the client's key and the split.
    Split,
    /// By the client, which named it. A version is not judged by what clients aim at it.
    Client,
}

#[derive(Debug, Default)]
struct FailedCells {
    connect: AtomicU64,
    reset: AtomicU64,
    timeout: AtomicU64,
    protocol: AtomicU64,
    body: AtomicU64,
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection could be made.
    Connect,
    /// The connection broke before the head of a response was there.
    Reset,
    /// No head of a response in time.
    Timeout,
    /// The response was not HTTP.
    Protocol,
    /// The response broke off or stood still.
    Body,
}

impl FailedCells {
    fn of(&self, failure: Failure) -> &AtomicU64 {
        match failure {
            Failure::Connect => &self.connect,
            Failure::Reset => &self.reset,
            Failure::Timeout => &self.timeout,
            Failure::Protocol => &self.protocol,
            Failure::Body => &self.body,
        }
    }
}

impl OutcomeCells {
    /// A response was passed on whole.
    pub(crate) fn responded(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        add_one(&self.responses[class]);
    }

    /// An attempt failed.
    pub(crate) fn failed(&self, failure: Failure) {
        add_one(self.failed.of(failure));
    }

    /// A client went away before its response was whole.
    pub(crate) fn client_gone(&self) {
        add_one(&self.client_gone);
    }
}

impl Stats {
    pub(crate) fn new(workers: usize) -> Self {
        let counters = || {
            CachePadded::new(Counters {
                drawn: OutcomeCells::default(),
                forced: OutcomeCells::default(),
                diverted: AtomicU64::new(0),
                panicked: AtomicU64::new(0),
                latency: (0..PER_OCTAVE * OCTAVES)
                    .map(|_| AtomicU64::new(0))
                    .collect(),
                latency_sum_micros: AtomicU64::new(0),
            })
        };
        Self {
            workers: (0..workers).map(|_| counters()).collect(),
            remote: RemoteCounts::default(),
        }
    }

    /// Where a worker counts what comes of attempts, by who chose their version.
    pub(crate) fn outcomes(&self, worker: usize, chosen_by: ChosenBy) -> &OutcomeCells {
        let counters = &self.workers[worker];
        match chosen_by {
            ChosenBy::Split => &counters.drawn,
            ChosenBy::Client => &counters.forced,
        }
    }

    /// A response was passed on whole.
    pub(crate) fn responded(&self, worker: usize, status: u16) {
        self.outcomes(worker, ChosenBy::Split).responded(status);
    }

    /// An attempt failed.
    pub(crate) fn failed(&self, worker: usize, failure: Failure) {
        self.outcomes(worker, ChosenBy::Split).failed(failure);
    }

    /// The split gave it a request, and nothing of it was up.
    pub(crate) fn diverted(&self, worker: usize) {
        add_one(&self.workers[worker].diverted);
    }

    /// An attempt was begun though the endpoint is down.
    pub(crate) fn panicked(&self, worker: usize) {
        add_one(&self.workers[worker].panicked);
    }

    /// The head of a response came, this long after the attempt began.
    pub(crate) fn response_began_after(&self, worker: usize, latency: Duration) {
        let counters = &self.workers[worker];
        add_one(&counters.latency[bucket_of(latency)]);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let sum = counters
            .latency_sum_micros
            .load(Ordering::Relaxed)
            .saturating_add(micros);
        counters.latency_sum_micros.store(sum, Ordering::Relaxed);
    }

    /// What this process and older ones count; what is in flight is the endpoints' to say.
    pub(crate) fn counts(&self) -> VersionCounts {
        let sum =
            |worker: &CachePadded<Counters>| worker.latency_sum_micros.load(Ordering::Relaxed);
        let mut counts = VersionCounts {
            stats: self.own(),
            latency_sum_micros: self.workers.iter().map(sum).sum(),
        };
        self.remote.add_to(&mut counts);
        counts
    }

    /// The same, without the sum of all latencies.
    pub(crate) fn read(&self) -> VersionStats {
        self.counts().stats
    }

    /// The sums over all workers.
    fn own(&self) -> VersionStats {
        let sum = |cell: &dyn Fn(&Counters) -> &AtomicU64| -> u64 {
            self.workers
                .iter()
                .map(|worker| cell(worker).load(Ordering::Relaxed))
                .sum()
        };
        let bucket = |index: usize| Bucket {
            le: upper_bound(index),
            count: sum(&|worker| &worker.latency[index]),
        };
        let drawn = self.own_outcomes(ChosenBy::Split);
        VersionStats {
            in_flight: 0,
            streams: 0,
            upgraded: 0,
            responses: drawn.responses,
            failed_tries: drawn.failed_tries,
            client_gone: drawn.client_gone,
            diverted: sum(&|worker| &worker.diverted),
            panicked: sum(&|worker| &worker.panicked),
            latency: (0..PER_OCTAVE * OCTAVES)
                .map(bucket)
                .filter(|bucket| bucket.count > 0)
                .collect(),
            forced: self.own_outcomes(ChosenBy::Client),
        }
    }

    /// What came of attempts, summed over all workers.
    fn own_outcomes(&self, chosen_by: ChosenBy) -> ForcedStats {
        let sum = |cell: &dyn Fn(&OutcomeCells) -> &AtomicU64| -> u64 {
            let workers = 0..self.workers.len();
            workers
                .map(|worker| cell(self.outcomes(worker, chosen_by)).load(Ordering::Relaxed))
                .sum()
        };
        let response = |class: usize| sum(&|cells| &cells.responses[class]);
        let failed = |failure: Failure| sum(&|cells| cells.failed.of(failure));
        ForcedStats {
            responses: Responses {
                informational: response(0),
                success: response(1),
                redirection: response(2),
                client_error: response(3),
                server_error: response(4),
            },
            failed_tries: FailedAttempts {
                connect: failed(Failure::Connect),
                reset: failed(Failure::Reset),
                timeout: failed(Failure::Timeout),
                protocol: failed(Failure::Protocol),
                body: failed(Failure::Body),
            },
            client_gone: sum(&|cells| &cells.client_gone),
        }
    }
}

fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

fn bucket_of(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros())
        .unwrap_or(u64::MAX)
        .max(1);
    let octave = micros.ilog2() as usize;
    // The three bits below the highest one.
    let part = ((micros << 3) >> octave) as usize & (PER_OCTAVE - 1);
    (octave * PER_OCTAVE + part).min(PER_OCTAVE * OCTAVES - 1)
}

/// In seconds, inclusive.
fn upper_bound(index: usize) -> f64 {
    let octave = 2f64.powi((index / PER_OCTAVE) as i32);
    let part = 1.0 + (index % PER_OCTAVE + 1) as f64 / PER_OCTAVE as f64;
    octave * part / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_in_the_bucket_that_bounds_it() {
        for micros in [1, 2, 3, 9, 17, 100, 1_000, 12_345, 999_999, 60_000_000] {
            let index = bucket_of(Duration::from_micros(micros));
            let seconds = micros as f64 / 1e6;
            assert!(
                seconds <= upper_bound(index),
                "{micros} µs in bucket {index}"
            );
            assert!(
                index == 0 || seconds >= upper_bound(index - 1) * 0.99,
                "{micros} in {index}"
            );
        }
        assert_eq!(bucket_of(Duration::MAX), PER_OCTAVE * OCTAVES - 1);
        assert_eq!(bucket_of(Duration::ZERO), 0);
    }

    #[test]
    fn counts_are_summed_over_the_workers() {
        let stats = Stats::new(2);
        stats.responded(0, 200);
        stats.responded(1, 200);
        stats.responded(1, 502);
        stats.failed(0, Failure::Reset);
        stats.outcomes(1, ChosenBy::Split).client_gone();
        let read = stats.read();
        assert_eq!(
            (read.attempts(), read.failures(), read.client_gone),
            (4, 2, 1)
        );
        assert_eq!((read.responses.success, read.failed_tries.reset), (2, 1));
    }

    #[test]
    fn what_clients_aim_at_a_version_is_counted_apart() {
        let stats = Stats::new(1);
        let forced = stats.outcomes(0, ChosenBy::Client);
        forced.responded(500);
        forced.failed(Failure::Reset);
        forced.client_gone();
        let read = stats.read();
        assert_eq!(
            (read.attempts(), read.failures(), read.client_gone),
            (0, 0, 0)
        );
        let forced = read.forced;
        assert_eq!(
            (
                forced.responses.server_error,
                forced.failed_tries.reset,
                forced.client_gone
            ),
            (1, 1, 1)
        );
    }
}
