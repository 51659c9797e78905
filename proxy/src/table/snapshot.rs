//! An endpoint as one process tells another of it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::table::endpoint_id::EndpointId;

/// An endpoint, and what is known of its health.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EndpointSnapshot {
    pub(crate) id: EndpointId,
    pub(crate) version: String,
    pub(crate) address: String,
    pub(crate) target: SocketAddr,
    pub(crate) retired: bool,
    /// Of its whole weight, by its health check.
    pub(crate) share: u32,
    pub(crate) proven: bool,
    #[serde(default)]
    pub(crate) unreachable: bool,
    pub(crate) reason: Option<String>,
    pub(crate) ejected: Option<String>,
}
