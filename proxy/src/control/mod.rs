//! The owner of the table: every change of it goes through here, one after the other, from the
//! admin API, the config file or the resolver.
//!
//! A change is checked, made into a new table, and swapped in; what the new table no longer has
//! is retired after that, so a worker that finds an endpoint retired finds a newer table too.

pub(crate) mod config_file;
mod desired;
pub(crate) mod drain;
pub(crate) mod draining;
mod ejection;
mod error;
pub(crate) mod health;
pub(crate) mod monitor;
mod receipt;
mod report;
mod resolve;
pub(crate) mod saved;
pub(crate) mod snapshot;
pub(crate) mod standbys;
mod start;
pub(crate) mod state_file;
mod succession;
mod swap;
mod unsaved;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use admin_api::{HoldSpec, ServiceSpec};
use arc_swap::ArcSwap;
use tokio::sync::watch;

pub(crate) use error::ChangeError;

use crate::config::Config;
use crate::control::desired::Desired;
use crate::control::drain::Drains;
use crate::control::error::{conflict, unknown_service};
use crate::control::health::Health;
use crate::control::resolve::Resolver;
use crate::control::standbys::Standbys;
use crate::control::state_file::StateFile;
use crate::control::unsaved::Unsaved;
use crate::table::Table;
use crate::table::definition::Definition;
use crate::table::hold::Hold;
use crate::table::service::{Drained, Service};
use crate::table::timeouts::Timeouts;
use crate::table::version::Resolved;
use crate::wire::address::Address;

/// The owner of the table.
pub(crate) struct Control {
    table: Arc<ArcSwap<Table>>,
    workers: usize,
    wanted: Mutex<DesiredState>,
    pub(crate) drains: Arc<Drains>,
    pub(crate) standbys: Standbys,
    health: Health,
    resolver: Resolver,
    state: Option<StateFile>,
    /// Changed under the lock of `wanted` alone.
    process_role: watch::Sender<ProcessRole>,
    /// The key of sticky cookies is in a file of its own.
    has_key_file: bool,
}

/// Whose the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessRole {
    /// This process changes it.
    Active,
    /// No process changes it: a successor is about to take it over.
    Frozen,
    /// A successor changes it, and tells this process.
    Draining,
}

struct DesiredState {
    desired: Desired,
    resolved: Resolved,
    /// By service.
    drained: HashMap<String, Drained>,
    /// By service.
    holds: BTreeMap<String, Arc<Hold>>,
    timeouts: Timeouts,
    unsaved: Unsaved,
    /// Saved services were skipped at the start. The next start may find them right, unless there is
    /// a change before.
    skipped: bool,
}

/// Services that were checked, by name.
type Checked = BTreeMap<Arc<str>, Definition>;

impl Control {
    /// The present table.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Takes up what the config file has now. Gives whether anything changed.
    pub(crate) async fn read_file(&self, config: &Config) -> Result<bool, ChangeError> {
        self.look_up(names_of(&config.services)).await;
        let generation = {
            let mut wanted = self.own()?;
            let mut desired = wanted.desired.clone();
            desired.read_file(&config.services);
            if desired == wanted.desired && config.timeouts == wanted.timeouts {
                return Ok(false);
            }
            let before = std::mem::replace(&mut wanted.desired, desired);
            let timeouts = std::mem::replace(&mut wanted.timeouts, config.timeouts.clone());
            match self.replace_all(&mut wanted, &before, Checked::new()) {
                Ok(generation) => {
                    wanted.unsaved = Unsaved::All;
                    generation
                }
                Err(error) => {
                    wanted.desired = before;
                    wanted.timeouts = timeouts;
                    return Err(error);
                }
            }
        };
        // What the admin API had set may be the file's again: that is kept, too.
        self.saved(generation).await?;
        Ok(true)
    }

    /// Sets the whole upstream set of a service. Gives the generation that has it.
    pub(crate) async fn put(
        &self,
        spec: ServiceSpec,
        if_match: Option<u64>,
    ) -> Result<u64, ChangeError> {
        self.put_in_place_of(&[], spec, if_match).await
    }

