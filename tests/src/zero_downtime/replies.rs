//! The proxy's own responses: how many it says that it made, and how many clients saw.

use super::witness::{Failure, Finding};
use crate::{TestProxy, get};

/// What it says in `reason` of responses with a status of class 5xx.
const OF_5XX: [&str; 10] = [
    "connect_failed",
    "connection_broken",
    "bad_response",
    "no_endpoint",
    "resource_exhausted",
    "connect_timed_out",
    "timed_out",
    "endpoint_silent",
    "request_timed_out",
    "cut",
];

/// How many responses of class 5xx the proxy has made.
pub(super) async fn made(proxy: &TestProxy) -> u64 {
    let metrics = get(proxy.admin, "/metrics").await.body;
    let counted = |line: &str| {
        let (reason, count) = line
            .strip_prefix("crossfade_local_replies_total{reason=\"")?
            .split_once("\"} ")?;
        let count: u64 = count.parse().expect("a number");
        OF_5XX.contains(&reason).then_some(count)
    };
    metrics.lines().filter_map(counted).sum()
}

/// Whether a client saw one of them.
pub(super) fn is_5xx(finding: &Finding) -> bool {
    finding.failure == Failure::Status && finding.detail.starts_with('5')
}
