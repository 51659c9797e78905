//! How far a request has come, as the access log has it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::access_log::termination::Phase;
use crate::forward::Exchange;
use crate::table::endpoint_id::EndpointId;

/// How far a request has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) phase: Phase,
    /// How long connections took that were made for it.
    pub(crate) connecting: Duration,
    /// Bytes of the response's body that its client was sent.
    sent: Cell<u64>,
}

impl Progress {
    /// A connection is made from now on.
    pub(super) fn connects(&mut self) -> Instant {
        self.phase = Phase::Connect;
        Instant::now()
    }

    /// A connection was made since then, or could not be.
    pub(super) fn has_connected(&mut self, began: Instant) {
        self.connecting += began.elapsed();
    }

    /// So many bytes of the response's body were sent.
    pub(super) fn has_sent(&self, bytes: u64) {
        self.sent.set(bytes);
    }

    /// Bytes of the response's body that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.get()
    }
}

impl Exchange {
    /// The id of the request, where its service has one for it.
    pub(crate) fn request_id(&self) -> Option<&[u8]> {
        self.filtered.as_ref()?.request_id()
    }

    /// The name of its service.
    pub(crate) fn service_name(&self) -> &str {
        &self.service().definition.name
    }

    /// How many attempts were made, and the endpoint of the last one.
    pub(crate) fn attempts(&self) -> (usize, EndpointId) {
        (self.attempts, self.attempted[self.attempts - 1])
    }
}
