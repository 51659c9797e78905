//! What the access log has of a request's way: who served it, how much was passed on, and how it ended.

use crate::access_log::own::Logged;
use crate::access_log::termination::{Phase, Termination, Who};
use crate::forward::relay::{Keep, Side};
use crate::forward::{EndpointResponse, Exchange};
use crate::server::incoming::Unserved;
use crate::wire::connection::Link;
use crate::wire::head::Message;
use crate::wire::pump::Pump;
use crate::wire::reply::LocalReply;
use crate::wire::target::Target;
use crate::wire::timer::{Timer, WaitError};
use crate::wire::tunnel::{Ended, Tunnelled};
use crate::worker::Worker;

/// The request cannot begin, or not yet: its service is looked for.
pub(super) fn not_begun(logged: &mut Logged, worker: &Worker, request: Message<'_>) {
    logged.note(|record| {
        let table = worker.table();
        let target = Target::of(request);
        if let Ok(service) = target.and_then(|target| table.route(&target, request)) {
            record.is_for(&table.at(service).definition.name);
        }
    });
}

/// The exchange has begun, after a wait if it `has_waited`.
pub(super) fn begun(logged: &mut Logged, exchange: &Exchange, has_waited: bool) {
    logged.note(|record| {
        record.is_for(exchange.service_name());
        if let Some(id) = exchange.request_id() {
            record.has_id(id);
        }
        if has_waited {
            record.has_waited();
        }
    });
}

/// An endpoint has responded.
pub(super) fn responded(logged: &mut Logged, exchange: &Exchange, response: &EndpointResponse) {
    logged.note(|record| {
        record.was_tried(exchange.attempts().0, exchange.progress.connecting);
        let upstream = response.attempt.upstream();
        record.went_to(&upstream.endpoint.version, upstream.text());
        record.has_response(response.head.status);
    });
}

/// No endpoint has responded, or none as it should: the client gets this.
pub(super) fn unserved(
    logged: &mut Logged,
    worker: &Worker,
    exchange: &Exchange,
    reply: LocalReply,
    upload: &Pump,
) {
    logged.note(|record| {
        let (attempts, endpoint) = exchange.attempts();
        record.was_tried(attempts, exchange.progress.connecting);
        if let Some(upstream) = worker.known_upstream(endpoint) {
            record.went_to(&upstream.endpoint.version, upstream.text());
        }
        record.was_refused(reply, exchange.progress.phase);
        record.has_moved(upload.body_passed(), 0);
    });
}

/// The client gets this instead of a response, before an exchange has begun.
pub(super) fn refused(logged: &mut Logged, reply: LocalReply, reached: Phase) {
    logged.note(|record| record.was_refused(reply, reached));
}

/// A filter may have the response that the client gets, and know the request's id.
pub(super) fn filtered(logged: &mut Logged, unserved: &Unserved) {
    logged.note(|record| {
        if let Some(id) = unserved.request_id() {
            record.has_id(id);
        }
        record.has_status(unserved.status().as_u16());
    });
}

/// The proxy's own response was sent, with so many bytes of body, or the client left before.
pub(super) fn replied(logged: &mut Logged, bytes: usize, is_sent: bool) {
    logged.note(|record| match is_sent {
        true => record.has_moved(record.bytes_in(), bytes as u64),
        false => record.ended(Termination::new(Who::Client, Phase::Body)),
    });
}

/// A response was passed on, to its end if that is what came of it.
pub(super) fn relayed(
    logged: &mut Logged,
    timer: &Timer,
    exchange: &Exchange,
    response: &EndpointResponse,
    relayed: &Result<Keep, Side>,
    upload: &Pump,
) {
    logged.note(|record| {
        record.has_moved(upload.body_passed(), exchange.progress.sent());
        let side = match relayed {
            Ok(_) => return record.ended(Termination::NORMAL),
            Err(side) => *side,
        };
        let who = match (timer.ended_by(), side) {
            (Some(WaitError::Cut), _) => Who::Killed,
            (Some(WaitError::TimedOut), Side::Client) => Who::ClientTimeout,
            (Some(WaitError::TimedOut), Side::Endpoint) => Who::EndpointTimeout,
            (None, Side::Client) => Who::Client,
            (None, Side::Endpoint) => Who::Endpoint,
        };
        let phase = match response.connection.link {
            Link::Released => Phase::Last,
            Link::H1(_) | Link::H2(_) => Phase::Body,
        };
        record.ended(Termination::new(who, phase));
    });
}

/// An upgraded connection has ended.
pub(super) fn tunnelled(logged: &mut Logged, tunnelled: Tunnelled) {
    logged.note(|record| {
        record.has_moved(tunnelled.to_endpoint, tunnelled.to_client);
        record.ended(match tunnelled.ended {
            Ended::Whole => Termination::NORMAL,
            Ended::Cut => Termination::new(Who::Killed, Phase::Body),
            Ended::Client => Termination::new(Who::Client, Phase::Body),
            Ended::Endpoint => Termination::new(Who::Endpoint, Phase::Body),
        });
    });
}
