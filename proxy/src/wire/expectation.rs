//! What a client waits for before it sends a body.

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
