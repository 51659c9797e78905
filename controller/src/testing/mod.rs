//! A site without containers and without a proxy: fakes that do what they are told and write
//! down what was asked of them, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use admin_api::{
    CopyStats, Cut, DrainReceipt, DrainRequest, EndpointReceipt, EndpointView, ErrorBody,
    ErrorDetail, HealthState, MirrorSpec, MirrorStats, Oldest, ServiceSpec, ServiceStats,
    ServiceView, VersionStats, VersionView,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc, watch};

use crate::clock::Clock;
use crate::http::proxy_admin::{Admin, Dial};
use crate::journal::{Event, EventFilter, FILE, NewRollout, NewVersion, RolloutRecord, Store};
use crate::manifest::{Manifest, Recipe, RuntimeChoice};
use crate::plan::RolloutSettings;
use crate::project::secrets::Secrets;
use crate::project::{Authorities, Site};
use crate::rollout::{self, Handle};
use crate::runtime::{
    Container, ContainerSpec, ContainerState, LogOptions, LogStream, PullStep, Runtime,
    RuntimeError, label,
};

/// Quick enough for a test that pauses the clock, and with every phase in it.
pub(crate) const MANIFEST: &str = r#"
[[services]]
name = "web"
image = "web:1.0.0"
replicas = 4
health = { path = "/healthz" }

[services.rollout]
step_min_duration = "1s"
min_requests = 20
max_hold = "20s"
bake = "5s"
min_healthy_time = "1s"
start_timeout = "10s"
"#;

/// Everything that was asked of runtime and proxy, in order.
#[derive(Debug, Clone)]
pub(crate) struct Calls(Arc<watch::Sender<Vec<String>>>);

impl Calls {
    fn push(&self, call: String) {
        self.0.send_modify(|calls| calls.push(call));
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// Until so many calls were made; `false` if `handle` ends before.
    pub(crate) async fn reach(&self, count: usize, handle: &Handle) -> bool {
        let mut calls = self.0.subscribe();
        tokio::select! {
            biased;
            () = handle.ended() => false,
            reached = calls.wait_for(|calls| calls.len() >= count) => reached.is_ok(),
        }
    }
}

/// A site with `web` 1.0.0 on four containers.
pub(crate) struct TestSite {
    pub(crate) site: Arc<Site>,
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) proxy: Arc<FakeProxy>,
    pub(crate) calls: Calls,
    dir: TempDir,
}

impl TestSite {
    pub(crate) async fn new() -> Self {
        let dir = TempDir::new().expect("a folder");
        let store = Arc::new(Store::open(&dir.path().join(FILE)).expect("a journal"));
        let calls = Calls(Arc::new(watch::Sender::new(Vec::new())));
        let runtime = FakeRuntime::new(calls.clone());
        let proxy = Arc::new(FakeProxy::new(calls.clone()));
        let (dial, connections) = mpsc::unbounded_channel();
        tokio::spawn(proxy.clone().serve(connections));
        let manifest = Manifest::parse(MANIFEST).expect("a manifest");
        let admin = Admin::new(Dial::Memory(dial), "secret".into());
        let secrets = Secrets::new(dir.path());
        let clock = Clock::new();
        let authorities = Authorities::new(dir.path(), RuntimeChoice::Process);
        let site = Site::new(
            manifest,
            store,
            runtime.clone(),
            admin,
            clock,
            secrets,
            authorities,
        );
        let this = Self {
            site: Arc::new(site),
            runtime,
            proxy,
            calls,
            dir,
        };
        this.site
            .store
            .add_service(&this.version("1.0.0"), 4, 0)
            .expect("recorded");
        let stable = this.site.service("web").expect("there").stable;
        let dead = crate::project::containers::Dead::Fail;
        this.site
            .start_missing(&stable, 4, dead, &mut Vec::new())
            .await
            .expect("started");
        this.site.push("web").await.expect("pushed");
        this.calls.0.send_modify(Vec::clear);
        this
    }

