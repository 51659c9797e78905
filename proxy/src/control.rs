//! The owner of the table: every change of it goes through here, one after the other, from the
//! admin API, the config file or the resolver.
//!
//! A change is checked, made into a new table, and swapped in; what the new table no longer has
//! is retired after that, so a worker that finds an endpoint retired finds a newer table too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use admin_api::strict::InputError;
use admin_api::{DrainReceipt, ServiceSpec};
use arc_swap::ArcSwap;

use crate::config::{Config, Timeouts};
use crate::definition::{Address, Definition, unknown_version};
use crate::desired::{Desired, Saved};
use crate::drain::Drains;
use crate::endpoint::Endpoint;
use crate::health::Health;
use crate::resolve::Resolver;
use crate::route::Conflict;
use crate::service::{Resolved, Retired, Service};
use crate::state::StateFile;
use crate::table::Table;

/// The owner of the table.
pub(crate) struct Control {
    table: Arc<ArcSwap<Table>>,
    workers: usize,
    wanted: Mutex<Wanted>,
    pub(crate) drains: Arc<Drains>,
    health: Health,
    resolver: Resolver,
    state: Option<StateFile>,
}

struct Wanted {
    desired: Desired,
    resolved: Resolved,
    timeouts: Timeouts,
}

/// Why a change was not made. The table is as it was before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("there is no service `{0}`")]
    UnknownService(String),
    #[error("{message}")]
    UnknownVersion {
        field: &'static str,
        message: String,
    },
    #[error(transparent)]
    Invalid(#[from] InputError),
    #[error("{0}")]
    Conflict(String),
    #[error("the table is at generation {have}, not {asked}")]
    Generation { have: u64, asked: u64 },
    #[error("the change is in force, but could not be kept for the next start: {0}")]
    NotSaved(String),
}

/// What a drain is about: the endpoints that have this version and this address, where they
/// are given.
#[derive(Debug)]
pub(crate) struct DrainTarget {
    pub(crate) version: Option<String>,
    pub(crate) endpoint: Option<String>,
}

impl DrainTarget {
    pub(crate) fn covers(&self, endpoint: &Endpoint) -> bool {
        self.version
            .as_ref()
            .is_none_or(|label| *endpoint.version == **label)
            && self
                .endpoint
                .as_ref()
                .is_none_or(|address| endpoint.address.to_string() == *address)
    }
}

impl Control {
    /// Builds the first table from what is wanted, and swaps it in.
    pub(crate) async fn start(
        config: &Config,
        table: Arc<ArcSwap<Table>>,
        workers: usize,
        drains: Arc<Drains>,
        state: Option<StateFile>,
    ) -> Result<Arc<Self>, ChangeError> {
        let saved = state.as_ref().map(StateFile::load).unwrap_or_default();
        let desired = Desired::at_start(&config.services, saved);
        let specs: Vec<ServiceSpec> = desired.specs().cloned().collect();
        let timeouts = config.timeouts.clone();
        let wanted = Wanted {
            desired,
            resolved: Resolved::new(),
            timeouts,
        };
        let control = Arc::new_cyclic(|control| Self {
            table,
            workers,
            wanted: Mutex::new(wanted),
            drains,
            health: Health::default(),
            resolver: Resolver::new(control.clone(), config.timeouts.resolve),
            state,
        });
        control.look_up(&specs).await;
        {
            let mut wanted = control.wanted();
            if let Err(error) = control.replace_all(&wanted) {
                // Each service was good when it was saved; with this config file they are not.
                tracing::error!(%error, "the saved state does not go with the config file, and is left out");
                wanted.desired = Desired::at_start(&config.services, Saved::default());
                control.replace_all(&wanted)?;
            }
        }
        Ok(control)
    }

    /// The present table.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Takes up what the config file has now. Gives whether anything changed.
    pub(crate) async fn read_file(&self, config: &Config) -> Result<bool, ChangeError> {
        self.look_up(&config.services).await;
        let mut wanted = self.wanted();
        let mut desired = wanted.desired.clone();
        desired.read_file(&config.services);
        if desired == wanted.desired && config.timeouts == wanted.timeouts {
            return Ok(false);
        }
        let before = std::mem::replace(&mut wanted.desired, desired);
        let timeouts = std::mem::replace(&mut wanted.timeouts, config.timeouts.clone());
        if let Err(error) = self.replace_all(&wanted) {
            wanted.desired = before;
            wanted.timeouts = timeouts;
            return Err(error);
        }
        Ok(true)
    }

    /// Sets the whole upstream set of a service. Gives the generation that has it.
    pub(crate) async fn put(
        &self,
        spec: ServiceSpec,
        if_match: Option<u64>,
    ) -> Result<u64, ChangeError> {
        let definition = Definition::check(&spec)?;
        self.look_up(std::slice::from_ref(&spec)).await;
        let generation = {
            let mut wanted = self.matching(if_match)?;
            let generation = self.replace(&wanted, definition, Retired::Renew)?;
            wanted.desired.set(&spec.name.clone(), Some(spec));
            generation
        };
        self.saved(generation).await
    }

