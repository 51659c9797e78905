//! The admin API (v1): HTTP and JSON, on a loopback port, a unix socket, or wherever a token
//! guards it.

mod changes;
mod metrics;
mod slots;
pub(crate) mod successor;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use admin_api::strict::{InputError, from_json};
use admin_api::{
    Changed, DrainRequest, ErrorBody, ErrorDetail, HoldSpec, Period, ServiceList, ServiceSpec,
    SplitRequest, Status,
};
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, ETAG, HOST, HeaderValue, IF_MATCH, ORIGIN,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_io_timeout::TimeoutWriter;

use crate::admin::changes::After;
use crate::admin::slots::{Slot, Slots};
use crate::config::{AdminAddress, Config, Token};
use crate::control::drain::DrainTarget;
use crate::control::{ChangeError, Control, ProcessRole};
use crate::server::admin_listener::AdminListener;
use crate::table::service::Outage;
use crate::wire::tls::Listening;
use crate::worker::counters::Counters;

const MAX_BODY: usize = 8 * 1024 * 1024;
/// The longest head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// How long a connection may be open without the head of a request on it.
const IDLE_FOR: Duration = Duration::from_secs(5);
/// How long a client may take none of its response.
const WRITE_FOR: Duration = Duration::from_secs(10);
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// The error code for a request that another process has to serve.
const HANDED_OVER: &str = "handed_over";

/// What the admin API needs to know.
pub(crate) struct AdminApi {
    control: Arc<Control>,
    counters: Arc<Counters>,
    token: Option<Token>,
    /// Any program on this machine could connect, a browser included.
    on_tcp: bool,
    about: About,
    config_valid: Arc<AtomicBool>,
    tls: Arc<Listening>,
    pub(crate) stopping: AtomicBool,
    pub(crate) successor: successor::Address,
}

/// What does not change about this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About {
    /// Its number.
    pub(crate) process: u64,
    started: Instant,
    workers: usize,
}

impl About {
    /// A process that starts now.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            process: rand::random(),
            started: Instant::now(),
            workers,
        }
    }
}

impl AdminApi {
    /// The admin API of this process, if `config` asks for one. `config_valid` says whether the
    /// newest text of the config file is in force.
    pub(crate) fn of(
        config: &Config,
        about: About,
        control: &Arc<Control>,
        counters: &Arc<Counters>,
        tls: Arc<Listening>,
        config_valid: Arc<AtomicBool>,
    ) -> Option<Arc<Self>> {
        let settings = config.admin.as_ref()?;
        Some(Arc::new(Self {
            control: control.clone(),
            counters: counters.clone(),
            token: settings.token.clone(),
            on_tcp: matches!(settings.listen, AdminAddress::Tcp(_)),
            about,
            config_valid,
            tls,
            stopping: AtomicBool::new(false),
            successor: watch::channel(None).0,
        }))
    }
}

/// Serves the admin API. Never ends.
pub(crate) async fn serve(admin: Arc<AdminApi>, listener: AdminListener) -> std::io::Result<()> {
    let slots = Slots::new();
    match listener {
        AdminListener::Tcp(socket) => {
            let socket = tokio::net::TcpListener::from_std(socket)?;
            loop {
                if let Some((stream, _)) = accepted(socket.accept().await).await {
                    tokio::spawn(connection(admin.clone(), stream, slots.stranger()));
                }
            }
        }
        AdminListener::Unix(socket) => {
            let socket = tokio::net::UnixListener::from_std(socket)?;
            loop {
                if let Some((stream, _)) = accepted(socket.accept().await).await {
                    tokio::spawn(connection(admin.clone(), stream, slots.stranger()));
                }
            }
        }
    }
}

async fn accepted<T>(accepted: std::io::Result<T>) -> Option<T> {
    match accepted {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "cannot accept an admin connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn connection(
    admin: Arc<AdminApi>,
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    slot: Slot,
) {
    let slot = &slot;
    let service = service_fn(move |request| {
        let admin = admin.clone();
        async move { Ok::<_, std::convert::Infallible>(admin.response(request, slot).await) }
    });
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(WRITE_FOR));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_FOR)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::select! {
        // A client that breaks off gets no error.
        _ = served => {}
        () = slot.has_to_go() => {}
    }
}

type AdminResponse = Response<Full<Bytes>>;

/// An error response.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    field: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            field: None,
        }
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }
}

