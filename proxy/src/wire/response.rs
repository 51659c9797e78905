//! What an endpoint responds, as far as its head says it.

use crate::wire::h1::body::Framing;
use crate::wire::h1::head::BadHead;
use crate::wire::reply::LocalReply;

/// The head of a response was read: it is the first so many bytes of the inbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseHead {
    pub(crate) length: usize,
    pub(crate) status: u16,
    pub(crate) framing: Framing,
}

/// Why there is no head of a response.
#[derive(Debug)]
pub(crate) enum NoResponse {
    /// The connection broke, or was closed. `silently`: without a byte of a response.
    Broken { silently: bool },
    /// The endpoint has not looked at the request, and says so (RFC 9113, 8.7): it was about to
    /// close the connection, or `is_refused` for its own reasons.
    Unprocessed { is_refused: bool },
    /// What came is not the head of a response.
    Bad,
    /// The request cannot be sent over the endpoint's wire, and nothing of it was.
    Unfit(LocalReply),
}

impl From<BadHead> for NoResponse {
    fn from(_: BadHead) -> Self {
        Self::Bad
    }
}
