//! The figures of a version: what came between two readings of the proxy's counters.

use std::time::Duration;

use admin_api::{Bucket, VersionStats};
use serde::{Deserialize, Serialize};

use super::evidence::{Share, ratio};
use crate::renamed;

/// From so many responses on, it is known what is slow for stable.
pub(super) const RESPONSES_FOR_P99: u64 = 1000;
/// Bounds of buckets that differ by less are the same bound, read twice.
const SAME: f64 = 1.0 + 1e-9;

/// What came of the requests to one version in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that ended, each once, whatever its attempts.
    #[serde(rename = "tries")]
    pub attempts: u64,
    /// Those that count against the version: their first attempts failed.
    pub failures: u64,
    /// How fast it responded, since it had warmed up.
    #[serde(default)]
    pub latency: Latency,
}

/// How fast a version responded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Responses whose time is known.
    #[serde(flatten, with = "renamed::responses")]
    pub responses: u64,
    /// Those that took longer than stable's p99 was before the window.
    pub slow: u64,
    /// Those that took longer than `latency_p99`.
    pub over_limit: u64,
    /// 99 of 100 took at most this long, in microseconds; absent without responses.
    pub p99_us: Option<u64>,
}

/// What counts as too long, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Stable's p99 before the window. `None`: it has had too few responses to know.
    pub slow: Option<f64>,
    /// `latency_p99`.
    pub limit: f64,
}

impl Bounds {
    /// With the p99 that stable has had since it came into the proxy's table.
    pub fn new(stable: &VersionStats, limit: Duration) -> Self {
        let responses: u64 = stable.latency.iter().map(|bucket| bucket.count).sum();
        Self {
            slow: (responses >= RESPONSES_FOR_P99)
                .then(|| p99(&stable.latency))
                .flatten(),
            limit: limit.as_secs_f64(),
        }
    }
}

impl Counts {
    /// What came between two readings; latency is counted from `warm` on, a reading in between.
    /// `None` when a counter went backwards, which is a proxy that has started again.
    pub fn between(
        opened: &VersionStats,
        warm: Option<&VersionStats>,
        now: &VersionStats,
        bounds: Bounds,
    ) -> Option<Self> {
        let attempts = now.requests().checked_sub(opened.requests())?;
        let failed = now.failed_requests();
        let failures = failed.checked_sub(opened.failed_requests())?;
        let buckets = since(&warm.unwrap_or(opened).latency, &now.latency)?;
        let latency = match warm {
            Some(_) => Latency::of(&buckets, bounds),
            None => Latency::default(),
        };
        (failures <= attempts).then_some(Self {
            attempts,
            failures,
            latency,
        })
    }

    /// In percent; `None` without attempts.
    pub fn success_rate(self) -> Option<f64> {
        self.failed().rate().map(|failed| 100.0 * (1.0 - failed))
    }

    /// The failures among the attempts.
    pub fn failed(self) -> Share {
        Share {
            part: self.failures,
            whole: self.attempts,
        }
    }
}

impl Latency {
    fn of(buckets: &[Bucket], bounds: Bounds) -> Self {
        let over = |bound: f64| {
            let over = buckets.iter().filter(|bucket| bucket.le > bound * SAME);
            over.map(|bucket| bucket.count).sum()
        };
        Self {
            responses: buckets.iter().map(|bucket| bucket.count).sum(),
            slow: bounds.slow.map_or(0, over),
            over_limit: over(bounds.limit),
            p99_us: p99(buckets)
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .and_then(|p99| u64::try_from(p99.as_micros()).ok()),
        }
    }

    /// Those that took longer than stable's p99 was.
    pub fn slow(self) -> Share {
        Share {
            part: self.slow,
            whole: self.responses,
        }
    }

    /// Those that took longer than `latency_p99`.
    pub fn over_limit(self) -> Share {
        Share {
            part: self.over_limit,
            whole: self.responses,
        }
    }

    /// `812 ms`.
    pub(super) fn p99_text(self) -> String {
        self.p99_us
            .map_or("-".into(), |us| millis(ratio(us, 1_000_000)))
    }
}

/// `812 ms`, `3.4 ms`.
pub(super) fn millis(seconds: f64) -> String {
    let millis = seconds * 1000.0;
    match millis {
        m if m >= 10.0 => format!("{m:.0} ms"),
        m => format!("{m:.1} ms"),
    }
}

/// The buckets' counts since `before`; `None` when one went backwards.
pub(crate) fn since(before: &[Bucket], now: &[Bucket]) -> Option<Vec<Bucket>> {
    let mut before = before.iter().peekable();
    let mut since = Vec::with_capacity(now.len());
    for bucket in now {
        // A bucket that was there is there: counters do not vanish.
        let then = match before.peek() {
            Some(then) if then.le * SAME < bucket.le => return None,
            Some(then) if then.le <= bucket.le * SAME => before.next().map_or(0, |then| then.count),
            _ => 0,
        };
        let count = bucket.count.checked_sub(then)?;
        if count > 0 {
            since.push(Bucket {
                le: bucket.le,
                count,
            });
        }
    }
    before.next().is_none().then_some(since)
}

/// The bound of the bucket with the 99th of 100, in seconds.
fn p99(buckets: &[Bucket]) -> Option<f64> {
    quantile(buckets, 99)
}

/// The bound of the bucket with this one of 100, in seconds; `None` where nothing was counted.
pub(crate) fn quantile(buckets: &[Bucket], of_hundred: u8) -> Option<f64> {
    let total: u64 = buckets.iter().map(|bucket| bucket.count).sum();
    if total == 0 {
        return None;
    }
    let mut beyond = total;
    let allowed = u128::from(100_u8.saturating_sub(of_hundred));
    buckets
        .iter()
        .find(|bucket| {
            beyond -= bucket.count;
            u128::from(beyond) * 100 <= u128::from(total) * allowed
        })
        .map(|bucket| bucket.le)
}
