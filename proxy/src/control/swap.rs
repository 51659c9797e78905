//! A new table, in the place of the one there is: built, swapped in, and after that what it no
//! longer has is retired.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::{ChangeError, conflict};
use super::{Checked, Control, DesiredState, ProcessRole, names_in};
use crate::control::desired::Desired;
use crate::table::Table;
use crate::table::definition::Definition;
use crate::table::endpoint::Endpoint;
use crate::table::service::{Drained, Service};

impl Control {
    /// Swaps in a table with this service, and without those in whose place it is.
    pub(super) fn replace(
        &self,
        wanted: &mut DesiredState,
        definition: Definition,
        in_place_of: &[String],
    ) -> Result<u64, ChangeError> {
        let table = self.table();
        let name = definition.name.clone();
        let none = Drained::new();
        let drained = wanted.drained.get(&*name).unwrap_or(&none);
        let service = self.build(wanted, Arc::new(definition), &table, drained);
        let next = if in_place_of.is_empty() {
            table.with(service)
        } else {
            table.with_in_place_of(service, in_place_of)
        };
        let next = next.map_err(|conflict| ChangeError::Conflict(conflict.message(&name)))?;
        let gone = in_place_of.iter().map(String::as_str);
        Ok(self.swap(wanted, &table, next, [&*name].into_iter().chain(gone)))
    }

    /// Swaps in a table with all that is wanted, where `before` was. A service that is defined as
    /// before stays as it is; so does one that was not changed, whatever has become of the files
    /// that it names. Those that are among `checked` are not checked again.
    pub(super) fn replace_all(
        &self,
        wanted: &mut DesiredState,
        before: &Desired,
        mut checked: Checked,
    ) -> Result<u64, ChangeError> {
        let table = self.table();
        let (mut services, mut anew) = (Vec::new(), Vec::new());
        for spec in wanted.desired.specs() {
            let there = table.service(&spec.name);
            if let Some(same) = there.filter(|_| before.get(&spec.name) == Some(spec)) {
                services.push(self.timed_anew(wanted, same, &table));
                continue;
            }
            let definition = match checked.remove(&*spec.name) {
                Some(definition) => definition,
                None => Definition::check(spec)?,
            };
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
        self.resolver.set_interval(next.timeouts.resolve);
        let mut unused: BTreeSet<Arc<str>> = BTreeSet::new();
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
            if new.is_none()
                && let Some(hold) = wanted.holds.remove(name)
            {
                // Who waits for a service that is gone is told so.
                hold.release();
            }
        }
        if self.process_role() == ProcessRole::Active {
            // Another service may have taken a name over.
            unused.retain(|name| self.resolver.users(name).is_empty());
            for name in &unused {
                wanted.resolved.remove(name);
            }
        }
        self.drains.draining_processes.tell();
        tracing::debug!(generation = next.generation, "table swapped");
        next.generation
    }
}
