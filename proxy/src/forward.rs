//! The life of a request, from its head to the last byte of its answer.
//!
//! ```text
//! check → route → pick and claim → connect → send → relay the answer → settle
//!                     ↑                       │
//!                     └── another endpoint ←──┘ where trying again is safe
//! ```

use std::rc::Rc;

use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::body::{Body, Progress};
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
    peer: Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    let json = wants_json(request.headers());
    match exchange(&worker, peer, request).await {
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

async fn exchange(
    worker: &Rc<Worker>,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let host = check(&request)?;
    let (mut exchange, mut attempt) = Exchange::begin(worker, &host, request.uri().path())?;
    let (request, upload, client) = exchange.prepare(peer, request);
    let idempotent = is_idempotent(request.method());
    // A request whose method is idempotent and that has no body can be made again from its head.
    let spare = (idempotent && upload.is_done()).then(|| head_of(&request));

    let mut request = Some(request);
    for number in 1.. {
        let Some(to_send) = request.take() else { break };
        let failed = match exchange.send(&attempt, to_send, idempotent, &upload).await {
            Ok((response, connection)) => {
                attempt.answered();
                return exchange.relay(worker, attempt, connection, response, upload, client);
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
    if let Some(host) = request.uri().host() {
        return Ok(host.to_owned());
    }
    let Some(field) = field
        .map(HeaderValue::as_bytes)
        .filter(|field| !field.is_empty())
    else {
        return Ok(String::new());
    };
    let authority = Authority::try_from(field).map_err(|_| Refusal::BadHost)?;
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
        let upstream = attempt.upstream();
        let mut connection = match upstream.idle_connection(idempotent).await {
            Some(connection) => connection,
            None => match upstream.connect(self.table.timeouts.connect).await {
                Ok(connection) => connection,
                Err(_) => {
                    return Err(Failed {
                        failure: Failure::Connect,
                        refusal: Refusal::ConnectFailed,
                        request: Some(request),
                        stale: false,
                    });
                }
            },
        };
        let failed = |failure, refusal| Failed {
            failure,
            refusal,
            request: None,
            stale: false,
        };
        let reused = connection.reused;
        tokio::select! {
            answer = connection.send(request) => match answer {
                Ok(response) => Ok((response, connection)),
                Err(mut error) => {
                    let unsent = error.take_message();
                    let error = error.into_error();
                    Err(if upload.has_failed() {
                        failed(Failure::Reset, Refusal::ClientStalled)
                    } else if error.is_parse() {
                        failed(Failure::Protocol, Refusal::BadAnswer)
                    } else {
                        let stale = reused && unsent.is_some();
                        let refusal = Refusal::ConnectionBroken;
                        Failed { failure: Failure::Reset, refusal, request: unsent, stale }
                    })
                }
            },
            () = self.first_byte_overdue(upload) => {
                Err(failed(Failure::Timeout, Refusal::TimedOut))
            }
            () = attempt.cut() => Err(failed(Failure::Reset, Refusal::Cut)),
        }
    }

    /// Ends when the answer's head is overdue. The time runs from the end of the request.
    async fn first_byte_overdue(&self, upload: &Progress) {
        let within = self.table.timeouts.first_byte;
        let mut from = tokio::time::Instant::now();
        loop {
            tokio::time::sleep_until(from + within).await;
            match upload.last() {
                // An upload that stands still is found by its own timer.
                _ if !upload.is_done() => from = tokio::time::Instant::now(),
                Some(last) if last > from => from = last,
                _ => return,
            }
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
            worker.spawn(tunnel(attempt, client, endpoint));
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
        Refusal::Cut => attempt.excused(),
        _ if failed.stale => attempt.excused(),
        _ => attempt.failed(failed.failure),
    }
}

/// An upgraded connection: bytes both ways until one side ends it or its drain has no more time.
async fn tunnel(mut attempt: Try, client: OnUpgrade, endpoint: OnUpgrade) {
    attempt.upgrade();
    let relay = async {
        let (Ok(client), Ok(endpoint)) = tokio::join!(client, endpoint) else {
            return;
        };
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
