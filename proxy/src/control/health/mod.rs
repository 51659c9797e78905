//! Health checks: a task for each endpoint asks it again and again, and says what it found to
//! the endpoint itself, which every table shares.
//!
//! A new endpoint starts down. `rise` successes in a row, for `min_healthy_time` at least, bring
//! it up, `fall` failures in a row take it down. A request that could not connect, or whose
//! connection broke, has its endpoint probed at once; where both were refused, the endpoint is down.
//!
//! When the process starts, every endpoint is new to it and none to its clients: they are probed in
//! one burst, so that the first client finds up what is up.

mod grpc;
mod probe;
mod state;
mod text;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use admin_api::HealthSpec;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::table::definition::{Definition, HostPattern};
use crate::table::endpoint::{Endpoint, FULL, ProbeError, ProbeErrorKind};
use crate::table::endpoint_id::EndpointId;
use crate::table::service::Service;
use crate::worker::order::Order;

use probe::probe;
use state::{Agreement, GoodResponses, Pace, QUICK_INTERVAL, Silence, State, is_unreachable};

/// In how many steps a slow start gives an endpoint its weight.
const GROWING_STEPS: u32 = 64;

/// The health checks that run.
pub(crate) struct Health {
    checks: Mutex<HashMap<EndpointId, Check>>,
    /// While the process starts: what each check holds until its burst is over.
    starting: Mutex<Option<Burst>>,
    tell: Teller,
}

/// The way to every worker.
type Teller = Arc<dyn Fn(Order) + Send + Sync>;

/// Held by a check for as long as its first probes follow each other without a pause.
type Burst = mpsc::Sender<Infallible>;

struct Check {
    spec: HealthSpec,
    host: Option<String>,
    task: AbortHandle,
}

impl Health {
    /// No checks yet, in a process that starts; `tell` reaches every worker. The receiver is closed
    /// once [`Health::started`] was called and the bursts of all checks from before it are over.
    pub(crate) fn starting(tell: Teller) -> (Self, mpsc::Receiver<Infallible>) {
        let (burst, over) = mpsc::channel(1);
        let health = Self {
            checks: Mutex::default(),
            starting: Mutex::new(Some(burst)),
            tell,
        };
        (health, over)
    }

    /// The first table is there: endpoints that come from now on are new ones, and take their
    /// time.
    pub(crate) fn started(&self) {
        *self.burst() = None;
    }

    fn burst(&self) -> MutexGuard<'_, Option<Burst>> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A service was replaced: endpoints that are gone are asked no more, new ones are asked
    /// from now on. To be called inside a runtime.
    pub(crate) fn replaced(&self, gone: &[Arc<Endpoint>], service: Option<&Service>) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        for endpoint in gone {
            stop(&mut checks, endpoint.id);
        }
        let Some(service) = service else { return };
        let burst = self.burst().clone();
        let definition = &service.definition;
        let host = host_of(definition);
        for endpoint in service.endpoints() {
            let Some(spec) = &service.definition.traffic.health else {
                if stop(&mut checks, endpoint.id) {
                    endpoint.set_health(Ok(()));
                }
                continue;
            };
            let same = |check: &Check| check.spec == *spec && check.host == host;
            if checks.get(&endpoint.id).is_some_and(same) || endpoint.claims.is_retired() {
                continue;
            }
            stop(&mut checks, endpoint.id);
            let check = ProbeTask {
                service: definition.name.to_string(),
                endpoint: endpoint.clone(),
                spec: spec.clone(),
                host: host.clone().unwrap_or_else(|| endpoint.target.host()),
                tell: self.tell.clone(),
            };
            let task = tokio::spawn(check.run(burst.clone())).abort_handle();
            checks.insert(
                endpoint.id,
                Check {
                    spec: spec.clone(),
                    host: host.clone(),
                    task,
                },
            );
        }
    }
}

/// What a service's endpoints are asked for, where that is known: a host of its own for that, or
/// its first one.
fn host_of(definition: &Definition) -> Option<String> {
    let of_check = definition.traffic.health.as_ref();
    of_check.and_then(|spec| spec.host.clone()).or_else(|| {
        definition.hosts.iter().find_map(|host| match host {
            HostPattern::Exact(name) => Some(name.to_string()),
            HostPattern::Any | HostPattern::Pattern(_) | HostPattern::Suffix(_) => None,
        })
    })
}

fn stop(checks: &mut HashMap<EndpointId, Check>, id: EndpointId) -> bool {
    let check = checks.remove(&id);
    if let Some(check) = &check {
        check.task.abort();
    }
    check.is_some()
}

/// Probes one endpoint until it is retired.
struct ProbeTask {
    /// For the log.
    service: String,
    endpoint: Arc<Endpoint>,
    spec: HealthSpec,
    host: String,
    tell: Teller,
}

