//! A service at one moment, with its versions and their endpoints, and the pick among them: a
//! version by the split, in it an endpoint by weight.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use admin_api::{EndpointView, HealthState, ServiceStats, ServiceView, VersionStats, VersionView};

use crate::budget::RetryBudget;
use crate::definition::{Address, Definition};
use crate::endpoint::{Endpoint, EndpointId};
use crate::sequence::{Sequence, Wheel};
use crate::stats::Stats;

/// Drawing again keeps the weights among those that are left; past so many draws most of them
/// are unusable, and whoever comes next will do.
const DRAWS: usize = 8;

/// What names stand for at the moment. A name that is missing has no address.
pub(crate) type Resolved = HashMap<Arc<str>, Vec<IpAddr>>;

/// One service, at one moment.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) definition: Arc<Definition>,
    pub(crate) versions: Vec<Version>,
    /// Over the versions, by the split.
    wheel: Wheel,
    sequence: Arc<Sequence>,
    pub(crate) budget: Arc<RetryBudget>,
}

/// One version of a service, at one moment.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) label: Arc<str>,
    weight: u32,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// One for each of `endpoints`.
    weights: Vec<u32>,
    /// Names without an address, with their weights.
    unresolved: Vec<(Address, u32)>,
    /// Over the endpoints, by their weights.
    wheel: Wheel,
    sequence: Arc<Sequence>,
    pub(crate) stats: Arc<Stats>,
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
        let mut versions: Vec<Version> = definition
            .split
            .iter()
            .map(|(label, weight)| {
                let previous = previous.and_then(|service| service.version(label));
                Version::empty(label.clone(), *weight, previous, workers)
            })
            .collect();
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
            let at = versions.binary_search_by(|version| version.label.cmp(&wanted.version));
            // `Definition::check` gave every version with endpoints its place in the split.
            let Ok(at) = at else { continue };
            let version = &mut versions[at];
            let targets = targets(&wanted.address, resolved);
            if targets.is_empty() {
                version
                    .unresolved
                    .push((wanted.address.clone(), wanted.weight));
            }
            let is_drained = drained.contains(&(wanted.version.clone(), wanted.address.clone()));
            for target in targets {
                let endpoint = match known.remove(&(&*wanted.version, &wanted.address, target)) {
                    Some(endpoint) => endpoint.clone(),
                    None if is_drained => continue,
                    None => Arc::new(Endpoint::new(
                        wanted.version.clone(),
                        wanted.address.clone(),
                        target,
                        version.stats.clone(),
                        workers,
                        definition.health.is_none(),
                    )),
                };
                version.endpoints.push(endpoint);
                version.weights.push(wanted.weight);
            }
        }
        for version in &mut versions {
            version.wheel = Wheel::new(version.weights.iter().copied());
        }
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
            definition,
            versions,
        }
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
        self.versions.iter().flat_map(|version| &version.endpoints)
    }

    /// Whether new requests have an endpoint that is up without those that `covers` says, or had
    /// none before.
    pub(crate) fn survives_without(&self, covers: impl Fn(&Endpoint) -> bool) -> bool {
        let open = || {
            self.versions
                .iter()
                .filter(|version| version.weight > 0)
                .flat_map(|version| version.endpoints.iter().zip(&version.weights))
                .filter(|(e, weight)| **weight > 0 && e.is_up() && !e.claims.is_retired())
                .map(|(endpoint, _)| endpoint)
        };
        open().next().is_none() || open().any(|endpoint| !covers(endpoint))
    }

    /// Takes a claim for a new request: a version by the split, in it an endpoint by weight. A
    /// version without a usable endpoint leaves its share to the others, by their weights.
    pub(crate) fn claim(&self, worker: usize) -> Option<Pick<'_>> {
        self.draw(worker, &[])
    }

    /// Takes a claim for a further try of a request: on an endpoint that was not tried, of the
    /// same version if it has one.
    pub(crate) fn claim_again(
        &self,
        version: usize,
        worker: usize,
        tried: &[EndpointId],
    ) -> Option<Pick<'_>> {
        self.claim_in(version, worker, tried)
            .or_else(|| self.draw(worker, tried))
    }

    fn draw(&self, worker: usize, tried: &[EndpointId]) -> Option<Pick<'_>> {
        let mut drawn = 0;
        for _ in 0..DRAWS {
            drawn = self.wheel.at(self.sequence.next(worker))?;
            if let Some(pick) = self.claim_in(drawn, worker, tried) {
                return Some(pick);
            }
        }
        let count = self.versions.len();
        (1..count)
            .map(|step| (drawn + step) % count)
            .filter(|version| self.wheel.has(*version))
            .find_map(|version| self.claim_in(version, worker, tried))
    }

    fn claim_in(&self, version: usize, worker: usize, tried: &[EndpointId]) -> Option<Pick<'_>> {
        let endpoint = self.versions[version].claim(worker, tried)?;
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
            versions: self
                .versions
                .iter()
                .map(|version| (version.label.to_string(), version.view()))
                .collect(),
        }
    }

    /// The figures of its versions.
    pub(crate) fn stats(&self, generation: u64) -> ServiceStats {
        let stats = |version: &Version| {
            let view = version.view();
            VersionStats {
                in_flight: view.in_flight,
                upgraded: view.upgraded,
                ..version.stats.read()
            }
        };
        ServiceStats {
            service: self.definition.name.to_string(),
            generation,
            versions: self
                .versions
                .iter()
                .map(|version| (version.label.to_string(), stats(version)))
                .collect(),
        }
    }
}

