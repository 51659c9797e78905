//! What a client waits for before it sends a body.

use http::Version;

use crate::wire::head::{Known, Message};

/// What a client expects before it sends the body of its request (RFC 9110, 10.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// Nothing, or nothing any more: it was told to go on by the proxy.
    Nothing,
    /// A 100.
    GoAhead,
    /// A 100, but it has not waited for that.
    BodyCame,
}

impl Expectation {
    /// What the client of a request expects, which `has_body` or not.
    pub(crate) fn of(request: Message<'_>, has_body: bool) -> Self {
        let expects = has_body
            && request.version() != Version::HTTP_10
            && request.has(Known::Expect, "100-continue");
        if expects {
            Self::GoAhead
        } else {
            Self::Nothing
        }
    }
}
