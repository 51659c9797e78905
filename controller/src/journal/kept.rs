//! How many containers a rollout leaves to the version that it replaces.

use super::RolloutRecord;
use crate::plan::replicas_for_split;

/// How many containers of stable the rollout's step has left, or a split by hand has brought back;
/// `None`: all of them.
pub(crate) fn kept_by(rollout: &RolloutRecord, replicas: u32) -> Option<u32> {
    let last = rollout.steps.len().checked_sub(1)?;
    let kept = rollout.steps[rollout.step.min(last)].stable?;
    let by_hand = rollout.hand_split.iter();
    let by_hand = by_hand.map(|split| replicas_for_split(replicas, split, &rollout.from.version));
    by_hand.chain([kept]).max()
}
