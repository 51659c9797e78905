//! Failures of requests, by cause.

use std::fmt;

use serde::Serialize;

/// The causes that are counted separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No connection: refused, unreachable, unknown name, or timed out.
    Connect,
    /// The connection broke before the response's head was complete.
    Reset,
    /// The body ended before its announced length, or a WebSocket ended without a Close frame.
    Cut,
    /// No complete response within the timeout.
    Stall,
    /// The bytes received are not HTTP (or WebSocket), or belong to no request.
    Protocol,
    /// A complete response with a status of 500 or more.
    #[serde(rename = "http_5xx")]
    Http5xx,
    /// The server ended a WebSocket with a Close frame.
    Closed,
}

impl Cause {
    /// Every cause, in the order in which a request can meet them.
    pub const ALL: [Self; 7] = [
        Self::Connect,
        Self::Reset,
        Self::Cut,
        Self::Stall,
        Self::Protocol,
        Self::Http5xx,
        Self::Closed,
    ];

    /// Its name in lines and in the summary.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Cut => "cut",
            Self::Stall => "stall",
            Self::Protocol => "protocol",
            Self::Http5xx => "http_5xx",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A request without a complete response, or a WebSocket that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The cause it is counted under.
    pub cause: Cause,
    /// What was observed, as text for people.
    pub detail: String,
}

impl Failure {
    pub(crate) fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self {
            cause,
            detail: detail.into(),
        }
    }

    /// Builds the detail from an error and the chain of its sources.
    pub(crate) fn from_error(cause: Cause, error: &dyn std::error::Error) -> Self {
        let mut detail = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some errors repeat the text of their source.
            if !detail.contains(&text) {
                detail.push_str(": ");
                detail.push_str(&text);
            }
            source = error.source();
        }
        Self { cause, detail }
    }
}
