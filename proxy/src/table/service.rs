//! A service at one moment, with its versions, and the pick among them: a version by the split,
//! in it an endpoint by the service's balancing policy.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use admin_api::{ServiceStats, ServiceView, VersionStats};

use crate::table::balance::sequence::{Sequence, Wheel};
use crate::table::balance::{DRAWS, Draw};
use crate::table::definition::Definition;
use crate::table::endpoint::Endpoint;
use crate::table::endpoint_id::EndpointId;
use crate::table::hold::Hold;
use crate::table::mirror::Mirror;
use crate::table::rendezvous;
use crate::table::retry_budget::RetryBudget;
use crate::table::routing_hints::Wish;
use crate::table::sticky::Client;
use crate::table::version::{Draft, Resolved, Version, targets};
use crate::wire::address::Address;

/// One service, at one moment.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) definition: Arc<Definition>,
    pub(crate) versions: Vec<Version>,
    /// Over the versions, by the split.
    wheel: Wheel,
    sequence: Arc<Sequence>,
    pub(crate) budget: Arc<RetryBudget>,
    /// Requests are copied.
    pub(crate) mirror: Option<Mirror>,
    /// New requests wait.
    pub(crate) hold: Option<Arc<Hold>>,
}

/// Addresses of a service that were drained, by version. They stay so in later tables, whatever
/// their names stand for then, until a `PUT` of the service asks for them anew.
pub(crate) type Drained = BTreeSet<(Arc<str>, Address)>;

/// A claim that was taken on an endpoint of a service.
#[derive(Debug)]
pub(crate) struct Pick<'t> {
    /// The version's place in its service, for picking again inside it.
    pub(crate) version: usize,
    pub(crate) endpoint: &'t Arc<Endpoint>,
}

