//! The counts and latencies of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::failure::Cause;

/// The longest latency that is recorded; longer ones are recorded as this.
const LONGEST_US: u64 = 3_600_000_000;

/// The counts and latencies of a run.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Requests (or messages) that began, including those that found no connection.
    pub requests: u64,
    /// Complete responses by the version in their body and by their status.
    pub responses: BTreeMap<(Option<String>, u16), u64>,
    /// Messages that came back on WebSockets, by the version that sent them.
    pub echoes: BTreeMap<Option<String>, u64>,
    /// Connections that were opened.
    pub connections_opened: u64,
    /// Connections that the server closed between two requests without a `Connection: close`.
    pub closed_idle: u64,
    /// Requests that were due before the end and found no free connection.
    pub unsent: u64,
    /// The time from the start to the last response.
    pub elapsed: Duration,
    failures: BTreeMap<Cause, u64>,
    latency_us: Histogram<u64>,
}

/// Latencies of complete responses (or echoes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// The 50th percentile.
    pub p50: Duration,
    /// The 90th percentile.
    pub p90: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The 99.9th percentile.
    pub p999: Duration,
    /// The maximum.
    pub max: Duration,
}

impl Summary {
    pub(crate) fn new() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants, and valid")]
        let latency_us = Histogram::new_with_bounds(1, LONGEST_US, 3).expect("valid bounds");
        Self {
            requests: 0,
            responses: BTreeMap::new(),
            echoes: BTreeMap::new(),
            connections_opened: 0,
            closed_idle: 0,
            unsent: 0,
            elapsed: Duration::ZERO,
            failures: BTreeMap::new(),
            latency_us,
        }
    }

    pub(crate) fn count_response(&mut self, version: Option<&str>, status: u16, latency: Duration) {
        *self
            .responses
            .entry((version.map(str::to_owned), status))
            .or_default() += 1;
        if status >= 500 {
            self.count_failure(Cause::Http5xx);
        }
        self.latency_us.saturating_record(micros(latency));
    }

    pub(crate) fn count_echo(&mut self, version: Option<&str>, latency: Duration) {
        *self.echoes.entry(version.map(str::to_owned)).or_default() += 1;
        self.latency_us.saturating_record(micros(latency));
    }

    pub(crate) fn count_failure(&mut self, cause: Cause) {
        *self.failures.entry(cause).or_default() += 1;
    }

    /// How many failures have this cause.
    pub fn failures(&self, cause: Cause) -> u64 {
        self.failures.get(&cause).copied().unwrap_or(0)
    }

    /// Whether nothing failed. With `allow_5xx`, complete responses of 500 or more are no failure.
    pub fn is_clean(&self, allow_5xx: bool) -> bool {
        self.failures
            .keys()
            .all(|cause| allow_5xx && *cause == Cause::Http5xx)
    }

    /// Percentiles of latency, counted from when each request was due. `None` without responses.
    pub fn latency(&self) -> Option<Latency> {
        let at = |quantile| Duration::from_micros(self.latency_us.value_at_quantile(quantile));
        (!self.latency_us.is_empty()).then(|| Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_micros(self.latency_us.max()),
        })
    }

    /// The summary as one JSON object. Times are whole milliseconds and microseconds.
    pub(crate) fn to_json(&self) -> impl Serialize + '_ {
        let responses: Vec<_> = self.responses.iter().map(ResponseCount::of).collect();
        let count_by_version = |(version, count): (&'_ Option<String>, &u64)| EchoCount {
            version: version.clone(),
            count: *count,
        };
        SummaryLine {
            summary: SummaryJson {
                elapsed_ms: u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
                requests: self.requests,
                unsent: self.unsent,
                answers: responses.clone(),
                responses,
                echoes: self.echoes.iter().map(count_by_version).collect(),
                failures: Cause::ALL.map(|cause| (cause, self.failures(cause))).into(),
                connections_opened: self.connections_opened,
                closed_idle: self.closed_idle,
                latency_us: self.latency().map(|latency| LatencyJson {
                    p50: micros(latency.p50),
                    p90: micros(latency.p90),
                    p99: micros(latency.p99),
                    p999: micros(latency.p999),
                    max: micros(latency.max),
                }),
            },
        }
    }
}

#[derive(Serialize)]
struct SummaryLine {
    summary: SummaryJson,
}

#[derive(Serialize)]
struct SummaryJson {
    elapsed_ms: u64,
    requests: u64,
    unsent: u64,
    responses: Vec<ResponseCount>,
    /// The name of `responses` up to release 0.1.0, kept for one release.
    answers: Vec<ResponseCount>,
    echoes: Vec<EchoCount>,
    /// Every cause, including those with a count of 0.
    failures: BTreeMap<Cause, u64>,
    connections_opened: u64,
    closed_idle: u64,
    latency_us: Option<LatencyJson>,
}

#[derive(Clone, Serialize)]
struct ResponseCount {
    version: Option<String>,
    status: u16,
    count: u64,
}

