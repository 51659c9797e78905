//! The pick: a version by the split or by the client, in it an endpoint by the service's balancing
//! policy, and the claim on that.

use std::sync::Arc;

use super::Service;
use crate::table::balance::blocks::PLACES;
use crate::table::balance::{Panic, PickContext};
use crate::table::endpoint::Endpoint;
use crate::table::endpoint_id::EndpointId;
use crate::table::rendezvous;
use crate::table::routing_hints::RoutingHints;
use crate::table::version::Version;
use crate::wire::reply::LocalReply;

/// A claim that was taken on an endpoint of a service.
#[derive(Debug)]
pub(crate) struct Pick<'t> {
    /// The version's place in its service, for picking again inside it.
    pub(crate) version: usize,
    pub(crate) endpoint: &'t Arc<Endpoint>,
}

/// Draws for a request that cannot go where it was drawn. Among so many, each place of a block comes
/// at least once, so that a run of draws of the version that has nothing up moves no other's share.
const REDRAWS: usize = 2 * PLACES;

impl Service {
    /// Takes a claim for a new request: a version by the split, in it an endpoint by the
    /// balancing policy. A version without a usable endpoint leaves its share to the others, by
    /// their weights.
    pub(crate) fn claim(&self, worker: usize, hints: &RoutingHints) -> Option<Pick<'_>> {
        self.pick(PickContext::new(worker, hints, &[]))
    }

    /// Takes a claim for a further attempt of a request: on an endpoint that was not tried, of the
    /// same version if that is there, has a share and has one.
    pub(crate) fn claim_again(
        &self,
        version: Option<usize>,
        worker: usize,
        hints: &RoutingHints,
        attempted: &[EndpointId],
    ) -> Option<Pick<'_>> {
        let context = PickContext::new(worker, hints, attempted);
        version
            .filter(|version| self.ring.has(*version))
            .and_then(|version| self.claim_in(version, context))
            .or_else(|| self.pick(context))
    }

    /// Takes a claim on an endpoint that is down, where none is up: one that was up before may
    /// well respond, and an error surely helps no client. One from which nothing comes back is tried
    /// only where requests do not wait for another.
    ///
    /// # Errors
    /// `NoEndpointInTime`: one may come up, and the request has to wait until it does.
    pub(crate) fn claim_in_panic(
        &self,
        worker: usize,
        hints: &RoutingHints,
    ) -> Result<Pick<'_>, LocalReply> {
        let reachable = self.pick_in_panic(worker, hints, Panic::Reachable);
        let pick = match self.timeouts.wait_for_endpoint {
            None => reachable.or_else(|| self.pick_in_panic(worker, hints, Panic::All)),
            Some(_) => reachable,
        };
        match pick {
            Some(pick) => {
                self.versions[pick.version].stats.panicked(worker);
                Ok(pick)
            }
            None if self.awaits_endpoint(hints) => Err(LocalReply::NoEndpointInTime),
            None => Err(LocalReply::NoEndpoint),
        }
    }

    fn pick_in_panic(&self, worker: usize, hints: &RoutingHints, panic: Panic) -> Option<Pick<'_>> {
        let context = PickContext {
            panic: Some(panic),
            ..PickContext::new(worker, hints, &[])
        };
        match hints.version {
            // Another version is not what a tester wants to see.
            Some(version) => self.claim_in(version, context),
            None => self.draw(context),
        }
    }

    /// Whether requests wait for an endpoint that may come up.
    pub(crate) fn awaits_endpoint(&self, hints: &RoutingHints) -> bool {
        self.timeouts.wait_for_endpoint.is_some()
            && match hints.version {
                Some(version) => self.versions[version].may_come_up(),
                None => self.may_come_up(),
            }
    }

    /// Whether requests wait that had these endpoints in vain: another one may come up, or one of these
    /// may, as the health check says then, and there is no other that is up.
    pub(crate) fn awaits_another(&self, hints: &RoutingHints, attempted: &[EndpointId]) -> bool {
        let is_for_it = |(at, version): &(usize, &Version)| match hints.version {
            Some(named) => *at == named,
            None => version.weight > 0,
        };
        let versions = self.versions.iter().enumerate().filter(is_for_it);
        let mut endpoints = versions.flat_map(|(_, version)| version.weighted());
        let is_another = |endpoint: &Arc<Endpoint>| {
            endpoint.is_up() && !endpoint.claims.is_retired() && !attempted.contains(&endpoint.id)
        };
        self.definition.traffic.health.is_some()
            && self.awaits_endpoint(hints)
            && !endpoints.any(is_another)
    }

    /// Takes a claim for a copy of a request, on an endpoint of the version that is up.
    pub(crate) fn claim_copy(&self, worker: usize, version: usize) -> Option<&Arc<Endpoint>> {
        let pick = self.claim_in(version, PickContext::new(worker, &RoutingHints::NONE, &[]))?;
        Some(pick.endpoint)
    }

    fn pick(&self, context: PickContext<'_>) -> Option<Pick<'_>> {
        if let Some(version) = context.hints.version {
            // Another version is not what a tester wants to see.
            return self.claim_in(version, context);
        }
        match context.hints.client.user() {
            Some(user) => self.pick_for(user, context),
            None => self.draw(context),
        }
    }

    /// A version by the client: the one that it belongs to, or where nothing of that is up, the
    /// one that is next in line for it.
    fn pick_for(&self, user: u64, context: PickContext<'_>) -> Option<Pick<'_>> {
        let sticky = self.definition.sticky.as_ref()?;
        let mut passed = Vec::new();
        loop {
            let candidates = self
                .versions
                .iter()
                .enumerate()
                .filter(|(at, _)| !passed.contains(at))
                .map(|(at, v)| (at, sticky.seed(&v.label), f64::from(v.weight)));
            let at = rendezvous::winner(user, candidates)?;
            if let Some(pick) = self.claim_in(at, context) {
                if let Some(first) = passed.first() {
                    self.note_diverted(*first, context);
                }
                return Some(pick);
            }
            passed.push(at);
        }
    }

    /// A version by the split.
    fn draw(&self, context: PickContext<'_>) -> Option<Pick<'_>> {
        let first = self.ring.at(self.blocks.next(context.worker))?;
        if let Some(pick) = self.claim_in(first, context) {
            return Some(pick);
        }
        let mut drawn = first;
        let mut redraw = || {
            drawn = self.ring.at(self.blocks.redraw(context.worker))?;
            self.claim_in(drawn, context)
        };
        let pick = (0..REDRAWS).find_map(|_| redraw()).or_else(|| {
            let count = self.versions.len();
            (1..count)
                .map(|step| (drawn + step) % count)
                .filter(|version| self.ring.has(*version))
                .find_map(|version| self.claim_in(version, context))
        })?;
        self.note_diverted(first, context);
        Some(pick)
    }

    /// Counts a new request that went elsewhere than the split would have it.
    fn note_diverted(&self, from: usize, context: PickContext<'_>) {
        if context.attempted.is_empty() {
            self.versions[from].stats.diverted(context.worker);
        }
    }

    fn claim_in(&self, version: usize, context: PickContext<'_>) -> Option<Pick<'_>> {
        let endpoints = &self.versions[version].endpoints;
        let endpoint = self.definition.balance.claim(endpoints, context)?;
        Some(Pick { version, endpoint })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::table::service::Outage;
    use crate::table::sticky::StickyClient;
    use crate::testing::{picks, service};

    const NO_HINTS: RoutingHints = RoutingHints::NONE;

    const TWO: &str = r#"{"name":"web","split":{"1":90,"2":10},"endpoints":[
        {"address":"10.0.0.1:80","version":"1","weight":2},
        {"address":"10.0.0.2:80","version":"1"},
        {"address":"10.0.0.3:80","version":"2"}]}"#;

    #[track_caller]
    fn near(counts: &HashMap<String, usize>, address: &str, want: usize) {
        let count = counts.get(address).copied().unwrap_or(0);
        assert!(count.abs_diff(want) <= 10, "{address}: {count}, not {want}");
    }

    #[test]
    fn requests_divide_by_the_split_and_then_by_weight() {
        let counts = picks(&service(TWO, None), 10_000);
        near(&counts, "10.0.0.1:80", 6_000);
        near(&counts, "10.0.0.2:80", 3_000);
        near(&counts, "10.0.0.3:80", 1_000);
    }

    #[test]
    fn an_endpoint_that_is_down_moves_traffic_inside_its_version() {
        let service = service(TWO, None);
        service.versions[0].endpoints.list[0].set_health(Err("refused".into()));
        let counts = picks(&service, 10_000);
        near(&counts, "10.0.0.2:80", 9_000);
        near(&counts, "10.0.0.3:80", 1_000);
    }

    #[test]
    fn a_version_with_nothing_up_leaves_its_share_to_the_others() {
        let service = service(TWO, None);
        service.versions[1].endpoints.list[0].set_health(Err("refused".into()));
        let counts = picks(&service, 9_000);
        near(&counts, "10.0.0.1:80", 6_000);
        near(&counts, "10.0.0.2:80", 3_000);
        near(&counts, "10.0.0.3:80", 0);
    }

    #[test]
    fn the_share_of_a_version_with_nothing_up_goes_to_the_others_by_their_weights() {
        let json = r#"{"name":"web","split":{"1":49,"2":1,"3":50},"endpoints":[
            {"address":"10.0.0.1:80","version":"1"},
            {"address":"10.0.0.2:80","version":"2"},
            {"address":"10.0.0.3:80","version":"3"}]}"#;
        let service = service(json, None);
        service.versions[0].endpoints.list[0].claims.retire();
        let counts = picks(&service, 5_100);
        near(&counts, "10.0.0.2:80", 100);
        near(&counts, "10.0.0.3:80", 5_000);
    }

    #[test]
    fn a_share_that_goes_to_others_is_counted() {
        let service = service(TWO, None);
        service.versions[1].endpoints.list[0].set_health(Err("refused".into()));
        picks(&service, 10_000);
        let diverted = |version: usize| service.versions[version].stats.read().diverted;
        assert!(diverted(1).abs_diff(1_000) <= 10, "{}", diverted(1));
        assert_eq!(diverted(0), 0);
        let down: Vec<&str> = service
            .versions_down()
            .map(|version| &*version.label)
            .collect();
        assert_eq!(down, ["2"]);
        assert_eq!(service.outage(), None);
    }

    #[test]
    fn with_nothing_up_what_was_up_before_is_tried_anyway() {
        let service = service(TWO, None);
        for endpoint in service.endpoints() {
            endpoint.set_health(Err("refused".into()));
        }
        assert!(service.claim(0, &NO_HINTS).is_none());
        assert_eq!(service.outage(), Some(Outage::Panic));
        assert!(service.versions_down().next().is_none());
        let attempted = (0..1_000).filter(|_| service.claim_in_panic(0, &NO_HINTS).is_ok());
        assert_eq!(attempted.count(), 1_000);
        assert!(service.versions[0].stats.read().panicked.abs_diff(900) <= 5);

        let checked = r#"{"name":"web","health":{"path":"/"},"endpoints":[{"address":"10.0.0.1:80","version":"1"}]}"#;
        let new = crate::testing::service(checked, None);
        assert!(new.claim_in_panic(0, &NO_HINTS).is_err(), "it was never up");
        assert_eq!(new.outage(), Some(Outage::Waits));
    }

    #[test]
    fn a_client_keeps_its_version_and_leaves_it_only_while_it_is_down() {
        let sticky = TWO.replacen('{', r#"{"sticky":{"header":"x-user"},"#, 1);
        let service = service(&sticky, None);
        let version_of = |user: u64| {
            let client = StickyClient::Known { user };
            let hints = RoutingHints { client, ..NO_HINTS };
            service.claim(0, &hints).unwrap().version
        };
        let before: Vec<usize> = (0..1_000).map(version_of).collect();
        let canary = before.iter().filter(|version| **version == 1).count();
        assert!((70..130).contains(&canary), "{canary}");
        let endpoint = &service.versions[1].endpoints.list[0];
        endpoint.set_health(Err("refused".into()));
        assert!((0..1_000).all(|user| version_of(user) == 0));
        assert_eq!(service.versions[1].stats.read().diverted, canary as u64);
        endpoint.set_health(Ok(()));
        assert_eq!((0..1_000).map(version_of).collect::<Vec<_>>(), before);
    }

    #[test]
    fn a_version_that_is_named_is_given_at_0_too_and_no_other_in_its_place() {
        let json = r#"{"name":"web","split":{"1":1,"2":0},"endpoints":[
            {"address":"10.0.0.1:80","version":"1"},
            {"address":"10.0.0.2:80","version":"2"}]}"#;
        let service = service(json, None);
        let hints = RoutingHints {
            version: Some(1),
            ..NO_HINTS
        };
        assert_eq!(service.claim(0, &hints).unwrap().version, 1);
        let tried = [service.versions[1].endpoints.list[0].id];
        assert!(service.claim_again(Some(1), 0, &hints, &tried).is_none());
        service.versions[1].endpoints.list[0].eject("5 failures in a row".into());
        assert!(service.claim(0, &hints).is_none());
        let in_panic = service.claim_in_panic(0, &hints);
        assert!(in_panic.is_ok_and(|pick| pick.version == 1));
    }

    #[test]
    fn an_ejected_endpoint_gets_nothing_until_it_is_readmitted() {
        let service = service(TWO, None);
        let endpoint = &service.versions[0].endpoints.list[0];
        endpoint.eject("5 failures in a row".into());
        near(&picks(&service, 10_000), "10.0.0.1:80", 0);
        endpoint.set_health(Ok(()));
        near(&picks(&service, 10_000), "10.0.0.1:80", 0);
        endpoint.readmit();
        near(&picks(&service, 10_000), "10.0.0.1:80", 6_000);
    }

    #[test]
    fn an_endpoint_in_its_slow_start_gets_a_part_of_its_weight() {
        let service = service(TWO, None);
        // A quarter of 2 beside 1.
        service.versions[0].endpoints.list[0].set_share(crate::table::endpoint::FULL / 4);
        let counts = picks(&service, 10_000);
        assert!(counts["10.0.0.1:80"].abs_diff(3_000) < 200, "{counts:?}");
        near(&counts, "10.0.0.3:80", 1_000);
    }

    #[test]
    fn weight_0_and_all_0_are_states_and_not_panics() {
        let json = r#"{"name":"web","split":{"1":1,"2":0},"endpoints":[
            {"address":"10.0.0.1:80","version":"1","weight":0},
            {"address":"10.0.0.3:80","version":"2"}]}"#;
        assert!(service(json, None).claim(0, &NO_HINTS).is_none());
        assert!(
            service(r#"{"name":"web"}"#, None)
                .claim(0, &NO_HINTS)
                .is_none()
        );
    }

    #[test]
    fn a_further_attempt_goes_to_another_endpoint() {
        let service = service(TWO, None);
        let mut attempted = Vec::new();
        let mut version = Some(0);
        while let Some(pick) = service.claim_again(version, 0, &NO_HINTS, &attempted) {
            assert!(!attempted.contains(&pick.endpoint.id));
            attempted.push(pick.endpoint.id);
            version = Some(pick.version);
        }
        assert_eq!(attempted.len(), 3);
    }
}