impl From<InputError> for Problem {
    fn from(error: InputError) -> Self {
        Self {
            field: error.field,
            ..Self::bad_request(error.message)
        }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let message = error.to_string();
        match error {
            ChangeError::Invalid(error) => error.into(),
            ChangeError::UnknownService(_) => {
                Self::new(StatusCode::NOT_FOUND, "unknown_service", message)
            }
            ChangeError::UnknownVersion { field, .. } => Self {
                field: Some(field.to_owned()),
                ..Self::new(StatusCode::NOT_FOUND, "unknown_version", message)
            },
            ChangeError::Conflict(_) => Self::new(StatusCode::CONFLICT, "conflict", message),
            ChangeError::Generation { .. } => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "generation_mismatch",
                message,
            ),
            ChangeError::HandedOver => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, HANDED_OVER, message)
            }
            ChangeError::NotSaved(_) | ChangeError::State(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            }
        }
    }
}

impl AdminApi {
    async fn response(self: &Arc<Self>, request: Request<Incoming>, slot: &Slot) -> AdminResponse {
        let response = self.respond_or_forward(request, slot).await;
        let mut response = response.unwrap_or_else(|problem| {
            let Problem {
                status,
                code,
                message,
                field,
            } = problem;
            let error = ErrorDetail {
                code: code.into(),
                message,
                field,
            };
            json(status, &ErrorBody { error })
        });
        if self.control.process_role() == ProcessRole::Draining || !slot.is_known() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    /// Responds, or forwards to the successor where there is one. A request that comes while one is
    /// about to take over waits until it is known whose it is.
    async fn respond_or_forward(
        self: &Arc<Self>,
        request: Request<Incoming>,
        slot: &Slot,
    ) -> Result<AdminResponse, Problem> {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let body = if matches!(head.uri.path().trim_matches('/'), "healthz" | "readyz") {
            // These need no token, and their bodies are not read.
            Bytes::new()
        } else {
            self.admit(&head.headers)?;
            if !slot.make_known() {
                let message = "there are too many connections with the token already";
                return Err(Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too_many_connections",
                    message,
                ));
            }
            bytes_of(body).await?
        };
        let request = Arc::new((head, body));
        let (head, body) = &*request;
        let mut process_role = self.control.watch_process_role();
        loop {
            let response = if self.control.process_role() == ProcessRole::Draining {
                return successor::forward(&self.successor, head, body.clone(), began).await;
            } else if is_change(head) {
                self.change(request.clone()).await
            } else {
                self.route(head, body).await
            };
            match response {
                Err(problem) if problem.code == HANDED_OVER => {}
                response => return response,
            }
            // An error: the proxy ends.
            let _ = process_role
                .wait_for(|now| *now != ProcessRole::Frozen)
                .await;
        }
    }

    /// Makes a change, and saves it for the next start, to the end: whether or not the client that
    /// asked for it is still there.
    async fn change(
        self: &Arc<Self>,
        request: Arc<(Parts, Bytes)>,
    ) -> Result<AdminResponse, Problem> {
        let admin = self.clone();
        let made = tokio::spawn(async move { admin.route(&request.0, &request.1).await });
        made.await.unwrap_or_else(|error| {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Err(Problem::new(status, "internal", error.to_string()))
        })
    }

    async fn route(&self, request: &Parts, body: &Bytes) -> Result<AdminResponse, Problem> {
        let path = request.uri.path();
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let method = request.method.clone();
        let table = || self.control.table();
        match (&method, &segments[..]) {
            (&Method::GET, ["healthz"]) => Ok(plain(StatusCode::OK, "ok\n")),
            (&Method::GET, ["readyz"]) => Ok(if self.stopping.load(Ordering::Relaxed) {
                plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
            } else {
                plain(StatusCode::OK, "ok\n")
            }),
            (&Method::GET, ["metrics"]) => self.metrics(),
            (&Method::GET, ["v1", "status"]) => Ok(json(StatusCode::OK, &self.status())),
            (&Method::GET, ["v1", "services"]) => {
                let table = table();
                let services = table
                    .services()
                    .iter()
                    .map(|service| service.view(table.generation))
                    .collect();
                let list = ServiceList {
                    generation: table.generation,
                    services,
                };
                Ok(tagged(json(StatusCode::OK, &list), table.generation))
            }
            (&Method::GET, ["v1", "changes"]) => {
                let after = After::read(request.uri.query())?;
                let changes = after.wait(&self.control).await;
                Ok(json(StatusCode::OK, &changes))
            }
            (&Method::GET, ["v1", "services", name]) => {
                let table = table();
                let service = table.service(name).ok_or_else(|| no_service(name))?;
                let view = service.view(table.generation);
                Ok(tagged(json(StatusCode::OK, &view), table.generation))
            }
            (&Method::GET, ["v1", "services", name, "stats"]) => {
                let table = table();
                let service = table.service(name).ok_or_else(|| no_service(name))?;
                Ok(json(StatusCode::OK, &service.stats(table.generation)))
            }
            (&Method::PUT, ["v1", "services", name]) => self.put(name, request, body).await,
            (&Method::PUT, ["v1", "services", name, "split"]) => {
                let if_match = if_match(&request.headers)?;
                let SplitRequest { split } = from_json(body)?;
                Ok(changed(
                    self.control.set_split(name, split, if_match).await?,
                ))
            }
            (&Method::DELETE, ["v1", "services", name]) => {
                let if_match = if_match(&request.headers)?;
                Ok(changed(self.control.delete(name, if_match).await?))
            }
            (&Method::POST, ["v1", "services", name, "hold"]) => {
                let if_match = if_match(&request.headers)?;
                let spec: HoldSpec = body_or_default(body)?;
                Ok(changed(self.control.hold(name, spec, if_match).await?))
            }
            (&Method::POST, ["v1", "services", name, "release"]) => {
                let if_match = if_match(&request.headers)?;
                Ok(changed(self.control.release(name, if_match).await?))
            }
            (&Method::POST, ["v1", "services", name, "drain"]) => {
                let wait = wait(request.uri.query())?;
                let target = target(from_json(body)?)?;
                self.drain(name, &target, wait).await
            }
            _ => Err(no_such_call(&method, &segments)),
        }
    }

