//! One stream of a client: reads its request, forwards it, and passes the response on.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response, StatusCode};

use super::h2_client::{Ended, Open};
use super::incoming::{Incoming, Started, Unserved};
use super::linger::linger;
use super::logged;
use crate::access_log::own::Logged;
use crate::access_log::termination::Phase;
use crate::filter::Filtered;
use crate::forward::relay::Side;
use crate::forward::{BodyRead, EndpointResponse, Exchange};
use crate::table::counts::stats::Failure;
use crate::wire::connection::Connection;
use crate::wire::expectation::Expectation;
use crate::wire::h1::body::Framing;
use crate::wire::h1::head::request_framing;
use crate::wire::h2::fields::Fields;
use crate::wire::h2::message::{Unfit, read_request, response_of};
use crate::wire::h2::stream::{Part, Stream};
use crate::wire::head::{Head, Known, Message};
use crate::wire::pump::Source;
use crate::wire::reply::{LocalReply, wants_json};
use crate::wire::sink::Sink;
use crate::wire::socket::ReadBuffer;
use crate::wire::timer::Timer;
use crate::wire::tunnel::{self, tunnel};
use crate::wire::websocket::{self, Accept};
use crate::wire::{Wire, headers};
use crate::worker::Worker;

/// How long a request that should have no body may leave it open whether it has one.
const FIRST_DATA: Duration = Duration::from_secs(1);

/// How long the body of an error may take that comes before its request is whole, and how long it is at
/// most, to go out along with its head.
const GATHER: Duration = Duration::from_millis(100);
const SMALL: u64 = 16 * 1024;

/// A request that came on a stream.
struct Client {
    worker: Rc<Worker>,
    open: Open,
    stream: Stream,
    /// What was read of the body before an endpoint was taken.
    read_buffer: ReadBuffer,
    timer: Timer,
    /// No body follows the head.
    ends: bool,
    /// It asks for a WebSocket: what its endpoint has to say.
    websocket: Option<Box<Accept>>,
    /// What filters found of it, where it goes to no endpoint.
    filtered: Option<Box<Filtered>>,
    /// It would like its errors in JSON.
    json: bool,
    to_head: bool,
    logged: Logged,
}

/// Serves one stream to its end.
pub(super) async fn serve(
    worker: Rc<Worker>,
    open: Open,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (parts, body) = request.into_parts();
    let mut client = Client {
        timer: worker.timers.timer(),
        ends: body.is_end_stream(),
        stream: Stream::of_client(respond, body, open.sharer()),
        read_buffer: ReadBuffer::default(),
        websocket: None,
        filtered: None,
        json: false,
        to_head: parts.method == http::Method::HEAD,
        logged: Logged::NONE,
        worker,
        open,
    };
    let mut head = client.worker.pool.head();
    let begun = client.begin(&parts, &mut head).await;
    client.worker.pool.give_head(head);
    if let Err(unfit) = &begun {
        client.log_refused(&parts, unfit);
    }
    drop(parts);
    let mut logged = std::mem::replace(&mut client.logged, Logged::NONE);
    let ended = match begun {
        Ok(begun) => {
            let read_buffer = std::mem::take(&mut client.read_buffer);
            client.exchange(begun, read_buffer, &mut logged).await
        }
        Err(Unfit::Malformed) => {
            client.stream.break_off(Reason::PROTOCOL_ERROR);
            Ended::GivenUp
        }
        Err(Unfit::Refused(reply)) => {
            let unserved = Unserved::new(reply, client.filtered.take());
            client.refuse(unserved, &mut logged).await
        }
    };
    drop(logged);
    client.open.ended(ended, client.timer.now());
    if ended == Ended::Completed && !client.ends && !client.stream.is_over() {
        // Rare, and so not worth memory in every request.
        Box::pin(client.linger()).await;
    }
}

