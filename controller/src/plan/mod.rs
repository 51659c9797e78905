//! The steps of a rollout, worked out before it begins: which share of the requests the
//! candidate gets, and how many containers it has to have for that.

mod forecast;
mod settings;
mod step_spec;
mod strategy;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use admin_api::Period;
use serde::{Deserialize, Serialize};

pub use forecast::{Traffic, forecast};
pub use settings::RolloutSettings;
pub use step_spec::{Amount, StepSpec};
pub use strategy::Strategy;

/// One step of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The candidate's share of the requests, in percent: 1 to 100; 0 while it is mirrored to.
    pub share: u8,
    /// How many of a hundred requests are copied to the candidate, which has no others then, and
    /// whose responses are thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<u8>,
    /// How many containers the candidate needs before it gets this share.
    pub replicas: u32,
    /// How many containers stable goes down to before that; `None`: it keeps all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<u32>,
    /// How long it lasts at least, where that is not `step_min_duration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Period>,
    /// The requests that it needs, where that is not `min_requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<u64>,
    /// Whether the user has to agree before the next step.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gate: bool,
}

impl Step {
    /// `10% on 1 container, for at least 30s and 50 requests, then a gate`.
    pub fn plan(&self, settings: &RolloutSettings) -> String {
        let plural = if self.replicas == 1 { "" } else { "s" };
        let hold = self.hold.unwrap_or(settings.step_min_duration);
        let requests = self.min_requests.unwrap_or(settings.min_requests);
        let mut text = format!(
            "{} on {} container{plural}, for at least {hold} and {requests} requests",
            self.what(),
            self.replicas
        );
        if let Some(stable) = self.stable {
            text.push_str(&format!("; the old version goes down to {stable}"));
        }
        if self.gate {
            text.push_str("; then it waits for `crossfade resume`");
        }
        text
    }

    /// What the candidate gets: `10%`, or `copies of 10%`.
    pub fn what(&self) -> String {
        match self.mirror {
            Some(percent) => format!("copies of {percent}%"),
            None => format!("{}%", self.share),
        }
    }
}

/// The one step of a rollout that no request can judge: of containers that serve nothing, or of none at
/// all.
pub fn unjudged(replicas: u32) -> Vec<Step> {
    vec![Step {
        share: 100,
        mirror: None,
        replicas,
        stable: None,
        hold: (replicas == 0).then_some(Period::from_secs(0)),
        min_requests: Some(0),
        gate: false,
    }]
}

/// The steps of a rollout that is under way, for another number of stable containers: the shares stay,
/// and so does what each step waits for.
pub fn rescaled(strategy: &Strategy, steps: &[Step], before: u32, now: u32) -> Vec<Step> {
    let fresh = strategy.steps(now);
    let same_shares = fresh.len() == steps.len()
        && fresh
            .iter()
            .zip(steps)
            .all(|(one, other)| one.share == other.share);
    if same_shares {
        let pairs = steps.iter().zip(fresh);
        return pairs
            .map(|(step, fresh)| Step {
                replicas: fresh.replicas,
                stable: fresh.stable,
                ..*step
            })
            .collect();
    }
    // A rolling rollout has as many steps as it takes: those that it has go on, in proportion.
    let in_proportion = |count: u32| {
        let exact = u64::from(count) * u64::from(now);
        u32::try_from(exact.div_ceil(u64::from(before.max(1)))).unwrap_or(u32::MAX)
    };
    let scaled = steps.iter().map(|step| Step {
        replicas: in_proportion(step.replicas).max(1),
        stable: step.stable.map(in_proportion),
        ..*step
    });
    scaled.collect()
}

/// How many containers a version needs to carry `weight` of `total`, measured by how many
/// carry all of it now. At least one.
pub fn replicas_for(stable_replicas: u32, weight: u64, total: u64) -> u32 {
    let exact = u64::from(stable_replicas) * weight;
    u32::try_from(exact.div_ceil(total.max(1)))
        .unwrap_or(u32::MAX)
        .max(1)
}

/// How many containers a version needs for what a split gives it; none where that is nothing.
pub fn replicas_for_split(
    stable_replicas: u32,
    split: &BTreeMap<String, u32>,
    version: &str,
) -> u32 {
    let total = split.values().copied().map(u64::from).sum();
    match split.get(version).copied().unwrap_or(0) {
        0 => 0,
        weight => replicas_for(stable_replicas, weight.into(), total),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(flag: &bool) -> bool {
    !*flag
}
