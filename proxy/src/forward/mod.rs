//! The life of a request, from its head to the head of its answer, on whatever wire it came.
//!
//! ```text
//! check → route → pick and claim → connect → send → read the answer's head
//!                     ↑                         │
//!                     └─── another endpoint ←───┘ where trying again is safe
//! ```
//!
//! The wire that the request came on (`server/h1.rs`, `server/h2.rs`) reads it and begins the
//! answer to its client; `relay.rs` has the rest of the request's life.

pub(crate) mod hold;
pub(crate) mod mirror;
pub(crate) mod relay;
pub(crate) mod routing_hints;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use admin_api::Protocol;

use crate::table::counts::stats::Failure;
use crate::table::endpoint_id::EndpointId;
use crate::table::routing_hints::Wish;
use crate::table::service::Service;
use crate::wire::alarm::{Alarm, Rang};
use crate::wire::answer::{Answered, NoAnswer};
use crate::wire::connection::Connection;
use crate::wire::head::Message;
use crate::wire::headers::{self, Peer};
use crate::wire::max_forwards;
use crate::wire::pump::{Pump, Source, Stopped};
use crate::wire::reply::Refusal;
use crate::wire::sink::Sink;
use crate::wire::target::Target;
use crate::worker::upstream::{MAX_TRIES, Try, Upstream};
use crate::worker::{Held, Worker};

/// Interim answers (1xx) to one request.
const MAX_INTERIM: usize = 32;

/// A request on its way: the table it reads, the service it is for, what it tried.
pub(crate) struct Exchange {
    table: Rc<Held>,
    service: usize,
    /// The version that the split gave it. A further try stays inside it where it can.
    version: usize,
    wish: Wish,
    tried: [EndpointId; MAX_TRIES],
    tries: usize,
    /// Since when a copy of it is under way beside it.
    copied: Option<Instant>,
    pub(crate) asked: Asked,
}

/// What a request asks for, as far as it has to be known until it is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// Its answer has no body.
    pub(crate) to_head: bool,
    /// It may be sent twice (RFC 9110, 9.2.2).
    pub(crate) idempotent: bool,
    /// It asks for another protocol.
    pub(crate) upgrade: bool,
}

/// The head of an answer is there; the try goes on to the end of its body.
pub(crate) struct Answer {
    pub(crate) attempt: Try,
    pub(crate) connection: Connection,
    pub(crate) answered: Answered,
}

/// Why a try failed.
struct Failed {
    failure: Failure,
    refusal: Refusal,
    /// There was no response: the endpoint may have closed a kept connection before.
    stale: bool,
    /// The endpoint says that it has not looked at the request.
    unprocessed: bool,
}

impl Failed {
    fn with(failure: Failure, refusal: Refusal) -> Self {
        Self {
            failure,
            refusal,
            stale: false,
            unprocessed: false,
        }
    }

    /// No connection could be made: nothing of the request was sent.
    fn to_connect(error: &io::Error) -> Self {
        let refusal = match error.kind() {
            io::ErrorKind::TimedOut => Refusal::ConnectTimedOut,
            io::ErrorKind::Interrupted => Refusal::Cut,
            _ if is_shortage(error) => Refusal::Shortage,
            _ => Refusal::ConnectFailed,
        };
        Self::with(Failure::Connect, refusal)
    }

    /// The request could not be read to its end.
    fn to_read(stopped: &Stopped) -> Self {
        let refusal = match stopped {
            Stopped::Framing => Refusal::BadFraming,
            Stopped::TooLong => Refusal::BodyTooLong,
            Stopped::From | Stopped::To => Refusal::ClientGone,
        };
        Self::with(Failure::Reset, refusal)
    }

