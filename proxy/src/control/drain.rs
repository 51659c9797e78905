//! Drains: endpoints that are retired, until nothing is in flight at them, and the receipts
//! that say so.
//!
//! A receipt outlives its endpoint's place in the table, since it is after the removal that
//! the container is to be stopped.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use admin_api::{DrainReceipt, EndpointReceipt, Oldest};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use crate::control::draining::DrainingProcesses;
use crate::control::snapshot::DrainSnapshot;
use crate::table::counts::age::Ages;
use crate::table::counts::claim::Kind;
use crate::table::endpoint::Endpoint;
use crate::table::endpoint_id::EndpointId;
use crate::table::timeouts::Timeouts;
use crate::wire::address::Address;
use crate::worker::order::Order;

/// How often drains that are under way are looked at. The sums are the workers' own slots, so a
/// look costs them nothing.
const POLL_EVERY: Duration = Duration::from_millis(5);
/// How long workers may take to say how old what they have in flight is. One that is busier is not
/// waited for.
const AGES_WITHIN: Duration = Duration::from_millis(250);
/// How long a receipt is kept after its endpoint was drained, and how many are.
const KEEP_FOR: Duration = Duration::from_secs(3600);
const KEEP_MOST: usize = 10_000;

/// What a drain is about: the endpoints that have this version and this address, where they
/// are given.
#[derive(Debug)]
pub(crate) struct DrainTarget {
    pub(crate) version: Option<String>,
    pub(crate) endpoint: Option<String>,
}

impl DrainTarget {
    pub(crate) fn covers(&self, endpoint: &Endpoint) -> bool {
        self.names(&endpoint.version, &endpoint.address)
    }

    /// Whether it is about this address of this version.
    pub(super) fn names(&self, version: &str, address: &Address) -> bool {
        self.version
            .as_ref()
            .is_none_or(|wanted| *wanted == *version)
            && self
                .endpoint
                .as_ref()
                .is_none_or(|wanted| *wanted == address.to_string())
    }
}

/// All drains, under way and done.
pub(crate) struct Drains {
    list: Mutex<Vec<Drain>>,
    /// A drain has begun.
    begun: Notify,
    /// Counts drains that have ended.
    ended: watch::Sender<u64>,
    order: Arc<dyn Fn(Order) + Send + Sync>,
    /// Older processes, which may have something in flight too.
    pub(crate) draining_processes: DrainingProcesses,
}

struct Drain {
    service: String,
    endpoint: Arc<Endpoint>,
    /// When what is left of requests is cut, of streams, and of upgraded connections (`None`:
    /// never, or done).
    cut_requests_at: Option<Instant>,
    cut_streams_at: Option<Instant>,
    cut_upgraded_at: Option<Instant>,
    drained_at: Option<Instant>,
    /// Its waiters were notified.
    announced: bool,
}

impl Drains {
    /// No drains yet. `order` reaches every worker.
    pub(crate) fn new(order: impl Fn(Order) + Send + Sync + 'static) -> Self {
        Self {
            list: Mutex::default(),
            begun: Notify::new(),
            ended: watch::channel(0).0,
            order: Arc::new(order),
            draining_processes: DrainingProcesses::default(),
        }
    }

    /// The way to every worker.
    pub(crate) fn teller(&self) -> Arc<dyn Fn(Order) + Send + Sync> {
        self.order.clone()
    }

    /// Retires endpoints. One that is draining already goes on as it was.
    pub(crate) fn retire(&self, service: &str, endpoints: &[Arc<Endpoint>], timeouts: &Timeouts) {
        if endpoints.is_empty() {
            return;
        }
        let now = Instant::now();
        // Until its requests are cut, one of them may still become another kind.
        let after = |within: Duration| now + within.max(timeouts.drain);
        let mut list = self.list();
        for endpoint in endpoints {
            if list.iter().any(|drain| drain.endpoint.id == endpoint.id) {
                continue;
            }
            endpoint.claims.retire();
            (self.order)(Order::Retire(endpoint.id));
            list.push(Drain {
                service: service.to_owned(),
                endpoint: endpoint.clone(),
                cut_requests_at: Some(now + timeouts.drain),
                cut_streams_at: timeouts.stream.map(after),
                cut_upgraded_at: timeouts.upgraded.map(after),
                drained_at: None,
                announced: false,
            });
        }
        self.begun.notify_one();
        self.draining_processes.tell();
    }

