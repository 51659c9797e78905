//! What went wrong with a request, by its cause.

use std::fmt;

use serde::Serialize;

/// The causes that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No connection: refused, unreachable, no such name, or none within the timeout.
    Connect,
    /// The connection broke before the head of an answer.
    Reset,
    /// The body broke off before its promised end, or a WebSocket without a Close frame.
    Cut,
    /// No complete answer within the timeout.
    Stall,
    /// What came back is not HTTP (or WebSocket), or was not asked for.
    Protocol,
    /// A complete answer with a status of 500 or more.
    #[serde(rename = "http_5xx")]
    Http5xx,
    /// The server ended a WebSocket with a proper Close frame.
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

    /// Its name in lines and summaries.
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

/// A request without a complete answer, or a WebSocket that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it counts as.
    pub cause: Cause,
    /// What was seen, for people.
    pub detail: String,
}

impl Failure {
    pub(crate) fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self {
            cause,
            detail: detail.into(),
        }
    }

    /// With everything that an error says about its own causes.
    pub(crate) fn from_error(cause: Cause, error: &dyn std::error::Error) -> Self {
        let mut detail = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some errors repeat what their source says.
            if !detail.contains(&text) {
                detail.push_str(": ");
                detail.push_str(&text);
            }
            source = error.source();
        }
        Self { cause, detail }
    }
}