impl Client {
    /// Reads the head, and begins its exchange.
    async fn begin(
        &mut self,
        request: &http::request::Parts,
        head: &mut Head,
    ) -> Result<Started, Unfit> {
        let mut text = self.worker.pool.take();
        let begun = match read_request(request, self.worker.limits.header_count, &mut text, head) {
            Ok(accept) => {
                self.websocket = accept.map(Box::new);
                let (log, peer) = (self.worker.access_log.as_ref(), self.open.peer());
                self.logged = Logged::begin(log, peer, head.over(&text), text.len());
                self.begin_read(head.over(&text)).await
            }
            Err(unfit) => Err(unfit),
        };
        self.worker.pool.give(text);
        begun
    }

    async fn begin_read(&mut self, head: Message<'_>) -> Result<Started, Unfit> {
        self.json = wants_json(head);
        let mut framing = request_framing(head).map_err(LocalReply::from)?;
        if self.ends || self.websocket.is_some() {
            framing = Framing::Empty;
        } else if framing == Framing::Empty && self.has_body(head).await {
            // Only its end says how long it is.
            framing = Framing::Chunked;
        }
        let mut incoming = Incoming {
            worker: &self.worker,
            timer: &self.timer,
            peer: self.open.peer(),
            head,
            framing,
            read: BodyRead::No,
            client: Wire::H2(&self.stream),
            filtered: Cell::default(),
        };
        let begun = incoming.begin();
        if begun.is_err() {
            logged::not_begun(&mut self.logged, &self.worker, head);
        }
        let (begun, has_waited) = match begun {
            Err(unbegun) if unbegun.may_pass() => {
                let beginning = incoming.begin_later(unbegun, &mut self.read_buffer);
                // Rare, and so not worth memory in every request.
                (Box::pin(beginning).await, true)
            }
            begun => (begun, false),
        };
        self.filtered = incoming.filtered.take();
        if let Ok(begun) = &begun {
            logged::begun(&mut self.logged, &begun.exchange, has_waited);
        }
        begun.map_err(|unbegun| unbegun.reply().into())
    }

    /// Takes note of a request that is not forwarded.
    fn log_refused(&mut self, request: &http::request::Parts, unfit: &Unfit) {
        if self.logged.is_none()
            && let Some(log) = &self.worker.access_log
        {
            let line = format!("{} {} HTTP/2.0", request.method, request.uri);
            self.logged = Logged::unread(Some(log), self.open.peer(), line.as_bytes());
        }
        let reply = match unfit {
            // It gets none; this is what HTTP/1.1 would have got.
            Unfit::Malformed => LocalReply::BadSyntax,
            Unfit::Refused(reply) => *reply,
        };
        logged::refused(&mut self.logged, reply, Phase::Queue);
    }

    /// Whether a request has a body that has not ended with its head, and does not say that it has some
    /// length.
    async fn has_body(&self, head: Message<'_>) -> bool {
        if head.values(Known::ContentLength).next().is_some() {
            return false;
        }
        let method = head.method();
        match poll_fn(|cx| Poll::Ready(self.stream.poll_has_body(cx))).await {
            Poll::Ready(has_body) => has_body,
            // Where hardly any has one, its end is waited for.
            Poll::Pending if matches!(method, b"GET" | b"HEAD" | b"DELETE" | b"OPTIONS") => {
                let waiting = self
                    .timer
                    .wait(FIRST_DATA, |cx| self.stream.poll_has_body(cx));
                // Rare, and so not worth memory in every request.
                Box::pin(waiting).await.unwrap_or(true)
            }
            Poll::Pending => true,
        }
    }

