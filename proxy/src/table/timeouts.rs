//! How long things may take.

use std::time::Duration;

/// How long things may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// From a request's first byte until its head is whole.
    pub(crate) header: Duration,
    /// From a response's end until the first byte of the client's next request.
    pub(crate) keep_alive: Duration,
    pub(crate) connect: Duration,
    /// From the end of a request until the head of its response.
    pub(crate) first_byte: Duration,
    /// From the head of a request until the head of its response, over all tries; `None`: as long
    /// as the others allow.
    pub(crate) request: Option<Duration>,
    /// Without any progress of a body, in either direction.
    pub(crate) body_idle: Duration,
    /// From a drain's start until what is left of requests is cut.
    pub(crate) drain: Duration,
    /// From a drain's start until streams are cut, if that is later; `None`: never.
    pub(crate) stream: Option<Duration>,
    /// From a drain's start until upgraded connections are cut; `None`: never.
    pub(crate) upgraded: Option<Duration>,
    /// From one look-up of an endpoint's name to the next.
    pub(crate) resolve: Duration,
}

impl Timeouts {
    /// How long anything may stay that is in flight; `None`: for ever.
    pub(crate) fn longest(&self) -> Option<Duration> {
        let (stream, upgraded) = (self.stream?, self.upgraded?);
        Some(self.drain.max(stream).max(upgraded))
    }
}