    /// Sets a service, in place of others where the query names some.
    async fn put(
        &self,
        name: &str,
        request: &Parts,
        body: &[u8],
    ) -> Result<AdminResponse, Problem> {
        let if_match = if_match(&request.headers)?;
        let mut spec: ServiceSpec = from_json(body)?;
        if spec.name.is_empty() {
            name.clone_into(&mut spec.name);
        } else if spec.name != name {
            let message = format!("is `{}`, but the path says `{name}`", spec.name);
            return Err(InputError::of_field("name", message).into());
        }
        let control = &self.control;
        let generation = match &replaced(request.uri.query())?[..] {
            [] => control.put(spec, if_match).await,
            names => control.put_in_place_of(names, spec, if_match).await,
        };
        Ok(changed(generation?))
    }

    /// Checks the token, or without one the origin, of a request.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if let Some(token) = &self.token {
            let given = headers
                .get(AUTHORIZATION)
                .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
                .unwrap_or_default();
            if !bool::from(given.ct_eq(token.as_bytes())) {
                let message = "send the token of admin.token_file as `Authorization: Bearer …`";
                return Err(Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "unauthorized",
                    message,
                ));
            }
            return Ok(());
        }
        // Without a token, a web page in this machine's browser must not get in by a name that
        // leads to loopback, or by a form.
        if self.on_tcp && (headers.contains_key(ORIGIN) || !is_loopback(headers.get(HOST))) {
            let message = "without a token, only local programs may call the admin API, over a loopback address and not from a web page";
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", message));
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let table = self.control.table();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            process: format!("{:016x}", self.about.process),
            uptime_ms: u64::try_from(self.about.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            generation: table.generation,
            workers: self.about.workers,
            services: table.services().len(),
            connections: self.counters.counts().connections,
            draining_processes: self.control.drains.draining_processes.count(),
            elders: self.control.drains.draining_processes.count(),
            standby: Some(self.control.standbys.count() > 0),
            in_panic: table
                .services()
                .iter()
                .filter(|service| service.outage() == Some(Outage::Panic))
                .map(|service| service.definition.name.to_string())
                .collect(),
            versions_down: table
                .services()
                .iter()
                .flat_map(|service| {
                    let down = service.versions_down();
                    down.map(|version| format!("{}/{}", service.definition.name, version.label))
                })
                .collect(),
            stopping: self.stopping.load(Ordering::Relaxed),
        }
    }

    fn metrics(&self) -> Result<AdminResponse, Problem> {
        let valid = self.config_valid.load(Ordering::Relaxed);
        let table = self.control.table();
        let text = metrics::text(&table, &self.counters, valid, &self.tls).map_err(|error| {
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                error.to_string(),
            )
        })?;
        let mut response = plain(StatusCode::OK, text);
        let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, format);
        Ok(response)
    }

    /// Begins a drain (or joins one), and responds when it is done or `wait` is over.
    async fn drain(
        &self,
        name: &str,
        target: &DrainTarget,
        wait: Duration,
    ) -> Result<AdminResponse, Problem> {
        let mut ended = self.control.drains.watch();
        let mut receipt = self.control.drain(name, target)?;
        let deadline = tokio::time::Instant::now() + wait;
        let mut process_role = self.control.watch_process_role();
        let mut in_time = true;
        while !receipt.drained && in_time {
            in_time = tokio::select! {
                _ = ended.changed() => true,
                // A successor may have to be asked.
                _ = process_role.changed() => true,
                () = tokio::time::sleep_until(deadline) => false,
            };
            receipt = self.control.receipt(name, target)?;
        }
        if !receipt.drained {
            self.control.drains.query_ages(name, target).await;
            receipt = self.control.receipt(name, target)?;
        }
        Ok(json(StatusCode::OK, &receipt))
    }
}

