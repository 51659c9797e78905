//! Desired against actual: which versions of a service have a place here, and what is to be done
//! about the containers that are there. Decisions only; `server/reconciler.rs` carries them out.
//!
//! The number of a candidate's containers is its rollout's business, which also judges it by those
//! that die. Everything else is seen to here, while a rollout runs too: stable, and the old version
//! while it is warm.

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::{Phase, RolloutRecord, ServiceRecord, VersionRecord, kept_by};
use crate::project::containers::version_id;
use crate::runtime::{Container, ContainerState};

/// A version that has a place here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DesiredVersion {
    pub(crate) version: VersionRecord,
    pub(crate) number: Number,
}

/// How many containers a version has to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// So many.
    Exactly(u32),
    /// So many or more: the task that is changing the number removes what is too much.
    AtLeast(u32),
    /// As many as its rollout has made.
    Any,
}

/// Containers that run and that the proxy sees unhealthy, by their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// They are the first to go where there are too many: those with the highest number before all.
    pub(crate) unhealthy: BTreeMap<String, u8>,
    /// Others are to take their places: they do not count.
    pub(crate) given_up: BTreeSet<String>,
}

/// What is to be done about the containers of a service.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Actions<'a> {
    /// Versions that lack containers, or have dead ones, with how many they have to have, those beside
    /// which others are started included.
    pub(crate) short: Vec<(&'a VersionRecord, u32)>,
    /// To be retired: of no version that has a place, or more than wanted.
    pub(crate) extra: Vec<&'a Container>,
}

/// The versions of a service that have a place here.
pub(crate) fn wanted(
    service: &ServiceRecord,
    rollout: Option<&RolloutRecord>,
) -> Vec<DesiredVersion> {
    let of = |version: &VersionRecord, number| DesiredVersion {
        version: version.clone(),
        number,
    };
    let Some(rollout) = rollout.filter(|rollout| !rollout.phase.is_over()) else {
        return vec![of(&service.stable, Number::Exactly(service.replicas))];
    };
    let all = Number::AtLeast(service.replicas);
    let (of_from, of_to) = match rollout.phase {
        // The old version is being retired by its rollout.
        Phase::Draining => (Number::Any, all),
        Phase::RollingBack => (all, Number::Any),
        _ => {
            let kept = kept_by(rollout, service.replicas);
            (kept.map_or(all, Number::AtLeast), Number::Any)
        }
    };
    vec![of(&rollout.from, of_from), of(&rollout.to, of_to)]
}

/// What is to be done so that `containers`, those of the service that are not retired, become
/// what is wanted.
pub(crate) fn compare<'a>(
    wanted: &'a [DesiredVersion],
    containers: &'a [Container],
    unfit: &Unfit,
) -> Actions<'a> {
    let mut actions = Actions::default();
    for one in wanted {
        let theirs = || {
            containers
                .iter()
                .filter(|container| version_id(container) == Some(one.version.id))
        };
        let runs = |container: &&Container| container.state == ContainerState::Running;
        let dead = theirs().any(|container| !runs(&container));
        let given_up = |container: &&Container| unfit.given_up.contains(&container.name);
        let (given_up, mut running): (Vec<&Container>, Vec<&Container>) =
            theirs().filter(runs).partition(given_up);
        match one.number {
            Number::Any => {}
            Number::Exactly(count) | Number::AtLeast(count) => {
                if dead || running.len() < count as usize {
                    let beside = u32::try_from(given_up.len()).unwrap_or(u32::MAX);
                    actions.short.push((&one.version, count + beside));
                }
            }
        }
        if let Number::Exactly(count) = one.number {
            // The youngest are the first to go, by their numbers, after those that are unhealthy.
            let rank = |container: &Container| unfit.unhealthy.get(&container.name).copied();
            running.sort_by_key(|one| (rank(one), one.name.len(), &one.name));
            actions
                .extra
                .extend(running.into_iter().skip(count as usize));
        }
    }
    let has_a_place = |container: &&Container| {
        wanted
            .iter()
            .any(|one| version_id(container) == Some(one.version.id))
    };
    actions.extra.extend(
        containers
            .iter()
            .filter(|container| !has_a_place(container)),
    );
    actions
}

#[cfg(test)]
mod tests;
