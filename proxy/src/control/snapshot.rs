//! The table and what is wanted behind it, as one process tells another; and what that one counts
//! in return. The releases of the two may differ: unknown fields are passed over, and a service
//! that cannot be read is left as it was.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use admin_api::{HoldSpec, ServiceSpec};
use serde::{Deserialize, Serialize};

use crate::table::cookie_key::CookieKey;
use crate::table::counts::remote::ProcessId;
use crate::table::counts::values::{
    EndpointCounts, HoldCounts, MirrorCounts, ProcessCounts, VersionCounts, WaitCounts,
};
use crate::table::endpoint_id::EndpointId;
use crate::table::snapshot::EndpointSnapshot;
use crate::table::timeouts::Timeouts;

/// A table, as far as it has changed since the previous snapshot, and the desired state behind it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandoverSnapshot {
    pub(crate) generation: u64,
    pub(crate) timeouts: TimeoutsSnapshot,
    /// Of sticky cookies. A process of the release before has none.
    #[serde(default)]
    pub(crate) cookie_key: Option<CookieKey>,
    /// Every service there is.
    pub(crate) names: Vec<String>,
    /// Those that have changed: [`ServiceSnapshot`], read one by one.
    pub(crate) services: BTreeMap<String, serde_json::Value>,
    /// What the config file has and the admin API took away.
    pub(crate) taken_away: BTreeMap<String, ServiceSpec>,
    pub(crate) resolved: BTreeMap<String, Vec<IpAddr>>,
    /// Endpoints that are retired and not known to be drained.
    pub(crate) retired: Vec<EndpointId>,
    /// Drains under way and done, for a process that begins with this snapshot.
    pub(crate) drains: Vec<DrainSnapshot>,
    /// The first number that no endpoint has.
    pub(crate) next_endpoint: EndpointId,
    /// The receiver takes the active process's place if that dies.
    #[serde(rename = "is_heir")]
    pub(crate) is_standby: bool,
    /// The other draining processes, of which the standby has to wait for a report.
    pub(crate) others: Vec<ProcessId>,
}

/// A service, and who wants it so.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServiceSnapshot {
    pub(crate) spec: ServiceSpec,
    pub(crate) file: Option<ServiceSpec>,
    pub(crate) by_admin: bool,
    /// Versions and addresses that were drained.
    pub(crate) drained: Vec<(String, String)>,
    pub(crate) hold: Option<HoldSpec>,
    pub(crate) endpoints: Vec<EndpointSnapshot>,
    /// Versions that have no endpoint any more, and counts.
    #[serde(default)]
    pub(crate) departed: Vec<String>,
}

/// A drain.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DrainSnapshot {
    pub(crate) service: String,
    pub(crate) endpoint: EndpointSnapshot,
    /// From now until its requests are cut, its streams and its upgraded connections.
    pub(crate) cut_requests_in: Option<Duration>,
    #[serde(default)]
    pub(crate) cut_streams_in: Option<Duration>,
    pub(crate) cut_upgraded_in: Option<Duration>,
    pub(crate) drained_since: Option<Duration>,
}

/// [`Timeouts`] on the wire.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct TimeoutsSnapshot {
    header: Duration,
    keep_alive: Duration,
    connect: Duration,
    /// Before there were these, there was `connect` alone.
    #[serde(default = "default_failover")]
    connect_failover: Duration,
    #[serde(default)]
    connect_hedge: Option<Duration>,
    #[serde(default = "default_wait")]
    wait_for_endpoint: Option<Duration>,
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

fn default_failover() -> Duration {
    Timeouts::default().connect_failover
}

fn default_wait() -> Option<Duration> {
    Timeouts::default().wait_for_endpoint
}

/// What an older process counts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) process: ProcessCounts,
    pub(crate) services: BTreeMap<String, BTreeMap<String, VersionCounts>>,
    pub(crate) endpoints: BTreeMap<EndpointId, EndpointCounts>,
    /// By service, as those that follow.
    #[serde(default)]
    pub(crate) mirrors: BTreeMap<String, MirrorCounts>,
    #[serde(default)]
    pub(crate) holds: BTreeMap<String, HoldCounts>,
    #[serde(default)]
    pub(crate) waits: BTreeMap<String, WaitCounts>,
    /// The process ends: nothing comes after this.
    pub(crate) last: bool,
}

impl From<&Timeouts> for TimeoutsSnapshot {
    fn from(timeouts: &Timeouts) -> Self {
        let Timeouts {
            header,
            keep_alive,
            connect,
            connect_failover,
            connect_hedge,
            wait_for_endpoint,
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
            connect_failover,
            connect_hedge,
            wait_for_endpoint,
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

impl From<TimeoutsSnapshot> for Timeouts {
    fn from(snapshot: TimeoutsSnapshot) -> Self {
        let TimeoutsSnapshot {
            header,
            keep_alive,
            connect,
            connect_failover,
            connect_hedge,
            wait_for_endpoint,
            first_byte,
            request,
            body_idle,
            drain,
            stream,
            upgraded,
            resolve,
        } = snapshot;
        Self {
            header,
            keep_alive,
            connect,
            connect_failover,
            connect_hedge,
            wait_for_endpoint,
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
