//! Balancing policies: which of a version's endpoints gets a request.
//!
//! A policy sees the endpoints of one version, their weights, and what a worker may read without
//! waiting for another: its own sequence and its own claims. The split over the versions is none
//! of its business.

pub(crate) mod blocks;
mod hash;
mod least_in_flight;
mod round_robin;
pub(crate) mod sequence;

use std::sync::Arc;

use admin_api::names::header_name;
use admin_api::strict::InputError;
use admin_api::{BalanceSpec, HashKey};

use crate::table::balance::sequence::{Sequence, WeightedRing};
use crate::table::endpoint::{Endpoint, FULL};
use crate::table::endpoint_id::EndpointId;
use crate::table::key::KeySource;
use crate::table::rendezvous::mix;
use crate::table::routing_hints::RoutingHints;

/// Drawing again keeps the weights among those that are left; past so many draws most of them
/// are unusable, and the next usable one will do.
pub(crate) const DRAWS: usize = 8;

/// A balancing policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The one of two with less in flight for its weight.
    LeastInFlight,
    /// By what a request says of itself.
    Hash(KeySource),
}

/// The endpoints of a version, and whose turn it is.
#[derive(Debug)]
pub(crate) struct Endpoints {
    pub(crate) list: Vec<Arc<Endpoint>>,
    /// One for each of `list`.
    pub(crate) weights: Vec<u32>,
    /// Over `list`, by `weights`.
    ring: WeightedRing,
    /// One for all tables that have this version.
    pub(crate) sequence: Arc<Sequence>,
}

/// One request that needs an endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PickContext<'r> {
    pub(crate) worker: usize,
    /// Endpoints that it must not get.
    pub(crate) attempted: &'r [EndpointId],
    /// What it says about where it goes.
    pub(crate) hints: &'r RoutingHints,
    /// Nothing is up: an endpoint that once was may do.
    pub(crate) panic: Option<Panic>,
}

/// Which of the endpoints that were up before are tried where none is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Panic {
    /// Those that do something, if not what their health check wants.
    Reachable,
    All,
}

impl<'r> PickContext<'r> {
    pub(crate) fn new(worker: usize, hints: &'r RoutingHints, attempted: &'r [EndpointId]) -> Self {
        Self {
            worker,
            attempted,
            hints,
            panic: None,
        }
    }
}

impl PickContext<'_> {
    /// Whether this endpoint will do, although it is down.
    fn allows_down(&self, endpoint: &Endpoint) -> bool {
        match self.panic {
            None => false,
            Some(Panic::Reachable) => endpoint.is_proven() && !endpoint.is_unreachable(),
            Some(Panic::All) => endpoint.is_proven(),
        }
    }
}

impl Balance {
    /// Of a setting that was checked. The error's field is relative to the setting.
    pub(crate) fn new(spec: &BalanceSpec) -> Result<Self, InputError> {
        Ok(match spec {
            BalanceSpec::RoundRobin => Self::RoundRobin,
            BalanceSpec::LeastInFlight => Self::LeastInFlight,
            BalanceSpec::Hash(key) => Self::Hash(match key {
                HashKey::Address => KeySource::Address,
                HashKey::Header(name) => KeySource::Header(
                    header_name(name)
                        .map_err(|message| InputError::of_field("hash.header", message))?,
                ),
                HashKey::Cookie(name) => KeySource::Cookie(name.as_str().into()),
            }),
        })
    }

    /// Takes a claim on one of the endpoints, if any of them can be used.
    pub(crate) fn claim<'v>(
        &self,
        endpoints: &'v Endpoints,
        context: PickContext<'_>,
    ) -> Option<&'v Arc<Endpoint>> {
        match (self, context.hints.key) {
            (Self::LeastInFlight, _) => least_in_flight::claim(endpoints, context),
            (Self::Hash(_), Some(key)) => hash::claim(endpoints, context, key),
            (Self::RoundRobin | Self::Hash(_), _) => round_robin::claim(endpoints, context),
        }
    }
}

impl Endpoints {
    pub(crate) fn new(list: Vec<(Arc<Endpoint>, u32)>, sequence: Arc<Sequence>) -> Self {
        let (list, weights): (Vec<_>, Vec<u32>) = list.into_iter().unzip();
        Self {
            ring: WeightedRing::new(weights.iter().copied()),
            list,
            weights,
            sequence,
        }
    }

    /// The share of its weight that an endpoint gets, in parts of [`FULL`]; 0 where it cannot
    /// be used.
    fn share(&self, at: usize, context: PickContext<'_>) -> u32 {
        let endpoint = &self.list[at];
        if self.weights[at] == 0 || context.attempted.contains(&endpoint.id) {
            return 0;
        }
        match endpoint.share() {
            0 if context.allows_down(endpoint) => FULL,
            share => share,
        }
    }

    /// Whether an endpoint takes the request that `point` stands for: one that gets a part of
    /// its weight takes this part of the points.
    fn admits(&self, at: usize, context: PickContext<'_>, point: u64) -> bool {
        let share = self.share(at, context);
        share == FULL || (mix(point) >> 48) < u64::from(share)
    }

    /// The claim on an endpoint, unless it is retired.
    fn take(&self, at: usize, context: PickContext<'_>) -> Option<&Arc<Endpoint>> {
        let endpoint = &self.list[at];
        endpoint.claims.take(context.worker).then_some(endpoint)
    }

    /// Those that can be used at all, from the one after `at` round to itself.
    fn usable_after(&self, at: usize, context: PickContext<'_>) -> impl Iterator<Item = usize> {
        let count = self.list.len();
        (1..=count)
            .map(move |step| (at + step) % count)
            .filter(move |at| self.share(*at, context) > 0)
    }
}
