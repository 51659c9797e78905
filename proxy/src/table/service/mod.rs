//! A service at one moment, with its versions. `pick` is how a request gets one of its endpoints,
//! `view` what people see of it.

mod departed;
mod pick;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use admin_api::{BufferSpec, Size};

use self::departed::Departed;
use crate::table::balance::blocks::PermutedBlocks;
use crate::table::balance::sequence::WeightedRing;
use crate::table::counts::stats::Stats;
use crate::table::definition::Definition;
use crate::table::endpoint::Endpoint;
use crate::table::filter::Filters;
use crate::table::hold::Hold;
use crate::table::mirror::Mirror;
use crate::table::retry::RetryPolicy;
use crate::table::retry_budget::RetryBudget;
use crate::table::timeouts::Timeouts;
use crate::table::version::{Draft, Resolved, Version, targets};
use crate::table::waiting_room::WaitingRoom;
use crate::wire::address::{Address, SocketAddress};

/// One service, at one moment.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) definition: Arc<Definition>,
    /// Its own, and everyone's where it has none.
    pub(crate) timeouts: Timeouts,
    /// Bytes of a request's body; `None`: as for everyone.
    pub(crate) body_limit: Option<u64>,
    pub(crate) buffers: Buffers,
    pub(crate) versions: Vec<Version>,
    departed: Departed,
    /// Over the versions, by the split.
    ring: WeightedRing,
    blocks: Arc<PermutedBlocks>,
    pub(crate) retry: RetryPolicy,
    pub(crate) budget: Arc<RetryBudget>,
    /// Requests that find no endpoint up.
    pub(crate) waiting_room: Arc<WaitingRoom>,
    /// A client had a cookie of the release before, and that was said.
    seen_unproven: Arc<AtomicBool>,
    /// What is done with its requests beside forwarding them.
    pub(crate) filters: Option<Arc<Filters>>,
    /// Requests are copied.
    pub(crate) mirror: Option<Mirror>,
    /// New requests wait.
    pub(crate) hold: Option<Arc<Hold>>,
}

/// How many bytes of a body are taken up for the other side; 0: none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buffers {
    pub(crate) request: u64,
    pub(crate) response: usize,
}

impl Buffers {
    fn new(spec: &BufferSpec) -> Self {
        let bytes = |size: Option<Size>| size.map_or(0, |Size(bytes)| bytes);
        Self {
            request: bytes(spec.request),
            response: bytes(spec.response) as usize,
        }
    }
}

/// What becomes of the new requests of a service of which nothing is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outage {
    /// They are sent to endpoints that were up before.
    Panic,
    /// They wait until an endpoint is up, for `timeouts.wait_for_endpoint`.
    Waits,
}

/// Addresses of a service that were drained, by version. They stay so in later tables, whatever
/// their names stand for then, until a `PUT` of the service asks for them anew.
pub(crate) type Drained = BTreeSet<(Arc<str>, Address)>;

impl Service {
    /// The service as `definition` has it, with everyone's timeouts where it has none of its own.
    /// What `previous` has of it already, it keeps: endpoints with their health and counters, and
    /// its places in blocks and sequences.
    pub(crate) fn new(
        definition: Arc<Definition>,
        timeouts: &Timeouts,
        previous: Option<&Self>,
        resolved: &Resolved,
        workers: usize,
        drained: &Drained,
    ) -> Self {
        let mut versions = Self::drafts(&definition, previous, workers);
        let mut known: HashMap<(&str, &Address, SocketAddress), &Arc<Endpoint>> = previous
            .into_iter()
            .flat_map(Self::endpoints)
            .filter(|e| {
                !e.claims.is_retired() || drained.contains(&(e.version.clone(), e.address.clone()))
            })
            .map(|endpoint| {
                let target = endpoint.target.clone();
                ((&*endpoint.version, &endpoint.address, target), endpoint)
            })
            .collect();
        for wanted in &definition.endpoints {
            let at = versions.binary_search_by(|version| version.label().cmp(&wanted.version));
            // `Definition::check` gave every version with endpoints its place in the split.
            let Ok(at) = at else { continue };
            let version = &mut versions[at];
            let targets = targets(&wanted.address, resolved);
            if targets.is_empty() {
                version.add_unresolved(wanted.address.clone(), wanted.weight);
            }
            let transport = definition.transport(&wanted.version);
            let is_drained = drained.contains(&(wanted.version.clone(), wanted.address.clone()));
            for target in targets {
                let key = (&*wanted.version, &wanted.address, target.clone());
                let known = known.remove(&key);
                let endpoint = match known.filter(|endpoint| endpoint.transport == transport) {
                    Some(endpoint) => endpoint.clone(),
                    None if is_drained => continue,
                    None => Arc::new(Endpoint::new(
                        wanted.version.clone(),
                        wanted.address.clone(),
                        target,
                        transport.clone(),
                        version.stats.clone(),
                        workers,
                        definition.traffic.health.is_none(),
                    )),
                };
                version.add(endpoint, wanted.weight);
            }
        }
        Self::of_versions(definition, timeouts, previous, versions, workers)
    }

