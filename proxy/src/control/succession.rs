//! The table, as one process of the proxy passes it on to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use admin_api::ServiceSpec;
use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{ChangeError, Checked, Control, DesiredState, ProcessRole, names_in, names_of};
use crate::config::Config;
use crate::control::drain::Drains;
use crate::control::health::Health;
use crate::control::snapshot::{HandoverSnapshot, ServiceSnapshot};
use crate::control::state_file::StateFile;
use crate::control::unsaved::generation_after;
use crate::table::Table;
use crate::table::counts::stats::Stats;
use crate::table::definition::Definition;
use crate::table::endpoint::Endpoint;
use crate::table::endpoint_id::{EndpointId, next_id, skip_ids};
use crate::table::hold::Hold;
use crate::table::service::Service;
use crate::table::services::Services;
use crate::table::version::Draft;
use crate::wire::address::check_address;

/// Endpoints that the process which died may have made, and that are unknown here.
const UNKNOWN_IDS: EndpointId = 1 << 32;

pub(super) type Known = HashMap<EndpointId, Arc<Endpoint>>;

impl Control {
    /// Begins with the table of the process before: its endpoints keep the health that it knew,
    /// so that no client has to wait for them. Then the config file is applied, as if it had
    /// changed.
    pub(crate) async fn succeed(
        config: &Config,
        table: Arc<ArcSwap<Table>>,
        workers: usize,
        drains: Arc<Drains>,
        state: Option<StateFile>,
        mut snapshot: HandoverSnapshot,
    ) -> Result<Arc<Self>, ChangeError> {
        let (health, _) = Health::starting(drains.teller());
        health.started();
        let control = Self::new(config, table, workers, drains, state, health);
        if config.cookie_key.is_some() {
            snapshot.cookie_key.clone_from(&config.cookie_key);
        }
        control.adopt(snapshot).map_err(ChangeError::State)?;
        control.take_up(config).await?;
        Ok(control)
    }

    /// Whose the table is.
    pub(crate) fn process_role(&self) -> ProcessRole {
        *self.process_role.borrow()
    }

    /// Changes whenever [`Control::process_role`] does.
    pub(crate) fn watch_process_role(&self) -> watch::Receiver<ProcessRole> {
        self.process_role.subscribe()
    }

    /// Nothing changes from here on, until the next call of [`Control::set_process_role`].
    pub(crate) async fn freeze(&self) {
        self.set_process_role(ProcessRole::Frozen);
        let generation = self.table.load().generation;
        // A caller that waits for its change to be saved gets its response by this. Where it cannot
        // be kept, that one is told so.
        let _ = self.saved(generation).await;
        if let Some(state) = &self.state {
            state.close(self).await;
        }
    }

    /// Gives the table to another process, or has it again.
    pub(crate) fn set_process_role(&self, process_role: ProcessRole) {
        let _wanted = self.wanted();
        self.process_role.send_replace(process_role);
        if let (ProcessRole::Active, Some(state)) = (process_role, &self.state) {
            state.open();
        }
        if process_role == ProcessRole::Draining {
            for service in self.table().services() {
                self.resolver
                    .replaced(&service.definition.name, BTreeSet::new());
            }
        }
    }

    /// The process that had taken the table over has died: it is ours again.
    pub(crate) fn take_back(&self) {
        skip_ids(next_id() + UNKNOWN_IDS);
        let table = self.table();
        // That process may have had tables that this one was not told of.
        let next = generation_after(table.generation);
        self.table.store(Arc::new(table.numbered(next)));
        self.set_process_role(ProcessRole::Active);
        for service in self.table().services() {
            let names = names_in(&service.definition);
            self.resolver.replaced(&service.definition.name, names);
        }
    }

