//! What came of a row: what went wrong, and the figures that it was to reach.

use serde::Serialize;

use super::traffic::Seen;
use super::witness::Findings;

/// What came of one row.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// What was changing all the while.
    pub row: &'static str,
    /// Requests of the clients.
    pub requests: u64,
    /// What they noticed.
    pub findings: Findings,
    /// What was measured beside.
    pub stats: Vec<Figure>,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// The number.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What it has to be.
    pub limit: Limit,
}

/// What a figure has to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Anything: it is there to be looked at.
    None,
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// This.
    Is(f64),
}

impl Outcome {
    /// An outcome without figures yet.
    pub(super) fn new(row: &'static str, requests: u64, findings: Findings) -> Self {
        Self {
            row,
            requests,
            findings,
            stats: Vec::new(),
        }
    }

    /// Adds a figure.
    pub(super) fn with(
        mut self,
        name: &'static str,
        value: f64,
        unit: &'static str,
        limit: Limit,
    ) -> Self {
        self.stats.push(Figure {
            name,
            value,
            unit,
            limit,
        });
        self
    }

    /// Adds what the clients saw.
    pub(super) fn with_traffic(self, seen: &Seen, at_least: f64) -> Self {
        let milliseconds = |microseconds: u64| microseconds as f64 / 1e3;
        let p99 = milliseconds(seen.latency.value_at_quantile(0.99));
        let worst = milliseconds(seen.latency.max());
        let own = seen.own_delay.as_secs_f64() * 1e3;
        self.with("requests", seen.rate(), "/s", Limit::AtLeast(at_least))
            .with("latency p99", p99, "ms", Limit::None)
            .with("latency at worst", worst, "ms", Limit::None)
            .with("clients' own delay at worst", own, "ms", Limit::None)
    }

    /// Adds how many responses of class 5xx the proxy made that no client saw, of so many that it
    /// made and so many that were seen.
    pub(super) fn with_5xx(self, made: u64, seen: u64) -> Self {
        let unseen = made as f64 - seen as f64;
        self.with("5xx made and not seen", unseen, "", Limit::Is(0.0))
    }

    /// Everything that is not as it has to be.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.findings.failed > 0 {
            problems.push(format!("{} failed", self.findings.failed));
        }
        let missed = self.stats.iter().filter(|figure| !figure.is_good());
        problems.extend(missed.map(ToString::to_string));
        problems
    }
}

impl Figure {
    fn is_good(&self) -> bool {
        match self.limit {
            Limit::None => true,
            Limit::AtMost(most) => self.value <= most,
            Limit::AtLeast(least) => self.value >= least,
            Limit::Is(wanted) => self.value == wanted,
        }
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name, value, unit, ..
        } = self;
        let number = |value: f64| match value {
            whole if whole.fract() == 0.0 => format!("{whole}"),
            large if large >= 100.0 => format!("{large:.0}"),
            small => format!("{small:.2}"),
        };
        let space = if unit.is_empty() || unit.starts_with('/') {
            ""
        } else {
            " "
        };
        write!(f, "{name} {}{space}{unit}", number(*value))?;
        let verdict = if self.is_good() { "" } else { ": MISSED" };
        match self.limit {
            Limit::None => Ok(()),
            Limit::AtMost(most) => write!(f, " (≤ {}{verdict})", number(most)),
            Limit::AtLeast(least) => write!(f, " (≥ {}{verdict})", number(least)),
            Limit::Is(wanted) => write!(f, " (= {}{verdict})", number(wanted)),
        }
    }
}