impl ResponseCount {
    fn of(((version, status), count): (&(Option<String>, u16), &u64)) -> Self {
        Self {
            version: version.clone(),
            status: *status,
            count: *count,
        }
    }
}

#[derive(Serialize)]
struct EchoCount {
    version: Option<String>,
    count: u64,
}

#[derive(Serialize)]
struct LatencyJson {
    p50: u64,
    p90: u64,
    p99: u64,
    #[serde(rename = "p99.9")]
    p999: u64,
    max: u64,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = |version: &Option<String>| version.clone().unwrap_or("(no version)".to_owned());
        write!(
            f,
            "requests     {} in {}",
            self.requests,
            HumanDuration(self.elapsed)
        )?;
        if self.unsent > 0 {
            write!(
                f,
                ", {} more were due and found no free connection",
                self.unsent
            )?;
        }
        for ((version, status), count) in &self.responses {
            write!(f, "\nresponses    {}  {status}  {count}", label(version))?;
        }
        for (version, count) in &self.echoes {
            write!(f, "\nechoes       {}  {count}", label(version))?;
        }
        if self.failures.is_empty() {
            write!(f, "\nfailures     none")?;
        }
        for (cause, count) in &self.failures {
            write!(f, "\nfailures     {cause}  {count}")?;
        }
        write!(
            f,
            "\nconnections  {} opened, {} closed by the server while idle",
            self.connections_opened, self.closed_idle
        )?;
        if let Some(Latency {
            p50,
            p90,
            p99,
            p999,
            max,
        }) = self.latency()
        {
            let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(HumanDuration);
            write!(
                f,
                "\nlatency      p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max}"
            )?;
        }
        Ok(())
    }
}

/// Displays a duration in the unit that fits its size.
struct HumanDuration(Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_micros() {
            us @ 0..1_000 => write!(f, "{us} µs"),
            us @ 1_000..1_000_000 => write!(f, "{:.2} ms", us as f64 / 1e3),
            us => write!(f, "{:.2} s", us as f64 / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_responses(micros: impl Iterator<Item = u64>) -> Summary {
        let mut summary = Summary::new();
        for us in micros {
            summary.count_response(Some("1.0.0"), 200, Duration::from_micros(us));
        }
        summary
    }

    #[test]
    fn percentiles_are_those_of_the_responses() {
        let latency = with_responses(1..=1000).latency().unwrap();
        let want = [500, 900, 990, 999, 1000].map(Duration::from_micros);
        assert_eq!(
            [
                latency.p50,
                latency.p90,
                latency.p99,
                latency.p999,
                latency.max
            ],
            want
        );
    }

    #[test]
    fn without_responses_there_is_no_latency() {
        assert_eq!(Summary::new().latency(), None);
    }

    #[test]
    fn a_response_that_took_days_is_counted_too() {
        let max = with_responses([u64::MAX].into_iter())
            .latency()
            .unwrap()
            .max;
        assert!(max >= Duration::from_secs(3600), "{max:?}");
    }

    #[test]
    fn a_server_error_is_a_response_and_a_failure() {
        let mut summary = Summary::new();
        summary.count_response(Some("2.0.0"), 503, Duration::ZERO);
        assert_eq!(summary.responses[&(Some("2.0.0".to_owned()), 503)], 1);
        assert_eq!(summary.failures(Cause::Http5xx), 1);
        assert!(!summary.is_clean(false));
        assert!(summary.is_clean(true));
        summary.count_failure(Cause::Cut);
        assert!(!summary.is_clean(true));
    }

    #[test]
    fn the_summary_reads_well() {
        let mut summary = with_responses([200, 1_500, 2_000_000].into_iter());
        summary.count_response(None, 500, Duration::from_micros(10));
        summary.requests = 5;
        summary.unsent = 2;
        summary.connections_opened = 3;
        summary.elapsed = Duration::from_millis(2500);
        summary.count_failure(Cause::Reset);
        let shown = summary.to_string();
        let (counts, latency) = shown.rsplit_once('\n').unwrap();
        assert_eq!(
            counts,
            "requests     5 in 2.50 s, 2 more were due and found no free connection\n\
             responses    (no version)  500  1\n\
             responses    1.0.0  200  3\n\
             failures     reset  1\n\
             failures     http_5xx  1\n\
             connections  3 opened, 0 closed by the server while idle"
        );
        assert!(
            latency.starts_with("latency      p50 200 µs, p90 2.00 s, "),
            "{latency}"
        );
    }

    #[test]
    fn the_summary_as_json_names_every_cause() {
        let json = serde_json::to_value(with_responses([5].into_iter()).to_json()).unwrap();
        let summary = &json["summary"];
        // `answers` is the old name.
        for key in ["responses", "answers"] {
            assert_eq!(
                summary[key],
                serde_json::json!([{"version": "1.0.0", "status": 200, "count": 1}])
            );
        }
        assert_eq!(
            summary["failures"].as_object().unwrap().len(),
            Cause::ALL.len()
        );
        assert_eq!(summary["latency_us"]["p99.9"], 5);
    }
}
