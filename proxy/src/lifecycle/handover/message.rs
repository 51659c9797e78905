//! What two processes of the proxy say to each other. The releases of the two may differ: unknown
//! fields are passed over, and a service that cannot be read is left as it was.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use admin_api::{FailedTries, HoldSpec, Responses, ServiceSpec, VersionStats};
use serde::{Deserialize, Serialize};

use crate::config::Timeouts;
use crate::table::counts::age::Ages;
use crate::table::counts::elsewhere::{Figures, ProcessId};
use crate::table::endpoint::EndpointId;

/// Raised when a release could misunderstand an older one.
pub(crate) const FORMAT: u32 = 1;

/// The first word of whoever connects.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) format: u32,
    pub(crate) release: String,
    /// The number of an elder that looks for its owner; nobody's who wants to take over.
    #[serde(default)]
    pub(crate) elder: Option<ProcessId>,
}

/// What a predecessor answers. With [`Offer::Sockets`] come the sockets, one for each label.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Offer {
    Sockets {
        process: ProcessId,
        labels: Vec<Label>,
    },
    Refused(String),
}

/// What a socket is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Label {
    pub(crate) role: Role,
    /// As the config file has it.
    pub(crate) configured: String,
    /// Where it listens, if that is an address.
    pub(crate) actual: Option<SocketAddr>,
}

/// Who is served by a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    Clients,
    Admin,
    Handover,
}

/// The successor has everything that it needs but the table: from now on nothing is to change.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Prepared;

/// The successor has the table and accepts connections.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// The client sockets that it goes on with, by address.
    pub(crate) kept: Vec<SocketAddr>,
    /// Where its admin API is.
    pub(crate) admin: Option<String>,
}

/// From now on the table is the successor's. So many links to older processes follow.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Yours {
    pub(crate) elders: Vec<ProcessId>,
}

/// What the owner of the table tells an older process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Telling {
    /// The table, as far as it has changed. Answered with a [`Report`].
    Picture(Box<Picture>),
    /// The owner is told to stop: nobody is to take its place.
    Stopping,
}

/// A table, as far as it has changed since the picture before, and what is wanted behind it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Picture {
    pub(crate) generation: u64,
    pub(crate) timeouts: TimeoutsPicture,
    /// Every service there is.
    pub(crate) names: Vec<String>,
    /// Those that have changed: [`ServicePicture`], read one by one.
    pub(crate) services: BTreeMap<String, serde_json::Value>,
    /// What the config file has and the admin API took away.
    pub(crate) taken_away: BTreeMap<String, ServiceSpec>,
    pub(crate) resolved: BTreeMap<String, Vec<IpAddr>>,
    /// Endpoints that are retired and not known to be drained.
    pub(crate) retired: Vec<EndpointId>,
    /// Drains under way and done, for whoever begins with this picture.
    pub(crate) drains: Vec<DrainPicture>,
    /// The first number that no endpoint has.
    pub(crate) next_endpoint: EndpointId,
    /// Whoever gets this takes the owner's place if that dies.
    pub(crate) is_heir: bool,
    /// The other elders, of which the heir has to wait for a word.
    pub(crate) others: Vec<ProcessId>,
}

/// A service, and who wants it so.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServicePicture {
    pub(crate) spec: ServiceSpec,
    pub(crate) file: Option<ServiceSpec>,
    pub(crate) by_admin: bool,
    /// Versions and addresses that were drained.
    pub(crate) drained: Vec<(String, String)>,
    pub(crate) hold: Option<HoldSpec>,
    pub(crate) endpoints: Vec<EndpointPicture>,
}

/// An endpoint, and what is known of its health.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EndpointPicture {
    pub(crate) id: EndpointId,
    pub(crate) version: String,
    pub(crate) address: String,
    pub(crate) target: SocketAddr,
    pub(crate) retired: bool,
    /// Of its whole weight, by its health check.
    pub(crate) share: u32,
    pub(crate) proven: bool,
    pub(crate) reason: Option<String>,
    pub(crate) ejected: Option<String>,
}

/// A drain.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DrainPicture {
    pub(crate) service: String,
    pub(crate) endpoint: EndpointPicture,
    /// From now until its requests are cut, its streams and its upgraded connections.
    pub(crate) cut_requests_in: Option<Duration>,
    #[serde(default)]
    pub(crate) cut_streams_in: Option<Duration>,
    pub(crate) cut_upgraded_in: Option<Duration>,
    pub(crate) drained_since: Option<Duration>,
}

/// [`Timeouts`] on the wire.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct TimeoutsPicture {
    header: Duration,
    keep_alive: Duration,
    connect: Duration,
    first_byte: Duration,
    #[serde(default)]
    request: Option<Duration>,
    body_idle: Duration,
    drain: Duration,
    #[serde(default)]
    stream: Option<Duration>,
    upgraded: Option<Duration>,
    resolve: Duration,
}