    /// The lock, if the table is ours to change.
    pub(super) fn own(&self) -> Result<std::sync::MutexGuard<'_, DesiredState>, ChangeError> {
        let wanted = self.wanted();
        match self.process_role() {
            ProcessRole::Active => Ok(wanted),
            ProcessRole::Frozen | ProcessRole::Draining => Err(ChangeError::HandedOver),
        }
    }

    /// The table and what is wanted behind it, as far as it is not in the table `since` already.
    pub(crate) fn snapshot(&self, since: Option<&Table>) -> (Arc<Table>, HandoverSnapshot) {
        let wanted = self.wanted();
        let table = self.table();
        let none = Services::default();
        let changed = table
            .services()
            .changed_since(since.map_or(&none, Table::services));
        let services = changed.filter_map(|service| {
            let snapshot = wanted.snapshot(service)?;
            // Its types have no other keys than strings.
            let value = serde_json::to_value(snapshot).ok()?;
            Some((service.definition.name.to_string(), value))
        });
        let names = table
            .services()
            .iter()
            .map(|s| s.definition.name.to_string());
        let taken_away = wanted.desired.taken_away();
        let resolved = wanted.resolved.iter();
        let drains = if since.is_none() {
            self.drains.snapshots()
        } else {
            Vec::new()
        };
        let snapshot = HandoverSnapshot {
            generation: table.generation,
            timeouts: (&table.timeouts).into(),
            cookie_key: Some(table.cookie_key.clone()),
            names: names.collect(),
            services: services.collect(),
            taken_away: taken_away
                .map(|(name, spec)| (name.clone(), spec.clone()))
                .collect(),
            resolved: resolved
                .map(|(name, ips)| (name.to_string(), ips.clone()))
                .collect(),
            retired: self.drains.under_way(),
            drains,
            next_endpoint: next_id(),
            is_standby: false,
            others: self.drains.draining_processes.all(),
        };
        drop(wanted);
        (table, snapshot)
    }

    /// Takes over what another process wants.
    ///
    /// # Errors
    /// Where a service of it cannot be read: that one stays as it is.
    pub(crate) fn adopt(&self, snapshot: HandoverSnapshot) -> Result<(), String> {
        let mut failed = Ok(());
        let mut wanted = self.wanted();
        let before = self.table();
        skip_ids(snapshot.next_endpoint);
        let mut known = self.known();
        let names: HashSet<&str> = snapshot.names.iter().map(String::as_str).collect();
        wanted.take_in(&snapshot, &names);
        let mut services: BTreeMap<Arc<str>, Arc<Service>> = before
            .services()
            .iter()
            .filter(|service| names.contains(&*service.definition.name))
            .map(|service| (service.definition.name.clone(), service.clone()))
            .collect();
        let mut over = Vec::new();
        for (name, value) in snapshot.services {
            let read = serde_json::from_value(value).map_err(|error| error.to_string());
            let service = read.and_then(|snapshot| {
                self.adopt_service(&mut wanted, &before, &mut known, snapshot, &mut over)
            });
            match service {
                Ok(service) => drop(services.insert(service.definition.name.clone(), service)),
                Err(error) => {
                    failed = Err(format!("service `{name}` cannot be taken over: {error}"));
                }
            }
        }
        let names: BTreeSet<Arc<str>> = before
            .services()
            .iter()
            .map(|service| service.definition.name.clone())
            .chain(services.keys().cloned())
            .collect();
        let services = services.into_values().collect();
        let cookie_key = snapshot.cookie_key;
        let cookie_key = cookie_key.unwrap_or_else(|| before.cookie_key.clone());
        let timeouts = wanted.timeouts.clone();
        match Table::of(snapshot.generation, services, timeouts, cookie_key) {
            Ok(next) => {
                self.swap(&mut wanted, &before, next, names.iter().map(AsRef::as_ref));
            }
            Err(conflict) => {
                let [_, name] = &conflict.services;
                failed = Err(format!("service `{name}` {}", conflict.message(name)));
            }
        }
        // After the swap: who waited reads the new table.
        over.iter().for_each(|hold: &Arc<Hold>| hold.release());
        for drain in &snapshot.drains {
            let endpoint = known.entry(drain.endpoint.id).or_insert_with(|| {
                let address = check_address(&drain.endpoint.address);
                let address = address.unwrap_or_else(|_| drain.endpoint.target.clone().into());
                // Nothing is sent there any more: how it is reached does not matter.
                let (transport, stats) = (Arc::default(), Arc::new(Stats::new(self.workers)));
                let snapshot = &drain.endpoint;
                Arc::new(Endpoint::of_snapshot(
                    snapshot,
                    address,
                    transport,
                    stats,
                    self.workers,
                ))
            });
            self.drains.adopt(drain, endpoint);
        }
        self.retire(&snapshot.retired, &known);
        failed
    }

    /// Retires endpoints that another process has retired.
    fn retire(&self, retired: &[EndpointId], known: &Known) {
        let table = self.table();
        for service in table.services() {
            let gone: Vec<Arc<Endpoint>> = service
                .endpoints()
                .filter(|e| retired.contains(&e.id) && !e.claims.is_retired())
                .cloned()
                .collect();
            let name = &service.definition.name;
            self.drains.retire(name, &gone, &service.timeouts);
        }
        // What no table has may have a drain already; if not, it gets no claims anyway.
        for endpoint in retired.iter().filter_map(|id| known.get(id)) {
            endpoint.claims.retire();
        }
    }

    fn adopt_service(
        &self,
        wanted: &mut DesiredState,
        before: &Table,
        known: &mut Known,
        snapshot: ServiceSnapshot,
        over: &mut Vec<Arc<Hold>>,
    ) -> Result<Arc<Service>, String> {
        let definition = Definition::check(&snapshot.spec).map_err(|error| error.to_string())?;
        let name = definition.name.clone();
        let previous = before.service(&name).map(AsRef::as_ref);
        let drafts = Service::drafts(&definition, previous, self.workers);
        let mut endpoints = Vec::with_capacity(snapshot.endpoints.len());
        for snapshot in &snapshot.endpoints {
            let endpoint = match known.get(&snapshot.id) {
                Some(endpoint) => endpoint.clone(),
                None => Arc::new(Endpoint::of_snapshot(
                    snapshot,
                    check_address(&snapshot.address)?,
                    definition.transport(&snapshot.version),
                    stats_of(&drafts, &snapshot.version, self.workers),
                    self.workers,
                )),
            };
            if snapshot.retired {
                endpoint.claims.retire();
            }
            known.insert(snapshot.id, endpoint.clone());
            endpoints.push(endpoint);
        }
        let definition = Arc::new(definition);
        let service = Service::with_endpoints(
            definition,
            &wanted.timeouts,
            previous,
            &endpoints,
            drafts,
            self.workers,
        )
        .with_departed(&snapshot.departed, self.workers);
        let hold = wanted.hold_as(&name, snapshot.hold, over);
        let drained = snapshot.drained.iter().filter_map(|(version, address)| {
            Some((version.as_str().into(), check_address(address).ok()?))
        });
        wanted.drained.insert(name.to_string(), drained.collect());
        let spec = Some(snapshot.spec);
        wanted
            .desired
            .adopt(&name, spec, snapshot.file, snapshot.by_admin);
        Ok(Arc::new(service.held(hold)))
    }

    /// Every endpoint that this process has ever to do with again.
    pub(super) fn known(&self) -> Known {
        let table = self.table();
        let in_table = table
            .services()
            .iter()
            .flat_map(|service| service.endpoints())
            .cloned();
        let all = in_table.chain(self.drains.endpoints());
        all.map(|endpoint| (endpoint.id, endpoint)).collect()
    }

    /// The config file has its say over what was taken over.
    async fn take_up(&self, config: &Config) -> Result<(), ChangeError> {
        let specs: &[ServiceSpec] = &config.services;
        self.look_up(names_of(specs)).await;
        let mut wanted = self.wanted();
        let before = wanted.desired.clone();
        wanted.desired.read_file(specs);
        wanted.timeouts = config.timeouts.clone();
        let table = self.table();
        let is_same = wanted.desired.specs().all(|spec| {
            let definition = table.service(&spec.name).map(|service| &service.definition);
            definition.is_some_and(|known| Definition::check(spec).as_ref() == Ok(known))
        });
        let is_all = wanted.desired.specs().count() == table.services().len();
        if !is_same || !is_all || wanted.timeouts != table.timeouts {
            self.replace_all(&mut wanted, &before, Checked::new())?;
        }
        Ok(())
    }
}

