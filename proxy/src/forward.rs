//! The life of a request, from its head to the last byte of its answer.
//!
//! ```text
//! check → route → pick and claim → connect → send → relay the answer → settle
//!                     ↑                       │
//!                     └── another endpoint ←──┘ where trying again is safe
//! ```

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::body::{Body, Progress};
use crate::client::Client;
use crate::endpoint::EndpointId;
use crate::headers::{self, Peer};
use crate::reply::{Refusal, wants_json};
use crate::service::Service;
use crate::stats::Failure;
use crate::upstream::{Connection, Try};
use crate::worker::{Held, Worker};

/// Tries of one request, the first among them.
const MAX_TRIES: usize = 3;

/// Answers a client's request: with an endpoint's answer, or with the proxy's own that says why
/// there is none.
pub(crate) async fn forward(
    worker: Rc<Worker>,
    client: Client,
    request: Request<Incoming>,
) -> Response<Body> {
    let json = wants_json(request.headers());
    match exchange(&worker, client, request).await {
        Ok(response) => response,
        Err(refusal) => {
            worker.counters.refused(refusal);
            refusal.reply(json)
        }
    }
}

/// A request on its way: the table it reads, the service it is for, what it tried.
struct Exchange {
    table: Rc<Held>,
    service: usize,
    /// The version that the split gave it. A further try stays inside it where it can.
    version: usize,
    tried: Vec<EndpointId>,
}

/// Why a try failed, and the request where it can be sent again.
struct Failed {
    failure: Failure,
    refusal: Refusal,
    request: Option<Request<Body>>,
    /// Nothing was sent: the endpoint had closed a connection that was kept.
    stale: bool,
}

impl Failed {
    fn with(failure: Failure, refusal: Refusal) -> Self {
        Self {
            failure,
            refusal,
            request: None,
            stale: false,
        }
    }

    /// No connection could be made: nothing of the request was sent.
    fn to_connect(error: &io::Error, request: Request<Body>) -> Self {
        let refusal = match error.kind() {
            io::ErrorKind::TimedOut => Refusal::ConnectTimedOut,
            _ if is_shortage(error) => Refusal::Shortage,
            _ => Refusal::ConnectFailed,
        };
        Self {
            request: Some(request),
            ..Self::with(Failure::Connect, refusal)
        }
    }

    /// The request was sent, or began to be, and there was no answer.
    fn to_answer(mut error: TrySendError<Request<Body>>, reused: bool, upload: &Progress) -> Self {
        let unsent = error.take_message();
        if upload.has_failed() {
            return Self::with(Failure::Reset, Refusal::ClientStalled);
        }
        if error.error().is_parse() {
            return Self::with(Failure::Protocol, Refusal::BadAnswer);
        }
        let stale = reused && unsent.is_some();
        let broken = Self::with(Failure::Reset, Refusal::ConnectionBroken);
        Self {
            request: unsent,
            stale,
            ..broken
        }
    }
}

/// Whether this machine has run out of something that a connection needs.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortages = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ];
    shortages
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

async fn exchange(
    worker: &Rc<Worker>,
    client: Client,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let host = check(&request)?;
    let (mut exchange, mut attempt) = Exchange::begin(worker, &host, request.uri().path())?;
    let host = attempt.upstream().endpoint.target;
    let (request, upload, upgrade) = exchange.prepare(client.peer, host, request);
    let idempotent = is_idempotent(request.method());
    // A request whose method is idempotent and that has no body can be made again from its head.
    let spare = (idempotent && upload.is_done()).then(|| head_of(&request));

    let mut request = Some(request);
    for number in 1.. {
        let Some(to_send) = request.take() else { break };
        let failed = match exchange.send(&attempt, to_send, idempotent, &upload).await {
            Ok((response, connection)) => {
                attempt.answered();
                attempt.relaying(client.cut);
                return exchange.relay(worker, attempt, connection, response, upload, upgrade);
            }
            Err(failed) => failed,
        };
        settle(attempt, &failed);
        request = failed.request.or_else(|| spare.as_ref().map(head_of));
        let retry = request.is_some() && failed.refusal != Refusal::Cut && number < MAX_TRIES;
        if !retry || !(failed.stale || exchange.service().budget.withdraw(worker.index)) {
            return Err(failed.refusal);
        }
        attempt = exchange
            .try_again(worker, failed.stale)
            .ok_or(failed.refusal)?;
    }
    Err(Refusal::NoEndpoint)
}

