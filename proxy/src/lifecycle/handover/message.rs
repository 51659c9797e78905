//! What two processes of the proxy say to each other. The releases of the two may differ: unknown
//! fields are passed over, and a service that cannot be read is left as it was.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::control::snapshot::HandoverSnapshot;
use crate::server::listeners::Label;
use crate::table::counts::remote::ProcessId;

/// Raised when a release could misunderstand an older one.
pub(crate) const FORMAT: u32 = 1;

/// The first message on a connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) format: u32,
    pub(crate) release: String,
    /// The number of a draining process that looks for the active one; `None` from a process that
    /// wants to take over.
    #[serde(default, rename = "elder")]
    pub(crate) draining_process: Option<ProcessId>,
}

/// A predecessor's reply. With [`Offer::Sockets`] come the sockets, one for each label.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Offer {
    Sockets {
        process: ProcessId,
        labels: Vec<Label>,
    },
    Refused(String),
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

/// From now on the table is the successor's. As many links to older processes follow.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Commit {
    #[serde(rename = "elders")]
    pub(crate) draining_processes: Vec<ProcessId>,
}

/// What the active process sends to a draining one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Update {
    /// The table, as far as it has changed. The draining process replies with a [`Report`].
    #[serde(rename = "Picture")]
    Snapshot(Box<HandoverSnapshot>),
    /// The active process is about to stop: no process is to take its place.
    Stopping,
}