/// What an older process counts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) process: ProcessFigures,
    pub(crate) services: BTreeMap<String, BTreeMap<String, VersionFigures>>,
    pub(crate) endpoints: BTreeMap<EndpointId, EndpointFigures>,
    /// By service, as the two that follow.
    #[serde(default)]
    pub(crate) mirrors: BTreeMap<String, MirrorFigures>,
    #[serde(default)]
    pub(crate) holds: BTreeMap<String, HoldFigures>,
    /// The process ends: nothing comes after this.
    pub(crate) last: bool,
}

/// What belongs to no version.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ProcessFigures {
    pub(crate) connections: u64,
    pub(crate) accepted: u64,
    pub(crate) handshakes_failed: u64,
    #[serde(default)]
    pub(crate) waited: u64,
    #[serde(default)]
    pub(crate) turned_away: u64,
    /// By [`crate::wire::reply::Refusal::label`].
    pub(crate) refused: BTreeMap<String, u64>,
}

/// What is counted of one version.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct VersionFigures {
    pub(crate) stats: VersionStats,
    pub(crate) latency_sum_micros: u64,
}

/// What is counted of a service's copies, to this version.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MirrorFigures {
    pub(crate) version: String,
    pub(crate) copies: VersionFigures,
    pub(crate) originals: VersionFigures,
    pub(crate) dropped: Dropped,
}

/// Requests that were not copied.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Dropped(pub(crate) u64);

/// What is counted of a service that is held.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct HoldFigures {
    pub(crate) waiting: u64,
    pub(crate) refused: u64,
}

/// What is counted of one endpoint.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct EndpointFigures {
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

impl EndpointFigures {
    /// Retired, and nothing in flight: it stays so.
    pub(crate) fn is_drained(self) -> bool {
        self.retired && self.requests == 0 && self.upgraded == 0
    }
}

impl From<&Timeouts> for TimeoutsPicture {
    fn from(timeouts: &Timeouts) -> Self {
        let Timeouts {
            header,
            keep_alive,
            connect,
            first_byte,
            request,
            body_idle,
            drain,
            stream,
            upgraded,
            resolve,
        } = *timeouts;
        Self {
            header,
            keep_alive,
            connect,
            first_byte,
            request,
            body_idle,
            drain,
            stream,
            upgraded,
            resolve,
        }
    }
}

impl From<TimeoutsPicture> for Timeouts {
    fn from(picture: TimeoutsPicture) -> Self {
        let TimeoutsPicture {
            header,
            keep_alive,
            connect,
            first_byte,
            request,
            body_idle,
            drain,
            stream,
            upgraded,
            resolve,
        } = picture;
        Self {
            header,
            keep_alive,
            connect,
            first_byte,
            request,
            body_idle,
            drain,
            stream,
            upgraded,
            resolve,
        }
    }
}

impl Figures for EndpointFigures {
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

    fn settle(&mut self) {
        (self.requests, self.streams, self.upgraded) = (0, 0, 0);
        self.ages = Ages::default();
    }
}

impl Figures for Dropped {
    fn add(&mut self, other: &Self) {
        self.0 += other.0;
    }

    fn settle(&mut self) {}
}

impl Figures for HoldFigures {
    fn add(&mut self, other: &Self) {
        self.waiting += other.waiting;
        self.refused += other.refused;
    }

    fn settle(&mut self) {
        self.waiting = 0;
    }
}

impl Figures for ProcessFigures {
    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.accepted += other.accepted;
        self.handshakes_failed += other.handshakes_failed;
        self.waited += other.waited;
        self.turned_away += other.turned_away;
        for (reason, count) in &other.refused {
            *self.refused.entry(reason.clone()).or_default() += count;
        }
    }

    fn settle(&mut self) {
        self.connections = 0;
    }
}

impl Figures for VersionFigures {
    fn add(&mut self, other: &Self) {
        self.latency_sum_micros = self
            .latency_sum_micros
            .saturating_add(other.latency_sum_micros);
        let (own, other) = (&mut self.stats, &other.stats);
        let Responses {
            informational,
            success,
            redirection,
            client_error,
            server_error,
        } = other.responses;
        own.responses.informational += informational;
        own.responses.success += success;
        own.responses.redirection += redirection;
        own.responses.client_error += client_error;
        own.responses.server_error += server_error;
        let FailedTries {
            connect,
            reset,
            timeout,
            protocol,
            body,
        } = other.failed_tries;
        own.failed_tries.connect += connect;
        own.failed_tries.reset += reset;
        own.failed_tries.timeout += timeout;
        own.failed_tries.protocol += protocol;
        own.failed_tries.body += body;
        own.client_gone += other.client_gone;
        own.diverted += other.diverted;
        own.panicked += other.panicked;
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
    fn settle(&mut self) {}
}

#[cfg(test)]
mod tests {
    use admin_api::Bucket;

    use super::*;

    #[test]
    fn histograms_are_summed_bucket_by_bucket() {
        let of = |buckets: &[(f64, u64)]| VersionFigures {
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
}