    /// Forwards the request, and passes the response on.
    async fn exchange(
        &self,
        mut begun: Started,
        mut read_buffer: ReadBuffer,
        logged: &mut Logged,
    ) -> Ended {
        let (exchange, upload) = (&mut begun.exchange, &mut begun.upload);
        let mut source = Source {
            wire: Wire::H2(&self.stream),
            read_buffer: &mut read_buffer,
            pool: &self.worker.pool,
            takes_interim: true,
            expectation: exchange.expectation,
        };
        let response = exchange
            .response(
                &self.worker,
                &self.timer,
                begun.attempt,
                &mut source,
                upload,
            )
            .await;
        let ended = match response {
            Ok(response) if self.websocket.is_some() && response.head.status < 300 => {
                logged::responded(logged, exchange, &response);
                let upgraded = self.upgrade(exchange, response, source.read_buffer, logged);
                // Rare, and so not worth memory in every request.
                Box::pin(upgraded).await
            }
            Ok(mut response) => {
                logged::responded(logged, exchange, &response);
                if !upload.is_done() && response.head.status >= 300 {
                    // Rare, as above.
                    Box::pin(self.gather(&mut response)).await;
                }
                let ahead = response.connection.link.wire().ahead();
                self.stream.is_behind(ahead);
                self.begin_response(exchange, &response);
                let begun = (Vec::new(), false);
                let relayed = exchange
                    .relay(&self.timer, &mut response, begun, &mut source, upload)
                    .await;
                logged::relayed(logged, &self.timer, exchange, &response, &relayed, upload);
                match response.settle(relayed) {
                    Ok(()) => Ended::Completed,
                    Err(Side::Client) => {
                        self.stream.break_off(Reason::CANCEL);
                        Ended::CutShort
                    }
                    Err(Side::Endpoint) => {
                        self.stream.break_off(Reason::INTERNAL_ERROR);
                        Ended::Completed
                    }
                }
            }
            Err(reply) => {
                logged::unserved(logged, &self.worker, exchange, reply, upload);
                let unserved = Unserved::new(reply, exchange.take_filtered());
                self.refuse(unserved, logged).await
            }
        };
        upload.finish(&mut read_buffer, &self.worker.pool);
        read_buffer.clear(&self.worker.pool);
        ended
    }

    /// Waits shortly until all of a small response is here whose request is not. It goes to its client
    /// in one piece then: curl, for one, ends such a request as soon as it sees the head, and with less
    /// than the length that it has said. That is an error of the stream (RFC 9113, 8.1.1), for which the
    /// crate forgets what of the response was not sent.
    async fn gather(&self, response: &mut EndpointResponse) {
        let Framing::Length(length) = response.head.framing else {
            return;
        };
        let whole = response.head.length as u64 + length;
        let Connection {
            link, read_buffer, ..
        } = &mut response.connection;
        let pool = &self.worker.pool;
        let gathered = self.timer.wait(GATHER, |cx| {
            while length <= SMALL && (read_buffer.data().len() as u64) < whole {
                match ready!(link.wire().poll_fill(cx, read_buffer, pool)) {
                    Ok(1..) => {}
                    // Who relays it finds that, too.
                    Ok(0) | Err(_) => break,
                }
            }
            Poll::Ready(())
        });
        // What is not here by then comes later.
        let _ = gathered.await;
    }

