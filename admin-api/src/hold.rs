//! Holding a service's new requests back for a while.

use serde::{Deserialize, Serialize};

use crate::Period;

/// What `POST /v1/services/{name}/hold` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HoldSpec {
    /// How long a request waits at most; then it gets a 503 and `Retry-After`.
    /// Default 30 s.
    pub max_hold: Period,
    /// How many requests wait at the same time; those beyond are refused at once.
    /// Default 10,000.
    pub max_waiting: u64,
}

impl Default for HoldSpec {
    fn default() -> Self {
        Self {
            max_hold: Period::from_secs(30),
            max_waiting: 10_000,
        }
    }
}

/// A service that is held, as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    /// How long a request waits at most.
    pub max_hold: Period,
    /// How many requests wait at the same time.
    pub max_waiting: u64,
    /// How many wait now.
    pub waiting: u64,
    /// How many were refused since the hold began: they waited too long, or there was no place.
    pub refused: u64,
}