impl ProbeTask {
    async fn run(self, burst: Option<Burst>) {
        let Self {
            service,
            endpoint,
            spec,
            ..
        } = &self;
        if burst.is_some() {
            self.probe_at_once().await;
            drop(burst);
        }
        let mut state = State::new(endpoint.is_healthy(), Instant::now());
        if state.up {
            // An earlier call may have been about to give it its weight.
            endpoint.set_share(FULL);
        }
        let mut pace = Pace::new(state.up);
        let mut silence = Silence::default();
        let good_responses = || endpoint.claims.outcomes().good;
        let mut good = GoodResponses::new(good_responses());
        // Ends with this task, and with the next change of state.
        let mut growing = JoinSet::new();
        while !endpoint.claims.is_retired() {
            let began = Instant::now();
            let number = endpoint.probes.begin();
            let result = self.probe().await;
            let suspicion = endpoint.probes.take_suspicion();
            if self.says_nothing(&result) {
                self.pause(began, pace.pause(spec, began, rand::random()))
                    .await;
                continue;
            }
            let is_good = result.is_ok();
            let agreement = Agreement::of(&result, suspicion);
            let is_gone = agreement == Agreement::Gone;
            let had_responses = good.any_since(good_responses());
            let is_silent = silence.next(&result, had_responses, spec);
            // Before it may go down: no request is to be sent there then.
            endpoint.set_unreachable(is_gone || is_unreachable(&result, had_responses));
            let change = if is_gone {
                state.take_down(began)
            } else {
                state.next(is_good, began, spec)
            };
            let (version, address) = (&*endpoint.version, &endpoint.target);
            match change {
                Some(true) => {
                    tracing::info!(service, version, %address, "endpoint is up");
                    if spec.slow_start.get().is_zero() {
                        endpoint.set_health(Ok(()));
                    } else {
                        growing.spawn(grow(endpoint.clone(), spec.slow_start.get()));
                    }
                }
                Some(false) => {
                    growing.shutdown().await;
                    let reason = result.err().map_or_else(String::new, |error| error.reason);
                    tracing::warn!(service, version, %address, reason, "endpoint is down");
                    endpoint.set_health(Err(reason));
                }
                None if !state.up => endpoint.note(result.err().map(|error| error.reason)),
                None => {}
            }
            // When it is down: what is sent elsewhere must not come back.
            if endpoint.set_silent(is_silent && !state.up) {
                (self.tell)(Order::Silent(endpoint.id));
            }
            if is_good {
                endpoint.probes.was_good(number);
            }
            pace.next(state.up, agreement, began);
            self.pause(began, pace.pause(spec, began, rand::random()))
                .await;
        }
    }

    /// Whether a probe says nothing of the endpoint, since this machine could not send it.
    fn says_nothing(&self, result: &Result<(), ProbeError>) -> bool {
        match result {
            Err(error) if error.kind == ProbeErrorKind::Exhausted => {
                let (version, address) = (&*self.endpoint.version, &self.endpoint.target);
                let (service, reason) = (&self.service, &error.reason);
                tracing::warn!(service, version, %address, reason, "an endpoint cannot be probed");
                true
            }
            _ => false,
        }
    }

    /// Waits until so much time has passed since a probe began. A request that suspects the endpoint
    /// ends the wait, so that there are no more probes than one in each [`QUICK_INTERVAL`].
    async fn pause(&self, began: Instant, pause: Duration) {
        let suspected = async {
            self.endpoint.probes.suspected().await;
            let soonest = began + QUICK_INTERVAL.min(pause);
            tokio::time::sleep_until(soonest.into()).await;
        };
        // Elapsed: no request did.
        let _ = tokio::time::timeout_at((began + pause).into(), suspected).await;
    }

    /// At the start of the process: `rise` successes, one right after the other, bring an endpoint
    /// up with its whole weight. Clients wait for it, and it served them before.
    async fn probe_at_once(&self) {
        let endpoint = &self.endpoint;
        for _ in 0..self.spec.rise {
            if let Err(error) = self.probe().await {
                endpoint.note(Some(error.reason));
                return;
            }
        }
        let (version, address) = (&*endpoint.version, &endpoint.target);
        let service = &self.service;
        tracing::info!(service, version, %address, "endpoint is up");
        endpoint.set_health(Ok(()));
    }

    async fn probe(&self) -> Result<(), ProbeError> {
        probe(&self.endpoint, &self.spec, &self.host).await
    }
}

