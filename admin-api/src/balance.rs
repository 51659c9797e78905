//! How a version's requests divide over its endpoints.

use serde::{Deserialize, Deserializer, Serialize};

use crate::names::{check_cookie_name, header_name};
use crate::strict::InputError;
use crate::traffic::Setting;

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

impl Setting for BalanceSpec {
    fn check(&self) -> Result<(), InputError> {
        let (field, checked) = match self {
            Self::RoundRobin | Self::LeastInFlight | Self::Hash(HashKey::Address) => return Ok(()),
            Self::Hash(HashKey::Header(name)) => ("hash.header", header_name(name).map(drop)),
            Self::Hash(HashKey::Cookie(name)) => ("hash.cookie", check_cookie_name(name)),
        };
        checked.map_err(|message| InputError::of_field(field, message))
    }
}

/// What of a request decides which endpoint it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashKey {
    /// The client's IP address.
    Address,
    /// The value of this header field, whose name is in lower case.
    #[serde(deserialize_with = "lower_case")]
    Header(String),
    /// The value of this cookie.
    Cookie(String),
}

/// The name of a header field has no case.
fn lower_case<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|name| name.to_ascii_lowercase())
}