impl Version {
    fn empty(label: Arc<str>, weight: u32, previous: Option<&Self>, workers: usize) -> Self {
        Self {
            label,
            weight,
            endpoints: Vec::new(),
            weights: Vec::new(),
            unresolved: Vec::new(),
            wheel: Wheel::default(),
            sequence: previous.map_or_else(
                || Arc::new(Sequence::new(workers)),
                |version| version.sequence.clone(),
            ),
            stats: previous.map_or_else(
                || Arc::new(Stats::new(workers)),
                |version| version.stats.clone(),
            ),
        }
    }

    /// Takes a claim on an endpoint that is up, not retired and not in `tried`.
    fn claim(&self, worker: usize, tried: &[EndpointId]) -> Option<&Arc<Endpoint>> {
        let usable = |endpoint: &Arc<Endpoint>| {
            endpoint.is_up() && !tried.contains(&endpoint.id) && endpoint.claims.take(worker)
        };
        let mut at = 0;
        for _ in 0..DRAWS {
            at = self.wheel.at(self.sequence.next(worker))?;
            if usable(&self.endpoints[at]) {
                return Some(&self.endpoints[at]);
            }
        }
        let count = self.endpoints.len();
        (1..=count)
            .map(|step| (at + step) % count)
            .filter(|at| self.wheel.has(*at))
            .map(|at| &self.endpoints[at])
            .find(|endpoint| usable(endpoint))
    }

    fn view(&self) -> VersionView {
        let unresolved = |(address, weight): &(Address, u32)| EndpointView {
            address: address.to_string(),
            resolved: None,
            weight: *weight,
            health: HealthState::Unresolved,
            reason: Some("its name has no address".into()),
            in_flight: 0,
            upgraded: 0,
            requests: 0,
        };
        let endpoints: Vec<EndpointView> = self
            .endpoints
            .iter()
            .zip(&self.weights)
            .map(|(endpoint, weight)| endpoint.view(*weight))
            .chain(self.unresolved.iter().map(unresolved))
            .collect();
        VersionView {
            weight: self.weight,
            in_flight: endpoints.iter().map(|endpoint| endpoint.in_flight).sum(),
            upgraded: endpoints.iter().map(|endpoint| endpoint.upgraded).sum(),
            endpoints,
        }
    }
}

