//! What is counted of one thing, at one moment: added over processes, and passed on between them.

use std::collections::BTreeMap;

use admin_api::VersionStats;
use serde::{Deserialize, Serialize};

use super::age::Ages;
use super::remote::Counts;
use crate::wire::reply::LocalReply;

/// What belongs to no version.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ProcessCounts {
    pub(crate) connections: u64,
    pub(crate) accepted: u64,
    pub(crate) handshakes_failed: u64,
    #[serde(default)]
    pub(crate) waited: u64,
    #[serde(default)]
    pub(crate) turned_away: u64,
    /// Of the access log.
    #[serde(default)]
    pub(crate) lost_lines: u64,
    #[serde(default)]
    pub(crate) streams_refused: u64,
    #[serde(default)]
    pub(crate) buffered: BufferedCounts,
    /// By [`crate::wire::reply::LocalReply::label`].
    pub(crate) refused: BTreeMap<String, u64>,
}

/// Bytes of memory in which something waits for the slower side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BufferedCounts {
    /// Bodies that are read ahead.
    pub(crate) bodies: u64,
    /// Responses that clients of HTTP/2 have no window for.
    pub(crate) responses: u64,
    /// Requests over HTTP/2 that wait for their turn.
    pub(crate) requests: u64,
}

/// What is counted of one version.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct VersionCounts {
    pub(crate) stats: VersionStats,
    pub(crate) latency_sum_micros: u64,
}

/// What is counted of a service's copies, to this version.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MirrorCounts {
    pub(crate) version: String,
    pub(crate) copies: VersionCounts,
    pub(crate) originals: VersionCounts,
    pub(crate) dropped: Dropped,
}

/// Requests that were not copied.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Dropped(pub(crate) u64);

/// What is counted of a service that is held.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct HoldCounts {
    pub(crate) waiting: u64,
    pub(crate) refused: u64,
}

/// What is counted of a service's requests that find no endpoint up.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct WaitCounts {
    pub(crate) waiting: u64,
    pub(crate) waited: u64,
    pub(crate) refused: u64,
}

/// What is counted of one endpoint.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct EndpointCounts {
    /// No new claims are taken.
    pub(crate) retired: bool,
    /// Streams included.
    pub(crate) requests: u64,
    #[serde(default)]
    pub(crate) streams: u64,
    pub(crate) upgraded: u64,
    pub(crate) taken: u64,
    pub(crate) cut_requests: u64,
    #[serde(default)]
    pub(crate) cut_streams: u64,
    pub(crate) cut_upgraded: u64,
    #[serde(default)]
    pub(crate) ages: Ages,
}

impl EndpointCounts {
    /// Retired, and nothing in flight: it stays so.
    pub(crate) fn is_drained(self) -> bool {
        self.retired && self.requests == 0 && self.upgraded == 0
    }
}

impl Counts for EndpointCounts {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.streams += other.streams;
        self.upgraded += other.upgraded;
        self.taken += other.taken;
        self.cut_requests += other.cut_requests;
        self.cut_streams += other.cut_streams;
        self.cut_upgraded += other.cut_upgraded;
        self.ages.add(&other.ages);
    }

    fn clear_gauges(&mut self) {
        (self.requests, self.streams, self.upgraded) = (0, 0, 0);
        self.ages = Ages::default();
    }
}

impl Counts for Dropped {
    fn add(&mut self, other: &Self) {
        self.0 += other.0;
    }

    fn clear_gauges(&mut self) {}
}

impl Counts for HoldCounts {
    fn add(&mut self, other: &Self) {
        self.waiting += other.waiting;
        self.refused += other.refused;
    }

    fn clear_gauges(&mut self) {
        self.waiting = 0;
    }
}

impl Counts for WaitCounts {
    fn add(&mut self, other: &Self) {
        self.waiting += other.waiting;
        self.waited += other.waited;
        self.refused += other.refused;
    }

    fn clear_gauges(&mut self) {
        self.waiting = 0;
    }
}

impl Counts for ProcessCounts {
    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.accepted += other.accepted;
        self.handshakes_failed += other.handshakes_failed;
        self.waited += other.waited;
        self.turned_away += other.turned_away;
        self.lost_lines += other.lost_lines;
        self.streams_refused += other.streams_refused;
        self.buffered.bodies += other.buffered.bodies;
        self.buffered.responses += other.buffered.responses;
        self.buffered.requests += other.buffered.requests;
        for (reason, count) in &other.refused {
            // A process of the release before has other words for some reasons.
            let reason = LocalReply::present_label(reason).to_owned();
            *self.refused.entry(reason).or_default() += count;
        }
    }

    fn clear_gauges(&mut self) {
        self.connections = 0;
        self.buffered = BufferedCounts::default();
    }
}

impl Counts for VersionCounts {
    fn add(&mut self, other: &Self) {
        self.latency_sum_micros = self
            .latency_sum_micros
            .saturating_add(other.latency_sum_micros);
        let (own, other) = (&mut self.stats, &other.stats);
        own.responses.add(&other.responses);
        own.failed_tries.add(&other.failed_tries);
        own.client_gone += other.client_gone;
        own.diverted += other.diverted;
        own.panicked += other.panicked;
        own.repeated.add(&other.repeated);
        own.forced.add(&other.forced);
        for bucket in &other.latency {
            let place = own
                .latency
                .binary_search_by(|own| own.le.total_cmp(&bucket.le));
            match place {
                Ok(at) => own.latency[at].count += bucket.count,
                Err(at) => own.latency.insert(at, *bucket),
            }
        }
    }

    // What is in flight is the endpoints' to say.
    fn clear_gauges(&mut self) {}
}

#[cfg(test)]
mod tests {
    use admin_api::Bucket;

    use super::*;

    #[test]
    fn histograms_are_summed_bucket_by_bucket() {
        let of = |buckets: &[(f64, u64)]| VersionCounts {
            stats: VersionStats {
                latency: buckets
                    .iter()
                    .map(|(le, count)| Bucket {
                        le: *le,
                        count: *count,
                    })
                    .collect(),
                ..VersionStats::default()
            },
            latency_sum_micros: 5,
        };
        let mut sum = of(&[(0.1, 1), (0.3, 2)]);
        sum.add(&of(&[(0.1, 1), (0.2, 7), (0.4, 1)]));
        let want = of(&[(0.1, 2), (0.2, 7), (0.3, 2), (0.4, 1)]);
        assert_eq!(sum.stats, want.stats);
        assert_eq!(sum.latency_sum_micros, 10);
    }

    #[test]
    fn forced_requests_of_several_processes_are_summed_apart() {
        let mut counts = VersionCounts::default();
        counts.stats.forced.responses.server_error = 2;
        counts.stats.forced.client_gone = 1;
        counts.stats.repeated.responses.success = 3;
        let mut sum = counts.clone();
        sum.add(&counts);
        assert_eq!(sum.stats.forced.responses.server_error, 4);
        assert_eq!(sum.stats.repeated.responses.success, 6);
        assert_eq!((sum.stats.forced.client_gone, sum.stats.failures()), (2, 0));
    }
}
