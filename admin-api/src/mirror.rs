//! Copies of requests to a version that has to prove itself before it serves any client.

use serde::{Deserialize, Serialize};

use crate::{Bucket, FailedAttempts, Responses};

/// Copies of requests that also go to another version, whose responses no client gets.
///
/// Only what is safe is copied (RFC 9110, 9.2.1): GET and HEAD without a body. A copy neither
/// delays its original nor fails it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorSpec {
    /// The version that gets the copies. It has to have endpoints; its weight may be 0.
    pub version: String,
    /// So many of a hundred requests are copied, 1 to 100. Default 100.
    #[serde(default = "MirrorSpec::all")]
    pub percent: u8,
    /// At most so many copies at a time; what would be more is not copied, and counted as
    /// dropped. Default 100.
    #[serde(default = "MirrorSpec::many")]
    pub max_in_flight: u32,
}

impl MirrorSpec {
    /// A copy of each request that may be copied.
    pub fn of(version: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            percent: Self::all(),
            max_in_flight: Self::many(),
        }
    }

    const fn all() -> u8 {
        100
    }

    const fn many() -> u32 {
        100
    }
}

/// The figures of a service's copies, beside those of the very requests that were copied.
/// Cumulative since the copying to this version began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MirrorStats {
    /// The version that got the copies.
    pub version: String,
    /// What came of the copies. Nothing of it is in the version's own figures.
    pub copies: CopyStats,
    /// What clients got for the same requests, from whichever version had them.
    pub originals: CopyStats,
    /// Requests that were not copied, since there were `max_in_flight` copies already, or
    /// nothing of the version was up.
    pub dropped: u64,
}

/// What came of requests of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CopyStats {
    /// Responses by status class.
    pub responses: Responses,
    /// Those that failed, by cause.
    pub failed_tries: FailedAttempts,
    /// From their start to the head of their response.
    pub latency: Vec<Bucket>,
}