    /// The state folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn version(&self, label: &str) -> NewVersion {
        NewVersion {
            service: "web".into(),
            version: label.into(),
            image: format!("web:{label}"),
            resolved: format!("web:{label}"),
            pull_name: None,
            recipe: Recipe {
                port: 8080,
                ..Recipe::default()
            },
        }
    }

    /// Writes a rollout to 2.0.0 down.
    pub(crate) fn begin(&self, strategy: &str) -> RolloutRecord {
        let strategy = strategy.parse().expect("a strategy");
        self.begin_with(|settings| settings.strategy = strategy)
    }

    /// The same, with other settings.
    pub(crate) fn begin_with(&self, change: impl FnOnce(&mut RolloutSettings)) -> RolloutRecord {
        let manifest = self.site.manifest();
        let mut settings = manifest.service("web").expect("there").rollout.clone();
        change(&mut settings);
        let stable = self.site.service("web").expect("there").stable;
        let steps = settings.strategy.steps(4);
        let new = NewRollout {
            from: stable.id,
            to: self.version("2.0.0"),
            settings,
            steps,
            who: None,
        };
        self.site
            .store
            .begin_rollout(&new, self.site.clock.now())
            .expect("recorded")
    }

    /// Everything that happened.
    pub(crate) fn events(&self) -> Vec<Event> {
        let all = EventFilter::default();
        self.site.store.events(all).expect("read")
    }

    /// Begins a canary to 2.0.0.
    pub(crate) fn canary(&self) -> Handle {
        rollout::spawn(self.site.clone(), self.begin("canary"))
    }

    /// What a controller does that was killed: takes up what the journal says.
    pub(crate) fn take_up(&self) -> Option<Handle> {
        let unfinished = self.site.store.unfinished().expect("read");
        unfinished
            .into_iter()
            .next()
            .map(|record| rollout::spawn(self.site.clone(), record))
    }

    /// The versions of the containers that run, with how many of each.
    pub(crate) fn running(&self) -> BTreeMap<String, usize> {
        let mut running = BTreeMap::new();
        for container in self.runtime.containers().iter() {
            let version = container.labels.get(label::VERSION);
            if let (Some(version), ContainerState::Running) = (version, container.state) {
                *running.entry(version.clone()).or_default() += 1;
            }
        }
        running
    }
}

/// Containers that are entries of a list.
pub(crate) struct FakeRuntime {
    calls: Calls,
    containers: Mutex<Vec<Container>>,
    started: Mutex<u8>,
    /// Versions whose containers exit as soon as they start, with what they say.
    pub(crate) exits_at_once: Mutex<BTreeMap<String, String>>,
    /// Names of containers that are not ours.
    foreign: Mutex<Vec<String>>,
    /// Names of containers that it has forgotten.
    forgotten: Mutex<Vec<String>>,
    /// It cannot take a container away that has ended.
    pub(crate) keeps_dead: AtomicBool,
    /// Who has a container's output read finds that it is gone then.
    pub(crate) vanish: AtomicBool,
    /// Nobody answers for it, whatever is asked.
    pub(crate) away: AtomicBool,
    /// It cannot tell what runs.
    pub(crate) blind: AtomicBool,
    /// Told when a container has ended by itself.
    changed: Notify,
}