    /// The same, and takes these services out in the same swap, those of them that are there: their
    /// routes may be those of the new one. Their endpoints drain.
    pub(crate) async fn put_in_place_of(
        &self,
        replaced: &[String],
        spec: ServiceSpec,
        if_match: Option<u64>,
    ) -> Result<u64, ChangeError> {
        if replaced.contains(&spec.name) {
            let message = "a service cannot be put in place of itself".to_owned();
            return Err(ChangeError::Conflict(message));
        }
        let definition = Definition::check(&spec)?;
        self.look_up(names_in(&definition)).await;
        let generation = {
            let mut wanted = self.matching(if_match)?;
            // What was drained before is asked for anew.
            let before = wanted.drained.remove(&spec.name);
            let generation = match self.replace(&mut wanted, definition, replaced) {
                Ok(generation) => generation,
                Err(error) => {
                    wanted
                        .drained
                        .extend(before.map(|drained| (spec.name, drained)));
                    return Err(error);
                }
            };
            wanted.unsaved.add(&spec.name);
            wanted.desired.set(&spec.name.clone(), Some(spec));
            for name in replaced {
                wanted.desired.set(name, None);
                wanted.drained.remove(name);
                wanted.unsaved.add(name);
            }
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
            let table = self.table();
            let spec = wanted.desired.get(name).cloned();
            let (Some(spec), Some(service)) = (spec, table.service(name)) else {
                return Err(unknown_service(name));
            };
            let definition = service.definition.with_split(&split)?;
            if let Some(version) = service.drained_for(&definition.split) {
                return Err(ChangeError::Conflict(format!(
                    "version `{version}` was drained, and this split would leave the service without endpoints: PUT the service to restore it"
                )));
            }
            let spec = ServiceSpec { split, ..spec };
            let generation = self.replace(&mut wanted, definition, &[])?;
            wanted.desired.set(name, Some(spec));
            wanted.unsaved.add(name);
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
        let taken_out = {
            let mut wanted = self.matching(if_match)?;
            let table = self.table();
            if wanted.desired.get(name).is_none() {
                Err(table.generation)
            } else {
                let others = |service: &&Arc<Service>| *service.definition.name != *name;
                let rest = table.services().iter().filter(others).cloned().collect();
                let next = table
                    .with_all(rest, table.timeouts.clone())
                    .map_err(|c| conflict(&c))?;
                wanted.desired.set(name, None);
                wanted.drained.remove(name);
                wanted.unsaved.add(name);
                Ok(self.swap(&mut wanted, &table, next, [name]))
            }
        };
        match taken_out {
            Ok(generation) => self.saved(generation).await,
            // A call before this one may have taken it out and not been able to keep that.
            Err(generation) => {
                self.saved(generation).await?;
                Err(unknown_service(name))
            }
        }
    }

    /// Holds a service's new requests back. One that is held already is held as `spec` says now.
    pub(crate) async fn hold(
        &self,
        name: &str,
        spec: HoldSpec,
        if_match: Option<u64>,
    ) -> Result<u64, ChangeError> {
        let generation = {
            let mut wanted = self.matching(if_match)?;
            let definition = self.definition(name)?;
            let before = wanted.holds.insert(name.to_owned(), Hold::new(spec));
            let generation = self.replace(&mut wanted, definition, &[])?;
            wanted.unsaved.add(name);
            // Who waited goes on to wait there.
            before.iter().for_each(|hold| hold.release());
            generation
        };
        self.saved(generation).await
    }

    /// Lets the requests of a service go, if they are held.
    pub(crate) async fn release(
        &self,
        name: &str,
        if_match: Option<u64>,
    ) -> Result<u64, ChangeError> {
        let generation = {
            let mut wanted = self.matching(if_match)?;
            let definition = self.definition(name)?;
            match wanted.holds.remove(name) {
                None => self.table.load().generation,
                Some(hold) => {
                    let generation = self.replace(&mut wanted, definition, &[])?;
                    wanted.unsaved.add(name);
                    hold.release();
                    generation
                }
            }
        };
        self.saved(generation).await
    }

    /// The definition that the table has.
    fn definition(&self, name: &str) -> Result<Definition, ChangeError> {
        let table = self.table();
        let service = table.service(name).ok_or_else(|| unknown_service(name))?;
        Ok(Definition::clone(&service.definition))
    }

    /// A name stands for other addresses now. Gives the generation that has them, where they are new.
    fn resolved(&self, name: &Arc<str>, addresses: Vec<IpAddr>) -> Option<u64> {
        // The process that takes the table over looks names up as well.
        let mut wanted = self.own().ok()?;
        if !wanted.note(name, addresses) {
            return None;
        }
        for service in self.resolver.users(name) {
            let replaced = self.definition(&service);
            let replaced = replaced.and_then(|same| self.replace(&mut wanted, same, &[]));
            if let Err(error) = replaced {
                tracing::error!(service, %error, "cannot apply new addresses");
            }
        }
        Some(self.table.load().generation)
    }

    fn wanted(&self) -> MutexGuard<'_, DesiredState> {
        // Nothing that is done under this lock leaves it half-changed.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, if the table is still at the generation that the caller has seen.
    fn matching(&self, if_match: Option<u64>) -> Result<MutexGuard<'_, DesiredState>, ChangeError> {
        let wanted = self.own()?;
        let have = self.table.load().generation;
        match if_match {
            Some(queried) if queried != have => Err(ChangeError::Generation { have, queried }),
            _ => Ok(wanted),
        }
    }

    /// Looks up the names of services before they are swapped in, so that they do not begin
    /// without addresses.
    async fn look_up(&self, names: BTreeSet<Arc<str>>) {
        for (name, addresses) in self.resolver.look_up(names).await {
            self.wanted().note(&name, addresses);
        }
    }

    /// Waits until a change is on disk, where it is to be kept at all.
    async fn saved(&self, generation: u64) -> Result<u64, ChangeError> {
        if let Some(state) = &self.state {
            let saved = state.save(generation, self).await;
            saved.map_err(ChangeError::NotSaved)?;
        }
        Ok(generation)
    }
}

impl DesiredState {
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

/// The names in services that may be wrong.
fn names_of(specs: &[ServiceSpec]) -> BTreeSet<Arc<str>> {
    let checked = specs.iter().flat_map(Definition::check);
    checked
        .flat_map(|definition| names_in(&definition))
        .collect()
}

fn names_in(definition: &Definition) -> BTreeSet<Arc<str>> {
    let names = definition
        .endpoints
        .iter()
        .filter_map(|endpoint| match &endpoint.address {
            Address::Name(name, _) => Some(name.clone()),
            Address::Ip(_) | Address::Unix(_) => None,
        });
    names.collect()
}

#[cfg(test)]
mod tests;
