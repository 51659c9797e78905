//! How a version's requests divide over its endpoints.

use serde::{Deserialize, Serialize};

/// A balancing policy, inside one version. Weights count in each of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BalanceSpec {
    /// In turn, smoothly: an endpoint's requests are spread over time. The default.
    #[default]
    RoundRobin,
    /// Of two endpoints drawn by weight, the one with less in flight for its weight.
    LeastInFlight,
    /// Always the same endpoint for the same key, as long as it is up. A request without the
    /// key is balanced in turn.
    Hash(HashKey),
}

impl BalanceSpec {
    /// Whether it is the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What of a request decides which endpoint it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashKey {
    /// The client's IP address.
    Address,
    /// The value of this header field.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
}
