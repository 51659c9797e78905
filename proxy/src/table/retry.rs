//! When the requests of a service are sent again.

use admin_api::{RetryOn, RetrySpec};

/// A checked [`RetrySpec`], made ready for requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// A bit for each cause.
    causes: u8,
    /// Of one request, the first among them.
    pub(crate) attempts: usize,
}

impl RetryPolicy {
    pub(crate) fn new(spec: &RetrySpec) -> Self {
        let causes = spec.on.iter().map(|cause| bit(*cause));
        Self {
            causes: causes.fold(0, |all, one| all | one),
            attempts: spec.attempts.into(),
        }
    }

    /// Whether a request that failed for this is sent again.
    pub(crate) fn has(self, cause: RetryOn) -> bool {
        self.causes & bit(cause) != 0
    }

    /// Whether a request that got a response with this status is sent again.
    pub(crate) fn has_status(self, status: u16) -> bool {
        match status {
            502 => self.has(RetryOn::BadGateway),
            503 => self.has(RetryOn::ServiceUnavailable),
            _ => false,
        }
    }
}

fn bit(cause: RetryOn) -> u8 {
    1 << cause as u8
}
