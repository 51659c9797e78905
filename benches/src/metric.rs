//! The metrics of a workload, and their estimates.

use serde::{Deserialize, Serialize};

use crate::estimate::Estimate;

/// A metric that contenders are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Metric {
    /// CPU time per request or per gigabyte.
    #[serde(rename = "CPU")]
    Cpu,
    /// Requests a second.
    #[serde(rename = "req/s")]
    Rate,
    /// The median latency.
    #[serde(rename = "p50")]
    P50,
    /// The 99th percentile of latency.
    #[serde(rename = "p99")]
    P99,
    /// The 99.9th percentile of latency.
    #[serde(rename = "p99.9")]
    P999,
}

impl Metric {
    /// All metrics.
    pub(crate) const ALL: [Self; 5] = [Self::Cpu, Self::Rate, Self::P50, Self::P99, Self::P999];

    /// Its name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Rate => "req/s",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
        }
    }

    /// Whether a larger value is better.
    pub(crate) const fn is_better_if_larger(self) -> bool {
        matches!(self, Self::Rate)
    }
}

/// The estimates of all metrics, with their ratios to one other contender.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Estimates {
    /// CPU time of the proxy; `None` without a proxy.
    pub(crate) cpu: Option<Estimate>,
    /// Requests a second.
    pub(crate) rate: Option<Estimate>,
    /// The median latency in milliseconds.
    pub(crate) p50: Option<Estimate>,
    /// The 99th percentile of latency in milliseconds.
    pub(crate) p99: Option<Estimate>,
    /// The 99.9th percentile of latency in milliseconds.
    pub(crate) p999: Option<Estimate>,
}

impl Estimates {
    /// Makes the estimate of each metric.
    pub(crate) fn of(estimate: impl Fn(Metric) -> Option<Estimate>) -> Self {
        Self {
            cpu: estimate(Metric::Cpu),
            rate: estimate(Metric::Rate),
            p50: estimate(Metric::P50),
            p99: estimate(Metric::P99),
            p999: estimate(Metric::P999),
        }
    }

    /// The estimate of a metric.
    pub(crate) const fn get(&self, metric: Metric) -> Option<Estimate> {
        match metric {
            Metric::Cpu => self.cpu,
            Metric::Rate => self.rate,
            Metric::P50 => self.p50,
            Metric::P99 => self.p99,
            Metric::P999 => self.p999,
        }
    }
}
