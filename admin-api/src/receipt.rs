//! Drain receipts: the proof that a container may be stopped.

use serde::{Deserialize, Serialize};

/// What `POST /v1/services/{name}/drain` takes: a version, an endpoint, or an endpoint of a
/// version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Drain only endpoints of this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Drain only the endpoint with this address, as it was given in the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// What a drain has come to. With `drained: true` nothing is in flight, and nothing will be:
/// the container behind it can be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainReceipt {
    /// The service.
    pub service: String,
    /// Every endpoint is retired and has nothing in flight.
    pub drained: bool,
    /// At least one endpoint got there by time-out: something was cut.
    pub forced: bool,
    /// One entry for each endpoint that the drain covers.
    pub endpoints: Vec<EndpointReceipt>,
}

/// One endpoint's part of a [`DrainReceipt`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointReceipt {
    /// The address as it was given.
    pub address: String,
    /// The version it served.
    pub version: String,
    /// It is retired and has nothing in flight.
    pub drained: bool,
    /// Requests that are still in flight.
    pub in_flight: u64,
    /// Of these, the streams: their responses have begun and go on without a length (server-sent
    /// events, gRPC).
    #[serde(default)]
    pub streams: u64,
    /// Upgraded (WebSocket) connections that are still open.
    pub upgraded: u64,
    /// How old the oldest of what is still in flight is.
    #[serde(default, skip_serializing_if = "Oldest::is_empty")]
    pub oldest: Oldest,
    /// What had to be cut at a time-out.
    pub cut: Cut,
}

/// The age of the oldest that is in flight, by kind, in milliseconds. Absent where nothing of the
/// kind is, and where a worker of the proxy is too busy to say so in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oldest {
    /// Since the request was sent to the endpoint; of requests that are no streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_ms: Option<u64>,
    /// Of streams, since the request was sent to the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams_ms: Option<u64>,
    /// Since the request was sent that asked for the upgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgraded_ms: Option<u64>,
}

impl Oldest {
    /// Whether no age is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What was cut when a drain ran out of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Requests cut at `timeouts.drain`.
    pub requests: u64,
    /// Streams cut at `timeouts.stream`.
    #[serde(default)]
    pub streams: u64,
    /// Upgraded connections cut at `timeouts.upgraded`.
    pub upgraded: u64,
}

impl Cut {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.requests + self.streams + self.upgraded
    }
}
