//! The life of a request, from its head to the head of its response, on whatever wire it came.
//!
//! ```text
//! check → route → pick and claim → connect → send → read the response's head
//!                     ↑                         │
//!                     └─── another endpoint ←───┘ where trying again is safe; if none is up, after
//!                                                 a wait
//! ```
//!
//! The wire that the request came on (`server/h1.rs`, `server/h2_stream.rs`) reads it and begins the
//! response to its client; `relay.rs` has the rest of the request's life.

mod attempt;
mod connect;
pub(crate) mod endpoint_wait;
pub(crate) mod hold;
pub(crate) mod mirror;
pub(crate) mod progress;
mod read_ahead;
pub(crate) mod relay;
pub(crate) mod routing_hints;
#[cfg(test)]
mod tests;

use std::num::NonZero;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::access_log::termination::Phase;
use crate::filter::{self, Filtered, Stopped, Subject};
use crate::forward::attempt::{Blame, Failed, RequestTraits, Sending};
use crate::forward::endpoint_wait::LastProbe;
use crate::forward::progress::Progress;
use crate::table::counts::stats::ChosenBy;
use crate::table::endpoint::Endpoint;
use crate::table::endpoint_id::EndpointId;
use crate::table::routing_hints::RoutingHints;
use crate::table::service::Service;
use crate::table::sticky::StickyClient;
use crate::wire::Wire;
use crate::wire::connection::Connection;
use crate::wire::expectation::Expectation;
use crate::wire::forwarding::Onward;
use crate::wire::h1::body::Framing;
use crate::wire::head::Message;
use crate::wire::headers;
use crate::wire::max_forwards;
use crate::wire::peer::Peer;
use crate::wire::pump::{Pump, Source};
use crate::wire::reply::LocalReply;
use crate::wire::response::ResponseHead;
use crate::wire::sink::Sink;
use crate::wire::target::Target;
use crate::wire::timer::{Millis, Timer};
use crate::worker::upstream::{Attempt, MAX_ATTEMPTS, Upstream};
use crate::worker::{TableView, Worker};

/// How many attempts a request has, whatever its service says, while no endpoint has processed it:
/// an endpoint said so, or closed a kept connection.
const UNPROCESSED_ATTEMPTS: usize = 3;

/// How far a request's body was read before its exchange begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyRead {
    /// Not at all, or as much as came with the head.
    No,
    /// It does not fit: the rest goes on as it comes.
    Begun,
    /// To its end.
    Whole,
}

/// A body that is to be read before an endpoint is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyWait {
    /// What is longer goes on as it comes.
    pub(crate) most: u64,
    /// How long nothing of it may come.
    pub(crate) idle: Duration,
}

/// Why an exchange did not begin.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unbegun {
    Refused(LocalReply),
    /// Its service takes up bodies.
    Unread(BodyWait),
    /// Its filters have to find out something first.
    Unproven,
}

/// A request on its way: the table that it reads, its service, and its attempts.
pub(crate) struct Exchange {
    table: Rc<TableView>,
    service: usize,
    /// The version that the split gave it, while `table` has it. A further attempt stays inside it
    /// where it can.
    version: Option<usize>,
    hints: RoutingHints,
    /// The endpoints of its attempts: the first `attempts` of these.
    attempted: [EndpointId; MAX_ATTEMPTS],
    attempts: usize,
    /// One of its attempts was counted for or against a version: no further one is.
    is_counted: bool,
    /// An endpoint may have died of it. No further one is to.
    may_kill: bool,
    /// Since when a copy of it is under way beside it.
    copied: Option<Instant>,
    /// Until when it may wait for an endpoint, since it first had to.
    waits_until: Option<NonZero<Millis>>,
    /// What the filters of its service found of it.
    filtered: Option<Box<Filtered>>,
    pub(crate) progress: Progress,
    pub(crate) traits: RequestTraits,
    /// What its client expects at the beginning.
    pub(crate) expectation: Expectation,
}

/// The head of a response is there; the attempt goes on to the end of its body.
pub(crate) struct EndpointResponse {
    pub(crate) attempt: Attempt,
    pub(crate) connection: Connection,
    pub(crate) head: ResponseHead,
}

