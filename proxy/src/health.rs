//! Health checks: a task for each endpoint asks it again and again, and says what it found to
//! the endpoint itself, which every table shares.
//!
//! A new endpoint starts down. `rise` successes in a row bring it up, `fall` failures in a row
//! take it down.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use admin_api::HealthSpec;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use http::{Request, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::definition::HostPattern;
use crate::endpoint::{Endpoint, EndpointId};
use crate::service::Service;

/// A new endpoint is asked at least this often until its check has passed: a rollout waits.
const FIRST_INTERVAL: Duration = Duration::from_millis(200);

/// The health checks that run.
#[derive(Default)]
pub(crate) struct Health {
    checks: Mutex<HashMap<EndpointId, Check>>,
}

struct Check {
    spec: HealthSpec,
    host: Option<String>,
    task: AbortHandle,
}

impl Health {
    /// A service was replaced: endpoints that are gone are asked no more, new ones are asked
    /// from now on. To be called inside a runtime.
    pub(crate) fn replaced(&self, gone: &[Arc<Endpoint>], service: Option<&Service>) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        for endpoint in gone {
            stop(&mut checks, endpoint.id);
        }
        let Some(service) = service else { return };
        let host = service.definition.hosts.iter().find_map(|host| match host {
            HostPattern::Exact(name) => Some(name.to_string()),
            HostPattern::Any | HostPattern::Suffix(_) => None,
        });
        for endpoint in service.endpoints() {
            let Some(spec) = &service.definition.health else {
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
            let check = check(endpoint.clone(), spec.clone(), host.clone());
            let task = tokio::spawn(check).abort_handle();
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

/// Asks one endpoint until it is retired.
async fn check(endpoint: Arc<Endpoint>, spec: HealthSpec, host: Option<String>) {
    let mut state = State {
        up: endpoint.is_up(),
        streak: 0,
    };
    let mut was_up = state.up;
    let interval = spec.interval.get();
    let host = host.unwrap_or_else(|| endpoint.target.to_string());
    while !endpoint.claims.is_retired() {
        let began = tokio::time::Instant::now();
        let timeout = spec.timeout.get();
        let result = tokio::time::timeout(timeout, probe(endpoint.target, &spec.path, &host)).await;
        let result = result.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")));
        let (version, address) = (&*endpoint.version, endpoint.target);
        match state.next(result.is_ok(), &spec) {
            Some(true) => {
                tracing::info!(version, %address, "endpoint is up");
                was_up = true;
                endpoint.set_health(Ok(()));
            }
            Some(false) => {
                let reason = result.err().unwrap_or_default();
                tracing::warn!(version, %address, reason, "endpoint is down");
                endpoint.set_health(Err(reason));
            }
            None if !state.up => endpoint.note(result.err()),
            None => {}
        }
        let pause = if was_up {
            interval
        } else {
            interval.min(FIRST_INTERVAL)
        };
        tokio::time::sleep_until(began + pause).await;
    }
}

/// Up or down, and how many probes in a row have said otherwise.
struct State {
    up: bool,
    streak: u32,
}

impl State {
    /// Takes one probe's result in. Gives the new state where it changed.
    fn next(&mut self, success: bool, spec: &HealthSpec) -> Option<bool> {
        if success == self.up {
            self.streak = 0;
            return None;
        }
        self.streak += 1;
        let enough = if success { spec.rise } else { spec.fall };
        if self.streak < enough {
            return None;
        }
        *self = Self {
            up: success,
            streak: 0,
        };
        Some(success)
    }
}

/// One probe. Says what was wrong with the answer, or that there was none.
async fn probe(target: SocketAddr, path: &str, host: &str) -> Result<(), String> {
    let stream = TcpStream::connect(target)
        .await
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::try_from(path).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(
        HOST,
        HeaderValue::from_str(host).map_err(|error| error.to_string())?,
    );
    headers.insert(USER_AGENT, HeaderValue::from_static("crossfade-health"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let answer = async move {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("answered with {status}"))
        }
    };
    // The connection ends when the answer has dropped its sender; what went wrong on it, the
    // answer says too.
    let (answer, _) = tokio::join!(answer, connection);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_rise_successes_to_come_up_and_fall_failures_to_go_down() {
        let spec = HealthSpec {
            rise: 2,
            fall: 3,
            ..HealthSpec::of_path("/")
        };
        let mut state = State {
            up: false,
            streak: 0,
        };
        let probes = [
            (true, None),
            (false, None),
            (true, None),
            (true, Some(true)),
            (false, None),
            (false, None),
            (true, None),
            (false, None),
            (false, None),
            (false, Some(false)),
            (false, None),
        ];
        for (i, (success, want)) in probes.into_iter().enumerate() {
            assert_eq!(state.next(success, &spec), want, "probe {i}");
        }
    }
}