/// Slow start: gives an endpoint its weight bit by bit.
async fn grow(endpoint: Arc<Endpoint>, over: Duration) {
    for step in 1..=GROWING_STEPS {
        endpoint.set_share(FULL / GROWING_STEPS * step);
        tokio::time::sleep(over / GROWING_STEPS).await;
    }
    endpoint.set_share(FULL);
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::table::probes::Suspicion;

    /// No probe comes by itself before a test has ended.
    const RARELY: &str = r#"{"protocol":"tcp","interval":"1h","rise":1,"fall":3}"#;
    const HANG: Duration = Duration::from_secs(20);

    /// A service with one endpoint that is probed at this address.
    struct Probed {
        service: Service,
        _health: Health,
        accepted: Arc<AtomicU64>,
        serving: JoinHandle<()>,
        address: SocketAddr,
    }

    impl Probed {
        async fn new(health: &str) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let service = crate::testing::service(
                &format!(
                    r#"{{"name":"web","health":{health},"endpoints":[{{"address":"{address}","version":"1"}}]}}"#
                ),
                None,
            );
            let (checks, _) = Health::starting(Arc::new(|_| {}));
            checks.started();
            checks.replaced(&[], Some(&service));
            let accepted = Arc::default();
            let probed = Self {
                service,
                _health: checks,
                serving: tokio::spawn(accept(listener, Arc::clone(&accepted))),
                accepted,
                address,
            };
            probed.until("it is up", |one| one.endpoint().is_up()).await;
            probed
        }

        fn endpoint(&self) -> &Arc<Endpoint> {
            self.service.endpoints().next().unwrap()
        }

        async fn stop(&mut self) {
            self.serving.abort();
            let _ = (&mut self.serving).await;
        }

        async fn start_again(&mut self) {
            let listener = TcpListener::bind(self.address).await.unwrap();
            self.serving = tokio::spawn(accept(listener, self.accepted.clone()));
        }

        fn accepted(&self) -> u64 {
            self.accepted.load(Ordering::Relaxed)
        }

        async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
            let waits = async {
                while !holds(self) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(HANG, waits).await.expect(what);
        }
    }

    async fn accept(listener: TcpListener, accepted: Arc<AtomicU64>) {
        loop {
            drop(listener.accept().await.unwrap());
            accepted.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_request_that_was_refused_has_the_endpoint_probed_and_with_it_the_endpoint_is_down() {
        let mut probed = Probed::new(RARELY).await;
        probed.stop().await;
        probed.endpoint().probes.suspect(Suspicion::Refused);
        let is_down = |one: &Probed| !one.endpoint().is_up();
        probed.until("it is down", is_down).await;
        assert!(probed.endpoint().is_unreachable());
        // It is probed soon, however long its interval is.
        probed.start_again().await;
        probed.until("it is up", |one| one.endpoint().is_up()).await;
    }

    #[tokio::test]
    async fn an_endpoint_whose_connections_break_is_probed_and_stays_up_while_it_is_there() {
        let probed = Probed::new(RARELY).await;
        let (before, failed) = (probed.accepted(), probed.endpoint().probes.begun());
        for suspicion in [Suspicion::Broken, Suspicion::Refused] {
            probed.endpoint().probes.suspect(suspicion);
        }
        let is_there = |one: &Probed| one.endpoint().probes.was_good_after(failed);
        probed.until("it was probed", is_there).await;
        assert!(probed.accepted() > before);
        assert!(probed.endpoint().is_up());
    }

    #[tokio::test]
    async fn an_endpoint_whose_connections_break_is_down_after_fall_refused_probes() {
        let mut probed = Probed::new(RARELY).await;
        let before = probed.endpoint().probes.begun();
        probed.stop().await;
        probed.endpoint().probes.suspect(Suspicion::Broken);
        let is_down = |one: &Probed| !one.endpoint().is_up();
        probed.until("it is down", is_down).await;
        assert_eq!(probed.endpoint().probes.begun(), before + 3);
    }

    #[tokio::test]
    async fn however_many_requests_are_refused_there_are_no_more_probes_than_five_a_second() {
        let probed = Probed::new(RARELY).await;
        let before = probed.endpoint().probes.begun();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            probed.endpoint().probes.suspect(Suspicion::Refused);
            tokio::task::yield_now().await;
        }
        let most = 1 + began.elapsed().as_millis() / QUICK_INTERVAL.as_millis();
        let probes = u128::from(probed.endpoint().probes.begun() - before);
        assert!((2..=most).contains(&probes), "{probes}, not {most}");
    }

    #[test]
    fn probes_name_the_host_that_is_set_or_the_first_one() {
        #[track_caller]
        fn check(hosts: &str, health: &str, want: Option<&str>) {
            let json = format!(r#"{{"name":"web","hosts":[{hosts}],"health":{{{health}}}}}"#);
            let service = crate::testing::service(&json, None);
            assert_eq!(host_of(&service.definition).as_deref(), want);
        }
        let path = r#""path":"/""#;
        let with_host = r#""path":"/","host":"probe.test:81""#;
        check("", path, None);
        check(r#""*.a.test""#, path, None);
        check(r#""*.a.test","b.test""#, path, Some("b.test"));
        check(r#""*.a.test","b.test""#, with_host, Some("probe.test:81"));
        check("", with_host, Some("probe.test:81"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_start_grows_evenly() {
        let service = crate::testing::service(
            r#"{"name":"web","health":{"path":"/"},"endpoints":[{"address":"10.0.0.1:80","version":"1"}]}"#,
            None,
        );
        let endpoint = service.endpoints().next().unwrap().clone();
        let growing = tokio::spawn(grow(endpoint.clone(), Duration::from_secs(10)));
        for second in 0..10u32 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let want = FULL * (2 * second + 1) / 20;
            let share = endpoint.share();
            assert!(share.abs_diff(want) <= FULL / 50, "{share}, not {want}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        growing.await.unwrap();
        assert_eq!(endpoint.share(), FULL);
    }
}
