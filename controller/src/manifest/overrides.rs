//! Settings of a rollout from the manifest or from flags, over the defaults.

use admin_api::Period;
use admin_api::strict::InputError;
use serde::{Deserialize, Serialize};

use super::calls::HookEntry;
use super::checks::{check_each, ensure};
use crate::plan::{Amount, RolloutSettings, StepSpec, Strategy};
use crate::verdict::AfterMaxHold;

/// The keys of `[services.rollout]`, all optional: what is absent keeps its default. The
/// flags of `crossfade deploy` are read into the same type and go through the same checks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutOverrides {
    /// `canary`, `blue-green`, `linear=20`, `steps=1,10,50,100`, `rolling` or `all-at-once`.
    pub strategy: Option<String>,
    /// The steps of a canary: shares in percent, with holds and gates.
    pub steps: Option<Vec<StepSpec>>,
    /// How many more containers a rolling rollout may have than stable had.
    pub max_surge: Option<Amount>,
    /// How many fewer.
    pub max_unavailable: Option<Amount>,
    /// From one look at the figures to the next.
    pub look_every: Option<Period>,
    /// How long a step lasts at least.
    pub step_min_duration: Option<Period>,
    /// Requests that a step needs.
    pub min_requests: Option<u64>,
    /// How long a step may wait for them.
    pub max_hold: Option<Period>,
    /// `pause` or `proceed`.
    pub after_max_hold: Option<AfterMaxHold>,
    /// In percent.
    pub success_rate: Option<f64>,
    /// How far below stable's it may be, in percentage points.
    pub success_rate_tolerance: Option<f64>,
    /// The time that 99 of 100 responses keep to.
    pub latency_p99: Option<Period>,
    /// How many more slow responses than stable's there may be, in percentage points.
    pub latency_tolerance: Option<f64>,
    /// How long latency does not count after a step began.
    pub warm_up: Option<Period>,
    /// How long the old version stays warm.
    pub bake: Option<Period>,
    /// How long a candidate has to be healthy before its first request.
    pub min_healthy_time: Option<Period>,
    /// How long a container may take to become healthy.
    pub start_timeout: Option<Period>,
    /// Checks of one's own around the steps.
    pub hooks: Option<Vec<HookEntry>>,
}

impl RolloutOverrides {
    /// The settings of `base` with these in place of its own. The error's field is one of the
    /// keys above.
    pub fn over(&self, base: &RolloutSettings) -> Result<RolloutSettings, InputError> {
        let step_min_duration = self.step_min_duration.unwrap_or(base.step_min_duration);
        let settings = RolloutSettings {
            strategy: self.strategy_over(&base.strategy)?,
            look_every: self.look_every.unwrap_or(base.look_every),
            step_min_duration,
            min_requests: self.min_requests.unwrap_or(base.min_requests),
            max_hold: self
                .max_hold
                .unwrap_or(base.max_hold.max(step_min_duration)),
            after_max_hold: self.after_max_hold.unwrap_or(base.after_max_hold),
            success_rate: self.success_rate.unwrap_or(base.success_rate),
            success_rate_tolerance: self
                .success_rate_tolerance
                .unwrap_or(base.success_rate_tolerance),
            latency_p99: self.latency_p99.unwrap_or(base.latency_p99),
            latency_tolerance: self.latency_tolerance.unwrap_or(base.latency_tolerance),
            warm_up: self.warm_up.unwrap_or(base.warm_up),
            bake: self.bake.unwrap_or(base.bake),
            min_healthy_time: self.min_healthy_time.unwrap_or(base.min_healthy_time),
            start_timeout: self.start_timeout.unwrap_or(base.start_timeout),
            hooks: match &self.hooks {
                Some(entries) => check_each("hooks", entries.clone(), HookEntry::check)?,
                None => base.hooks.clone(),
            },
        };
        check(&settings)?;
        Ok(settings)
    }

    /// The strategy that is named, or that of `base`, with the keys that belong to it.
    fn strategy_over(&self, base: &Strategy) -> Result<Strategy, InputError> {
        let mut strategy = match &self.strategy {
            None => base.clone(),
            Some(named) => named
                .parse()
                .map_err(|error: String| InputError::of_field("strategy", error))?,
        };
        if let Some(specs) = &self.steps {
            let Strategy::Canary(of_canary) = &mut strategy else {
                let message = format!("strategy `{strategy}` has its own steps");
                return Err(InputError::of_field("steps", message));
            };
            Strategy::check_step_specs(specs)
                .map_err(|error| InputError::of_field("steps", error))?;
            of_canary.clone_from(specs);
        }
        let (surge, unavailable) = (self.max_surge, self.max_unavailable);
        if surge.is_none() && unavailable.is_none() {
            return Ok(strategy);
        }
        let field = if surge.is_some() {
            "max_surge"
        } else {
            "max_unavailable"
        };
        let Strategy::Rolling {
            max_surge,
            max_unavailable,
        } = &mut strategy
        else {
            let message = format!("only strategy `rolling` has it, not `{strategy}`");
            return Err(InputError::of_field(field, message));
        };
        *max_surge = surge.unwrap_or(*max_surge);
        *max_unavailable = unavailable.unwrap_or(*max_unavailable);
        let nothing = |amount: Amount| amount.of(100) == 0;
        ensure(
            !(nothing(*max_surge) && nothing(*max_unavailable)),
            || field.into(),
            "max_surge and max_unavailable cannot both be 0: nothing could be replaced",
        )?;
        Ok(strategy)
    }
}

fn check(settings: &RolloutSettings) -> Result<(), InputError> {
    let field = |name: &'static str| move || name.to_owned();
    ensure(
        settings.look_every >= Period::from_millis(10),
        field("look_every"),
        "has to be at least 10ms, such as \"250ms\"",
    )?;
    ensure(
        (0.0..=100.0).contains(&settings.success_rate),
        field("success_rate"),
        "a number from 0 to 100 is needed, in percent, such as 99.5",
    )?;
    ensure(
        (0.0..=100.0).contains(&settings.success_rate_tolerance),
        field("success_rate_tolerance"),
        "a number from 0 to 100 is needed, in percentage points, such as 0.5",
    )?;
    ensure(
        !settings.latency_p99.get().is_zero(),
        field("latency_p99"),
        "has to be longer than 0, such as \"500ms\"",
    )?;
    ensure(
        (0.0..=100.0).contains(&settings.latency_tolerance),
        field("latency_tolerance"),
        "a number from 0 to 100 is needed, in percentage points, such as 0.5",
    )?;
    ensure(
        !settings.start_timeout.get().is_zero(),
        field("start_timeout"),
        "has to be longer than 0, such as \"60s\"",
    )?;
    ensure(
        settings.max_hold >= settings.step_min_duration,
        field("max_hold"),
        "has to be at least `step_min_duration`, such as \"10m\"",
    )
}
