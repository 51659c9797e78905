//! A new table, in the place of the one there is: built, swapped in, and after that what it no
//! longer has is retired.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::{ChangeError, conflict};
use super::{Control, DesiredState, ProcessRole, names_in};
use crate::control::desired::Desired;
use crate::table::Table;
use crate::table::definition::Definition;
use crate::table::endpoint::Endpoint;
use crate::table::service::{Drained, Service};

impl Control {
    /// Swaps in a table with this service.
    pub(super) fn replace(
        &self,
        wanted: &mut DesiredState,
        definition: Definition,
    ) -> Result<u64, ChangeError> {
        let table = self.table();
        let name = definition.name.clone();
        let none = Drained::new();
        let drained = wanted.drained.get(&*name).unwrap_or(&none);
        let service = self.build(wanted, Arc::new(definition), &table, drained);
        let next = table
            .with(service)
            .map_err(|conflict| ChangeError::Conflict(conflict.message(&name)))?;
        Ok(self.swap(wanted, &table, next, [&*name]))
    }

    /// Swaps in a table with all that is wanted, where `before` was. A service that is defined as
    /// before stays as it is; so does one that was not changed, whatever has become of the files
    /// that it names.
    pub(super) fn replace_all(
        &self,
        wanted: &mut DesiredState,
        before: &Desired,
    ) -> Result<u64, ChangeError> {
        let table = self.table();
        let (mut services, mut anew) = (Vec::new(), Vec::new());
        for spec in wanted.desired.specs() {
            let there = table.service(&spec.name);
            if let Some(same) = there.filter(|_| before.get(&spec.name) == Some(spec)) {
                services.push(self.timed_anew(wanted, same, &table));
                continue;
            }
            let definition = Definition::check(spec)?;
            let same = |service: &&Arc<Service>| *service.definition == definition;
            services.push(match there.filter(same) {
                Some(same) => self.timed_anew(wanted, same, &table),
                None => {
                    // What was drained before is asked for anew.
                    anew.push(spec.name.clone());
                    self.build(wanted, Arc::new(definition), &table, &Drained::new())
                }
            });
        }
        let names: BTreeSet<Arc<str>> = services
            .iter()
            .chain(table.services())
            .map(|service| service.definition.name.clone())
            .collect();
        let next = table.with_all(services, wanted.timeouts.clone());
        let next = next.map_err(|c| conflict(&c))?;
        for name in anew {
            wanted.drained.remove(&name);
        }
        Ok(self.swap(wanted, &table, next, names.iter().map(AsRef::as_ref)))
    }

    /// The same service where its timeouts are as wanted; with those that are, if not.
    pub(super) fn timed_anew(
        &self,
        wanted: &DesiredState,
        service: &Arc<Service>,
        table: &Table,
    ) -> Arc<Service> {
        let definition = &service.definition;
        let timeouts = wanted.timeouts.of_service(&definition.traffic.timeouts);
        if timeouts == service.timeouts {
            return service.clone();
        }
        let none = Drained::new();
        let drained = wanted.drained.get(&*definition.name).unwrap_or(&none);
        self.build(wanted, definition.clone(), table, drained)
    }

    /// The service, with what `table` has of it already, and what was `drained` of it.
    fn build(
        &self,
        wanted: &DesiredState,
        definition: Arc<Definition>,
        table: &Table,
        drained: &Drained,
    ) -> Arc<Service> {
        let previous = table.service(&definition.name).map(AsRef::as_ref);
        let resolved = &wanted.resolved;
        let hold = wanted.holds.get(&*definition.name).cloned();
        let service = Service::new(
            definition,
            &wanted.timeouts,
            previous,
            resolved,
            self.workers,
            drained,
        );
        Arc::new(service.held(hold))
    }

    /// Swaps the table, then retires what the services with these names no longer have.
    pub(super) fn swap<'n>(
        &self,
        wanted: &mut DesiredState,
        before: &Table,
        next: Table,
        names: impl IntoIterator<Item = &'n str>,
    ) -> u64 {
        let next = Arc::new(next);
        self.table.store(next.clone());
        let mut unused = BTreeSet::new();
        for name in names {
            let (old, new) = (before.service(name), next.service(name));
            if let (Some(old), Some(new)) = (old, new)
                && Arc::ptr_eq(old, new)
            {
                continue;
            }
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
            let service = new.or(old);
            let timeouts = service.map_or(&next.timeouts, |service| &service.timeouts);
            self.drains.retire(name, &gone, timeouts);
            self.health.replaced(&gone, new.map(AsRef::as_ref));
            let used = new
                .filter(|_| self.process_role() == ProcessRole::Active)
                .map(|service| names_in(&service.definition))
                .unwrap_or_default();
            unused.extend(self.resolver.replaced(name, used));
        }
        if !unused.is_empty() && self.process_role() == ProcessRole::Active {
            // Another service may have taken a name over.
            for service in next.services() {
                for name in names_in(&service.definition) {
                    unused.remove(&name);
                }
            }
            wanted.resolved.retain(|name, _| !unused.contains(name));
        }
        // Who waits for a service that is gone is told so.
        wanted.holds.retain(|name, hold| {
            let stays = next.service(name).is_some();
            if !stays {
                hold.release();
            }
            stays
        });
        self.drains.draining_processes.tell();
        tracing::debug!(generation = next.generation, "table swapped");
        next.generation
    }
}