    /// The service with exactly these endpoints, as another process has it.
    pub(crate) fn with_endpoints(
        definition: Arc<Definition>,
        timeouts: &Timeouts,
        previous: Option<&Self>,
        endpoints: &[Arc<Endpoint>],
        drafts: Vec<Draft>,
        workers: usize,
    ) -> Self {
        let mut drafts = drafts;
        for wanted in &definition.endpoints {
            let at = drafts.binary_search_by(|version| version.label().cmp(&wanted.version));
            let Ok(at) = at else { continue };
            let same = |endpoint: &&Arc<Endpoint>| {
                endpoint.version == wanted.version && endpoint.address == wanted.address
            };
            for endpoint in endpoints.iter().filter(same) {
                drafts[at].add(endpoint.clone(), wanted.weight);
            }
        }
        Self::of_versions(definition, timeouts, previous, drafts, workers)
    }

    /// Versions without endpoints; they keep what `previous` has of them.
    pub(crate) fn drafts(
        definition: &Definition,
        previous: Option<&Self>,
        workers: usize,
    ) -> Vec<Draft> {
        let failed_clients = previous.map(Self::failed_clients).unwrap_or_default();
        if previous.is_some_and(|service| service.definition.split != definition.split) {
            failed_clients.forget();
        }
        let draft = |(label, weight): (&Arc<str>, &u32)| {
            let stats = previous
                .and_then(|service| service.stats_of(label))
                .cloned();
            let new = || Arc::new(Stats::beside(workers, failed_clients.clone()));
            let stats = stats.unwrap_or_else(new);
            let previous = previous.and_then(|service| service.version(label));
            Draft::new(label.clone(), *weight, previous, stats, workers)
        };
        definition.split.iter().map(draft).collect()
    }

    fn of_versions(
        definition: Arc<Definition>,
        timeouts: &Timeouts,
        previous: Option<&Self>,
        versions: Vec<Draft>,
        workers: usize,
    ) -> Self {
        let versions: Vec<Version> = versions.into_iter().map(Draft::finish).collect();
        let traffic = &definition.traffic;
        Self {
            timeouts: timeouts.of_service(&traffic.timeouts),
            retry: RetryPolicy::new(&traffic.retry),
            body_limit: traffic.limits.body.map(|Size(bytes)| bytes),
            buffers: Buffers::new(&traffic.buffer),
            ring: WeightedRing::new(versions.iter().map(|version| version.weight)),
            blocks: previous.map_or_else(
                || Arc::new(PermutedBlocks::new(workers)),
                |service| service.blocks.clone(),
            ),
            budget: previous.map_or_else(
                || Arc::new(RetryBudget::new(workers)),
                |service| service.budget.clone(),
            ),
            waiting_room: previous
                .map_or_else(Arc::default, |service| service.waiting_room.clone()),
            seen_unproven: previous
                .map_or_else(Arc::default, |service| service.seen_unproven.clone()),
            filters: Filters::of(
                &definition,
                previous.map(|service| (&*service.definition, &service.filters)),
            ),
            mirror: Self::mirror_of(&definition, previous, workers),
            departed: departed::departed(previous, &versions),
            definition,
            versions,
            hold: None,
        }
    }

