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
/// A look at many services takes long, and so the next one comes later: looks take so small a part of
/// the time, until there is this much between them.
const PART: u32 = 50;
const LONGEST: Duration = Duration::from_secs(1);

/// Services that are looked at before others have their turn on this thread: all of ten thousand take
/// longer than a call of the admin API may.
const IN_TURN: usize = 128;

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
    let mut rest = EVERY;
    loop {
        tokio::time::sleep(rest).await;
        let begun = Instant::now();
        monitor.sample(&table.load_full()).await;
        rest = rest_after(begun.elapsed());
    }
}

/// How long after a look that took so long the next one comes.
fn rest_after(took: Duration) -> Duration {
    (took * PART).clamp(EVERY, LONGEST)
}

/// What one look finds.
#[derive(Default)]
struct Found {
    records: HashMap<EndpointId, Record>,
    outages: BTreeMap<Arc<str>, Outage>,
    versions_down: BTreeSet<(Arc<str>, Arc<str>)>,
}

impl OutlierMonitor {
    async fn sample(&mut self, table: &Table) {
        let mut found = Found::default();
        for (number, service) in table.services().iter().enumerate() {
            if number % IN_TURN == IN_TURN - 1 {
                tokio::task::yield_now().await;
            }
            self.look_at(service, Instant::now(), &mut found);
        }
        self.records = found.records;
        self.tell_of_services(found.outages);
        self.tell_of_versions(found.versions_down);
    }

    fn look_at(&mut self, service: &Service, now: Instant, found: &mut Found) {
        if service.definition.traffic.ejection.is_none() {
            // One that is ejected is not up, which costs less to see.
            let ejected = |endpoint: &&Arc<Endpoint>| !endpoint.is_up() && endpoint.is_ejected();
            for endpoint in service.endpoints().filter(ejected) {
                endpoint.readmit();
            }
        } else {
            for version in &service.versions {
                self.judge(service, version, now, &mut found.records);
            }
        }
        let name = &service.definition.name;
        // One that is new was not up before.
        if let Some(outage) = service.outage().filter(|_| service.was_up()) {
            found.outages.insert(name.clone(), outage);
        }
        let down = service.versions_down();
        let down = down.map(|version| (name.clone(), version.label.clone()));
        found.versions_down.extend(down);
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

    /// Says which service has nothing up since the look before, and which has again.
    fn tell_of_services(&mut self, outages: BTreeMap<Arc<str>, Outage>) {
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
    }

    /// The same of versions.
    fn tell_of_versions(&mut self, down: BTreeSet<(Arc<str>, Arc<str>)>) {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::table::timeouts::Timeouts;

    #[test]
    fn looks_take_a_small_part_of_the_time() {
        for (took, want) in [(0, 200), (4, 200), (5, 250), (20, 1_000), (5_000, 1_000)] {
            let rest = rest_after(Duration::from_millis(took));
            assert_eq!(rest, Duration::from_millis(want), "after {took} ms");
        }
    }

    #[tokio::test]
    async fn a_look_at_many_services_lets_others_have_their_turn() {
        const MANY: usize = 10 * IN_TURN;
        let service = |number| {
            let json = format!(r#"{{"name":"s{number:05}","path_prefix":"/{number}"}}"#);
            Arc::new(crate::testing::service(&json, None))
        };
        let services = (0..MANY).map(service).collect();
        let table = Table::empty(Timeouts::default());
        let table = table.with_all(services, Timeouts::default()).unwrap();
        let turns = Cell::new(0);
        let others = async {
            loop {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        let mut monitor = OutlierMonitor::default();
        tokio::select! {
            () = monitor.sample(&table) => {}
            () = others => {}
        }
        assert!(turns.get() >= 10, "{} turns", turns.get());
    }
}