    /// Goes on with a drain that another process began.
    pub(crate) fn adopt(&self, snapshot: &DrainSnapshot, endpoint: &Arc<Endpoint>) {
        let mut list = self.list();
        if list.iter().any(|drain| drain.endpoint.id == endpoint.id) {
            return;
        }
        let now = Instant::now();
        endpoint.claims.retire();
        let drained_at = snapshot
            .drained_since
            .map(|since| now.checked_sub(since).unwrap_or(now));
        list.push(Drain {
            service: snapshot.service.clone(),
            endpoint: endpoint.clone(),
            cut_requests_at: snapshot.cut_requests_in.map(|within| now + within),
            cut_streams_at: snapshot.cut_streams_in.map(|within| now + within),
            cut_upgraded_at: snapshot.cut_upgraded_in.map(|within| now + within),
            drained_at,
            announced: drained_at.is_some(),
        });
        self.begun.notify_one();
    }

    /// As another process has to know them.
    pub(crate) fn snapshots(&self) -> Vec<DrainSnapshot> {
        let now = Instant::now();
        let list = self.list();
        let snapshot = |drain: &Drain| DrainSnapshot {
            service: drain.service.clone(),
            endpoint: drain.endpoint.snapshot(),
            cut_requests_in: drain.cut_requests_at.map(|at| at - now),
            cut_streams_in: drain.cut_streams_at.map(|at| at - now),
            cut_upgraded_in: drain.cut_upgraded_at.map(|at| at - now),
            drained_since: drain.drained_at.map(|at| now - at),
        };
        list.iter().map(snapshot).collect()
    }

