//! Table tests of the hot path: a real worker between a client and scripted endpoints, all of
//! them on one thread, whose clock runs only while nothing else does ([`clock`]).
//!
//! A [`Row`] says what a client sends and what the endpoints do. [`Row::check`] compares what came
//! of it, in one line of text, with what was wanted:
//!
//! ```text
//! 502 error=connection_terminated; seen 1; reset 1
//! │                                │       └ counted in the version's stats
//! │                                └ requests that each endpoint saw, the most first
//! └ the client's response, one for each request
//! ```
//!
//! What is in flight at the end is 0, or the line says how much is. Where requests are copied, the
//! line ends with what is counted of copies and originals.

pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod endpoint;
mod h2_endpoint;
pub(crate) mod message;
pub(crate) mod waiting;

use std::fmt::Write as _;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use admin_api::strict::from_json;
use admin_api::{
    EndpointSpec, FailedAttempts, MirrorStats, Protocol, Responses, ServiceSpec, VersionSpec,
    VersionStats,
};
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;

use self::client::{Client, End, Request, Response, Say, talk};
use self::endpoint::{Address, Connections, Script, Seen, Speaks, Step};
use crate::config::Config;
use crate::fuzz::Wire;
use crate::table::definition::Definition;
use crate::table::hold::Hold;
use crate::table::mirror::Mirror;
use crate::table::service::{Drained, Service};
use crate::table::version::Resolved;
use crate::worker::order::ShutdownPhase;
use crate::worker::{TableView, Worker};

/// More than any timeout of these tests together, on a clock that does not wait.
const HANG: Duration = Duration::from_secs(24 * 60 * 60);
/// How often something is looked at again.
const LOOK: Duration = Duration::from_millis(25);

pub(crate) const GET: Request = Request::with("GET", "");
pub(crate) const HEAD: Request = Request::with("HEAD", "");
pub(crate) const PUT: Request = Request::with("PUT", "order");
pub(crate) const DELETE: Request = Request::with("DELETE", "");
pub(crate) const POST: Request = Request::with("POST", "order");
/// A call of gRPC, as far as the proxy can tell.
pub(crate) const GRPC: Request = POST
    .streaming()
    .fields(&[("content-type", "application/grpc"), ("te", "trailers")]);

/// Takes a request, and responds well.
pub(crate) const GOOD: [Step; 2] = [Step::Take, Step::Respond(200, "ok")];

/// A listener of a config.
pub(crate) const LISTENER: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";

/// The least that is a service, in JSON, but for its endpoints.
pub(crate) const SERVICE: &str = r#"{"name":"web"}"#;

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Http {
    One,
    Two,
}

/// A worker with its endpoints, to be used inside [`run`].
pub(crate) struct Rig {
    wire: Wire,
    spec: ServiceSpec,
    pub(crate) script: Rc<Script>,
    addresses: Vec<Address>,
}

/// One row of a table.
#[derive(Debug, Clone)]
pub(crate) struct Row<'r> {
    name: &'r str,
    client: Http,
    /// A version's label and what its endpoint speaks, for each endpoint.
    endpoints: Vec<(&'static str, Speaks)>,
    config: &'static str,
    listener: &'static str,
    service: &'static str,
    requests: Vec<Request>,
    says: Vec<Say>,
    script: Vec<&'r [Step]>,
    own: Vec<(usize, Connections<'r>)>,
    rests: Duration,
    no_retries: bool,
}

/// Runs a test on one thread, whose clock goes on when nothing else does.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        tokio::task::spawn_local(clock::run());
        test.await
    })
}

/// Takes an endpoint out, and its version if that has no other.
pub(crate) fn take_out(spec: &mut ServiceSpec, endpoint: usize) {
    let label = spec.endpoints.remove(endpoint).version;
    if spec.endpoints.iter().all(|other| other.version != label) {
        spec.split.remove(&label);
        spec.versions.remove(&label);
    }
}

impl<'r> Row<'r> {
    /// A GET over HTTP/1.1 to one endpoint that speaks it, too.
    pub(crate) fn new(name: &'r str) -> Self {
        Self {
            name,
            client: Http::One,
            endpoints: vec![("1", Speaks::Http1)],
            config: "",
            listener: "",
            service: SERVICE,
            requests: vec![GET],
            says: Vec::new(),
            script: vec![&GOOD],
            own: Vec::new(),
            rests: Duration::ZERO,
            no_retries: false,
        }
    }