impl FakeRuntime {
    fn new(calls: Calls) -> Arc<Self> {
        Arc::new(Self {
            calls,
            containers: Mutex::default(),
            started: Mutex::default(),
            exits_at_once: Mutex::default(),
            foreign: Mutex::default(),
            forgotten: Mutex::default(),
            keeps_dead: AtomicBool::new(false),
            vanish: AtomicBool::new(false),
            away: AtomicBool::new(false),
            blind: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    pub(crate) fn containers(&self) -> MutexGuard<'_, Vec<Container>> {
        lock(&self.containers)
    }

    fn must_answer(&self) -> Result<(), RuntimeError> {
        match self.away.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(RuntimeError::Unavailable {
                runtime: "fake",
                reason: "its socket is gone".into(),
            }),
        }
    }

    /// Where those that run are reached.
    pub(crate) fn addresses(&self) -> BTreeSet<String> {
        let containers = self.containers();
        let addresses = containers.iter().filter_map(|container| container.address);
        addresses.map(|address| address.to_string()).collect()
    }

    /// These names are taken by containers that are not ours.
    pub(crate) fn foreign(&self, names: &[String]) {
        lock(&self.foreign).extend_from_slice(names);
    }

    /// It keeps these names for containers that it does not know any more.
    pub(crate) fn forgotten(&self, names: &[String]) {
        lock(&self.forgotten).extend_from_slice(names);
    }

    /// The first container of the version ends.
    pub(crate) fn exit(&self, version: &str, code: i64) {
        let mut containers = self.containers();
        let found = containers
            .iter_mut()
            .find(|c| c.labels.get(label::VERSION).is_some_and(|of| of == version));
        let container = found.expect("a container of that version");
        container.state = ContainerState::Exited(Some(code));
        container.address = None;
        self.changed.notify_one();
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn resolve_image(&self, image: &str) -> Result<String, RuntimeError> {
        self.must_answer()?;
        Ok(image.to_owned())
    }

    async fn pull_image(
        &self,
        image: &str,
        _progress: &(dyn Fn(PullStep) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        self.calls.push(format!("pull {image}"));
        Ok(())
    }

    async fn pull_name(&self, _image: &str) -> Result<Option<String>, RuntimeError> {
        Ok(None)
    }

    async fn ensure_network(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn remove_network(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Container, RuntimeError> {
        self.must_answer()?;
        if lock(&self.foreign).contains(&spec.name) {
            let name = spec.name.clone();
            return Err(RuntimeError::NotOurs { name });
        }
        if lock(&self.forgotten).contains(&spec.name) {
            return Err(RuntimeError::NameTaken {
                name: spec.name.clone(),
                reason: "it is in use already".into(),
            });
        }
        self.calls.push(format!("start {}", spec.name));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let version = spec.labels.get(label::VERSION);
        let exits = version.is_some_and(|of| lock(&self.exits_at_once).contains_key(of));
        let mut started = lock(&self.started);
        *started += 1;
        let container = Container {
            id: format!("id-{}", spec.name),
            name: spec.name.clone(),
            image: spec.image.clone(),
            labels: spec.labels.clone(),
            state: if exits {
                ContainerState::Exited(Some(3))
            } else {
                ContainerState::Running
            },
            address: (!exits)
                .then_some(spec.port)
                .flatten()
                .map(|port| ([10, 0, 0, *started], port).into()),
        };
        self.containers().push(container.clone());
        Ok(container)
    }

    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        self.must_answer()?;
        if self.blind.load(Ordering::Relaxed) {
            return Err(RuntimeError::Failed {
                runtime: "fake",
                action: "list containers",
                reason: "it is blind".into(),
            });
        }
        let mut containers = self.containers().clone();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(containers)
    }

    async fn stop(&self, id: &str) -> Result<(), RuntimeError> {
        self.must_answer()?;
        let is_dead = |one: &Container| one.id == id && one.state != ContainerState::Running;
        let is_dead = self.containers().iter().any(is_dead);
        if is_dead && self.keeps_dead.load(Ordering::Relaxed) {
            return Err(RuntimeError::Failed {
                runtime: "fake",
                action: "remove a container",
                reason: "its layer is busy".into(),
            });
        }
        // Nothing can be in flight to a dead one, so it needs no receipt.
        let verb = match is_dead {
            true => "clear away",
            false => "stop",
        };
        self.calls
            .push(format!("{verb} {}", id.trim_start_matches("id-")));
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.containers().retain(|container| container.id != id);
        Ok(())
    }

    async fn watch(&self, changed: &Notify) {
        loop {
            self.changed.notified().await;
            changed.notify_one();
        }
    }

    async fn logs(&self, id: &str, _options: LogOptions) -> Result<LogStream, RuntimeError> {
        if self.vanish.load(Ordering::Relaxed) {
            self.containers().retain(|container| container.id != id);
        }
        let (send, stream) = mpsc::channel(1);
        let said = lock(&self.exits_at_once)
            .values()
            .next()
            .cloned()
            .unwrap_or_default();
        // Room for one is there.
        let _ = send.try_send(Ok(said.into()));
        Ok(stream)
    }
}

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
    /// The share of a version's requests that fails, in per cent.
    failing: BTreeMap<String, u64>,
    /// Why a version's endpoints are down, or one of them.
    down: BTreeMap<String, String>,
    /// Of the copies that were made last.
    mirror: MirrorStats,
    /// The share of all requests that are wrong, and are answered so, in per cent.
    wrong: u64,
    /// The share of a version's answers that say so to what is right, in per cent.
    refusing: BTreeMap<String, u64>,
    in_flight: BTreeMap<String, u64>,
    upgraded: BTreeMap<String, u64>,
    /// No request comes.
    idle: bool,
    /// Nobody answers.
    away: bool,
    /// It has another token.
    locked: bool,
    /// Nobody would be left if anybody went.
    needs_all: bool,
}

impl FakeProxy {
    fn new(calls: Calls) -> Self {
        Self {
            calls,
            inner: Mutex::default(),
        }
    }

    pub(crate) fn fail(&self, version: &str, percent: u64) {
        lock(&self.inner).failing.insert(version.into(), percent);
    }

    /// So many of a hundred requests are their clients' fault.
    pub(crate) fn ask_wrongly(&self, percent: u64) {
        lock(&self.inner).wrong = percent;
    }

    /// Answers so many of a hundred requests with 404, whatever they ask for.
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

    /// Refuses every drain: nobody would be left.
    pub(crate) fn set_needs_all(&self, needs_all: bool) {
        lock(&self.inner).needs_all = needs_all;
    }

    /// Whoever asks has another token than it has.
    pub(crate) fn set_locked(&self, locked: bool) {
        lock(&self.inner).locked = locked;
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

    /// Gives it a service that nobody asked for.
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

    async fn serve(self: Arc<Self>, mut connections: mpsc::UnboundedReceiver<DuplexStream>) {
        while let Some(stream) = connections.recv().await {
            if lock(&self.inner).away {
                continue;
            }
            let this = self.clone();
            let service = service_fn(move |request| {
                let this = this.clone();
                async move { Ok::<_, Infallible>(this.answer(request).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        if lock(&self.inner).locked {
            return refusal(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "the token is wrong",
            );
        }
        // Paused time goes on only when nobody has anything to do: with this, tests see every
        // phase, however short.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let path: Vec<&str> = head
            .uri
            .path()
            .trim_start_matches("/v1/")
            .split('/')
            .collect();
        match (&head.method, path.as_slice()) {
            (&Method::PUT, ["services", "web"]) => {
                let spec: ServiceSpec = serde_json::from_slice(&body).expect("a service");
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
            (&Method::GET, ["status"]) => ok(&admin_api::Status {
                version: "0.0.0".into(),
                process: "1".into(),
                generation: 1,
                uptime_ms: 1,
                workers: 1,
                services: 1,
                connections: 0,
                elders: 0,
                in_panic: Vec::new(),
                versions_down: Vec::new(),
                stopping: false,
            }),
            (&Method::GET, ["services", "web", "stats"]) => {
                self.calls.push("stats".into());
                self.with_service(|inner, spec| {
                    count(inner, spec);
                    let versions = inner.stats.clone();
                    ok(&ServiceStats {
                        service: "web".into(),
                        generation: 1,
                        versions,
                        mirror: spec.mirror.as_ref().map(|_| inner.mirror.clone()),
                    })
                })
            }
            (&Method::POST, ["services", "web", "drain"]) => {
                let request: DrainRequest = serde_json::from_slice(&body).expect("a drain");
                let version = request.version.expect("always named");
                self.drain(&version, request.endpoint.as_deref()).await
            }
            _ => unknown(),
        }
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
            let why = "the drain would leave the service nothing to send requests to";
            return refusal(StatusCode::CONFLICT, "conflict", why);
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
            let tries = u64::from(*weight);
            let failures = (stats.tries() + tries) * failing / 100 - stats.failures();
            stats.responses.server_error += failures;
            stats.responses.success += tries - failures;
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
        strip_prefix: spec.strip_prefix,
        split: spec.split.clone(),
        health: spec.health.clone(),
        mirror: spec.mirror.clone(),
        versions,
        ..ServiceView::default()
    }
}

fn ok(value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(value).expect("JSON");
    Response::new(Full::new(body.into()))
}

fn unknown() -> Response<Full<Bytes>> {
    refusal(StatusCode::NOT_FOUND, "unknown_service", "gone")
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let error = ErrorDetail {
        code: code.into(),
        message: message.into(),
        field: None,
    };
    let mut response = ok(&ErrorBody { error });
    *response.status_mut() = status;
    response
}

/// Answers with these, one after the other, and gives what it was sent.
pub(crate) async fn listener(
    answers: Vec<(u16, &'static str)>,
) -> (String, mpsc::UnboundedReceiver<String>) {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = socket.local_addr().expect("bound");
    let (heard, hear) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for (status, text) in answers {
            let (stream, _) = socket.accept().await.expect("accepted");
            let heard = heard.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let heard = heard.clone();
                async move {
                    let token = request.headers().get("authorization");
                    let token = token
                        .map_or("-", |token| token.to_str().expect("text"))
                        .to_owned();
                    let body = request.into_body().collect().await?.to_bytes();
                    let body = String::from_utf8_lossy(&body).into_owned();
                    let _ = heard.send(format!("{token} {body}"));
                    let mut answer = Response::new(Full::<Bytes>::from(text));
                    *answer.status_mut() = status.try_into().expect("a status");
                    Ok::<_, hyper::Error>(answer)
                }
            });
            let serve = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Whoever asked may be gone before the answer is.
            let _ = serve.await;
        }
    });
    (format!("http://{address}/secret-path"), hear)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