    /// What is copied of its requests. Figures of the same version go on.
    fn mirror_of(
        definition: &Definition,
        previous: Option<&Self>,
        workers: usize,
    ) -> Option<Mirror> {
        let spec = definition.mirror.clone()?;
        // Versions of a service are in the order of its split.
        let mut labels = definition.split.keys();
        let version = labels.position(|label| **label == *spec.version)?;
        let previous = previous.and_then(|service| service.mirror.as_ref());
        Some(Mirror::of(spec, version, previous, workers))
    }

    /// Says, once, that a client had a sticky cookie without a code.
    pub(crate) fn saw_unproven(&self) {
        if !self.seen_unproven.swap(true, Ordering::Relaxed) {
            let service = &self.definition.name;
            tracing::warn!(
                %service,
                "a client has a sticky cookie of a release that did not sign them; it is believed and replaced. The next release takes such clients for new ones"
            );
        }
    }

    /// The same service, held or not.
    pub(crate) fn held(self, hold: Option<Arc<Hold>>) -> Self {
        Self { hold, ..self }
    }

    /// The version with this label.
    pub(crate) fn version(&self, label: &str) -> Option<&Version> {
        self.place_of(label).map(|at| &self.versions[at])
    }

    /// The place of the version with this label.
    pub(crate) fn place_of(&self, label: &str) -> Option<usize> {
        let place = self
            .versions
            .binary_search_by(|version| (*version.label).cmp(label));
        place.ok()
    }