    pub(crate) fn client(self, client: Http) -> Self {
        Self { client, ..self }
    }

    /// So many endpoints of one version.
    pub(crate) fn endpoints(self, count: usize, speak: Speaks) -> Self {
        self.versions(&vec![("1", speak); count])
    }

    pub(crate) fn versions(self, endpoints: &[(&'static str, Speaks)]) -> Self {
        Self {
            endpoints: endpoints.to_vec(),
            ..self
        }
    }

    /// Lines of a config.
    pub(crate) fn config(self, config: &'static str) -> Self {
        Self { config, ..self }
    }

    /// Keys of the listener.
    pub(crate) fn listener(self, listener: &'static str) -> Self {
        Self { listener, ..self }
    }

    /// A service in JSON, without its endpoints.
    pub(crate) fn service(self, service: &'static str) -> Self {
        Self { service, ..self }
    }

    /// What is sent one after the other, each once there is a response to the one before.
    pub(crate) fn sends(self, requests: &[Request]) -> Self {
        Self {
            requests: requests.to_vec(),
            ..self
        }
    }

    /// What a client of HTTP/1.1 does, down to the bytes, in place of sending requests.
    pub(crate) fn says(self, says: &[Say]) -> Self {
        Self {
            says: says.to_vec(),
            ..self
        }
    }

    /// What the endpoints do on each connection; the last one's is that of all further ones.
    pub(crate) fn script(self, script: &[&'r [Step]]) -> Self {
        Self {
            script: script.to_vec(),
            ..self
        }
    }

    /// The same of one endpoint alone.
    pub(crate) fn script_of(mut self, endpoint: usize, script: Connections<'r>) -> Self {
        self.own.push((endpoint, script));
        self
    }

    /// So much time passes before each request.
    pub(crate) fn rests(self, rests: Duration) -> Self {
        Self { rests, ..self }
    }

    /// The service's retries are used up.
    pub(crate) fn without_retries(self) -> Self {
        Self {
            no_retries: true,
            ..self
        }
    }

    #[track_caller]
    pub(crate) fn check(&self, want: &str) {
        let (got, _) = self.outcome();
        assert_eq!(got, want, "\nrow: {}\n{self:#?}", self.name);
    }

    /// What came of it, as a line and as it was.
    pub(crate) fn outcome(&self) -> (String, Outcome) {
        let outcome = run(async {
            let exchange = tokio::time::timeout(HANG, self.exchange());
            let exchange = exchange.await;
            exchange.unwrap_or_else(|_| panic!("it hangs: {}\n{self:#?}", self.name))
        });
        (outcome.line(), outcome)
    }

    async fn exchange(&self) -> Outcome {
        let script = Script::new(&self.script, &self.own);
        let config = format!("{}\n{LISTENER}{}", self.config, self.listener);
        let rig = Rig::with(&config, self.service, &self.endpoints, script).await;
        if self.no_retries {
            let table = rig.table();
            let budget = &table.services()[0].budget;
            while budget.withdraw(0) {}
        }
        if !self.says.is_empty() {
            let (responses, end) = talk(rig.connect().await, &self.says).await;
            rig.settle().await;
            return Outcome {
                end: Some(end),
                ..rig.outcome(responses, self.endpoints.len())
            };
        }
        let mut responses = Vec::new();
        let mut open = None;
        for request in &self.requests {
            if !self.rests.is_zero() {
                tokio::time::sleep(self.rests).await;
            }
            let mut client = match open.take() {
                Some(client) => client,
                None => rig.client(self.client).await,
            };
            let (response, keeps) = client.send(request).await;
            responses.push(response);
            open = keeps.then_some(client);
        }
        drop(open);
        rig.settle().await;
        rig.outcome(responses, self.endpoints.len())
    }
}

impl Rig {
    /// Endpoints of these versions, that do as `script` says, and a worker before them.
    pub(crate) async fn new(
        config: &str,
        service: &str,
        endpoints: &[(&'static str, Speaks)],
        script: Rc<Script>,
    ) -> Self {
        Self::with(&format!("{config}\n{LISTENER}"), service, endpoints, script).await
    }

    /// The same, with a whole config.
    pub(crate) async fn with(
        config: &str,
        service: &str,
        endpoints: &[(&'static str, Speaks)],
        script: Rc<Script>,
    ) -> Self {
        let mut spec = from_json::<ServiceSpec>(service.as_bytes()).unwrap();
        let mut addresses = Vec::new();
        for (number, (version, speaks)) in endpoints.iter().enumerate() {
            let address = endpoint::start(*speaks, number, script.clone()).await;
            spec.endpoints.push(EndpointSpec {
                address: address.socket.to_string(),
                version: (*version).into(),
                weight: 1,
            });
            if *speaks == Speaks::Http2 {
                let over_http2 = VersionSpec {
                    protocol: Protocol::H2,
                    ..VersionSpec::default()
                };
                spec.versions.insert((*version).into(), over_http2);
            }
            addresses.push(address);
        }
        let wire = Wire::with(Config::parse(config).unwrap(), &spec).unwrap();
        tokio::task::spawn_local(wire.clock());
        Self {
            wire,
            spec,
            script,
            addresses,
        }
    }

    /// A connection to the worker, which serves it.
    pub(crate) async fn connect(&self) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (served, _) = listener.accept().unwrap();
        tokio::task::spawn_local(self.wire.serve(served).unwrap());
        let stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub(crate) async fn client(&self, speaks: Http) -> Client {
        let stream = self.connect().await;
        match speaks {
            Http::One => Client::http1(stream),
            Http::Two => Client::http2(stream).await,
        }
    }

    /// The process begins to stop.
    pub(crate) fn enter(&self, phase: ShutdownPhase) {
        self.wire.enter(phase);
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.wire.worker
    }

    /// An endpoint that refused connections speaks from now on.
    pub(crate) fn begins(&self, endpoint: usize, speaks: Speaks) {
        self.addresses[endpoint].serve(speaks, endpoint, self.script.clone());
    }

    /// The address of an endpoint, by its number.
    pub(crate) fn address(&self, endpoint: usize) -> &str {
        &self.spec.endpoints[endpoint].address
    }

    pub(crate) fn table(&self) -> Rc<TableView> {
        self.wire.worker.table()
    }

    /// Swaps a table in whose one service is held, or not.
    pub(crate) fn hold(&self, hold: Option<Arc<Hold>>) {
        self.swap(&self.spec, hold);
    }

    /// Swaps a table in whose one service has been `change`d, and retires what it has no more.
    pub(crate) fn put(&self, change: impl FnOnce(&mut ServiceSpec)) {
        let mut spec = self.spec.clone();
        change(&mut spec);
        let before = self.wire.table.load_full();
        self.swap(&spec, None);
        let table = self.table();
        let stays = |id| table.services()[0].endpoints().any(|one| one.id == id);
        let gone = before.services()[0].endpoints();
        for endpoint in gone.filter(|endpoint| !stays(endpoint.id)) {
            endpoint.claims.retire();
        }
    }

    fn swap(&self, spec: &ServiceSpec, hold: Option<Arc<Hold>>) {
        let before = self.wire.table.load_full();
        let definition = Arc::new(Definition::check(spec).unwrap());
        let previous = &before.services()[0];
        let service = Service::new(
            definition,
            &before.timeouts,
            Some(previous),
            &Resolved::new(),
            1,
            &Drained::new(),
        );
        let next = before.with(Arc::new(service.held(hold)));
        self.wire.table.store(Arc::new(next.unwrap()));
    }

    /// Requests in flight, at all endpoints.
    pub(crate) fn in_flight(&self) -> u64 {
        let table = self.table();
        let endpoints = table.services().iter().flat_map(|one| one.endpoints());
        let counts = endpoints.map(|endpoint| endpoint.counts());
        counts.map(|one| one.requests + one.upgraded).sum()
    }

    /// Waits until nothing is in flight.
    pub(crate) async fn settle(&self) {
        let limit = tokio::time::Instant::now() + HANG / 2;
        while self.in_flight() > 0 && tokio::time::Instant::now() < limit {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The stats of a version of the one service.
    pub(crate) fn stats(&self, version: &str) -> VersionStats {
        let table = self.table();
        table.services()[0].stats_of(version).unwrap().read()
    }

    /// What came of it so far.
    pub(crate) fn outcome(&self, responses: Vec<Response>, endpoints: usize) -> Outcome {
        let mut seen = vec![0; endpoints];
        for request in self.script.seen() {
            seen[request.endpoint] += 1;
        }
        seen.sort_unstable_by(|a, b| b.cmp(a));
        let table = self.table();
        let versions = table.services()[0].versions.iter();
        Outcome {
            responses,
            end: None,
            seen,
            requests: self.script.seen(),
            connections: self.script.made(),
            stats: versions
                .map(|version| (version.label.to_string(), version.stats.read()))
                .collect(),
            mirror: table.services()[0].mirror.as_ref().map(Mirror::stats),
            in_flight: self.in_flight(),
        }
    }
}

/// What came of a row.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) responses: Vec<Response>,
    /// How the connection ended, where the client was told what to do down to the bytes.
    pub(crate) end: Option<End>,
    /// Requests that each endpoint saw, the most first.
    pub(crate) seen: Vec<usize>,
    pub(crate) requests: Vec<Seen>,
    /// Connections that were made to them.
    pub(crate) connections: usize,
    /// By version.
    pub(crate) stats: Vec<(String, VersionStats)>,
    pub(crate) mirror: Option<MirrorStats>,
    pub(crate) in_flight: u64,
}

impl Outcome {
    /// Failures that are counted, of all versions.
    pub(crate) fn failures(&self) -> u64 {
        self.stats.iter().map(|(_, stats)| stats.failures()).sum()
    }

    pub(crate) fn line(&self) -> String {
        let mut responses = self.responses.iter().map(described).collect::<Vec<_>>();
        responses.extend(self.end.map(|end| format!("{end:?}").to_lowercase()));
        let seen = self.seen.iter().map(usize::to_string).collect::<Vec<_>>();
        let mut line = format!("{}; seen {}", responses.join(", "), seen.join("+"));
        for (version, stats) in &self.stats {
            let counted = counted(stats);
            match (self.stats.len(), &*counted) {
                (1, "") => line.push_str("; nothing counted"),
                (_, "") => {}
                (1, counted) => write!(line, "; {counted}").unwrap(),
                (_, counted) => write!(line, "; of {version}: {counted}").unwrap(),
            }
        }
        if let Some(mirror) = &self.mirror {
            for (of, counts) in [("copies", &mirror.copies), ("originals", &mirror.originals)] {
                let counts = counts_of(&counts.responses, &counts.failed_tries);
                write!(line, "; {of}: {}", listed(&counts)).unwrap();
            }
            if mirror.dropped > 0 {
                write!(line, "; dropped {}", mirror.dropped).unwrap();
            }
        }
        if self.in_flight > 0 {
            write!(line, "; in flight {}", self.in_flight).unwrap();
        }
        line
    }
}

/// A response in few words.
fn described(response: &Response) -> String {
    let mut text = match response.status {
        0 => "no response".to_owned(),
        status => status.to_string(),
    };
    if let Some(error) = response.error() {
        write!(text, " {error}").unwrap();
    }
    match response.reset {
        Some(reason) => write!(text, " {reason:?}").unwrap(),
        None if response.status > 0 && !response.body.is_whole => text.push_str(" cut"),
        None => {}
    }
    text
}

/// What is counted of a version, in few words.
fn counted(stats: &VersionStats) -> String {
    let mut counts = counts_of(&stats.responses, &stats.failed_tries);
    counts.extend([
        ("client gone", stats.client_gone),
        ("diverted", stats.diverted),
        ("panicked", stats.panicked),
    ]);
    let forced = counts_of(&stats.forced.responses, &stats.forced.failed_tries);
    let forced = listed(&forced);
    match (listed(&counts), &*forced) {
        (counts, "") => counts,
        (counts, forced) if counts.is_empty() => format!("forced: {forced}"),
        (counts, forced) => format!("{counts}, forced: {forced}"),
    }
}

fn counts_of(responses: &Responses, failed: &FailedAttempts) -> Vec<(&'static str, u64)> {
    vec![
        ("1xx", responses.informational),
        ("2xx", responses.success),
        ("3xx", responses.redirection),
        ("4xx", responses.client_error),
        ("5xx", responses.server_error),
        ("connect", failed.connect),
        ("reset", failed.reset),
        ("timeout", failed.timeout),
        ("protocol", failed.protocol),
        ("body", failed.body),
    ]
}

/// Those that are not 0.
fn listed(counts: &[(&str, u64)]) -> String {
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    let counts = counts.map(|(name, count)| format!("{name} {count}"));
    counts.collect::<Vec<_>>().join(", ")
}