    /// The request was sent, or began to be, and there was no answer.
    fn to_answer(why: &NoAnswer, reused: bool) -> Self {
        match why {
            NoAnswer::Bad => Self::with(Failure::Protocol, Refusal::BadAnswer),
            NoAnswer::Unfit(refusal) => Self::with(Failure::Reset, *refusal),
            NoAnswer::Broken { silently } => Self {
                stale: *silently && reused,
                ..Self::with(Failure::Reset, Refusal::ConnectionBroken)
            },
            NoAnswer::Unprocessed { is_refused } => Self {
                stale: !is_refused,
                unprocessed: true,
                ..Self::with(Failure::Reset, Refusal::ConnectionBroken)
            },
        }
    }

    /// It took too long, and so it is the fault of whoever was waited for.
    fn to_wait(rang: Rang, upload: &Pump) -> Self {
        match rang {
            Rang::Cut => Self::with(Failure::Timeout, Refusal::Cut),
            Rang::TimedOut if upload.is_starved() => {
                Self::with(Failure::Reset, Refusal::ClientStalled)
            }
            Rang::TimedOut => Self::with(Failure::Timeout, Refusal::TimedOut),
        }
    }

    /// What was waited for did not come in the time that the whole request has.
    fn of_request_timed_out(self, alarm: &Alarm) -> Self {
        match self.refusal {
            Refusal::TimedOut | Refusal::ConnectTimedOut if alarm.is_past_limit() => {
                Self::with(Failure::Timeout, Refusal::RequestTimedOut)
            }
            _ => self,
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

impl Exchange {
    /// Checks a request, reads the table once, and claims an endpoint in it. Writes into `to`
    /// the head that an endpoint should see, but for how the body is framed.
    pub(crate) fn begin(
        worker: &Rc<Worker>,
        alarm: &Alarm,
        peer: &Peer,
        request: Message<'_>,
        to: &mut Vec<u8>,
    ) -> Result<(Self, Try), Refusal> {
        let target = Target::of(request)?;
        max_forwards::check(request)?;
        let (table, service, version, wish, attempt) = loop {
            let table = worker.table();
            let service = table
                .route(target.host, target.path())
                .ok_or(Refusal::NoRoute)?;
            if table.at(service).hold.is_some() {
                return Err(Refusal::Held);
            }
            table.at(service).budget.deposit(worker.index);
            let wish = routing_hints::of(&table.at(service).definition, request, peer);
            // Every endpoint of this table may have been retired by a newer one.
            let pick = match table.at(service).claim(worker.index, &wish) {
                None if !worker.has_newer_than(&table) => {
                    table.at(service).claim_in_panic(worker.index, &wish)
                }
                pick => pick,
            };
            if let Some(pick) = pick {
                let (version, attempt) =
                    (pick.version, worker.upstream(pick.endpoint).begin(alarm));
                break (table, service, version, wish, attempt);
            }
            if !worker.has_newer_than(&table) {
                return Err(Refusal::NoEndpoint);
            }
        };
        let method = request.method();
        let asked = Asked {
            to_head: method == b"HEAD",
            idempotent: is_idempotent(method),
            upgrade: headers::asks_for_upgrade(request),
        };
        let mut exchange = Self {
            table,
            service,
            version,
            wish,
            tried: [attempt.upstream().endpoint.id; MAX_TRIES],
            tries: 1,
            copied: None,
            asked,
        };
        exchange.write_head(peer, request, target, attempt.upstream(), to);
        let table = &exchange.table;
        exchange.copied = mirror::copy(worker, table, service, version, request, to);
        Ok((exchange, attempt))
    }

    /// Writes what an endpoint should see of a request.
    fn write_head(
        &self,
        peer: &Peer,
        request: Message<'_>,
        target: Target<'_>,
        upstream: &Upstream,
        to: &mut Vec<u8>,
    ) {
        to.extend_from_slice(request.method());
        to.push(b' ');
        let definition = &self.service().definition;
        let strip = if definition.strip_prefix {
            &*definition.path_prefix
        } else {
            ""
        };
        target.write_origin_form(strip, to);
        to.extend_from_slice(b" HTTP/1.1\r\n");
        let upgrade = self.asked.upgrade;
        if target.authority.is_empty() {
            // HTTP/1.0 does without; what goes on is HTTP/1.1.
            let host = upstream.endpoint.target.to_string();
            headers::towards_endpoint(request, peer, host.as_bytes(), upgrade, to);
        } else {
            headers::towards_endpoint(request, peer, target.authority, upgrade, to);
        }
    }

    /// Adds to an answer's header fields what makes its client stick to its version.
    pub(crate) fn stick(&self, to: &mut impl Sink) {
        if let Some(cookie) = routing_hints::set_cookie(&self.wish, &self.service().definition) {
            to.add(b"set-cookie", &[cookie.as_bytes()]);
        }
    }

    fn service(&self) -> &Service {
        self.table.at(self.service)
    }

    /// How long a body may stand still.
    pub(crate) fn body_idle(&self) -> Duration {
        self.table.timeouts.body_idle
    }

    /// Sends the request to one endpoint after the other, until one answers.
    pub(crate) async fn answer(
        &mut self,
        worker: &Rc<Worker>,
        alarm: &Alarm,
        mut attempt: Try,
        client: &mut Source<'_>,
        upload: &mut Pump,
    ) -> Result<Answer, Refusal> {
        let _limit = self.table.timeouts.request.map(|all| alarm.limit(all));
        loop {
            let failed = match self.send(alarm, &attempt, client, upload).await {
                Ok((connection, answered)) => {
                    attempt.answered();
                    if let (Some(begun), Some(mirror)) = (self.copied, &self.service().mirror) {
                        mirror.original_answered(worker.index, begun, answered.status);
                    }
                    return Ok(Answer {
                        attempt,
                        connection,
                        answered,
                    });
                }
                Err(failed) => failed.of_request_timed_out(alarm),
            };
            let is_unprocessed = failed.unprocessed || failed.stale && upload.is_untouched();
            let next = self.next_attempt(worker, alarm, &failed, upload);
            // A connection that had ended before is no failure if the request is sent again. One
            // that may have ended because of the request is, and so is what ends at the client.
            let is_excused = failed.stale && is_unprocessed && next.is_some();
            settle(attempt, &failed, is_excused);
            attempt = next.ok_or(failed.refusal)?;
        }
    }

    /// Claims the next attempt of a request that failed. `None`: it is not safe to send it again,
    /// or there is no use in it.
    fn next_attempt(
        &mut self,
        worker: &Rc<Worker>,
        alarm: &Alarm,
        failed: &Failed,
        upload: &mut Pump,
    ) -> Option<Try> {
        // Nothing of it has left, or it may be sent twice and is here whole.
        let repeatable = self.asked.idempotent || failed.unprocessed;
        let safe = upload.is_untouched() || repeatable && upload.rewind();
        let wanted =
            failed.refusal.is_retryable() && self.tries < MAX_TRIES && !alarm.is_past_limit();
        if !(safe && wanted) || !(failed.stale || self.service().budget.withdraw(worker.index)) {
            return None;
        }
        self.try_again(worker, alarm, failed.stale)
    }

    /// One try: sends the request, and waits for the head of its answer.
    async fn send(
        &self,
        alarm: &Alarm,
        attempt: &Try,
        client: &mut Source<'_>,
        upload: &mut Pump,
    ) -> Result<(Connection, Answered), Failed> {
        let upstream = attempt.upstream();
        if self.asked.upgrade && upstream.endpoint.reach.protocol == Protocol::H2 {
            return Err(Failed::with(Failure::Protocol, Refusal::UpgradeOverHttp2));
        }
        let timeouts = &self.table.timeouts;
        let mut connection = upstream
            .connection(self.asked.idempotent, alarm, timeouts.connect)
            .await
            .map_err(|error| Failed::to_connect(&error))?;
        for _ in 0..MAX_INTERIM {
            let answered = self
                .exchange(alarm, &mut connection, client, upload)
                .await?;
            match answered.status {
                // The other protocol begins where the request ends (RFC 9110, 7.8).
                101 if !self.asked.upgrade || !upload.is_done() => break,
                101 | 200.. => return Ok((connection, answered)),
                // The client has had its 100 from us (RFC 9110, 10.1.1).
                100 => {}
                _ if client.takes_interim => {
                    let (pool, within) = (client.pool, timeouts.body_idle);
                    client
                        .wire
                        .interim(pool, alarm, within, connection.answer())
                        .await
                        .map_err(|_| Failed::with(Failure::Reset, Refusal::ClientGone))?;
                }
                _ => {}
            }
            connection.take_off(&answered, client.pool);
        }
        Err(Failed::with(Failure::Protocol, Refusal::BadAnswer))
    }

    /// Sends what is left to send, and reads the next head at the same time.
    async fn exchange(
        &self,
        alarm: &Alarm,
        connection: &mut Connection,
        client: &mut Source<'_>,
        upload: &mut Pump,
    ) -> Result<Answered, Failed> {
        let timeouts = &self.table.timeouts;
        let mut sending = !upload.is_done();
        let mut watching = !self.asked.upgrade;
        alarm.set(if sending {
            timeouts.body_idle
        } else {
            timeouts.first_byte
        });
        poll_fn(|cx| {
            if alarm.is_cut() {
                return Poll::Ready(Err(Failed::to_wait(Rang::Cut, upload)));
            }
            if sending {
                let mut moved = false;
                match upload.poll(cx, client, connection.link.wire(), &mut moved) {
                    // The endpoint may have answered before it broke the connection off.
                    Poll::Ready(Ok(()) | Err(Stopped::To)) => {
                        sending = false;
                        alarm.set(timeouts.first_byte);
                    }
                    Poll::Ready(Err(stopped)) => {
                        return Poll::Ready(Err(Failed::to_read(&stopped)));
                    }
                    Poll::Pending if moved => alarm.set(timeouts.body_idle),
                    Poll::Pending => {}
                }
            }
            let reused = connection.reused;
            if let Poll::Ready(answered) = connection.poll_head(cx, client.pool, self.asked.to_head)
            {
                return Poll::Ready(answered.map_err(|why| Failed::to_answer(&why, reused)));
            }
            if !sending && watching {
                match client.wire.poll_reset(cx) {
                    Poll::Ready(true) => {
                        let gone = Failed::with(Failure::Reset, Refusal::ClientGone);
                        return Poll::Ready(Err(gone));
                    }
                    Poll::Ready(false) => watching = false,
                    Poll::Pending => {}
                }
            }
            alarm
                .poll(cx)
                .map(|rang| Err(Failed::to_wait(rang, upload)))
        })
        .await
    }

    /// The next try, on another endpoint. Where there is none, a connection that was found
    /// closed before anything was answered is no reason to give up on its endpoint.
    fn try_again(&mut self, worker: &Rc<Worker>, alarm: &Alarm, stale: bool) -> Option<Try> {
        let again = |tried: &[EndpointId]| {
            let pick = self
                .service()
                .claim_again(self.version, worker.index, &self.wish, tried)?;
            let id = pick.endpoint.id;
            Some((id, worker.upstream(pick.endpoint).begin(alarm)))
        };
        let (id, attempt) =
            again(&self.tried[..self.tries]).or_else(|| if stale { again(&[]) } else { None })?;
        self.tried[self.tries] = id;
        self.tries += 1;
        Some(attempt)
    }
}

/// Counts a failed attempt against the side that is to blame. Whatever ends at the client as a
/// 5xx of the proxy's own is a failure of the version.
fn settle(attempt: Try, failed: &Failed, is_excused: bool) {
    match failed.refusal {
        // Dropped unsettled: the client's doing.
        Refusal::ClientStalled
        | Refusal::ClientGone
        | Refusal::BadFraming
        | Refusal::BadTarget
        | Refusal::BadHost
        | Refusal::HeadTooLong
        | Refusal::BodyTooLong => {
            drop(attempt);
        }
        // Another endpoint of the version would have done no better.
        Refusal::Cut | Refusal::Shortage | Refusal::UpgradeOverHttp2 => {
            attempt.unserved(failed.failure);
        }
        _ if is_excused => attempt.excused(),
        _ => attempt.failed(failed.failure),
    }
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE"
    )
}
