//! Health checks: a task for each endpoint asks it again and again, and says what it found to
//! the endpoint itself, which every table shares.
//!
//! A new endpoint starts down. `rise` successes in a row, for `min_healthy_time` at least, bring
//! it up, `fall` failures in a row take it down. When the process starts, every endpoint is new
//! to it and none to its clients: they are probed in one burst, so that the first client finds up
//! what is up.

mod grpc;
mod probe;
mod state;
mod text;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use admin_api::{HealthSpec, Period};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::table::definition::HostPattern;
use crate::table::endpoint::{Endpoint, FULL, ProbeError};
use crate::table::endpoint_id::EndpointId;
use crate::table::service::Service;
use crate::worker::order::Order;

use probe::probe;
use state::{GoodResponses, Silence, State, is_unreachable};

/// In how many steps a slow start gives an endpoint its weight.
const GROWING_STEPS: u32 = 64;
/// A new endpoint is asked at least this often until its check has passed: a rollout waits.
const FIRST_INTERVAL: Duration = Duration::from_millis(200);

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
        let host = service.definition.hosts.iter().find_map(|host| match host {
            HostPattern::Exact(name) => Some(name.to_string()),
            HostPattern::Any | HostPattern::Suffix(_) => None,
        });
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
                endpoint: endpoint.clone(),
                spec: spec.clone(),
                host: host.clone().unwrap_or_else(|| endpoint.target.to_string()),
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

fn stop(checks: &mut HashMap<EndpointId, Check>, id: EndpointId) -> bool {
    let check = checks.remove(&id);
    if let Some(check) = &check {
        check.task.abort();
    }
    check.is_some()
}

/// Probes one endpoint until it is retired.
struct ProbeTask {
    endpoint: Arc<Endpoint>,
    spec: HealthSpec,
    host: String,
    tell: Teller,
}

impl ProbeTask {
    async fn run(self, burst: Option<Burst>) {
        let Self { endpoint, spec, .. } = &self;
        if burst.is_some() {
            self.probe_at_once().await;
            drop(burst);
        }
        let mut state = State::new(endpoint.is_healthy(), Instant::now());
        if state.up {
            // An earlier call may have been about to give it its weight.
            endpoint.set_share(FULL);
        }
        let mut was_up = state.up;
        let mut silence = Silence::default();
        let good_responses = || endpoint.claims.outcomes().good;
        let mut good = GoodResponses::new(good_responses());
        // Ends with this task, and with the next change of state.
        let mut growing = JoinSet::new();
        while !endpoint.claims.is_retired() {
            let began = Instant::now();
            let result = self.probe().await;
            let had_responses = good.any_since(good_responses());
            let is_silent = silence.next(&result, had_responses, spec);
            // Before it may go down: no request is to be sent there then.
            endpoint.set_unreachable(is_unreachable(&result, had_responses));
            let (version, address) = (&*endpoint.version, endpoint.target);
            match state.next(result.is_ok(), began, spec) {
                Some(true) => {
                    tracing::info!(version, %address, "endpoint is up");
                    was_up = true;
                    if spec.slow_start.get().is_zero() {
                        endpoint.set_health(Ok(()));
                    } else {
                        growing.spawn(grow(endpoint.clone(), spec.slow_start.get()));
                    }
                }
                Some(false) => {
                    growing.shutdown().await;
                    let reason = result.err().map_or_else(String::new, |error| error.reason);
                    tracing::warn!(version, %address, reason, "endpoint is down");
                    endpoint.set_health(Err(reason));
                }
                None if !state.up => endpoint.note(result.err().map(|error| error.reason)),
                None => {}
            }
            // When it is down: what is sent elsewhere must not come back.
            if endpoint.set_silent(is_silent && !state.up) {
                (self.tell)(Order::Silent(endpoint.id));
            }
            let pause = pause(spec, was_up, rand::random());
            tokio::time::sleep_until((began + pause).into()).await;
        }
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
        let (version, address) = (&*endpoint.version, endpoint.target);
        tracing::info!(version, %address, "endpoint is up");
        endpoint.set_health(Ok(()));
    }

    async fn probe(&self) -> Result<(), ProbeError> {
        probe(&self.endpoint, &self.spec, &self.host).await
    }
}

/// From the start of one probe to the start of the next; `random` is below 1.
fn pause(spec: &HealthSpec, was_up: bool, random: f64) -> Duration {
    let interval = spec.interval.get();
    let jitter = spec.jitter.map_or(interval / 10, Period::get);
    let pause = interval + jitter.mul_f64(random);
    if was_up {
        pause
    } else {
        pause.min(FIRST_INTERVAL)
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
    use super::*;

    #[test]
    fn probes_are_jittered_and_a_new_endpoint_is_probed_often() {
        let spec = HealthSpec::of_path("/");
        let millis = |was_up, random| pause(&spec, was_up, random).as_millis();
        assert_eq!(millis(true, 0.0), 1_000);
        assert_eq!(millis(true, 0.5), 1_050);
        assert_eq!(millis(false, 0.5), 200);
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
