//! What came of the attempts at a version, counted by each worker in cells of its own.

use std::sync::Arc;
use std::time::Duration;

use admin_api::{Bucket, FailedAttempts, OutcomeStats, Responses, VersionStats};
use crossbeam_utils::CachePadded;

use crate::table::counts::kept::{FailedClients, Keeper};
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
    /// Of all versions of its service.
    failed_clients: Arc<FailedClients>,
    /// What older processes count.
    pub(crate) remote: RemoteCounts<VersionCounts>,
}

#[derive(Debug)]
struct Counters {
    /// What the version is judged by.
    drawn: OutcomeCells,
    /// Of requests that were counted before.
    repeated: OutcomeCells,
    /// Of requests whose client named the version, and failures of clients that failed before.
    forced: OutcomeCells,
    diverted: AtomicU64,
    panicked: AtomicU64,
    latency: Box<[AtomicU64]>,
    latency_sum_micros: AtomicU64,
}

/// What came of attempts.
#[derive(Debug, Default)]
struct OutcomeCells {
    /// By status class, 1xx first.
    responses: [AtomicU64; 5],
    failed: FailedCells,
    client_gone: AtomicU64,
}

/// By what the version of an attempt was chosen. What is judged is whose an outcome is among all that
/// the split dealt, so it has to be counted once for each thing that was dealt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChosenBy {
    /// By the split, for this request alone.
    Split,
    /// By the split, for all requests of this client. Its first failure counts.
    Kept(Keeper),
    /// By an attempt before, whose failure was counted: this is the same request.
    Repeated,
    /// By the client, which named it. A version is not judged by what clients aim at it.
    Client,
}

impl ChosenBy {
    /// The same for a further attempt of a request that was counted.
    pub(crate) fn repeated(self) -> Self {
        match self {
            Self::Client => Self::Client,
            Self::Split | Self::Kept(_) | Self::Repeated => Self::Repeated,
        }
    }
}

#[derive(Debug, Default)]
struct FailedCells {
    connect: AtomicU64,
    reset: AtomicU64,
    timeout: AtomicU64,
    protocol: AtomicU64,
    body: AtomicU64,
}

/// What came of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A response with this status was passed on whole.
    Responded(u16),
    /// It failed.
    Failed(Failure),
    /// Its client went away before the response was whole.
    ClientGone,
}

impl Outcome {
    /// Whether it counts against the version.
    fn is_failure(self) -> bool {
        match self {
            Self::Responded(status) => status >= 500,
            Self::Failed(_) => true,
            Self::ClientGone => false,
        }
    }
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
    fn of(&self, outcome: Outcome) -> &AtomicU64 {
        match outcome {
            Outcome::Responded(status) => {
                let class = usize::from(status / 100).clamp(1, 5) - 1;
                &self.responses[class]
            }
            Outcome::Failed(failure) => self.failed.of(failure),
            Outcome::ClientGone => &self.client_gone,
        }
    }
}

impl Stats {
    /// Of a version by itself.
    pub(crate) fn new(workers: usize) -> Self {
        Self::beside(workers, Arc::default())
    }