    /// Every endpoint of every version.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.versions
            .iter()
            .flat_map(|version| version.endpoints.list.iter())
    }

    /// Whether new requests have an endpoint that is up without those that `covers` says, or had
    /// none before.
    pub(crate) fn survives_without(&self, covers: impl Fn(&Endpoint) -> bool) -> bool {
        let open = || {
            self.versions
                .iter()
                .filter(|version| version.weight > 0)
                .flat_map(Version::weighted)
                .filter(|endpoint| endpoint.is_up() && !endpoint.claims.is_retired())
        };
        open().next().is_none() || open().any(|endpoint| !covers(endpoint))
    }

    /// The version that has the requests by this split, but was drained, where another one could
    /// serve by the split there is.
    pub(crate) fn drained_for(&self, split: &BTreeMap<Arc<str>, u32>) -> Option<&Arc<str>> {
        let with_share = |split: &BTreeMap<Arc<str>, u32>| {
            let has = |v: &&Version| split.get(&v.label).is_some_and(|weight| *weight > 0);
            self.versions.iter().filter(has).collect::<Vec<_>>()
        };
        let is_live = |version: &&Version| {
            let mut endpoints = version.endpoints.list.iter();
            endpoints.any(|endpoint| !endpoint.claims.is_retired())
        };
        let then = with_share(split);
        let is_lost =
            !then.iter().any(is_live) && with_share(&self.definition.split).iter().any(is_live);
        let drained = then
            .into_iter()
            .find(|version| !version.endpoints.list.is_empty());
        drained.filter(|_| is_lost).map(|version| &version.label)
    }

    /// What becomes of new requests while nothing is up.
    pub(crate) fn outage(&self) -> Option<Outage> {
        let with_share = || self.versions.iter().filter(|version| version.weight > 0);
        if with_share().any(Version::is_up) {
            return None;
        }
        let waits = self.timeouts.wait_for_endpoint.is_some();
        let is_tried = |endpoint: &Arc<Endpoint>| {
            let is_open = endpoint.is_proven() && !endpoint.claims.is_retired();
            is_open && !(waits && endpoint.is_unreachable())
        };
        if with_share().flat_map(Version::weighted).any(is_tried) {
            return Some(Outage::Panic);
        }
        (waits && self.may_come_up()).then_some(Outage::Waits)
    }

    /// Whether an endpoint of it was up at least once.
    pub(crate) fn was_up(&self) -> bool {
        !self.departed.is_empty() || self.endpoints().any(|endpoint| endpoint.is_proven())
    }

    /// Whether an endpoint may come up for new requests. A service that had endpoints and has lost
    /// the last one is about to get another; one that never had any is as it was meant.
    fn may_come_up(&self) -> bool {
        let mut with_share = self.versions.iter().filter(|version| version.weight > 0);
        with_share.any(Version::may_come_up)
            || self.versions.is_empty() && !self.departed.is_empty()
    }

    /// Whether an endpoint is up, be it one that gets requests or not.
    pub(crate) fn has_any_up(&self) -> bool {
        self.endpoints()
            .any(|endpoint| endpoint.is_up() && !endpoint.claims.is_retired())
    }

    /// Versions whose share goes to the others.
    pub(crate) fn versions_down(&self) -> impl Iterator<Item = &Version> {
        let with_share = || self.versions.iter().filter(|version| version.weight > 0);
        let others = with_share().any(Version::is_up);
        with_share().filter(move |version| others && version.is_down())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::routing_hints::RoutingHints;
    use crate::testing::{definition, service, service_without};

    const NO_HINTS: RoutingHints = RoutingHints::NONE;

    const TWO: &str = r#"{"name":"web","split":{"1":90,"2":10},"endpoints":[
        {"address":"10.0.0.1:80","version":"1","weight":2},
        {"address":"10.0.0.2:80","version":"1"},
        {"address":"10.0.0.3:80","version":"2"}]}"#;

    #[test]
    fn a_drained_name_stays_drained_when_it_stands_for_another_address() {
        let json = r#"{"name":"web","endpoints":[{"address":"a.test:80","version":"1"}]}"#;
        let definition = definition(json);
        let name = || definition.endpoints[0].address.clone();
        let resolved = |ip: &str| Resolved::from([("a.test".into(), vec![ip.parse().unwrap()])]);
        let build = |previous, ip, drained: &Drained| {
            Service::new(
                definition.clone(),
                &Timeouts::default(),
                previous,
                &resolved(ip),
                1,
                drained,
            )
        };
        let before = build(None, "10.0.0.1", &Drained::new());
        before.versions[0].endpoints.list[0].claims.retire();
        let drained = Drained::from([("1".into(), name())]);
        assert!(
            build(Some(&before), "10.0.0.2", &drained)
                .claim(0, &NO_HINTS)
                .is_none()
        );
        assert!(
            build(Some(&before), "10.0.0.2", &Drained::new())
                .claim(0, &NO_HINTS)
                .is_some()
        );
    }

    #[test]
    fn a_new_endpoint_starts_down_only_where_there_is_a_health_check() {
        let json = r#"{"name":"web","health":{"path":"/"},"endpoints":[{"address":"10.0.0.1:80","version":"1"}]}"#;
        let checked = service(json, None);
        assert!(checked.claim(0, &NO_HINTS).is_none());
        checked.versions[0].endpoints.list[0].set_health(Ok(()));
        assert!(checked.claim(0, &NO_HINTS).is_some());
        assert!(service(TWO, None).claim(0, &NO_HINTS).is_some());
    }

    #[test]
    fn the_same_endpoint_in_a_later_table_is_the_same_until_it_is_retired() {
        let before = service(TWO, None);
        let same = service(TWO, Some(&before));
        let ids = |service: &Service| service.endpoints().map(|e| e.id).collect::<Vec<_>>();
        assert_eq!(ids(&before), ids(&same));

        before.versions[0].endpoints.list[0].claims.retire();
        let drained = Drained::from([(
            "1".into(),
            before.versions[0].endpoints.list[0].address.clone(),
        )]);
        let kept = service_without(TWO, Some(&same), &drained);
        assert_eq!(ids(&before), ids(&kept));
        let renewed = service(TWO, Some(&same));
        assert_ne!(ids(&before)[0], ids(&renewed)[0]);
        assert_eq!(ids(&before)[1..], ids(&renewed)[1..]);
    }
}
