//! The numbers of endpoints.

use crate::table::counts::sync::{AtomicU64, Ordering};

/// The number of an endpoint, never used twice: not by the process that takes over either.
pub(crate) type EndpointId = u64;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The first number that no endpoint has.
pub(crate) fn next_id() -> EndpointId {
    NEXT_ID.load(Ordering::Relaxed)
}

/// Numbers below this one are taken.
pub(crate) fn skip_ids(next: EndpointId) {
    NEXT_ID.fetch_max(next, Ordering::Relaxed);
}

/// Takes the next number.
pub(crate) fn take_id() -> EndpointId {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}
