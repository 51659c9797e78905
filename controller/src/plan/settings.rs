//! How a new version takes over, as the manifest has it for a service.

use admin_api::Period;
use serde::{Deserialize, Serialize};

use super::Strategy;
use crate::hooks::Hook;
use crate::verdict::{AfterMaxHold, Limits};

/// How a new version takes over. What an older release did not write down has its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolloutSettings {
    /// In which steps.
    pub strategy: Strategy,
    /// From one look at the figures to the next.
    pub look_every: Period,
    /// How long a step lasts at least.
    pub step_min_duration: Period,
    /// Requests that a candidate has to have had before a step may end well.
    pub min_requests: u64,
    /// How long a step may wait for that.
    pub max_hold: Period,
    /// What then.
    pub after_max_hold: AfterMaxHold,
    /// In percent.
    pub success_rate: f64,
    /// How far below stable's it may be, in percentage points.
    pub success_rate_tolerance: f64,
    /// The time that 99 of 100 responses keep to.
    pub latency_p99: Period,
    /// How many more slow responses than stable's there may be, in percentage points.
    pub latency_tolerance: f64,
    /// How long latency does not count after a step began.
    pub warm_up: Period,
    /// How long the old version stays warm after the last step.
    pub bake: Period,
    /// How long the proxy has to see a candidate healthy before it gets its first request.
    pub min_healthy_time: Period,
    /// How long a container may take to become healthy.
    pub start_timeout: Period,
    /// Checks of one's own around the steps.
    #[serde(default)]
    pub hooks: Vec<Hook>,
}

impl Default for RolloutSettings {
    fn default() -> Self {
        Self {
            strategy: Strategy::canary(),
            look_every: Period::from_millis(250),
            step_min_duration: Period::from_secs(30),
            min_requests: 50,
            // Three steps of a canary that get no request are over within ten minutes.
            max_hold: Period::from_secs(180),
            after_max_hold: AfterMaxHold::Proceed,
            success_rate: 99.0,
            success_rate_tolerance: 0.1,
            latency_p99: Period::from_millis(500),
            latency_tolerance: 1.0,
            warm_up: Period::from_secs(10),
            bake: Period::from_secs(300),
            min_healthy_time: Period::from_secs(5),
            start_timeout: Period::from_secs(60),
            hooks: Vec::new(),
        }
    }
}

impl RolloutSettings {
    /// What the verdict needs of it.
    pub fn limits(&self) -> Limits {
        Limits {
            success_rate: self.success_rate,
            success_rate_tolerance: self.success_rate_tolerance,
            latency_p99: self.latency_p99.get(),
            latency_tolerance: self.latency_tolerance,
            warm_up: self.warm_up.get(),
            min_requests: self.min_requests,
            step_min_duration: self.step_min_duration.get(),
            max_hold: self.max_hold.get(),
            after_max_hold: self.after_max_hold,
        }
    }
}
