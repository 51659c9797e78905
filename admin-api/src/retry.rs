//! When a request is sent again, to another endpoint.

use serde::{Deserialize, Serialize};

use crate::strict::InputError;
use crate::traffic::Setting;

/// What makes the proxy send a request again, to another endpoint, and how often.
///
/// Whatever is said here, a request that is not idempotent (RFC 9110, 9.2.2) is sent again only if
/// nothing of it was sent, or its endpoint says that it has not looked at it; and one whose
/// connection broke after the whole of it was sent is repeated at most once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySpec {
    /// The causes. Default `connect` and `reset`.
    pub on: Vec<RetryOn>,
    /// Attempts of one request, the first among them, 1 to 5. Default 3.
    pub attempts: u8,
}

/// Why a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetryOn {
    /// No connection could be made.
    Connect,
    /// The connection broke without a response, or what came was none.
    Reset,
    /// There was no response in time.
    Timeout,
    /// The response has status 502.
    #[serde(rename = "502")]
    BadGateway,
    /// The response has status 503.
    #[serde(rename = "503")]
    ServiceUnavailable,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self {
            on: vec![RetryOn::Connect, RetryOn::Reset],
            attempts: 3,
        }
    }
}

impl RetrySpec {
    /// Attempts of one request.
    pub const MAX_ATTEMPTS: u8 = 5;

    /// Whether the service says nothing else.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Setting for RetrySpec {
    fn check(&self) -> Result<(), InputError> {
        let (attempts, most) = (self.attempts, Self::MAX_ATTEMPTS);
        if !(1..=most).contains(&attempts) {
            let message = format!("{attempts} is out of range: from 1 (no retries) to {most}");
            return Err(InputError::of_field("attempts", message));
        }
        for (at, cause) in self.on.iter().enumerate() {
            if self.on[..at].contains(cause) {
                return Err(InputError::of_field(format!("on[{at}]"), "is listed twice"));
            }
        }
        Ok(())
    }
}
