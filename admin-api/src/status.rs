//! The proxy as a whole, and its errors.

use serde::{Deserialize, Serialize};

/// The response to `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The proxy's release.
    pub version: String,
    /// The number of this process, drawn at its start: another process has another.
    #[serde(default)]
    pub process: String,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// The generation of the current table.
    pub generation: u64,
    /// Worker threads.
    pub workers: usize,
    /// Services in the present table.
    pub services: usize,
    /// Open client connections.
    pub connections: u64,
    /// Older processes of the proxy that still finish what they have. Figures include theirs.
    #[serde(default)]
    pub draining_processes: usize,
    /// Deprecated, and gone in the next release: the same number under its old name.
    #[serde(default)]
    pub elders: usize,
    /// Whether a process waits to take this one's place; `None` from a release that knows no such
    /// process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby: Option<bool>,
    /// Services of which nothing is up: their requests are tried anyway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_panic: Vec<String>,
    /// Versions of which nothing is up, as `service/version`: their share goes to the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions_down: Vec<String>,
    /// It has been told to stop and finishes what is in flight.
    pub stopping: bool,
}

/// The response to `GET /v1/changes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Stands for the present table and the health of its endpoints: another one for others.
    pub at: String,
}

/// The body of every response of class 4xx and 5xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong, for programs (`code`, `field`) and for people (`message`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// A stable word: `unknown_service`, `unknown_version`, `bad_request`, `conflict`,
    /// `generation_mismatch`, `unauthorized`, `forbidden`, `not_found`, `too_large`, `handed_over`,
    /// `internal`.
    pub code: String,
    /// A sentence that says what would be right.
    pub message: String,
    /// The field it is about, such as `split."2.0.0"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}