    /// Sets the split of a service.
    pub(crate) async fn set_split(
        &self,
        name: &str,
        split: BTreeMap<String, u32>,
        if_match: Option<u64>,
    ) -> Result<u64, ChangeError> {
        let generation = {
            let mut wanted = self.matching(if_match)?;
            let spec = wanted
                .desired
                .get(name)
                .ok_or_else(|| unknown_service(name))?;
            let definition = Definition::check(spec)?.with_split(&split)?;
            let spec = ServiceSpec {
                split,
                ..spec.clone()
            };
            let generation = self.replace(&wanted, definition, Retired::Keep)?;
            wanted.desired.set(name, Some(spec));
            generation
        };
        self.saved(generation).await
    }

    /// Takes a service out. Its endpoints drain.
    pub(crate) async fn delete(
        &self,
        name: &str,
        if_match: Option<u64>,
    ) -> Result<u64, ChangeError> {
        let generation = {
            let mut wanted = self.matching(if_match)?;
            wanted
                .desired
                .get(name)
                .ok_or_else(|| unknown_service(name))?;
            let table = self.table();
            let rest = table
                .services()
                .iter()
                .filter(|service| *service.definition.name != *name);
            let next = table.with_all(rest.cloned().collect(), table.timeouts.clone());
            let next = next.map_err(|c| conflict(&c))?;
            wanted.desired.set(name, None);
            self.swap(&table, next, [name])
        };
        self.saved(generation).await
    }

    /// Retires the endpoints that `target` covers, and says how far they are.
    pub(crate) fn drain(
        &self,
        name: &str,
        target: &DrainTarget,
    ) -> Result<DrainReceipt, ChangeError> {
        let wanted = self.wanted();
        let table = self.table();
        let service = table.service(name);
        let endpoints: Vec<Arc<Endpoint>> = service
            .into_iter()
            .flat_map(|service| service.endpoints())
            .filter(|endpoint| target.covers(endpoint))
            .cloned()
            .collect();
        let survives = |service: &Arc<Service>| service.survives_without(|e| target.covers(e));
        if !endpoints.is_empty() && !service.is_none_or(survives) {
            return Err(ChangeError::Conflict(
                "the drain would leave the service nothing to send requests to: set a split that gives another version a share first".into(),
            ));
        }
        self.drains.retire(name, &endpoints, &table.timeouts);
        drop(wanted);
        self.receipt(name, target)
    }

    /// How far the drain of what `target` covers is.
    pub(crate) fn receipt(
        &self,
        name: &str,
        target: &DrainTarget,
    ) -> Result<DrainReceipt, ChangeError> {
        if let Some(receipt) = self.drains.receipt(name, target) {
            return Ok(receipt);
        }
        let table = self.table();
        let service = table.service(name).ok_or_else(|| unknown_service(name))?;
        let split = &service.definition.split;
        Err(match target {
            DrainTarget {
                version: Some(version),
                ..
            } if !split.contains_key(version.as_str()) => {
                let message = unknown_version(version, split);
                ChangeError::UnknownVersion {
                    field: "version",
                    message,
                }
            }
            DrainTarget { endpoint, .. } => {
                let address = endpoint.as_deref().unwrap_or("with an address");
                let message = format!("service `{name}` has no endpoint `{address}`");
                ChangeError::UnknownVersion {
                    field: "endpoint",
                    message,
                }
            }
        })
    }

    /// A name stands for other addresses now.
    pub(crate) fn resolved(&self, name: &Arc<str>, addresses: Vec<IpAddr>) {
        let mut wanted = self.wanted();
        if !wanted.note(name, addresses) {
            return;
        }
        let uses = |spec: &ServiceSpec| names_of(spec).contains(name);
        let using: Vec<ServiceSpec> = wanted
            .desired
            .specs()
            .filter(|s| uses(s))
            .cloned()
            .collect();
        for spec in using {
            let swapped = Definition::check(&spec)
                .map_err(ChangeError::from)
                .and_then(|definition| self.replace(&wanted, definition, Retired::Keep));
            if let Err(error) = swapped {
                tracing::error!(service = spec.name, %error, "cannot take up new addresses");
            }
        }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        // Nothing that is done under this lock leaves it half-changed.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, if the table is still at the generation that the caller has seen.
    fn matching(&self, if_match: Option<u64>) -> Result<MutexGuard<'_, Wanted>, ChangeError> {
        let wanted = self.wanted();
        let have = self.table.load().generation;
        match if_match {
            Some(asked) if asked != have => Err(ChangeError::Generation { have, asked }),
            _ => Ok(wanted),
        }
    }