impl Exchange {
    /// Checks a request, reads the table once, and claims an endpoint in it. Its body is framed
    /// like this, and was read so far. Writes into `to` the head that an endpoint should see, but
    /// for how the body is framed. What filters find of it is left in `filtered` where it does not
    /// begin.
    pub(crate) fn begin(
        worker: &Rc<Worker>,
        timer: &Timer,
        peer: &Peer,
        request: Message<'_>,
        (framing, read): (Framing, BodyRead),
        filtered: &mut Option<Box<Filtered>>,
        to: &mut Vec<u8>,
    ) -> Result<(Self, Attempt), Unbegun> {
        let target = Target::of(request)?;
        max_forwards::check(request)?;
        let (table, service, version, hints, attempt) = loop {
            let table = worker.table();
            let service = table.route(&target, request)?;
            let definition = &table.at(service).definition;
            let filters = table.at(service).filters.as_ref();
            if filters.is_some() || filtered.is_some() {
                let subject = Subject::new(request, &target, peer, definition);
                filter::check(filters, filtered, &subject)?;
            }
            may_begin(worker, table.at(service), request, framing, read)?;
            let hints = routing_hints::of(definition, &table.cookie_key, request, peer);
            let claimed = match table.at(service).claim(worker.index, &hints) {
                Some(pick) => Ok(pick),
                // Every endpoint of this table may have been retired by a newer one.
                None if worker.has_newer_than(&table) => continue,
                None => table.at(service).claim_in_panic(worker.index, &hints),
            };
            match claimed {
                Ok(pick) => {
                    table.at(service).budget.deposit(worker.index);
                    let attempt = worker.upstream(pick.endpoint).begin(timer);
                    let attempt = attempt.chosen_by(hints.chosen_by());
                    let version = pick.version;
                    break (table, service, version, hints, attempt);
                }
                Err(_) if worker.has_newer_than(&table) => {}
                Err(reply) => return Err(reply.into()),
            }
        };
        let method = request.method();
        let traits = RequestTraits {
            to_head: method == b"HEAD",
            idempotent: is_idempotent(method),
            upgrade: headers::requests_upgrade(request),
        };
        let mut exchange = Self {
            table,
            service,
            version: Some(version),
            hints,
            attempted: [attempt.upstream().endpoint.id; MAX_ATTEMPTS],
            attempts: 1,
            is_counted: false,
            may_kill: false,
            copied: None,
            waits_until: None,
            filtered: filtered.take(),
            progress: Progress::default(),
            traits,
            // One whose body was waited for was told to go on.
            expectation: match read {
                BodyRead::No => Expectation::of(request, framing != Framing::Empty),
                BodyRead::Begun | BodyRead::Whole => Expectation::Nothing,
            },
        };
        exchange.write_head(peer, request, &target, attempt.upstream(), to);
        if let Some(filtered) = &exchange.filtered {
            let definition = &exchange.service().definition;
            let subject = Subject::new(request, &target, peer, definition);
            filtered.change_request(&subject, to);
        }
        // A version is not judged by what clients aim at another one either.
        if hints.chosen_by() != ChosenBy::Client {
            let table = &exchange.table;
            exchange.copied = mirror::copy(worker, table, service, version, request, to);
        }
        Ok((exchange, attempt))
    }

    /// Writes what an endpoint should see of a request.
    fn write_head(
        &self,
        peer: &Peer,
        request: Message<'_>,
        target: &Target<'_>,
        upstream: &Upstream,
        to: &mut Vec<u8>,
    ) {
        to.extend_from_slice(request.method());
        to.push(b' ');
        let definition = &self.service().definition;
        let traffic = &definition.traffic;
        let filtered = self.filtered.as_ref();
        let subject = || Subject::new(request, target, peer, definition);
        if !filtered.is_some_and(|filtered| filtered.write_target(&subject(), to)) {
            target.write_origin_form(traffic.send_path, definition.strip(), to);
        }
        to.extend_from_slice(b" HTTP/1.1\r\n");
        let mut onward = Onward {
            host: target.authority,
            port: target.port,
            forwarded: traffic.forwarded,
            via: traffic.via.unwrap_or(true),
            expectation: self.expectation,
        };
        let upgrade = self.traits.upgrade;
        if !target.authority.is_empty() {
            return headers::towards_endpoint(request, peer, &onward, upgrade, to);
        }
        // HTTP/1.0 does without; what goes on is HTTP/1.1.
        let host = upstream.endpoint.target.host();
        onward.host = host.as_bytes();
        headers::towards_endpoint(request, peer, &onward, upgrade, to);
    }