/// The addresses that an endpoint's address stands for.
fn targets(address: &Address, resolved: &Resolved) -> Vec<SocketAddr> {
    match address {
        Address::Ip(target) => vec![*target],
        Address::Name(name, port) => resolved
            .get(name)
            .into_iter()
            .flatten()
            .map(|ip| SocketAddr::new(*ip, *port))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use admin_api::ServiceSpec;
    use admin_api::strict::from_json;

    use super::*;

    fn service(json: &str, previous: Option<&Service>) -> Service {
        service_without(json, previous, &Drained::new())
    }

    fn service_without(json: &str, previous: Option<&Service>, drained: &Drained) -> Service {
        let spec = from_json::<ServiceSpec>(json.as_bytes()).unwrap();
        let definition = Arc::new(Definition::check(&spec).unwrap());
        Service::new(definition, previous, &Resolved::new(), 1, drained)
    }

    /// How often each endpoint is picked in `n` picks.
    fn picks(service: &Service, n: usize) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for _ in 0..n {
            let Some(pick) = service.claim(0) else {
                continue;
            };
            pick.endpoint.claims.release(0);
            *counts.entry(pick.endpoint.address.to_string()).or_default() += 1;
        }
        counts
    }

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
        service.versions[0].endpoints[0].set_health(Err("refused".into()));
        let counts = picks(&service, 10_000);
        near(&counts, "10.0.0.2:80", 9_000);
        near(&counts, "10.0.0.3:80", 1_000);
    }

    #[test]
    fn a_version_with_nothing_up_leaves_its_share_to_the_others() {
        let service = service(TWO, None);
        service.versions[1].endpoints[0].set_health(Err("refused".into()));
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
        service.versions[0].endpoints[0].claims.retire();
        let counts = picks(&service, 5_100);
        near(&counts, "10.0.0.2:80", 100);
        near(&counts, "10.0.0.3:80", 5_000);
    }

    #[test]
    fn a_drained_name_stays_drained_when_it_stands_for_another_address() {
        let json = r#"{"name":"web","endpoints":[{"address":"a.test:80","version":"1"}]}"#;
        let spec = from_json::<ServiceSpec>(json.as_bytes()).unwrap();
        let definition = Arc::new(Definition::check(&spec).unwrap());
        let name = || definition.endpoints[0].address.clone();
        let resolved = |ip: &str| Resolved::from([("a.test".into(), vec![ip.parse().unwrap()])]);
        let build = |previous, ip, drained: &Drained| {
            Service::new(definition.clone(), previous, &resolved(ip), 1, drained)
        };
        let before = build(None, "10.0.0.1", &Drained::new());
        before.versions[0].endpoints[0].claims.retire();
        let drained = Drained::from([("1".into(), name())]);
        assert!(
            build(Some(&before), "10.0.0.2", &drained)
                .claim(0)
                .is_none()
        );
        assert!(
            build(Some(&before), "10.0.0.2", &Drained::new())
                .claim(0)
                .is_some()
        );
    }

    #[test]
    fn weight_0_and_all_0_are_states_and_not_panics() {
        let json = r#"{"name":"web","split":{"1":1,"2":0},"endpoints":[
            {"address":"10.0.0.1:80","version":"1","weight":0},
            {"address":"10.0.0.3:80","version":"2"}]}"#;
        assert!(service(json, None).claim(0).is_none());
        assert!(service(r#"{"name":"web"}"#, None).claim(0).is_none());
    }

    #[test]
    fn a_new_endpoint_starts_down_only_where_there_is_a_health_check() {
        let json = r#"{"name":"web","health":{"path":"/"},"endpoints":[{"address":"10.0.0.1:80","version":"1"}]}"#;
        let checked = service(json, None);
        assert!(checked.claim(0).is_none());
        checked.versions[0].endpoints[0].set_health(Ok(()));
        assert!(checked.claim(0).is_some());
        assert!(service(TWO, None).claim(0).is_some());
    }

    #[test]
    fn the_same_endpoint_in_a_later_table_is_the_same_until_it_is_retired() {
        let before = service(TWO, None);
        let same = service(TWO, Some(&before));
        let ids = |service: &Service| service.endpoints().map(|e| e.id).collect::<Vec<_>>();
        assert_eq!(ids(&before), ids(&same));

        before.versions[0].endpoints[0].claims.retire();
        let drained =
            Drained::from([("1".into(), before.versions[0].endpoints[0].address.clone())]);
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
        while let Some(pick) = service.claim_again(version, 0, &tried) {
            assert!(!tried.contains(&pick.endpoint.id));
            tried.push(pick.endpoint.id);
            version = pick.version;
        }
        assert_eq!(tried.len(), 3);
    }
}
