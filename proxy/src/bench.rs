//! What the micro benchmarks reach of the inside. It has no use in the proxy, and may change with
//! anything that it reaches.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use admin_api::{BalanceSpec, EndpointSpec, HashKey, PathSpec, ServiceSpec, TrafficSettings};
use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};

use crate::config::Config;
use crate::control::Control;
use crate::control::drain::Drains;
use crate::control::state_file::StateFile;
use crate::table::Table;
use crate::table::definition::Definition;
use crate::table::route::Routes;
use crate::table::routing_hints::RoutingHints;
use crate::table::service::{Drained, Service};
use crate::table::version::Resolved;
use crate::wire::expectation::Expectation;
use crate::wire::forwarding::Onward;
use crate::wire::h1::head::{MAX_FIELDS, find_end, read_request};
use crate::wire::head::Head;
use crate::wire::headers;
use crate::wire::peer::Peer;

/// One worker takes all claims.
const WORKERS: usize = 1;
const WORKER: usize = 0;
/// The least that is a config.
const CONFIG: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";

/// How a version's endpoints are chosen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// In turn.
    RoundRobin,
    /// The one with less in flight of two.
    LeastInFlight,
    /// The same for the same key.
    Hash,
}

/// A table of services alike: each with a host of its own and two versions, 90 to 10.
#[derive(Debug)]
pub struct Tables {
    current: ArcSwap<Table>,
    definitions: Vec<Arc<Definition>>,
}

impl Tables {
    /// So many services, with so many endpoints in each version. `None`: they do not pass the
    /// checks, which would be a mistake here.
    pub fn new(services: usize, endpoints: usize, policy: Policy) -> Option<Self> {
        let definitions = (0..services)
            .map(|number| {
                Definition::check(&spec(number, endpoints, policy))
                    .ok()
                    .map(Arc::new)
            })
            .collect::<Option<_>>()?;
        let timeouts = Config::parse(CONFIG).ok()?.timeouts;
        let tables = Self {
            current: ArcSwap::from_pointee(Table::empty(timeouts)),
            definitions,
        };
        let table = tables.build()?;
        tables.current.store(Arc::new(table));
        Some(tables)
    }

    fn build(&self) -> Option<Table> {
        let table = self.current.load();
        let services = self.definitions.iter().map(|definition| {
            Arc::new(Service::new(
                definition.clone(),
                &table.timeouts,
                None,
                &Resolved::new(),
                WORKERS,
                &Drained::new(),
            ))
        });
        table
            .with_all(services.collect(), table.timeouts.clone())
            .ok()
    }

    /// The host of a service.
    pub fn host(number: usize) -> String {
        format!("s{number:06}.example.com")
    }

    /// Builds the whole table anew, and swaps it in.
    pub fn rebuild(&self) -> bool {
        let table = self.build();
        table
            .map(|table| self.current.store(Arc::new(table)))
            .is_some()
    }

    /// Puts a service in the place of the one with its name, as a new split does, and swaps.
    pub fn swap(&self, number: usize) -> bool {
        let table = self.current.load();
        let Some(definition) = self.definitions.get(number) else {
            return false;
        };
        let service = Service::new(
            definition.clone(),
            &table.timeouts,
            table.service(&definition.name).map(|service| &**service),
            &Resolved::new(),
            WORKERS,
            &Drained::new(),
        );
        let next = table.with(Arc::new(service));
        next.map(|table| self.current.store(Arc::new(table)))
            .is_ok()
    }

    /// The place of the service that a request is for.
    pub fn route(&self, host: &str, path: &str) -> Option<usize> {
        self.current.load().find(host.as_bytes(), path.as_bytes())
    }

    /// Takes a claim on an endpoint of a service, and lets it go. The key counts only where
    /// requests are balanced by one.
    pub fn claim(&self, place: usize, key: u64) -> bool {
        let table = self.current.load();
        let hints = RoutingHints {
            key: Some(key),
            ..RoutingHints::NONE
        };
        let Some(pick) = table.at(place).claim(WORKER, &hints) else {
            return false;
        };
        pick.endpoint.claims.release(WORKER);
        true
    }
}

/// So many services of one host: half of them have a path of their own, half a prefix.
#[derive(Debug)]
pub struct Paths(Routes);

impl Paths {
    /// `None`: they do not pass the checks, which would be a mistake here.
    pub fn new(count: usize) -> Option<Self> {
        let definition = |number: usize| {
            let path = Self::path(number);
            let mut spec = ServiceSpec {
                name: format!("s{number:06}"),
                hosts: vec!["app.example.com".into()],
                ..ServiceSpec::default()
            };
            match number % 2 {
                0 => spec.traffic.path = Some(PathSpec::Is(path)),
                _ => spec.path_prefix = path,
            }
            Definition::check(&spec).ok()
        };
        let definitions: Option<Vec<_>> = (0..count).map(definition).collect();
        Routes::new(&definitions?).ok().map(Self)
    }

    /// The path of a service.
    pub fn path(number: usize) -> String {
        format!("/teams/{number:06}/api")
    }

