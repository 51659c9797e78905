//! A service as the admin API shows it.

use std::sync::Arc;

use admin_api::{ServiceStats, ServiceView, VersionStats};

use super::{Outage, Service};
use crate::table::counts::stats::Stats;
use crate::table::mirror::Mirror;

impl Service {
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
            traffic: definition.traffic.clone(),
            split: definition
                .split
                .iter()
                .map(|(version, weight)| (version.to_string(), *weight))
                .collect(),
            mirror: self.mirror.as_ref().map(|mirror| mirror.spec().clone()),
            held: self.hold.as_ref().map(|hold| hold.view()),
            panic: self.outage() == Some(Outage::Panic),
            versions: self
                .versions
                .iter()
                .map(|version| {
                    (
                        version.label.to_string(),
                        version.view(&self.definition.transport(&version.label)),
                    )
                })
                .collect(),
        }
    }

    /// The figures of its versions, with those that have no endpoint any more.
    pub(crate) fn stats(&self, generation: u64) -> ServiceStats {
        let stats = |(label, stats): (&Arc<str>, &Arc<Stats>)| {
            let read = stats.read();
            let read = match self.version(label) {
                None => read,
                Some(version) => {
                    let view = version.view(&self.definition.transport(label));
                    VersionStats {
                        in_flight: view.in_flight,
                        streams: view.streams,
                        upgraded: view.upgraded,
                        ..read
                    }
                }
            };
            (label.to_string(), read)
        };
        ServiceStats {
            service: self.definition.name.to_string(),
            generation,
            mirror: self.mirror.as_ref().map(Mirror::stats),
            waits: self.waiting_room.stats(),
            versions: self.stats_of_all().map(stats).collect(),
        }
    }
}
