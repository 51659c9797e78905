//! A proxy without a port.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use admin_api::{
    CopyStats, Cut, DrainReceipt, DrainRequest, EndpointReceipt, EndpointView, ErrorBody,
    ErrorDetail, HealthState, MirrorSpec, MirrorStats, Oldest, ServiceSpec, ServiceStats,
    ServiceView, VersionStats, VersionView, WaitStats,
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::calls::Calls;
use super::lock;

/// A proxy without a port. Between two readings of its figures every version has had as many
/// requests as its weight says.
pub(crate) struct FakeProxy {
    calls: Calls,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    service: Option<ServiceSpec>,
    /// Those that are not `web`.
    others: BTreeMap<String, ServiceSpec>,
    /// The addresses of every endpoint that was ever there, by version.
    known: BTreeMap<String, BTreeSet<String>>,
    stats: BTreeMap<String, VersionStats>,
    /// The share of a version's requests that fails, in percent.
    failing: BTreeMap<String, u64>,
    /// Why a version's endpoints are down, or one of them.
    down: BTreeMap<String, String>,
    /// Of the copies that were made last.
    mirror: MirrorStats,
    /// The share of all requests that are wrong and get a 4xx response, in percent.
    wrong: u64,
    /// The share of a version's responses that say so to what is right, in percent.
    refusing: BTreeMap<String, u64>,
    in_flight: BTreeMap<String, u64>,
    upgraded: BTreeMap<String, u64>,
    /// No request comes.
    idle: bool,
    /// No proxy responds.
    away: bool,
    /// It has another token.
    locked: bool,
    /// A drain would leave no endpoint.
    needs_all: bool,
    /// How often it was started again.
    restarts: u32,
}

impl FakeProxy {
    pub(super) fn new(calls: Calls) -> Self {
        Self {
            calls,
            inner: Mutex::default(),
        }
    }

    pub(crate) fn fail(&self, version: &str, percent: u64) {
        lock(&self.inner).failing.insert(version.into(), percent);
    }

    /// So many of a hundred requests are their clients' fault.
    pub(crate) fn send_bad_requests(&self, percent: u64) {
        lock(&self.inner).wrong = percent;
    }

    /// Responds with 404 to so many of a hundred requests, whatever they are.
    pub(crate) fn refuse(&self, version: &str, percent: u64) {
        lock(&self.inner).refusing.insert(version.into(), percent);
    }

    /// Of how many of a hundred requests copies are made, and for whom.
    pub(crate) fn mirror(&self) -> Option<(String, u8)> {
        let inner = lock(&self.inner);
        let spec = inner.service.as_ref()?.mirror.as_ref()?;
        Some((spec.version.clone(), spec.percent))
    }

    /// The endpoints of a version are down, or the one with this address.
    pub(crate) fn take_down(&self, which: &str, why: &str) {
        lock(&self.inner).down.insert(which.into(), why.into());
    }

    pub(crate) fn bring_up(&self, which: &str) {
        lock(&self.inner).down.remove(which);
    }

    pub(crate) fn set_in_flight(&self, version: &str, requests: u64, upgraded: u64) {
        let mut inner = lock(&self.inner);
        inner.in_flight.insert(version.into(), requests);
        inner.upgraded.insert(version.into(), upgraded);
    }

    pub(crate) fn set_idle(&self, idle: bool) {
        lock(&self.inner).idle = idle;
    }

    pub(crate) fn set_away(&self, away: bool) {
        lock(&self.inner).away = away;
    }

    /// Refuses every drain: none would be left.
    pub(crate) fn set_needs_all(&self, needs_all: bool) {
        lock(&self.inner).needs_all = needs_all;
    }

    /// The caller's token is not the proxy's.
    pub(crate) fn set_locked(&self, locked: bool) {
        lock(&self.inner).locked = locked;
    }

    /// Another process of it responds from now on.
    pub(crate) fn restart(&self) {
        lock(&self.inner).restarts += 1;
    }

    /// As after a start without a memory.
    pub(crate) fn forget(&self) {
        let mut inner = lock(&self.inner);
        inner.service = None;
        inner.stats.clear();
    }

    pub(crate) fn split(&self) -> BTreeMap<String, u32> {
        lock(&self.inner)
            .service
            .as_ref()
            .map(|spec| spec.split.clone())
            .unwrap_or_default()
    }

    /// Gives it a service that was not requested.
    pub(crate) fn add(&self, name: &str) {
        let spec = ServiceSpec {
            name: name.into(),
            ..ServiceSpec::default()
        };
        lock(&self.inner).others.insert(name.into(), spec);
    }

    /// The services that it has beside `web`.
    pub(crate) fn others(&self) -> Vec<String> {
        lock(&self.inner).others.keys().cloned().collect()
    }