    /// Swaps in a table with this service.
    fn replace(
        &self,
        wanted: &Wanted,
        definition: Definition,
        retired: Retired,
    ) -> Result<u64, ChangeError> {
        let table = self.table();
        let name = definition.name.clone();
        let previous = table.service(&name).map(AsRef::as_ref);
        let service = Service::new(
            Arc::new(definition),
            previous,
            &wanted.resolved,
            self.workers,
            retired,
        );
        let next = table
            .with(Arc::new(service))
            .map_err(|conflict| ChangeError::Conflict(conflict.message(&name)))?;
        Ok(self.swap(&table, next, [&*name]))
    }

    /// Swaps in a table with all that is wanted.
    fn replace_all(&self, wanted: &Wanted) -> Result<u64, ChangeError> {
        let table = self.table();
        let mut services = Vec::new();
        for spec in wanted.desired.specs() {
            let definition = Arc::new(Definition::check(spec)?);
            let previous = table.service(&definition.name);
            services.push(match previous {
                Some(same) if same.definition == definition => same.clone(),
                _ => Arc::new(Service::new(
                    definition,
                    previous.map(AsRef::as_ref),
                    &wanted.resolved,
                    self.workers,
                    Retired::Renew,
                )),
            });
        }
        let names: BTreeSet<Arc<str>> = services
            .iter()
            .chain(table.services())
            .map(|service| service.definition.name.clone())
            .collect();
        let next = table.with_all(services, wanted.timeouts.clone());
        let next = next.map_err(|c| conflict(&c))?;
        Ok(self.swap(&table, next, names.iter().map(AsRef::as_ref)))
    }

    /// Swaps the table, then retires what the services with these names no longer have.
    fn swap<'n>(
        &self,
        before: &Table,
        next: Table,
        names: impl IntoIterator<Item = &'n str>,
    ) -> u64 {
        let next = Arc::new(next);
        self.table.store(next.clone());
        for name in names {
            let (old, new) = (before.service(name), next.service(name));
            let kept: BTreeSet<u64> = new
                .into_iter()
                .flat_map(|service| service.endpoints())
                .map(|e| e.id)
                .collect();
            let gone: Vec<Arc<Endpoint>> = old
                .into_iter()
                .flat_map(|service| service.endpoints())
                .filter(|endpoint| !kept.contains(&endpoint.id))
                .cloned()
                .collect();
            self.drains.retire(name, &gone, &next.timeouts);
            self.health.replaced(&gone, new.map(AsRef::as_ref));
            let names = new
                .map(|service| names_in(&service.definition))
                .unwrap_or_default();
            self.resolver.replaced(name, names);
        }
        tracing::debug!(generation = next.generation, "table swapped");
        next.generation
    }

    /// Looks up the names of services before they are swapped in, so that they do not begin
    /// without addresses.
    async fn look_up(&self, specs: &[ServiceSpec]) {
        let names: BTreeSet<Arc<str>> = specs.iter().flat_map(names_of).collect();
        for (name, addresses) in self.resolver.look_up(names).await {
            self.wanted().note(&name, addresses);
        }
    }

    /// Waits until a change is on disk, where it is to be kept at all.
    async fn saved(&self, generation: u64) -> Result<u64, ChangeError> {
        if let Some(state) = &self.state {
            let snapshot = || {
                let wanted = self.wanted();
                (self.table.load().generation, wanted.desired.to_save())
            };
            state
                .save(generation, snapshot)
                .await
                .map_err(ChangeError::NotSaved)?;
        }
        Ok(generation)
    }
}

impl Wanted {
    /// Notes what a name stands for. Gives whether that is new.
    fn note(&mut self, name: &Arc<str>, mut addresses: Vec<IpAddr>) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        let known = self.resolved.get(name);
        // A look-up that fails takes nothing away: the addresses may well be good.
        if addresses.is_empty() || known == Some(&addresses) {
            return false;
        }
        self.resolved.insert(name.clone(), addresses);
        true
    }
}

fn conflict(conflict: &Conflict) -> ChangeError {
    let [_, second] = &conflict.services;
    ChangeError::Conflict(format!("service `{second}` {}", conflict.message(second)))
}

fn unknown_service(name: &str) -> ChangeError {
    ChangeError::UnknownService(name.to_owned())
}

fn names_of(spec: &ServiceSpec) -> BTreeSet<Arc<str>> {
    Definition::check(spec)
        .map(|definition| names_in(&definition))
        .unwrap_or_default()
}

fn names_in(definition: &Definition) -> BTreeSet<Arc<str>> {
    let names = definition
        .endpoints
        .iter()
        .filter_map(|endpoint| match &endpoint.address {
            Address::Name(name, _) => Some(name.clone()),
            Address::Ip(_) => None,
        });
    names.collect()
}