    /// Every endpoint that was drained or is being drained.
    pub(crate) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let list = self.list();
        list.iter().map(|drain| drain.endpoint.clone()).collect()
    }

    /// Endpoints whose drains are under way.
    pub(crate) fn under_way(&self) -> Vec<EndpointId> {
        let list = self.list();
        let under_way = list.iter().filter(|drain| drain.drained_at.is_none());
        under_way.map(|drain| drain.endpoint.id).collect()
    }

    /// The receipt for what `target` covers in a service: for each address, of its last drain.
    /// `None` where nothing of it was ever drained.
    pub(crate) fn receipt(&self, service: &str, target: &DrainTarget) -> Option<DrainReceipt> {
        let mut list = self.list();
        let covered =
            |drain: &&mut Drain| drain.service == service && target.covers(&drain.endpoint);
        let mut endpoints: Vec<EndpointReceipt> = Vec::new();
        let mut seen = HashSet::new();
        for drain in list.iter_mut().rev().filter(covered) {
            let endpoint = &drain.endpoint;
            if seen.insert((endpoint.version.clone(), endpoint.target.clone())) {
                endpoints.push(drain.receipt(&self.draining_processes));
            }
        }
        if endpoints.is_empty() {
            return None;
        }
        endpoints.reverse();
        Some(DrainReceipt {
            service: service.to_owned(),
            drained: endpoints.iter().all(|endpoint| endpoint.drained),
            forced: endpoints.iter().any(|endpoint| endpoint.cut.total() > 0),
            endpoints,
        })
    }

    /// Asks every worker how old the oldest is that is in flight at what `target` covers: the next
    /// receipt says so.
    pub(crate) async fn query_ages(&self, service: &str, target: &DrainTarget) {
        let covered: Vec<Arc<Endpoint>> = {
            let list = self.list();
            let covered =
                |drain: &&Drain| drain.service == service && target.covers(&drain.endpoint);
            let covered = list.iter().filter(covered);
            covered.map(|drain| drain.endpoint.clone()).collect()
        };
        self.query_ages_of(&covered).await;
    }

    /// The same for these endpoints.
    pub(crate) async fn query_ages_of(&self, endpoints: &[Arc<Endpoint>]) {
        let busy = || endpoints.iter().filter(|endpoint| !endpoint.is_drained());
        let (to, mut from) = mpsc::unbounded_channel();
        let queried: Arc<[EndpointId]> = busy().map(|endpoint| endpoint.id).collect();
        if queried.is_empty() {
            return;
        }
        (self.order)(Order::Ages {
            endpoints: queried,
            to,
        });
        let mut said: HashMap<EndpointId, Ages> = HashMap::new();
        // It ends when every worker has hung up.
        let _ = timeout(AGES_WITHIN, async {
            while let Some((id, ages)) = from.recv().await {
                said.entry(id).or_default().add(&ages);
            }
        })
        .await;
        for endpoint in busy() {
            endpoint.set_ages(said.remove(&endpoint.id).unwrap_or_default());
        }
    }

    /// Changes each time a drain has ended.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// Sees every drain through. Never ends.
    pub(crate) async fn run(&self) {
        loop {
            self.begun.notified().await;
            while self.look(Instant::now()) {
                tokio::time::sleep(POLL_EVERY).await;
            }
        }
    }

    /// Looks at every drain once. Gives whether any is still under way.
    fn look(&self, now: Instant) -> bool {
        let mut list = self.list();
        let mut under_way = false;
        for drain in list.iter_mut().filter(|drain| !drain.announced) {
            if drain.is_drained(now, &self.draining_processes) {
                drain.announced = true;
                self.ended.send_modify(|ended| *ended += 1);
                continue;
            }
            under_way = true;
            let id = drain.endpoint.id;
            for (at, kind) in [
                (&mut drain.cut_requests_at, Kind::Request),
                (&mut drain.cut_streams_at, Kind::Stream),
                (&mut drain.cut_upgraded_at, Kind::Upgraded),
            ] {
                if at.take_if(|at| *at <= now).is_some() {
                    (self.order)(Order::Cut { endpoint: id, kind });
                }
            }
        }
        let surplus = list.len().saturating_sub(KEEP_MOST);
        let mut place = 0;
        list.retain(|drain| {
            place += 1;
            drain
                .drained_at
                .is_none_or(|at| place > surplus && now - at < KEEP_FOR)
        });
        under_way
    }

    fn list(&self) -> MutexGuard<'_, Vec<Drain>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drain {
    /// Whether nothing is in flight in any process, and nothing will be. Once it was so it stays
    /// so, though a later sum may see a worker that is just backing out of a claim.
    fn is_drained(&mut self, now: Instant, draining_processes: &DrainingProcesses) -> bool {
        let here = self.drained_at.is_none() && self.endpoint.is_drained();
        if here && draining_processes.are_done_with(&self.endpoint) {
            self.drained_at = Some(now);
        }
        self.drained_at.is_some()
    }

    fn receipt(&mut self, draining_processes: &DrainingProcesses) -> EndpointReceipt {
        let receipt = self.endpoint.receipt();
        if self.is_drained(Instant::now(), draining_processes) {
            EndpointReceipt {
                drained: true,
                in_flight: 0,
                streams: 0,
                upgraded: 0,
                oldest: Oldest::default(),
                ..receipt
            }
        } else {
            EndpointReceipt {
                drained: false,
                ..receipt
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::table::counts::stats::Stats;
    use crate::wire::address::{Address, SocketAddress};

    fn endpoint() -> Arc<Endpoint> {
        let target = "10.0.0.1:80".parse().unwrap();
        let stats = Arc::new(Stats::new(1));
        Arc::new(Endpoint::new(
            "1".into(),
            Address::Ip(target),
            SocketAddress::Ip(target),
            Arc::default(),
            stats,
            1,
            true,
        ))
    }

    fn timeouts() -> Timeouts {
        Config::parse("[[listeners]]\naddress = \"127.0.0.1:0\"")
            .unwrap()
            .timeouts
    }

    #[test]
    fn a_receipt_comes_when_the_last_request_has_ended_and_not_before() {
        let drains = Drains::new(|_| {});
        let endpoint = endpoint();
        let target = DrainTarget {
            version: Some("1".into()),
            endpoint: None,
        };
        assert!(drains.receipt("web", &target).is_none());
        assert!(endpoint.claims.take(0));
        drains.retire("web", std::slice::from_ref(&endpoint), &timeouts());
        assert!(drains.look(Instant::now()));
        let receipt = drains.receipt("web", &target).unwrap();
        assert!(!receipt.drained);
        assert_eq!(receipt.endpoints[0].in_flight, 1);
        endpoint.claims.release(0);
        assert!(!drains.look(Instant::now()));
        assert!(drains.receipt("web", &target).unwrap().drained);
        assert!(drains.receipt("other", &target).is_none());
    }

    #[test]
    fn each_kind_is_cut_at_its_own_time_and_not_before() {
        let orders = Arc::new(Mutex::new(Vec::new()));
        let sent = orders.clone();
        let drains = Drains::new(move |order| sent.lock().unwrap().push(format!("{order:?}")));
        let endpoint = endpoint();
        assert!(endpoint.claims.take(0));
        let now = Instant::now();
        drains.retire("web", std::slice::from_ref(&endpoint), &timeouts());
        let id = endpoint.id;
        let cut = |kind: Kind| format!("Cut {{ endpoint: {id}, kind: {kind:?} }}");
        let mut want = vec![format!("Retire({id})")];
        for (seconds, more) in [
            (1, None),
            (31, Some(cut(Kind::Request))),
            (32, None),
            (301, Some(cut(Kind::Stream))),
            (302, None),
            (3601, Some(cut(Kind::Upgraded))),
        ] {
            drains.look(now + Duration::from_secs(seconds));
            want.extend(more);
            assert_eq!(*orders.lock().unwrap(), want, "after {seconds} s");
        }
    }
}
