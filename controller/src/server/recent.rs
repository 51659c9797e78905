//! What came of each version's requests in the last minute: a few readings of the proxy's counters,
//! and what came between the oldest of them and now. Decisions only.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use admin_api::{Bucket, ServiceStats, VersionStats};
use tokio::time::Instant;

use crate::api::LastMinute;
use crate::verdict::{buckets_since, quantile};

/// From one reading to the next.
const EVERY: Duration = Duration::from_secs(10);
/// How far back the oldest reading that is used lies, where there is one.
const OVER: Duration = Duration::from_secs(60);

/// Readings of all services.
#[derive(Debug, Default)]
pub(super) struct Recent(HashMap<String, VecDeque<Sample>>);

/// When it was read, and what had been counted of each version then.
type Sample = (Instant, BTreeMap<String, Counted>);

/// What had been counted of a version at one moment.
#[derive(Debug, Default)]
struct Counted {
    requests: u64,
    failures: u64,
    latency: Vec<Bucket>,
}

impl Counted {
    fn of(stats: &VersionStats) -> Self {
        Self {
            requests: stats.requests(),
            failures: stats.failed_requests(),
            latency: stats.latency.clone(),
        }
    }

    /// What came since `before`; `None` where a counter went backwards: the proxy has begun anew.
    fn since(&self, before: &Self) -> Option<Self> {
        Some(Self {
            requests: self.requests.checked_sub(before.requests)?,
            failures: self.failures.checked_sub(before.failures)?,
            latency: buckets_since(&before.latency, &self.latency)?,
        })
    }
}

impl Recent {
    /// Whether it is time for the next reading of this service.
    pub(super) fn is_due(&self, service: &str) -> bool {
        let newest = self.0.get(service).and_then(VecDeque::back);
        newest.is_none_or(|(at, _)| at.elapsed() >= EVERY)
    }

    /// Keeps a reading, and of the older ones what is needed.
    pub(super) fn keep(&mut self, stats: &ServiceStats) {
        let readings = self.0.entry(stats.service.clone()).or_default();
        while readings.get(1).is_some_and(|(at, _)| at.elapsed() >= OVER) {
            readings.pop_front();
        }
        let versions = stats.versions.iter();
        let counted = versions.map(|(name, stats)| (name.clone(), Counted::of(stats)));
        readings.push_back((Instant::now(), counted.collect()));
    }

    /// What came of a version's requests since the oldest reading, `now` being its counters; `None`
    /// before there is one.
    pub(super) fn of(
        &self,
        service: &str,
        version: &str,
        now: &VersionStats,
    ) -> Option<LastMinute> {
        let (at, oldest) = self.0.get(service)?.front()?;
        let seconds = at.elapsed().as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let now = Counted::of(now);
        // A version that was not there then has its counters since it came.
        let came = match oldest.get(version) {
            Some(before) => now.since(before).unwrap_or(now),
            None => now,
        };
        let millis = |share| quantile(&came.latency, share).map(|seconds| 1000.0 * seconds);
        let rate = |part: u64| 100.0 * part as f64 / came.requests as f64;
        Some(LastMinute {
            seconds,
            requests: came.requests,
            per_second: came.requests as f64 / seconds,
            success_rate: (came.requests > 0)
                .then(|| rate(came.requests.saturating_sub(came.failures))),
            p50_ms: millis(50),
            p99_ms: millis(99),
        })
    }
}

#[cfg(test)]
mod tests {
    use admin_api::{Responses, WaitStats};
    use tokio::time::advance;

    use super::*;

    /// So many requests in all, a part of which failed, and all of which took 20 ms but two of
    /// a hundred.
    fn stats(requests: u64, failed: u64) -> VersionStats {
        let slow = requests / 50;
        let bucket = |le, count| Bucket { le, count };
        VersionStats {
            responses: Responses {
                success: requests - failed,
                server_error: failed,
                ..Responses::default()
            },
            latency: vec![bucket(0.02, requests - slow), bucket(0.5, slow)],
            ..VersionStats::default()
        }
    }

    fn reading(requests: u64, failed: u64) -> ServiceStats {
        ServiceStats {
            service: "web".into(),
            generation: 1,
            versions: [("1.0.0".to_owned(), stats(requests, failed))].into(),
            mirror: None,
            waits: WaitStats::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rate_success_and_times_are_those_of_the_last_minute() {
        let mut recent = Recent::default();
        assert!(recent.is_due("web"));
        assert_eq!(recent.of("web", "1.0.0", &stats(0, 0)), None);
        // Long ago all failed.
        recent.keep(&reading(1000, 1000));
        assert!(!recent.is_due("web"));
        for n in 1..=20 {
            advance(EVERY).await;
            assert!(recent.is_due("web"));
            recent.keep(&reading(1000 + 100 * n, 1000));
        }
        let now = recent.of("web", "1.0.0", &stats(3000 + 100, 1000 + 7));
        let now = now.expect("known");
        assert!((60.0..=70.0).contains(&now.seconds), "{now:?}");
        assert_eq!(
            now.requests, 700,
            "six tens of seconds, and what came since"
        );
        assert!((now.per_second - 700.0 / now.seconds).abs() < 0.01);
        assert_eq!(now.success_rate, Some(99.0));
        assert_eq!((now.p50_ms, now.p99_ms), (Some(20.0), Some(500.0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_version_and_a_proxy_that_began_anew_count_from_their_beginning() {
        let mut recent = Recent::default();
        recent.keep(&reading(1000, 0));
        advance(EVERY).await;
        for (version, now) in [("2.0.0", stats(50, 0)), ("1.0.0", stats(50, 0))] {
            let seen = recent.of("web", version, &now).expect("known");
            assert_eq!((seen.requests, seen.per_second), (50, 5.0), "{version}");
        }
        let none = recent.of("web", "2.0.0", &stats(0, 0)).expect("known");
        assert_eq!((none.success_rate, none.p99_ms), (None, None));
    }
}