    pub(crate) fn endpoints(&self) -> usize {
        lock(&self.inner)
            .service
            .as_ref()
            .map_or(0, |spec| spec.endpoints.len())
    }

    /// Those of the endpoints.
    pub(crate) fn addresses(&self) -> BTreeSet<String> {
        let inner = lock(&self.inner);
        let endpoints = inner.service.iter().flat_map(|spec| &spec.endpoints);
        endpoints.map(|one| one.address.clone()).collect()
    }

    pub(super) async fn serve(
        self: Arc<Self>,
        mut connections: mpsc::UnboundedReceiver<DuplexStream>,
    ) {
        while let Some(stream) = connections.recv().await {
            if lock(&self.inner).away {
                continue;
            }
            let this = self.clone();
            let service = service_fn(move |request| {
                let this = this.clone();
                async move { Ok::<_, Infallible>(this.response(request).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    async fn response(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        if lock(&self.inner).locked {
            return rejection(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "the token is wrong",
            );
        }
        // Paused time goes on only when no task has anything to do: with this, tests see every
        // phase, however short.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let path: Vec<&str> = head
            .uri
            .path()
            .trim_start_matches("/v1/")
            .split('/')
            .collect();
        match (&head.method, path.as_slice()) {
            (&Method::PUT, ["services", "web"]) => self.put(&body),
            (&Method::GET, ["services", "web"]) => {
                self.with_service(|inner, spec| ok(&view(inner, spec)))
            }
            (&Method::GET, ["services"]) => {
                let inner = lock(&self.inner);
                let all = inner.others.values().chain(&inner.service);
                ok(&admin_api::ServiceList {
                    generation: 1,
                    services: all.map(|spec| view(&inner, spec)).collect(),
                })
            }
            (&Method::PUT, ["services", other]) => {
                let spec = serde_json::from_slice(&body).expect("a service");
                let mut inner = lock(&self.inner);
                inner.others.insert((*other).to_owned(), spec);
                ok(&admin_api::Changed { generation: 1 })
            }
            (&Method::GET, ["services", other]) => {
                let inner = lock(&self.inner);
                let spec = inner.others.get(*other);
                spec.map_or_else(unknown, |spec| ok(&view(&inner, spec)))
            }
            (&Method::DELETE, ["services", other]) => {
                let mut inner = lock(&self.inner);
                let gone = match *other {
                    "web" => inner.service.take(),
                    other => inner.others.remove(other),
                };
                gone.map_or_else(unknown, |_| ok(&admin_api::Changed { generation: 1 }))
            }
            (&Method::GET, ["status"]) => ok(&status(lock(&self.inner).restarts)),
            (&Method::GET, ["services", "web", "stats"]) => self.stats(),
            (&Method::POST, ["services", "web", "drain"]) => {
                let request: DrainRequest = serde_json::from_slice(&body).expect("a drain");
                let version = request.version.expect("always named");
                self.drain(&version, request.endpoint.as_deref()).await
            }
            _ => unknown(),
        }
    }

    /// `web` as it is to be.
    fn put(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let spec: ServiceSpec = serde_json::from_slice(body).expect("a service");
        assert!(
            spec.endpoints.is_empty() || spec.split.values().any(|weight| *weight > 0),
            "every weight is 0: {spec:?}"
        );
        self.calls.push(format!("put {:?}", spec.split));
        let mut inner = lock(&self.inner);
        for endpoint in &spec.endpoints {
            let known = inner.known.entry(endpoint.version.clone()).or_default();
            known.insert(endpoint.address.clone());
        }
        inner.service = Some(spec);
        ok(&admin_api::Changed { generation: 1 })
    }

    /// The counts of `web`, with the requests that came since they were read last.
    fn stats(&self) -> Response<Full<Bytes>> {
        self.calls.push("stats".into());
        self.with_service(|inner, spec| {
            count(inner, spec);
            let versions = inner.stats.clone();
            ok(&ServiceStats {
                service: "web".into(),
                generation: 1,
                versions,
                mirror: spec.mirror.as_ref().map(|_| inner.mirror.clone()),
                waits: WaitStats::default(),
            })
        })
    }

    fn with_service(
        &self,
        with: impl FnOnce(&mut Inner, &ServiceSpec) -> Response<Full<Bytes>>,
    ) -> Response<Full<Bytes>> {
        let mut inner = lock(&self.inner);
        match inner.service.clone() {
            Some(spec) => with(&mut inner, &spec),
            None => unknown(),
        }
    }

    /// Of one endpoint of the version, or of all.
    async fn drain(&self, version: &str, endpoint: Option<&str>) -> Response<Full<Bytes>> {
        self.calls.push(format!("drain {version}"));
        tokio::time::sleep(Duration::from_millis(300)).await;
        let inner = lock(&self.inner);
        if inner.needs_all {
            let why = "the drain would leave the service without endpoints";
            return rejection(StatusCode::CONFLICT, "conflict", why);
        }
        let requests = inner.in_flight.get(version).copied().unwrap_or(0);
        let upgraded = inner.upgraded.get(version).copied().unwrap_or(0);
        let drained = requests == 0 && upgraded == 0;
        // A receipt outlives the endpoint's place in the table.
        let addresses = match endpoint {
            Some(address) => BTreeSet::from([address.to_owned()]),
            None => inner.known.get(version).cloned().unwrap_or_default(),
        };
        let receipt = |address| EndpointReceipt {
            address,
            version: version.into(),
            drained,
            in_flight: requests,
            streams: 0,
            upgraded,
            oldest: Oldest::default(),
            cut: Cut::default(),
        };
        let endpoints = addresses.into_iter().map(receipt).collect();
        if drained {
            self.calls.push(format!("receipt {version}"));
        }
        ok(&DrainReceipt {
            service: "web".into(),
            drained,
            forced: false,
            endpoints,
        })
    }
}

fn count(inner: &mut Inner, spec: &ServiceSpec) {
    let idle = inner.idle;
    if let (Some(mirror), false) = (&spec.mirror, idle) {
        count_copies(inner, mirror);
    }
    for endpoint in &spec.endpoints {
        inner.stats.entry(endpoint.version.clone()).or_default();
    }
    for (version, weight) in &spec.split {
        let failing = inner.failing.get(version).copied().unwrap_or(0);
        let stats = inner.stats.entry(version.clone()).or_default();
        if !idle {
            let attempts = u64::from(*weight);
            let failures = (stats.attempts() + attempts) * failing / 100;
            // Fewer fail than before.
            let failures = failures.saturating_sub(stats.failures()).min(attempts);
            stats.responses.server_error += failures;
            stats.responses.success += attempts - failures;
        }
    }
}

fn count_copies(inner: &mut Inner, spec: &MirrorSpec) {
    if inner.mirror.version != spec.version {
        inner.mirror = MirrorStats {
            version: spec.version.clone(),
            ..MirrorStats::default()
        };
    }
    let of = |map: &BTreeMap<String, u64>| map.get(&spec.version).copied().unwrap_or(0);
    let (failing, refusing) = (of(&inner.failing), of(&inner.refusing));
    let (wrong, new) = (inner.wrong, u64::from(spec.percent));
    let count = |stats: &mut CopyStats, failing: u64, refusing: u64| {
        let all = stats.responses.total() + new;
        stats.responses.server_error = all * failing / 100;
        stats.responses.client_error = all * (wrong + refusing).min(100 - failing) / 100;
        let bad = stats.responses.server_error + stats.responses.client_error;
        stats.responses.success = all - bad;
    };
    count(&mut inner.mirror.copies, failing, refusing);
    count(&mut inner.mirror.originals, 0, 0);
}

fn view(inner: &Inner, spec: &ServiceSpec) -> ServiceView {
    let mut versions: BTreeMap<String, VersionView> = BTreeMap::new();
    for endpoint in &spec.endpoints {
        let of_one = || inner.down.get(&endpoint.address);
        let reason = inner.down.get(&endpoint.version).or_else(of_one).cloned();
        let weight = spec.split.get(&endpoint.version).copied().unwrap_or(0);
        let version = versions
            .entry(endpoint.version.clone())
            .or_insert_with(|| VersionView {
                weight,
                ..VersionView::default()
            });
        version.endpoints.push(EndpointView {
            address: endpoint.address.clone(),
            weight: 1,
            health: if reason.is_some() {
                HealthState::Down
            } else {
                HealthState::Up
            },
            reason,
            ..EndpointView::default()
        });
    }
    ServiceView {
        name: spec.name.clone(),
        generation: 1,
        hosts: spec.hosts.clone(),
        path_prefix: spec.path_prefix.clone(),
        traffic: spec.traffic.clone(),
        split: spec.split.clone(),
        mirror: spec.mirror.clone(),
        versions,
        ..ServiceView::default()
    }
}

fn status(restarts: u32) -> admin_api::Status {
    admin_api::Status {
        version: "0.0.0".into(),
        process: restarts.to_string(),
        generation: 1,
        uptime_ms: 1,
        workers: 1,
        services: 1,
        connections: 0,
        draining_processes: 0,
        elders: 0,
        standby: None,
        in_panic: Vec::new(),
        versions_down: Vec::new(),
        stopping: false,
    }
}

fn ok(value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(value).expect("JSON");
    Response::new(Full::new(body.into()))
}

fn unknown() -> Response<Full<Bytes>> {
    rejection(StatusCode::NOT_FOUND, "unknown_service", "gone")
}

fn rejection(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let error = ErrorDetail {
        code: code.into(),
        message: message.into(),
        field: None,
    };
    let mut response = ok(&ErrorBody { error });
    *response.status_mut() = status;
    response
}