    /// Passes on that an endpoint has granted a WebSocket, and then bytes both ways until one side
    /// ends. To a client of HTTP/2, any success would grant it.
    async fn upgrade(
        &self,
        exchange: &Exchange,
        response: EndpointResponse,
        read_buffer: &mut ReadBuffer,
        logged: &mut Logged,
    ) -> Ended {
        let EndpointResponse {
            mut attempt,
            mut connection,
            head,
        } = response;
        let message = connection.response();
        let accept = self.websocket.as_ref();
        if !accept.is_some_and(|accept| accept.is_in(message)) {
            attempt.failed(Failure::Protocol);
            logged::refused(logged, LocalReply::BadResponse, Phase::Response);
            return self.refuse(LocalReply::BadResponse.into(), logged).await;
        }
        let mut granted = response_of(message, |fields| {
            let now = self.worker.date();
            headers::towards_client(message, false, &now, fields);
            exchange.finish_fields(&attempt.upstream().endpoint, fields);
        });
        *granted.status_mut() = StatusCode::OK;
        granted.headers_mut().remove(websocket::ACCEPT);
        self.stream.begin_response(granted);
        connection.take_off(&head, &self.worker.pool);
        let begun = self
            .timer
            .wait(exchange.body_idle(), |cx| {
                self.stream.poll_write(cx, Part::of(b""), &mut 0)
            })
            .await;
        if !matches!(begun, Ok(Ok(()))) {
            logged::replied(logged, 0, false);
            return Ended::CutShort;
        }
        attempt.upgrade();
        let client = (Wire::H2(&self.stream), read_buffer);
        let endpoint = (connection.link.wire(), &mut connection.read_buffer);
        let tunnelled = tunnel(&self.worker.pool, &self.timer, client, endpoint).await;
        logged::tunnelled(logged, tunnelled);
        if tunnelled.ended == tunnel::Ended::Whole {
            return Ended::Completed;
        }
        self.stream.break_off(Reason::CANCEL);
        Ended::CutShort
    }

    /// Takes what the client still sends of a request that has its response. Only then is the stream
    /// reset, with NO_ERROR (RFC 9113, 8.1), which some clients take for the response's loss.
    async fn linger(&self) {
        let mut read_buffer = ReadBuffer::default();
        let mut source = Source {
            wire: Wire::H2(&self.stream),
            read_buffer: &mut read_buffer,
            pool: &self.worker.pool,
            takes_interim: false,
            expectation: Expectation::Nothing,
        };
        linger(&self.worker, &self.timer, &mut source, u64::MAX).await;
        read_buffer.clear(&self.worker.pool);
    }

    /// Makes the head of the response, which goes out with the first of its body.
    fn begin_response(&self, exchange: &Exchange, response: &EndpointResponse) {
        let message = response.connection.response();
        let response = response_of(message, |fields| {
            let now = self.worker.date();
            headers::towards_client(message, false, &now, fields);
            exchange.finish_fields(&response.attempt.upstream().endpoint, fields);
            self.say_length(message, response.head.framing, fields);
        });
        self.stream.begin_response(response);
    }

    fn say_length(&self, response: Message<'_>, framing: Framing, to: &mut Fields) {
        let status = response.status();
        if self.to_head || status == 304 {
            // What a GET would have got (RFC 9110, 9.3.2 and 15.4.5).
            for length in response.values(Known::ContentLength) {
                to.add(b"content-length", &[length]);
            }
            return;
        }
        match framing {
            Framing::Length(length) => {
                let mut digits = itoa::Buffer::new();
                to.add(b"content-length", &[digits.format(length).as_bytes()]);
            }
            Framing::Empty if status != 204 => to.add(b"content-length", &[b"0"]),
            _ => {}
        }
    }

    /// Sends the proxy's own response.
    async fn refuse(&self, unserved: Unserved, logged: &mut Logged) -> Ended {
        self.worker.counters.refused(unserved.reply);
        if unserved.reply == LocalReply::ClientGone {
            return Ended::GivenUp;
        }
        let mut response = Response::new(());
        *response.status_mut() = unserved.status();
        let mut fields = Fields::default();
        let body = unserved.write(&self.worker, self.json, self.to_head, &mut fields);
        *response.headers_mut() = fields.into_map();
        self.stream.begin_response(response);
        let within = self.worker.table().timeouts.body_idle;
        let mut written = 0;
        let sent = self
            .timer
            .wait(within, |cx| {
                let part = Part {
                    is_last: true,
                    ..Part::of(&body)
                };
                self.stream.poll_write(cx, part, &mut written)
            })
            .await;
        logged::filtered(logged, &unserved);
        logged::replied(logged, body.len(), matches!(sent, Ok(Ok(()))));
        match sent {
            Ok(Ok(())) => Ended::Completed,
            _ => Ended::GivenUp,
        }
    }
}
