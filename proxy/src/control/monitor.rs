//! The outlier monitor: samples the table again and again, ejects endpoints whose responses fail,
//! and says when a version or a service has nothing up, and when it has again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::control::ejection::{self, Change, Member, Record};
use crate::table::Table;
use crate::table::endpoint::Endpoint;
use crate::table::endpoint_id::EndpointId;
use crate::table::service::{Outage, Service};
use crate::table::version::Version;

/// From one look to the next. What it reads are cells that the workers write, so it does not do
/// so all the time.
const EVERY: Duration = Duration::from_millis(200);

/// What it remembers of the looks before.
#[derive(Default)]
pub(crate) struct OutlierMonitor {
    records: HashMap<EndpointId, Record>,
    /// Services that had nothing up.
    outages: BTreeMap<Arc<str>, Outage>,
    /// Services with their versions that had nothing up, while others had.
    versions_down: BTreeSet<(Arc<str>, Arc<str>)>,
}

/// Keeps looking. Never ends.
pub(crate) async fn run(table: Arc<ArcSwap<Table>>) {
    let mut monitor = OutlierMonitor::default();
    loop {
        tokio::time::sleep(EVERY).await;
        monitor.sample(&table.load_full(), Instant::now());
    }
}

impl OutlierMonitor {
    fn sample(&mut self, table: &Table, now: Instant) {
        let mut records = HashMap::new();
        for service in table.services() {
            if service.definition.traffic.ejection.is_none() {
                for endpoint in service.endpoints().filter(|e| e.is_ejected()) {
                    endpoint.readmit();
                }
                continue;
            }
            for version in &service.versions {
                self.judge(service, version, now, &mut records);
            }
        }
        self.records = records;
        self.tell(table);
    }

    fn judge(
        &mut self,
        service: &Service,
        version: &Version,
        now: Instant,
        records: &mut HashMap<EndpointId, Record>,
    ) {
        let Some(spec) = &service.definition.traffic.ejection else {
            return;
        };
        let endpoints: Vec<&Arc<Endpoint>> = version
            .weighted()
            .filter(|endpoint| !endpoint.claims.is_retired())
            .collect();
        let mut known: Vec<Record> = endpoints
            .iter()
            .map(|endpoint| {
                let known = self.records.remove(&endpoint.id);
                known.unwrap_or_else(|| {
                    let outcomes = endpoint.claims.outcomes();
                    if endpoint.is_ejected() {
                        Record::ejected(now, outcomes, spec)
                    } else {
                        Record::new(now, outcomes)
                    }
                })
            })
            .collect();
        let mut members: Vec<Member<'_>> = endpoints
            .iter()
            .zip(&mut known)
            .map(|(endpoint, record)| Member {
                record,
                outcomes: endpoint.claims.outcomes(),
                up: endpoint.is_healthy(),
            })
            .collect();
        for change in ejection::sample(&mut members, now, spec) {
            let (service, version) = (&*service.definition.name, &*version.label);
            match change {
                Change::Eject { at, reason } => {
                    let address = &endpoints[at].target;
                    tracing::warn!(service, version, %address, reason, "endpoint is ejected");
                    endpoints[at].eject(reason);
                }
                Change::Readmit { at } => {
                    let address = &endpoints[at].target;
                    tracing::info!(service, version, %address, "endpoint is in use again");
                    endpoints[at].readmit();
                }
            }
        }
        records.extend(endpoints.iter().map(|endpoint| endpoint.id).zip(known));
    }

    /// Says what has nothing up since the look before, and what has again.
    fn tell(&mut self, table: &Table) {
        let outages = table.services().iter().filter_map(|service| {
            // One that is new was not up before.
            let outage = service.outage().filter(|_| service.was_up())?;
            Some((service.definition.name.clone(), outage))
        });
        let outages: BTreeMap<Arc<str>, Outage> = outages.collect();
        for (service, outage) in &outages {
            match outage {
                _ if self.outages.get(service) == Some(outage) => {}
                Outage::Panic => tracing::error!(
                    %service,
                    "no endpoint of the service is up: requests are sent anyway (panic mode)"
                ),
                Outage::Waits => tracing::error!(
                    %service,
                    "no endpoint of the service is up: requests wait for one"
                ),
            }
        }
        for service in self.outages.keys() {
            if !outages.contains_key(service) {
                tracing::info!(%service, "the service is up again");
            }
        }
        self.outages = outages;
        self.tell_of_versions(table);
    }

    fn tell_of_versions(&mut self, table: &Table) {
        let down = table.services().iter().flat_map(|service| {
            let name = &service.definition.name;
            let down = service.versions_down();
            down.map(move |version| (name.clone(), version.label.clone()))
        });
        let down: BTreeSet<_> = down.collect();
        for (service, version) in down.difference(&self.versions_down) {
            tracing::warn!(
                %service, %version,
                "no endpoint of the version is up: other versions get its share"
            );
        }
        for (service, version) in self.versions_down.difference(&down) {
            tracing::info!(%service, %version, "the version is up again");
        }
        self.versions_down = down;
    }
}
