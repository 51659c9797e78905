//! The table and what is wanted behind it, as one process tells another; and what that one counts
//! in return. The releases of the two may differ: unknown fields are passed over, and a service
//! that cannot be read is left as it was.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use admin_api::{HoldSpec, ServiceSpec};
use serde::{Deserialize, Serialize};

use crate::table::counts::elsewhere::ProcessId;
use crate::table::counts::figures::{
    EndpointFigures, HoldFigures, MirrorFigures, ProcessFigures, VersionFigures,
};
use crate::table::endpoint_id::EndpointId;
use crate::table::snapshot::EndpointPicture;
use crate::table::timeouts::Timeouts;

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
    /// Versions that have no endpoint any more, and counts.
    #[serde(default)]
    pub(crate) departed: Vec<String>,
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