/// Whether it asks for a change of the table. A drain makes none, and may wait for long.
fn is_change(request: &Parts) -> bool {
    let is_drain = request.uri.path().trim_matches('/').ends_with("/drain");
    match request.method {
        Method::GET => false,
        Method::POST => !is_drain,
        _ => true,
    }
}

fn no_service(name: &str) -> Problem {
    ChangeError::UnknownService(name.to_owned()).into()
}

fn no_such_call(method: &Method, segments: &[&str]) -> Problem {
    let allowed = match segments {
        ["healthz" | "readyz" | "metrics"] | ["v1", "status" | "services" | "changes"] => "GET",
        ["v1", "services", _] => "GET, PUT, DELETE",
        ["v1", "services", _, "stats"] => "GET",
        ["v1", "services", _, "split"] => "PUT",
        ["v1", "services", _, "drain" | "hold" | "release"] => "POST",
        _ => {
            let message = format!("there is no /{}", segments.join("/"));
            return Problem::new(StatusCode::NOT_FOUND, "not_found", message);
        }
    };
    let message = format!("{method} is not possible here: {allowed}");
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    )
}

/// Whether a `Host` is an address of this machine itself.
fn is_loopback(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let authority: Result<http::uri::Authority, _> = host.parse();
    authority.is_ok_and(|authority| {
        let name = authority.host();
        let ip = name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>();
        name.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
    })
}

/// The generation that a change is conditional on.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    number.parse().map(Some).map_err(|_| {
        Problem::bad_request(format!(
            "If-Match is `{text}`: write a generation, such as \"42\""
        ))
    })
}

/// `?wait=30s`; not at all where it is not asked for.
fn wait(query: Option<&str>) -> Result<Duration, Problem> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(Duration::ZERO);
    };
    let value = query.strip_prefix("wait=").ok_or_else(|| {
        Problem::bad_request(format!("unknown query `?{query}`: write `?wait=30s`"))
    })?;
    let period: Period = value.parse().map_err(|message: String| Problem {
        field: Some("wait".into()),
        ..Problem::bad_request(message)
    })?;
    Ok(period.get().min(MAX_WAIT))
}

/// The services that are taken out in the same swap: `?replaces=web,api`.
fn replaced(query: Option<&str>) -> Result<Vec<String>, Problem> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(Vec::new());
    };
    let names = query.strip_prefix("replaces=").ok_or_else(|| {
        Problem::bad_request(format!("unknown query `?{query}`: write `?replaces=NAME`"))
    })?;
    Ok(names.split(',').map(str::to_owned).collect())
}

fn target(request: DrainRequest) -> Result<DrainTarget, Problem> {
    let DrainRequest { version, endpoint } = request;
    if version.is_none() && endpoint.is_none() {
        return Err(Problem::bad_request(
            "give a `version`, an `endpoint`, or both",
        ));
    }
    Ok(DrainTarget { version, endpoint })
}

/// What a body says, where it may be left out.
fn body_or_default<T: serde::de::DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    Ok(from_json(body)?)
}

async fn bytes_of(body: Incoming) -> Result<Bytes, Problem> {
    let read = Limited::new(body, MAX_BODY).collect();
    let within = Duration::from_secs(30);
    let collected = tokio::time::timeout(within, read).await.map_err(|_| {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "the body did not come in time",
        )
    })?;
    let collected = collected.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!("the body is longer than {MAX_BODY} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
        } else {
            Problem::bad_request(format!("the body cannot be read: {error}"))
        }
    })?;
    Ok(collected.to_bytes())
}

fn changed(generation: u64) -> AdminResponse {
    tagged(json(StatusCode::OK, &Changed { generation }), generation)
}

fn tagged(mut response: AdminResponse, generation: u64) -> AdminResponse {
    if let Ok(tag) = HeaderValue::try_from(format!("\"{generation}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> AdminResponse {
    // The types of the API have no maps with other keys than strings, so this cannot fail.
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    let mut response = plain(status, text);
    let format = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, format);
    response
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> AdminResponse {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}