    /// Changes the header fields of this endpoint's response as its service has it, and adds what makes
    /// its client stick to its version.
    pub(crate) fn finish_fields(&self, endpoint: &Endpoint, to: &mut impl Sink) {
        if let Some(filtered) = &self.filtered {
            filtered.change_response(Some(endpoint), to);
        }
        let definition = &self.service().definition;
        let cookie = routing_hints::set_cookie(&self.hints, definition, &self.table.cookie_key);
        if let Some(cookie) = cookie {
            if let StickyClient::Unproven { .. } = self.hints.client {
                self.service().saw_unproven();
            }
            to.add(b"set-cookie", &[cookie.as_bytes()]);
        }
    }

    /// What its filters found of it, where no endpoint has responded.
    pub(crate) fn take_filtered(&mut self) -> Option<Box<Filtered>> {
        self.filtered.take()
    }

    fn service(&self) -> &Service {
        self.table.at(self.service)
    }

    /// How many bytes its body may have.
    pub(crate) fn body_limit(&self, worker: &Worker) -> u64 {
        body_limit(worker, self.service())
    }

    /// How long a body may stand still.
    pub(crate) fn body_idle(&self) -> Duration {
        self.service().timeouts.body_idle
    }

    /// Sends the request to one endpoint after the other, until one responds.
    pub(crate) async fn response(
        &mut self,
        worker: &Rc<Worker>,
        timer: &Timer,
        mut attempt: Attempt,
        client: &mut Source<'_>,
        upload: &mut Pump,
    ) -> Result<EndpointResponse, LocalReply> {
        let within = self.service().timeouts.request;
        let _limit = within.map(|all| timer.limit(all));
        loop {
            // A body of which only a part is here cannot be sent again, whatever the method.
            let repeatable = self.traits.idempotent && upload.is_here(client.read_buffer);
            let sending = self.sending(timer);
            let (may_kill, wire) = (self.may_kill, client.wire);
            let at_hand = sending.connection_at_hand(&attempt, repeatable, may_kill, wire);
            let connected = match at_hand {
                // Rare, and so not worth memory in every request.
                None => {
                    let began = self.progress.connects();
                    let connecting = self.connect(worker, timer, client.wire, attempt);
                    let (of, connected) = Box::pin(connecting).await;
                    self.progress.has_connected(began);
                    attempt = of;
                    connected
                }
                Some(connection) => Ok(connection),
            };
            if connected.is_ok() {
                self.progress.phase = Phase::Response;
            }
            let sending = self.sending(timer);
            let failed = match connected {
                Ok(mut connection) => match sending
                    .send(
                        &attempt.upstream().endpoint,
                        &mut connection,
                        client,
                        upload,
                    )
                    .await
                {
                    Ok(head) => {
                        if let Some(next) = self.in_place_of(&head, worker, timer, upload) {
                            drop(connection);
                            let discarded = std::mem::replace(&mut attempt, next.repeats());
                            discarded.response_began();
                            discarded.responded(head.status);
                            self.is_counted = true;
                            continue;
                        }
                        self.response_began(worker, &attempt, &head);
                        return Ok(EndpointResponse {
                            attempt,
                            connection,
                            head,
                        });
                    }
                    Err(failed) => failed,
                },
                Err(failed) => failed,
            };
            let failed = failed.of_request_timed_out(timer);
            // Rare, as above.
            let next = self.attempt_after(worker, timer, attempt, failed, client.wire, upload);
            attempt = Box::pin(next).await?;
        }
    }

    /// Settles an attempt that failed, and claims the one that is made in its place.
    ///
    /// # Errors
    /// There is none: what its client gets.
    async fn attempt_after(
        &mut self,
        worker: &Rc<Worker>,
        timer: &Timer,
        attempt: Attempt,
        failed: Failed,
        client: Wire<'_>,
        upload: &mut Pump,
    ) -> Result<Attempt, LocalReply> {
        let is_unprocessed = failed.is_unprocessed(upload);
        // The probe that is made now comes after it.
        let last_probe = LastProbe::of(&attempt.upstream().endpoint);
        failed.suspect(&attempt.upstream().endpoint);
        let next = self.next_attempt(worker, timer, &failed, upload);
        let blame = failed.blame(is_unprocessed, matches!(next, Next::Attempt(_)));
        settle(attempt, blame);
        self.is_counted |= matches!(blame, Blame::Version(_) | Blame::Endpoint(_));
        let next = match next {
            Next::Attempt(next) => Ok(next),
            Next::Wait => {
                self.progress.phase = Phase::Queue;
                let waiting = self.attempt_in_time(worker, timer, &failed, last_probe, client);
                waiting.await
            }
            Next::End => Err(failed.reply),
        };
        if next
            .as_ref()
            .is_err_and(|reply| *reply != LocalReply::ClientGone)
            && let (Some(_), Some(mirror), Blame::Version(failure) | Blame::Endpoint(failure)) =
                (self.copied, &self.service().mirror, blame)
        {
            mirror.original_failed(worker.index, failure);
        }
        match self.is_counted {
            true => next.map(Attempt::repeats),
            false => next,
        }
    }