    /// The place of the service that a path is for.
    pub fn route(&self, path: &str) -> Option<usize> {
        self.0.find(b"app.example.com", path.as_bytes(), None)
    }
}

fn spec(number: usize, endpoints: usize, policy: Policy) -> ServiceSpec {
    let endpoint = |version: usize, endpoint: usize| EndpointSpec {
        address: format!("10.{version}.{}.{}:80", endpoint / 250, endpoint % 250 + 1),
        version: version.to_string(),
        weight: 1,
    };
    ServiceSpec {
        name: format!("s{number:06}"),
        hosts: vec![Tables::host(number)],
        traffic: TrafficSettings {
            balance: match policy {
                Policy::RoundRobin => BalanceSpec::RoundRobin,
                Policy::LeastInFlight => BalanceSpec::LeastInFlight,
                Policy::Hash => BalanceSpec::Hash(HashKey::Address),
            },
            ..TrafficSettings::default()
        },
        split: [("1".into(), 90), ("2".into(), 10)].into(),
        endpoints: [1, 2]
            .into_iter()
            .flat_map(|version| (0..endpoints).map(move |number| endpoint(version, number)))
            .collect(),
        ..ServiceSpec::default()
    }
}

/// The owner of a table of services alike, as the admin API calls it.
pub struct Changes {
    runtime: Runtime,
    control: Arc<Control>,
}

impl Changes {
    /// The start of a proxy with so many services in its config file, and the file in which changes
    /// are kept, if they are. `None`: they do not pass the checks, which would be a mistake here.
    pub fn new(services: usize, state_file: Option<PathBuf>) -> Option<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().ok()?;
        let config = Config {
            services: (0..services)
                .map(|number| spec(number, 2, Policy::RoundRobin))
                .collect(),
            ..Config::parse(CONFIG).ok()?
        };
        let table = Arc::new(ArcSwap::from_pointee(Table::empty(config.timeouts.clone())));
        let drains = Arc::new(Drains::new(|_| {}));
        let state = state_file.map(StateFile::new);
        let control = runtime.block_on(async {
            let control = Control::start(&config, table, WORKERS, drains, state);
            let control = control.await.ok()?;
            control.begin_saving().await;
            Some(control)
        })?;
        Some(Self { runtime, control })
    }

    /// Gives a service another split, swaps the table, and waits until the disk has that, where it is
    /// kept: `percent` to its first version.
    pub fn set_split(&self, number: usize, percent: u32) -> bool {
        let split = [("1".into(), percent), ("2".into(), 100 - percent)].into();
        let name = format!("s{number:06}");
        let set = self.control.set_split(&name, split, None);
        self.runtime.block_on(set).is_ok()
    }
}

/// Reads heads, and writes what the other side should see of them.
#[derive(Debug)]
pub struct Heads {
    peer: Peer,
    head: Head,
    written: Vec<u8>,
}

impl Default for Heads {
    fn default() -> Self {
        Self {
            peer: Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), None, false),
            head: Head::default(),
            written: Vec::new(),
        }
    }
}

impl Heads {
    /// Reads a request's head. Gives whether it is one.
    pub fn read(&mut self, request: &[u8]) -> bool {
        let ends = find_end(request, &mut 0).is_ok_and(|end| end == Some(request.len()));
        ends && read_request(request, MAX_FIELDS, &mut self.head).is_ok()
    }

    /// Writes what an endpoint should see of the request that was read. Gives its length.
    pub fn rewrite(&mut self, request: &[u8]) -> usize {
        self.written.clear();
        let message = self.head.over(request);
        let onward = Onward {
            host: b"app",
            port: b"",
            forwarded: false,
            via: true,
            expectation: Expectation::Nothing,
        };
        headers::towards_endpoint(message, &self.peer, &onward, false, &mut self.written);
        self.written.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_the_benchmark_routes_claims_and_swaps() {
        let tables = Tables::new(100, 4, Policy::RoundRobin).unwrap();
        let place = tables.route(&Tables::host(42), "/").unwrap();
        assert!(tables.claim(place, 0));
        assert!(tables.swap(42) && tables.rebuild());
        assert_eq!(tables.route(&Tables::host(42), "/"), Some(place));
        assert!(!tables.swap(100));
    }

    #[test]
    fn changes_of_the_benchmark_are_published_and_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let changes = Changes::new(3, Some(path.clone())).unwrap();
        for percent in [50, 49] {
            let before = changes.control.table().generation;
            assert!(changes.set_split(1, percent));
            assert_eq!(changes.control.table().generation, before + 1);
            let text = std::fs::read_to_string(&path).unwrap();
            let split = format!("{{\"1\":{percent},\"2\":");
            assert!(text.lines().last().unwrap().contains(&split), "{text}");
        }
        assert!(!changes.set_split(3, 50));
    }

    #[test]
    fn a_head_of_the_benchmark_is_read_and_rewritten() {
        let mut heads = Heads::default();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert!(heads.read(request) && heads.rewrite(request) > 0);
        assert!(!heads.read(b"GET /\r\n\r\n"));
    }
}