/// What must hold of any request. Gives the host it is for.
fn check(request: &Request<Incoming>) -> Result<String, Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    let mut fields = request.headers().get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (field, None) => field,
        _ => return Err(Refusal::BadHost),
    };
    if field.is_none() && request.version() == http::Version::HTTP_11 {
        return Err(Refusal::BadHost);
    }
    // The target of an absolute-form request outranks Host (RFC 9112, 3.2.2).
    if let Some(authority) = request.uri().authority() {
        return host_of(authority);
    }
    let Some(field) = field
        .map(HeaderValue::as_bytes)
        .filter(|field| !field.is_empty())
    else {
        return Ok(String::new());
    };
    host_of(&Authority::try_from(field).map_err(|_| Refusal::BadHost)?)
}

/// The host of an authority, which has no user information in HTTP (RFC 9110, 4.2.4).
fn host_of(authority: &Authority) -> Result<String, Refusal> {
    if authority.as_str().contains('@') {
        return Err(Refusal::BadHost);
    }
    Ok(authority.host().to_owned())
}

impl Exchange {
    /// Reads the table once, and claims an endpoint in it.
    fn begin(worker: &Rc<Worker>, host: &str, path: &str) -> Result<(Self, Try), Refusal> {
        loop {
            let table = worker.table();
            let service = table.route(host, path).ok_or(Refusal::NoRoute)?;
            table.at(service).budget.deposit(worker.index);
            if let Some(pick) = table.at(service).claim(worker.index) {
                let attempt = worker.upstream(pick.endpoint).begin();
                let (version, tried) = (pick.version, vec![pick.endpoint.id]);
                return Ok((
                    Self {
                        table,
                        service,
                        version,
                        tried,
                    },
                    attempt,
                ));
            }
            // Every endpoint of this table may have been retired by a newer one.
            if !worker.has_newer_than(&table) {
                return Err(Refusal::NoEndpoint);
            }
        }
    }

    fn service(&self) -> &Service {
        self.table.at(self.service)
    }

    /// Makes of the client's request what an endpoint should see. Gives the client's side of an
    /// upgrade too, where it asks for one.
    fn prepare(
        &self,
        peer: Peer,
        target: SocketAddr,
        mut request: Request<Incoming>,
    ) -> (Request<Body>, Rc<Progress>, Option<OnUpgrade>) {
        let upgrade = headers::asks_for_upgrade(request.headers(), request.version());
        let client = upgrade.then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();

        // An absolute-form target's authority replaces what Host says (RFC 9112, 3.2.2).
        let authority = head
            .uri
            .authority()
            .map(|host| HeaderValue::from_str(host.as_str()));
        if let Some(Ok(host)) = authority {
            head.headers.insert(HOST, host);
        }
        let host = head.headers.get(HOST).cloned();
        if host.is_none() {
            // HTTP/1.0 does without; what goes on is HTTP/1.1.
            let target = HeaderValue::try_from(target.to_string());
            head.headers
                .extend(target.ok().map(|target| (HOST, target)));
        }
        headers::towards_endpoint(
            &mut head.headers,
            peer,
            host.as_ref(),
            head.version,
            client.is_some(),
        );
        let definition = &self.service().definition;
        let strip = if definition.strip_prefix {
            &*definition.path_prefix
        } else {
            ""
        };
        head.uri = origin_form(&head.uri, strip);
        head.version = http::Version::HTTP_11;
        let (body, upload) = Body::upload(body, self.table.timeouts.body_idle);
        (Request::from_parts(head, body), upload, client)
    }

    /// One try: sends the request, and waits for the head of its answer.
    async fn send(
        &self,
        attempt: &Try,
        request: Request<Body>,
        idempotent: bool,
        upload: &Progress,
    ) -> Result<(Response<Incoming>, Connection), Failed> {
        let exchange = async {
            let mut connection = match attempt.upstream().idle_connection(idempotent) {
                Some(connection) => connection,
                None => match attempt
                    .upstream()
                    .connect(self.table.timeouts.connect)
                    .await
                {
                    Ok(connection) => connection,
                    Err(error) => return Err(Failed::to_connect(&error, request)),
                },
            };
            tokio::select! {
                answer = connection.send(request) => match answer {
                    Ok(response) => Ok((response, connection)),
                    Err(error) => Err(Failed::to_answer(error, connection.reused, upload)),
                },
                () = self.answer_overdue(upload) => {
                    Err(Failed::with(Failure::Timeout, Refusal::TimedOut))
                }
            }
        };
        tokio::select! {
            outcome = exchange => outcome,
            () = attempt.cut() => Err(Failed::with(Failure::Reset, Refusal::Cut)),
        }
    }