    fn sending<'s>(&'s self, timer: &'s Timer) -> Sending<'s> {
        Sending {
            timeouts: &self.service().timeouts,
            traits: self.traits,
            timer,
        }
    }

    fn response_began(&self, worker: &Worker, attempt: &Attempt, head: &ResponseHead) {
        attempt.response_began();
        if let (Some(begun), Some(mirror)) = (self.copied, &self.service().mirror) {
            mirror.original_responded(worker.index, begun, head.status);
        }
    }

    /// Claims the next attempt of a request that failed, if it is safe to send it again, and of use.
    fn next_attempt(
        &mut self,
        worker: &Rc<Worker>,
        timer: &Timer,
        failed: &Failed,
        upload: &mut Pump,
    ) -> Next {
        let killed_before = self.may_kill;
        let may_have_killed = failed.may_have_killed(upload);
        self.may_kill |= may_have_killed;
        // Nothing of it has left, or it may be sent twice and is here whole.
        let repeatable = self.traits.idempotent || failed.unprocessed;
        let safe = upload.is_untouched() || repeatable && upload.rewind();
        if !safe || killed_before && may_have_killed || timer.is_past_limit() {
            return Next::End;
        }
        let wanted = self.wants_another(failed);
        let is_free = failed.stale || failed.is_unsent() || failed.is_of_lost_endpoint();
        if !(is_free || wanted && self.service().budget.withdraw(worker.index)) {
            return Next::End;
        }
        let claimed = wanted.then(|| self.claim_another(worker, timer, failed.stale));
        let cause = failed.cause().filter(|_| failed.may_pass());
        match (claimed.flatten(), cause) {
            (Some(attempt), _) => Next::Attempt(attempt),
            (None, Some(cause)) if self.may_wait(worker, cause, failed.is_unsent()) => Next::Wait,
            _ => Next::End,
        }
    }

    /// Whether the service has a request that failed like this sent again.
    fn wants_another(&self, failed: &Failed) -> bool {
        let policy = self.service().retry;
        let Some(cause) = failed.cause() else {
            return false;
        };
        // What no endpoint has looked at is no repetition.
        if failed.stale || failed.unprocessed {
            return self.attempts < policy.attempts.max(UNPROCESSED_ATTEMPTS);
        }
        policy.has(cause) && self.attempts < policy.attempts
    }

    /// Claims the attempt that is made in place of a response that the service does not want its
    /// clients to get, if there can be one.
    fn in_place_of(
        &mut self,
        head: &ResponseHead,
        worker: &Rc<Worker>,
        timer: &Timer,
        upload: &mut Pump,
    ) -> Option<Attempt> {
        let policy = self.service().retry;
        if !policy.has_status(head.status) {
            return None;
        }
        let safe = self.traits.idempotent && upload.can_rewind();
        let wanted = self.attempts < policy.attempts && !timer.is_past_limit();
        if !(safe && wanted && self.service().budget.withdraw(worker.index)) {
            return None;
        }
        let next = self.claim_another(worker, timer, false)?;
        upload.rewind();
        Some(next)
    }

    /// Claims a further attempt, on another endpoint of the newest table. Where there is none, a
    /// connection that was found closed before any response is no reason to give up its endpoint.
    fn claim_another(
        &mut self,
        worker: &Rc<Worker>,
        timer: &Timer,
        stale: bool,
    ) -> Option<Attempt> {
        let (attempted, count) = (self.attempted, self.attempts);
        let attempted = &attempted[..count];
        let attempt = self.claim_besides(worker, timer, attempted);
        attempt.or_else(|| match stale {
            true => self.claim_besides(worker, timer, &[]),
            false => None,
        })
    }

    /// Claims a further attempt, on an endpoint of the newest table that is none of these.
    fn claim_besides(
        &mut self,
        worker: &Rc<Worker>,
        timer: &Timer,
        others: &[EndpointId],
    ) -> Option<Attempt> {
        let attempt = loop {
            if !self.read_newest_table(worker) {
                return None;
            }
            let (service, version) = (self.service(), self.version);
            let pick = service.claim_again(version, worker.index, &self.hints, others);
            // A newer table may have retired what this one has.
            if pick.is_some() || !worker.has_newer_than(&self.table) {
                let attempt = worker.upstream(pick?.endpoint).begin(timer);
                break attempt.chosen_by(self.hints.chosen_by());
            }
        };
        self.attempted[self.attempts] = attempt.upstream().endpoint.id;
        self.attempts += 1;
        Some(attempt)
    }

