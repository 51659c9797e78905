//! What several processes of the proxy count, put together: what an older one reports, and how the
//! owner of the table takes it.

use std::collections::BTreeMap;

use super::Control;
use crate::control::snapshot::Report;
use crate::table::counts::remote::ProcessId;
use crate::table::counts::values::EndpointCounts;
use crate::table::endpoint_id::EndpointId;
use crate::table::mirror::Mirror;
use crate::worker::counters::Counters;

impl Control {
    /// Has the workers say how old what they have in flight at these endpoints is, for the next
    /// report.
    pub(crate) async fn query_ages(&self, queried: &[EndpointId]) {
        let mut known = self.known();
        let queried: Vec<_> = queried.iter().filter_map(|id| known.remove(id)).collect();
        self.drains.query_ages_of(&queried).await;
    }

    /// What this process, and those before it that have ended, count. Of the endpoints that were
    /// `queried` for, those that are unknown here are done with.
    pub(crate) fn report(&self, counters: &Counters, queried: &[EndpointId]) -> Report {
        let table = self.table();
        let unknown = EndpointCounts {
            retired: true,
            ..EndpointCounts::default()
        };
        let mut endpoints: BTreeMap<_, _> = queried.iter().map(|id| (*id, unknown)).collect();
        for endpoint in self.known().into_values() {
            if !endpoint.is_drained() || queried.contains(&endpoint.id) {
                endpoints.insert(endpoint.id, endpoint.counts());
            }
        }
        let services = table.services().iter().map(|service| {
            let versions = service.stats_of_all();
            let versions = versions.map(|(label, stats)| (label.to_string(), stats.counts()));
            (service.definition.name.to_string(), versions.collect())
        });
        let mirrors = table.services().iter().filter_map(|service| {
            let mirror = service.mirror.as_ref()?;
            Some((service.definition.name.to_string(), mirror.counts()))
        });
        let holds = table.services().iter().filter_map(|service| {
            let hold = service.hold.as_ref()?;
            Some((service.definition.name.to_string(), hold.counts()))
        });
        let waits = table.services().iter().map(|service| {
            let counts = service.waiting_room.counts();
            (service.definition.name.to_string(), counts)
        });
        Report {
            process: counters.counts(),
            services: services.collect(),
            endpoints,
            mirrors: mirrors.collect(),
            holds: holds.collect(),
            waits: waits.collect(),
            last: false,
        }
    }

    /// What an older process says of itself.
    pub(crate) fn note(&self, counters: &Counters, process: ProcessId, report: Report) {
        counters.remote.note(process, report.process);
        for endpoint in self.known().into_values() {
            if let Some(counts) = report.endpoints.get(&endpoint.id) {
                endpoint.remote.note(process, *counts);
            }
        }
        let table = self.table();
        for (name, versions) in report.services {
            let service = table.service(&name);
            for (label, counts) in versions {
                if let Some(stats) = service.and_then(|service| service.stats_of(&label)) {
                    stats.remote.note(process, counts);
                }
            }
        }
        for (name, counts) in report.mirrors {
            if let Some(mirror) = table.service(&name).and_then(|s| s.mirror.as_ref()) {
                mirror.note(process, counts);
            }
        }
        for (name, counts) in report.holds {
            if let Some(hold) = table.service(&name).and_then(|s| s.hold.as_ref()) {
                hold.remote.note(process, counts);
            }
        }
        for (name, counts) in report.waits {
            if let Some(service) = table.service(&name) {
                service.waiting_room.remote.note(process, counts);
            }
        }
    }

    /// An older process has ended: nothing of it is in flight any more.
    pub(crate) fn process_ended(&self, counters: &Counters, process: ProcessId) {
        counters.remote.ended(process);
        for endpoint in self.known().into_values() {
            endpoint.remote.ended(process);
        }
        for service in self.table().services() {
            for (_, stats) in service.stats_of_all() {
                stats.remote.ended(process);
            }
            service.mirror.iter().for_each(|m| m.process_ended(process));
            service.hold.iter().for_each(|h| h.remote.ended(process));
            service.waiting_room.remote.ended(process);
        }
        self.drains.draining_processes.remove(process);
        self.drains.draining_processes.tell();
    }

    /// The older processes that live are the successor's to count.
    pub(crate) fn leave_draining_processes(&self, counters: &Counters) {
        counters.remote.forget_present();
        for endpoint in self.known().into_values() {
            endpoint.remote.forget_present();
        }
        for service in self.table().services() {
            for (_, stats) in service.stats_of_all() {
                stats.remote.forget_present();
            }
            service.mirror.iter().for_each(Mirror::forget_draining);
            service.hold.iter().for_each(|h| h.remote.forget_present());
            service.waiting_room.remote.forget_present();
        }
        self.drains.draining_processes.clear();
    }
}