    /// Ends when the answer's head is overdue: `first_byte` after the end of the request, or
    /// `body_idle` after the endpoint took a piece of it for the last time.
    async fn answer_overdue(&self, upload: &Progress) {
        let timeouts = &self.table.timeouts;
        let begun = tokio::time::Instant::now();
        loop {
            let within = if upload.is_done() {
                timeouts.first_byte
            } else {
                timeouts.body_idle
            };
            let due = upload.answer_due_from().unwrap_or(begun).max(begun) + within;
            if due <= tokio::time::Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }

    /// The next try, on another endpoint. Where there is none, a connection that was found
    /// closed before anything was sent is no reason to give up on its endpoint.
    fn try_again(&mut self, worker: &Rc<Worker>, stale: bool) -> Option<Try> {
        let again = |tried: &[EndpointId]| {
            self.service()
                .claim_again(self.version, worker.index, tried)
                .map(|pick| (pick.endpoint.id, worker.upstream(pick.endpoint).begin()))
        };
        let (id, attempt) = again(&self.tried).or_else(|| if stale { again(&[]) } else { None })?;
        self.tried.push(id);
        Some(attempt)
    }

    /// Passes an answer on; its body goes on relaying when this has returned.
    fn relay(
        &self,
        worker: &Rc<Worker>,
        attempt: Try,
        connection: Connection,
        mut response: Response<Incoming>,
        upload: Rc<Progress>,
        client: Option<OnUpgrade>,
    ) -> Result<Response<Body>, Refusal> {
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let version = response.version();
        headers::towards_client(response.headers_mut(), version, upgraded);
        if upgraded {
            let Some(client) = client else {
                attempt.failed(Failure::Protocol);
                return Err(Refusal::BadAnswer);
            };
            let endpoint = hyper::upgrade::on(&mut response);
            worker.spawn(tunnel(attempt, client, endpoint, connection));
            return Ok(response.map(|_| Body::Empty));
        }
        let status = response.status();
        let idle = self.table.timeouts.body_idle;
        Ok(response.map(|body| Body::relay(body, status, idle, (attempt, connection), upload)))
    }
}

/// Counts a failed try against whom it is to be counted.
fn settle(attempt: Try, failed: &Failed) {
    match failed.refusal {
        // Dropped unsettled: the client's doing.
        Refusal::ClientStalled => drop(attempt),
        // Nor is it the version's.
        Refusal::Cut | Refusal::Shortage => attempt.excused(),
        _ if failed.stale => attempt.excused(),
        _ => attempt.failed(failed.failure),
    }
}

/// An upgraded connection: bytes both ways until one side ends it or its drain has no more time.
async fn tunnel(mut attempt: Try, client: OnUpgrade, endpoint: OnUpgrade, connection: Connection) {
    attempt.upgrade();
    let relay = async {
        let (Ok(client), Ok(endpoint)) = tokio::join!(client, endpoint) else {
            return;
        };
        // hyper has let go of it.
        drop(connection);
        let (mut client, mut endpoint) = (TokioIo::new(client), TokioIo::new(endpoint));
        // An error is how such a connection often ends; there is nobody to tell.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut endpoint).await;
    };
    tokio::select! {
        () = relay => {}
        () = attempt.cut() => {}
    }
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::TRACE,
        Method::PUT,
        Method::DELETE,
    ]
    .contains(method)
}

/// The same request without a body.
fn head_of(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// The target as an origin server gets it (RFC 9112, 3.2.1), with `strip` taken off its start.
fn origin_form(uri: &Uri, strip: &str) -> Uri {
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = target.strip_prefix(strip).unwrap_or(target);
    let target = if rest.starts_with('/') || rest == "*" {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    Uri::try_from(target).unwrap_or_else(|_| Uri::from_static("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_sent_in_origin_form_without_its_prefix() {
        #[track_caller]
        fn check(uri: &str, strip: &str, want: &str) {
            assert_eq!(origin_form(&uri.parse().unwrap(), strip).to_string(), want);
        }
        check("/a?b=c", "", "/a?b=c");
        check("http://host/a?b", "", "/a?b");
        check("http://host", "", "/");
        check("/api/v1", "/api", "/v1");
        check("/api", "/api", "/");
        check("/api?x", "/api", "/?x");
        check("*", "", "*");
    }
}