    /// Goes on by the newest table. Gives whether that still has what the request is for: its
    /// service, and the version that it names.
    fn read_newest_table(&mut self, worker: &Worker) -> bool {
        let newest = worker.table();
        if Rc::ptr_eq(&newest, &self.table) {
            return true;
        }
        let before = self.service();
        let Some(place) = newest.place_of(&before.definition.name) else {
            return false;
        };
        let service = newest.at(place);
        let same = |version: usize| service.place_of(&before.versions[version].label);
        let named = self.hints.version.map(same);
        if named == Some(None) {
            return false;
        }
        let version = self.version.and_then(same);
        let mirrors = service.mirror.as_ref().zip(before.mirror.as_ref());
        if !mirrors.is_some_and(|(one, other)| one.counts_with(other)) {
            self.copied = None;
        }
        self.hints.version = named.flatten();
        if service.definition.sticky.is_none() {
            self.hints.client = StickyClient::Unknown;
        }
        self.version = version;
        self.service = place;
        self.table = newest;
        true
    }
}

/// What becomes of a request whose attempt failed.
enum Next {
    /// It is sent again.
    Attempt(Attempt),
    /// It is sent again once an endpoint is up for it.
    Wait,
    /// Its client gets a response of the proxy's own.
    End,
}

/// Counts a failed attempt against the side that is to blame.
fn settle(attempt: Attempt, blame: Blame) {
    match blame {
        // Dropped unsettled: the client has gone, or is as good as gone.
        Blame::Client => drop(attempt),
        Blame::Excused => attempt.excused(),
        Blame::Spared => attempt.spared(),
        Blame::Version(failure) => attempt.unserved(failure),
        Blame::Endpoint(failure) => attempt.failed(failure),
    }
}

impl Unbegun {
    /// Whether it may begin later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Refused(reply) => matches!(
                reply,
                LocalReply::ServiceHeld | LocalReply::NoEndpointInTime
            ),
            Self::Unread(_) | Self::Unproven => true,
        }
    }

    /// What its client gets that is to wait no longer.
    pub(crate) fn reply(self) -> LocalReply {
        match self {
            Self::Refused(reply) => reply,
            Self::Unread(_) => LocalReply::ClientStalled,
            // It always goes on from there.
            Self::Unproven => LocalReply::PasswordsWait,
        }
    }
}

impl From<LocalReply> for Unbegun {
    fn from(reply: LocalReply) -> Self {
        Self::Refused(reply)
    }
}

impl From<Stopped> for Unbegun {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Replied(reply) => Self::Refused(reply),
            Stopped::Unproven => Self::Unproven,
        }
    }
}

/// Whether a service lets a request begin that its filters have passed.
fn may_begin(
    worker: &Worker,
    service: &Service,
    request: Message<'_>,
    framing: Framing,
    read: BodyRead,
) -> Result<(), Unbegun> {
    let length = framing.length();
    if request.method() == b"TRACE" && !service.definition.traffic.allow_trace {
        return Err(LocalReply::Trace.into());
    }
    if length > body_limit(worker, service) {
        return Err(LocalReply::BodyTooLong.into());
    }
    if service.hold.is_some() {
        return Err(LocalReply::ServiceHeld.into());
    }
    if service.buffers.request > 0 && framing != Framing::Empty {
        wait_for_body(service, request, length, read)?;
    }
    Ok(())
}

/// Has the body of a request read first, if its service takes up bodies and this one may fit.
fn wait_for_body(
    service: &Service,
    request: Message<'_>,
    length: u64,
    read: BodyRead,
) -> Result<(), Unbegun> {
    let most = service.buffers.request;
    // A call's messages may each wait for a response.
    let is_call = || {
        let mut kinds = request.named("content-type");
        kinds.any(|kind| kind.starts_with(b"application/grpc"))
    };
    if read != BodyRead::No || length > most || is_call() {
        return Ok(());
    }
    let idle = service.timeouts.body_idle;
    Err(Unbegun::Unread(BodyWait { most, idle }))
}

/// How many bytes the body of a request of this service may have.
fn body_limit(worker: &Worker, service: &Service) -> u64 {
    service.body_limit.unwrap_or(worker.limits.body)
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE"
    )
}
