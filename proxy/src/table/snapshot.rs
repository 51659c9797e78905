//! An endpoint as one process tells another of it.

use serde::{Deserialize, Serialize};

use crate::table::endpoint_id::EndpointId;
use crate::wire::address::SocketAddress;

/// An endpoint, and what is known of its health.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EndpointSnapshot {
    pub(crate) id: EndpointId,
    pub(crate) version: String,
    pub(crate) address: String,
    pub(crate) target: SocketAddress,
    pub(crate) retired: bool,
    /// Of its whole weight, by its health check.
    pub(crate) share: u32,
    pub(crate) proven: bool,
    #[serde(default)]
    pub(crate) unreachable: bool,
    pub(crate) reason: Option<String>,
    pub(crate) ejected: Option<String>,
}