impl Service {
    /// The service as `definition` has it. What `previous` has of it already, it keeps:
    /// endpoints with their health and counters, and the places in the sequences.
    pub(crate) fn new(
        definition: Arc<Definition>,
        previous: Option<&Self>,
        resolved: &Resolved,
        workers: usize,
        drained: &Drained,
    ) -> Self {
        let mut versions = Self::drafts(&definition, previous, workers);
        let mut known: HashMap<(&str, &Address, SocketAddr), &Arc<Endpoint>> = previous
            .into_iter()
            .flat_map(Self::endpoints)
            .filter(|e| {
                !e.claims.is_retired() || drained.contains(&(e.version.clone(), e.address.clone()))
            })
            .map(|endpoint| {
                (
                    (&*endpoint.version, &endpoint.address, endpoint.target),
                    endpoint,
                )
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
            let reach = definition.reach(&wanted.version);
            let is_drained = drained.contains(&(wanted.version.clone(), wanted.address.clone()));
            for target in targets {
                let known = known.remove(&(&*wanted.version, &wanted.address, target));
                let endpoint = match known.filter(|endpoint| endpoint.reach == reach) {
                    Some(endpoint) => endpoint.clone(),
                    None if is_drained => continue,
                    None => Arc::new(Endpoint::new(
                        wanted.version.clone(),
                        wanted.address.clone(),
                        target,
                        reach.clone(),
                        version.stats.clone(),
                        workers,
                        definition.health.is_none(),
                    )),
                };
                version.add(endpoint, wanted.weight);
            }
        }
        Self::of_versions(definition, previous, versions, workers)
    }

    /// The service with exactly these endpoints, as another process has it.
    pub(crate) fn with_endpoints(
        definition: Arc<Definition>,
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
        Self::of_versions(definition, previous, drafts, workers)
    }

    /// Versions without endpoints; they keep what `previous` has of them.
    pub(crate) fn drafts(
        definition: &Definition,
        previous: Option<&Self>,
        workers: usize,
    ) -> Vec<Draft> {
        let draft = |(label, weight): (&Arc<str>, &u32)| {
            let previous = previous.and_then(|service| service.version(label));
            Draft::new(label.clone(), *weight, previous, workers)
        };
        definition.split.iter().map(draft).collect()
    }

    fn of_versions(
        definition: Arc<Definition>,
        previous: Option<&Self>,
        versions: Vec<Draft>,
        workers: usize,
    ) -> Self {
        let versions: Vec<Version> = versions.into_iter().map(Draft::finish).collect();
        Self {
            wheel: Wheel::new(versions.iter().map(|version| version.weight)),
            sequence: previous.map_or_else(
                || Arc::new(Sequence::new(workers)),
                |service| service.sequence.clone(),
            ),
            budget: previous.map_or_else(
                || Arc::new(RetryBudget::new(workers)),
                |service| service.budget.clone(),
            ),
            mirror: Self::mirror_of(&definition, previous, workers),
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

    /// The same service, held or not.
    pub(crate) fn held(self, hold: Option<Arc<Hold>>) -> Self {
        Self { hold, ..self }
    }

    /// The version with this label.
    pub(crate) fn version(&self, label: &str) -> Option<&Version> {
        let at = self
            .versions
            .binary_search_by(|version| (*version.label).cmp(label))
            .ok()?;
        Some(&self.versions[at])
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

    /// Takes a claim for a new request: a version by the split, in it an endpoint by the
    /// balancing policy. A version without a usable endpoint leaves its share to the others, by
    /// their weights.
    pub(crate) fn claim(&self, worker: usize, wish: &Wish) -> Option<Pick<'_>> {
        self.pick(Draw::new(worker, wish, &[]))
    }

    /// Takes a claim for a further try of a request: on an endpoint that was not tried, of the
    /// same version if it has one.
    pub(crate) fn claim_again(
        &self,
        version: usize,
        worker: usize,
        wish: &Wish,
        tried: &[EndpointId],
    ) -> Option<Pick<'_>> {
        let draw = Draw::new(worker, wish, tried);
        self.claim_in(version, draw).or_else(|| self.pick(draw))
    }

    /// Takes a claim on an endpoint that is down, where none is up: one that was up before may
    /// well answer, and a refusal surely helps nobody.
    pub(crate) fn claim_in_panic(&self, worker: usize, wish: &Wish) -> Option<Pick<'_>> {
        let draw = Draw {
            panic: true,
            ..Draw::new(worker, wish, &[])
        };
        let pick = match wish.version {
            // Another version is not what a tester wants to see.
            Some(version) => self.claim_in(version, draw),
            None => self.draw(draw),
        }?;
        self.versions[pick.version].stats.panicked(worker);
        Some(pick)
    }

    /// Takes a claim for a copy of a request, on an endpoint of the version that is up.
    pub(crate) fn claim_copy(&self, worker: usize, version: usize) -> Option<&Arc<Endpoint>> {
        let pick = self.claim_in(version, Draw::new(worker, &Wish::NONE, &[]))?;
        Some(pick.endpoint)
    }

    /// Whether new requests have nothing that is up, only what was up before.
    pub(crate) fn is_in_panic(&self) -> bool {
        let mut versions = self.versions.iter().filter(|version| version.weight > 0);
        versions.clone().any(Version::is_down) && !versions.any(Version::is_up)
    }

    /// Versions whose share goes to the others.
    pub(crate) fn versions_down(&self) -> impl Iterator<Item = &Version> {
        let with_share = || self.versions.iter().filter(|version| version.weight > 0);
        let others = with_share().any(Version::is_up);
        with_share().filter(move |version| others && version.is_down())
    }

    fn pick(&self, draw: Draw<'_>) -> Option<Pick<'_>> {
        match draw.wish {
            // Another version is not what a tester wants to see.
            Wish {
                version: Some(version),
                ..
            } => self.claim_in(*version, draw),
            Wish {
                client: Client {
                    user: Some(user), ..
                },
                ..
            } => self.pick_for(*user, draw),
            _ => self.draw(draw),
        }
    }

    /// A version by the client: the one that it belongs to, or where nothing of that is up, the
    /// one that is next in line for it.
    fn pick_for(&self, user: u64, draw: Draw<'_>) -> Option<Pick<'_>> {
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
            if let Some(pick) = self.claim_in(at, draw) {
                if let Some(first) = passed.first() {
                    self.note_diverted(*first, draw);
                }
                return Some(pick);
            }
            passed.push(at);
        }
    }

    /// A version by the split.
    fn draw(&self, draw: Draw<'_>) -> Option<Pick<'_>> {
        let first = self.wheel.at(self.sequence.next(draw.worker))?;
        if let Some(pick) = self.claim_in(first, draw) {
            return Some(pick);
        }
        let mut drawn = first;
        let mut detour = || {
            drawn = self.wheel.at(self.sequence.detour(draw.worker))?;
            self.claim_in(drawn, draw)
        };
        let pick = (1..DRAWS).find_map(|_| detour()).or_else(|| {
            let count = self.versions.len();
            (1..count)
                .map(|step| (drawn + step) % count)
                .filter(|version| self.wheel.has(*version))
                .find_map(|version| self.claim_in(version, draw))
        })?;
        self.note_diverted(first, draw);
        Some(pick)
    }

    /// Counts a new request that went elsewhere than the split would have it.
    fn note_diverted(&self, from: usize, draw: Draw<'_>) {
        if draw.tried.is_empty() {
            self.versions[from].stats.diverted(draw.worker);
        }
    }

    fn claim_in(&self, version: usize, draw: Draw<'_>) -> Option<Pick<'_>> {
        let endpoints = &self.versions[version].endpoints;
        let endpoint = self.definition.balance.claim(endpoints, draw)?;
        Some(Pick { version, endpoint })
    }

    /// As the admin API shows it.
    pub(crate) fn view(&self, generation: u64) -> ServiceView {
        let definition = &self.definition;
        ServiceView {
            name: definition.name.to_string(),
            generation,
            hosts: definition
                .hosts
                .iter()
                .filter_map(|host| host.text())
                .collect(),
            path_prefix: definition.prefix_text().to_owned(),
            strip_prefix: definition.strip_prefix,
            split: definition
                .split
                .iter()
                .map(|(version, weight)| (version.to_string(), *weight))
                .collect(),
            health: definition.health.clone(),
            ejection: definition.ejection.clone(),
            sticky: definition
                .sticky
                .as_ref()
                .map(|sticky| sticky.spec().clone()),
            force: definition.force.as_ref().map(|force| force.spec().clone()),
            mirror: self.mirror.as_ref().map(|mirror| mirror.spec().clone()),
            held: self.hold.as_ref().map(|hold| hold.view()),
            panic: self.is_in_panic(),
            balance: definition.balance.spec(),
            versions: self
                .versions
                .iter()
                .map(|version| {
                    (
                        version.label.to_string(),
                        version.view(&self.definition.reach(&version.label)),
                    )
                })
                .collect(),
        }
    }

    /// The figures of its versions.
    pub(crate) fn stats(&self, generation: u64) -> ServiceStats {
        let stats = |version: &Version| {
            let view = version.view(&self.definition.reach(&version.label));
            VersionStats {
                in_flight: view.in_flight,
                streams: view.streams,
                upgraded: view.upgraded,
                ..version.stats.read()
            }
        };
        ServiceStats {
            service: self.definition.name.to_string(),
            generation,
            mirror: self.mirror.as_ref().map(Mirror::stats),
            versions: self
                .versions
                .iter()
                .map(|version| (version.label.to_string(), stats(version)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{definition, picks, service, service_without};

    const NO_WISH: Wish = Wish::NONE;

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
    fn a_drained_name_stays_drained_when_it_stands_for_another_address() {
        let json = r#"{"name":"web","endpoints":[{"address":"a.test:80","version":"1"}]}"#;
        let definition = definition(json);
        let name = || definition.endpoints[0].address.clone();
        let resolved = |ip: &str| Resolved::from([("a.test".into(), vec![ip.parse().unwrap()])]);
        let build = |previous, ip, drained: &Drained| {
            Service::new(definition.clone(), previous, &resolved(ip), 1, drained)
        };
        let before = build(None, "10.0.0.1", &Drained::new());
        before.versions[0].endpoints.list[0].claims.retire();
        let drained = Drained::from([("1".into(), name())]);
        assert!(
            build(Some(&before), "10.0.0.2", &drained)
                .claim(0, &NO_WISH)
                .is_none()
        );
        assert!(
            build(Some(&before), "10.0.0.2", &Drained::new())
                .claim(0, &NO_WISH)
                .is_some()
        );
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
        assert!(!service.is_in_panic());
    }

    #[test]
    fn with_nothing_up_what_was_up_before_is_tried_anyway() {
        let service = service(TWO, None);
        for endpoint in service.endpoints() {
            endpoint.set_health(Err("refused".into()));
        }
        assert!(service.claim(0, &NO_WISH).is_none());
        assert!(service.is_in_panic() && service.versions_down().next().is_none());
        let tried = (0..1_000).filter(|_| service.claim_in_panic(0, &NO_WISH).is_some());
        assert_eq!(tried.count(), 1_000);
        assert!(service.versions[0].stats.read().panicked.abs_diff(900) <= 5);

        let checked = r#"{"name":"web","health":{"path":"/"},"endpoints":[{"address":"10.0.0.1:80","version":"1"}]}"#;
        let new = crate::testing::service(checked, None);
        assert!(new.claim_in_panic(0, &NO_WISH).is_none(), "it was never up");
        assert!(!new.is_in_panic());
    }

    #[test]
    fn a_client_keeps_its_version_and_leaves_it_only_while_it_is_down() {
        let sticky = TWO.replacen('{', r#"{"sticky":{"header":"x-user"},"#, 1);
        let service = service(&sticky, None);
        let version_of = |user: u64| {
            let client = Client {
                user: Some(user),
                ..Client::UNKNOWN
            };
            let wish = Wish { client, ..NO_WISH };
            service.claim(0, &wish).unwrap().version
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
        let wish = Wish {
            version: Some(1),
            ..NO_WISH
        };
        assert_eq!(service.claim(0, &wish).unwrap().version, 1);
        let tried = [service.versions[1].endpoints.list[0].id];
        assert!(service.claim_again(1, 0, &wish, &tried).is_none());
        service.versions[1].endpoints.list[0].eject("5 failures in a row".into());
        assert!(service.claim(0, &wish).is_none());
        let in_panic = service.claim_in_panic(0, &wish);
        assert!(in_panic.is_none_or(|pick| pick.version == 1));
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
        assert!(service(json, None).claim(0, &NO_WISH).is_none());
        assert!(
            service(r#"{"name":"web"}"#, None)
                .claim(0, &NO_WISH)
                .is_none()
        );
    }

    #[test]
    fn a_new_endpoint_starts_down_only_where_there_is_a_health_check() {
        let json = r#"{"name":"web","health":{"path":"/"},"endpoints":[{"address":"10.0.0.1:80","version":"1"}]}"#;
        let checked = service(json, None);
        assert!(checked.claim(0, &NO_WISH).is_none());
        checked.versions[0].endpoints.list[0].set_health(Ok(()));
        assert!(checked.claim(0, &NO_WISH).is_some());
        assert!(service(TWO, None).claim(0, &NO_WISH).is_some());
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

    #[test]
    fn a_further_try_goes_to_an_endpoint_that_was_not_tried() {
        let service = service(TWO, None);
        let mut tried = Vec::new();
        let mut version = 0;
        while let Some(pick) = service.claim_again(version, 0, &NO_WISH, &tried) {
            assert!(!tried.contains(&pick.endpoint.id));
            tried.push(pick.endpoint.id);
            version = pick.version;
        }
        assert_eq!(tried.len(), 3);
    }
}