    /// Of a version of a service whose clients have failed.
    pub(crate) fn beside(workers: usize, failed_clients: Arc<FailedClients>) -> Self {
        let counters = || {
            CachePadded::new(Counters {
                drawn: OutcomeCells::default(),
                repeated: OutcomeCells::default(),
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
            failed_clients,
            remote: RemoteCounts::default(),
        }
    }

    /// The clients of its service that have failed.
    pub(crate) fn failed_clients(&self) -> &Arc<FailedClients> {
        &self.failed_clients
    }

    /// Counts what came of an attempt, whose version was chosen like this.
    pub(crate) fn count(&self, worker: usize, chosen_by: ChosenBy, outcome: Outcome) {
        let counters = &self.workers[worker];
        let cells = match chosen_by {
            ChosenBy::Split => &counters.drawn,
            ChosenBy::Kept(_) if !outcome.is_failure() => &counters.drawn,
            ChosenBy::Kept(keeper) if self.failed_clients.is_first(keeper) => &counters.drawn,
            ChosenBy::Repeated => &counters.repeated,
            ChosenBy::Kept(_) | ChosenBy::Client => &counters.forced,
        };
        add_one(cells.of(outcome));
    }

    /// A response was passed on whole.
    pub(crate) fn responded(&self, worker: usize, status: u16) {
        self.count(worker, ChosenBy::Split, Outcome::Responded(status));
    }

    /// An attempt failed.
    pub(crate) fn failed(&self, worker: usize, failure: Failure) {
        self.count(worker, ChosenBy::Split, Outcome::Failed(failure));
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
        let mut all = self.own_outcomes(|counters| &counters.drawn);
        let repeated = self.own_outcomes(|counters| &counters.repeated);
        all.add(&repeated);
        VersionStats {
            in_flight: 0,
            streams: 0,
            upgraded: 0,
            responses: all.responses,
            failed_tries: all.failed_tries,
            client_gone: all.client_gone,
            diverted: sum(&|worker| &worker.diverted),
            panicked: sum(&|worker| &worker.panicked),
            latency: (0..PER_OCTAVE * OCTAVES)
                .map(bucket)
                .filter(|bucket| bucket.count > 0)
                .collect(),
            repeated,
            forced: self.own_outcomes(|counters| &counters.forced),
        }
    }

    /// What came of attempts, summed over all workers.
    fn own_outcomes(&self, of: impl Fn(&Counters) -> &OutcomeCells) -> OutcomeStats {
        let sum = |cell: &dyn Fn(&OutcomeCells) -> &AtomicU64| -> u64 {
            let workers = self.workers.iter();
            workers
                .map(|worker| cell(of(worker)).load(Ordering::Relaxed))
                .sum()
        };
        let response = |class: usize| sum(&|cells| &cells.responses[class]);
        let failed = |failure: Failure| sum(&|cells| cells.failed.of(failure));
        OutcomeStats {
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
        stats.count(1, ChosenBy::Split, Outcome::ClientGone);
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
        for outcome in [
            Outcome::Responded(500),
            Outcome::Failed(Failure::Reset),
            Outcome::ClientGone,
        ] {
            stats.count(0, ChosenBy::Client, outcome);
        }
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

    #[test]
    fn a_request_counts_once_whatever_its_attempts() {
        let stats = Stats::new(2);
        stats.failed(0, Failure::Reset);
        stats.count(
            0,
            ChosenBy::Split.repeated(),
            Outcome::Failed(Failure::Reset),
        );
        stats.count(1, ChosenBy::Split.repeated(), Outcome::Responded(502));
        stats.failed(1, Failure::Connect);
        stats.count(1, ChosenBy::Split.repeated(), Outcome::Responded(200));
        stats.count(1, ChosenBy::Client.repeated(), Outcome::Responded(500));
        let read = stats.read();
        assert_eq!((read.attempts(), read.failures()), (5, 4), "for users");
        let judged = (read.requests(), read.failed_requests());
        assert_eq!(judged, (2, 2), "for the verdict");
        assert_eq!(read.forced.responses.server_error, 1);
    }

    /// What is counted of a version of which others have 1,000 good responses, while so many clients
    /// that keep it have 1,000 failures together.
    fn beside_keepers(clients: u64) -> VersionStats {
        let stats = Stats::new(2);
        for number in 0..1_000 {
            let worker = (number % 2) as usize;
            stats.responded(worker, 200);
            let keeper = Keeper::of(crate::table::rendezvous::mix(number % clients));
            let outcome = match number % 3 {
                0 => Outcome::Responded(503),
                1 => Outcome::Failed(Failure::Timeout),
                _ => Outcome::Failed(Failure::Reset),
            };
            stats.count(worker, ChosenBy::Kept(keeper), outcome);
        }
        stats.read()
    }

    #[test]
    fn of_the_failures_of_a_client_that_keeps_its_version_the_first_counts() {
        let read = beside_keepers(1);
        let forced = read.forced.responses.total() + read.forced.failed_tries.total();
        assert_eq!((read.attempts(), read.failures(), forced), (1_001, 1, 999));
        let read = beside_keepers(1_000);
        assert!(read.failures() > 900, "{read:?}");
    }

    #[test]
    fn what_goes_well_of_a_client_that_keeps_its_version_counts() {
        let stats = Stats::new(1);
        for outcome in [Outcome::Responded(200), Outcome::Responded(404)] {
            for _ in 0..500 {
                stats.count(0, ChosenBy::Kept(Keeper::of(1)), outcome);
            }
        }
        stats.count(0, ChosenBy::Kept(Keeper::of(1)), Outcome::ClientGone);
        let read = stats.read();
        let forced = OutcomeStats::default();
        assert_eq!(
            (read.attempts(), read.client_gone, read.forced),
            (1_000, 1, forced)
        );
    }
}