impl DesiredState {
    /// As another process has to know it.
    fn snapshot(&self, service: &Service) -> Option<ServiceSnapshot> {
        let name = &*service.definition.name;
        let drained = self.drained.get(name).into_iter().flatten();
        Some(ServiceSnapshot {
            spec: self.desired.get(name)?.clone(),
            file: self.desired.in_file(name).cloned(),
            by_admin: self.desired.is_by_admin(name),
            drained: drained
                .map(|(version, address)| (version.to_string(), address.to_string()))
                .collect(),
            hold: self.holds.get(name).map(|hold| hold.spec().clone()),
            endpoints: service
                .endpoints()
                .map(|endpoint| endpoint.snapshot())
                .collect(),
            departed: service.departed().map(|label| label.to_string()).collect(),
        })
    }

    /// Takes in what a picture has beside services.
    fn take_in(&mut self, snapshot: &HandoverSnapshot, names: &HashSet<&str>) {
        let resolved = snapshot.resolved.iter();
        self.resolved = resolved
            .map(|(name, ips)| (name.as_str().into(), ips.clone()))
            .collect();
        self.timeouts = snapshot.timeouts.into();
        self.desired.keep_only(|name| names.contains(name));
        self.drained.retain(|name, _| names.contains(&**name));
        for (name, file) in &snapshot.taken_away {
            self.desired.adopt(name, None, Some(file.clone()), true);
        }
    }

    /// The hold that another process has, which all tables share. What is over is to be released
    /// after the swap.
    fn hold_as(
        &mut self,
        name: &str,
        spec: Option<admin_api::HoldSpec>,
        over: &mut Vec<Arc<Hold>>,
    ) -> Option<Arc<Hold>> {
        let before = self.holds.remove(name);
        let hold = match (before, spec) {
            (Some(hold), Some(spec)) if *hold.spec() == spec => Some(hold),
            (before, spec) => {
                over.extend(before);
                spec.map(Hold::new)
            }
        };
        self.holds
            .extend(hold.clone().map(|hold| (name.to_owned(), hold)));
        hold
    }
}

/// The counters of a version that is being put together.
fn stats_of(drafts: &[Draft], version: &str, workers: usize) -> Arc<Stats> {
    let draft = drafts.iter().find(|draft| **draft.label() == *version);
    draft.map_or_else(
        || Arc::new(Stats::new(workers)),
        |draft| draft.stats.clone(),
    )
}
