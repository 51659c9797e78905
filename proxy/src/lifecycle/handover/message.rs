//! What two processes of the proxy say to each other. The releases of the two may differ: unknown
//! fields are passed over, and a service that cannot be read is left as it was.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use program::sockets::Label;
pub(crate) use program::sockets::{FORMAT, Hello};
use serde::{Deserialize, Serialize};

use crate::control::snapshot::HandoverSnapshot;
use crate::table::counts::remote::ProcessId;
use crate::wire::listener_id::ListenerId;
use crate::wire::tls::ListenerTickets;

/// A predecessor's reply. With [`Offer::Sockets`] come the sockets, one for each label.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Offer {
    Sockets {
        process: ProcessId,
        labels: Vec<Label>,
        /// The keys of TLS session tickets, by where the listener is.
        #[serde(default)]
        tickets: BTreeMap<SocketAddr, ListenerTickets>,
        /// Those of named listeners.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        named_tickets: BTreeMap<String, ListenerTickets>,
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
    /// The same, by id; `None` from a release that knows addresses only.
    #[serde(default)]
    pub(crate) listeners: Option<Vec<ListenerId>>,
    /// Where its admin API is.
    pub(crate) admin: Option<String>,
}

impl Ready {
    pub(crate) fn kept_listeners(&self) -> Vec<ListenerId> {
        let by_address = || self.kept.iter().copied().map(ListenerId::Address).collect();
        self.listeners.clone().unwrap_or_else(by_address)
    }
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
