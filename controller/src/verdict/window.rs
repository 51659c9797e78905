//! The window in which candidate and stable are compared: the readings from which their figures
//! are counted. It is in the journal, so a controller that was killed goes on with what it knew.

use std::time::Duration;

use admin_api::VersionStats;
use serde::{Deserialize, Serialize};

use super::counts::{Bounds, Counts};
use super::{Limits, Pair, Sample};

/// How long a burst is looked for before what came is forgotten, and looked for anew.
const RECENT: Duration = Duration::from_secs(10);

/// One reading of the counters of both versions.
pub type Reading = Pair<VersionStats>;

/// The readings from which the figures of a step are counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// When the step began.
    opened: Reading,
    /// When the candidate had warmed up.
    warm: Option<Reading>,
    /// What stable did before, where that is not in the readings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<VersionStats>,
    /// A few seconds ago at most, and when that was.
    #[serde(skip)]
    recent: Option<(Reading, Duration)>,
}

impl Window {
    /// One that begins now.
    pub fn open(now: Reading) -> Self {
        Self {
            opened: now,
            warm: None,
            record: None,
            recent: None,
        }
    }

    /// The same, where the readings have nothing of what stable did before.
    pub fn with_record(self, record: VersionStats) -> Self {
        Self {
            record: Some(record),
            ..self
        }
    }

    /// Whether latency is counted by now. From then on the window in the journal is an old one.
    pub fn is_warm(&self) -> bool {
        self.warm.is_some()
    }

    /// The figures at `elapsed` since the step began. `None` when a counter went backwards, which
    /// is a proxy that has started again and counts anew: then the window begins anew, too.
    pub fn sample(&mut self, now: &Reading, elapsed: Duration, limits: &Limits) -> Option<Sample> {
        if self.warm.is_none() && limits.warm_up.is_zero() {
            self.warm = Some(self.opened.clone());
        }
        let record = self.record.as_ref().unwrap_or(&self.opened.stable);
        let bounds = Bounds::new(record, limits.latency_p99);
        let counts = self.counts(now, bounds);
        let Some((step, recent)) = counts else {
            *self = Self {
                record: self.record.take(),
                ..Self::open(now.clone())
            };
            return None;
        };
        if self.warm.is_none() && elapsed >= limits.warm_up {
            self.warm = Some(now.clone());
        }
        if self
            .recent
            .as_ref()
            .is_none_or(|(_, since)| elapsed.saturating_sub(*since) >= RECENT)
        {
            self.recent = Some((now.clone(), elapsed));
        }
        let nothing = VersionStats::default();
        let record = self.record.as_ref().unwrap_or(&self.opened.stable);
        Some(Sample {
            step,
            recent,
            record: Counts::between(&nothing, Some(&nothing), record, bounds)?,
            slow: bounds.slow,
            elapsed,
        })
    }

    fn counts(&self, now: &Reading, bounds: Bounds) -> Option<(Pair<Counts>, Pair<Counts>)> {
        let since = |opened: &Reading, warm: Option<&Reading>| {
            Some(Pair {
                candidate: Counts::between(
                    &opened.candidate,
                    warm.map(|warm| &warm.candidate),
                    &now.candidate,
                    bounds,
                )?,
                stable: Counts::between(
                    &opened.stable,
                    warm.map(|warm| &warm.stable),
                    &now.stable,
                    bounds,
                )?,
            })
        };
        let step = since(&self.opened, self.warm.as_ref())?;
        let recent = match &self.recent {
            Some((recent, _)) => since(recent, None)?,
            None => step,
        };
        Some((step, recent))
    }
}
