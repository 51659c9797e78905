//! One stream of a client: reads its request, forwards it, and passes the response on.

use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};

use super::h2_client::Open;
use crate::forward::relay::Side;
use crate::forward::{EndpointResponse, Exchange, hold};
use crate::wire::h1::body::Framing;
use crate::wire::h1::head::request_framing;
use crate::wire::h1::write::end_head;
use crate::wire::h2::fields::Fields;
use crate::wire::h2::message::{Unfit, read_request, response_of};
use crate::wire::h2::stream::{Part, Stream};
use crate::wire::head::{Head, Known, Message};
use crate::wire::pump::{Pump, Relay, Source};
use crate::wire::reply::{LocalReply, wants_json};
use crate::wire::sink::Sink;
use crate::wire::socket::ReadBuffer;
use crate::wire::timer::Timer;
use crate::wire::{Wire, headers};
use crate::worker::Worker;
use crate::worker::upstream::Attempt;

/// A request that came on a stream.
struct Client {
    worker: Rc<Worker>,
    open: Open,
    stream: Stream,
    timer: Timer,
    /// No body follows the head.
    ends: bool,
    /// It would like its errors in JSON.
    json: bool,
    to_head: bool,
}

/// A request on its way.
struct Begun {
    exchange: Exchange,
    attempt: Attempt,
    framing: Framing,
    /// What an endpoint should see.
    head: Vec<u8>,
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
        stream: Stream::of_client(respond, body),
        json: false,
        to_head: parts.method == http::Method::HEAD,
        worker,
        open,
    };
    let mut head = client.worker.pool.head();
    let begun = client.begin(&parts, &mut head).await;
    client.worker.pool.give_head(head);
    drop(parts);
    let completed = match begun {
        Ok(begun) => client.exchange(begun).await,
        Err(Unfit::Malformed) => {
            client.stream.break_off(Reason::PROTOCOL_ERROR);
            false
        }
        Err(Unfit::Refused(reply)) => client.refuse(reply).await,
    };
    client.open.ended(completed);
}

impl Client {
    /// Reads the head, and begins its exchange.
    async fn begin(
        &mut self,
        request: &http::request::Parts,
        head: &mut Head,
    ) -> Result<Begun, Unfit> {
        let worker = self.worker.clone();
        let mut text = worker.pool.take();
        let read = read_request(request, worker.limits.header_count, &mut text, head);
        let begun = loop {
            if let Err(unfit) = read {
                break Err(unfit);
            }
            let message = head.over(&text);
            match self.try_begin(message) {
                Err(LocalReply::ServiceHeld) => {
                    let client = Wire::H2(&self.stream);
                    if let Err(reply) = Box::pin(hold::wait(&worker, message, client)).await {
                        break Err(reply.into());
                    }
                }
                begun => break begun.map_err(Unfit::from),
            }
        };
        worker.pool.give(text);
        begun
    }

    fn try_begin(&mut self, request: Message<'_>) -> Result<Begun, LocalReply> {
        let limits = &self.worker.limits;
        self.json = wants_json(request);
        let framing = match request_framing(request)? {
            _ if self.ends => Framing::Empty,
            // Only its end says how long it is.
            Framing::Empty => Framing::Chunked,
            framing => framing,
        };
        if request.target().len() > limits.request_line {
            return Err(LocalReply::TargetTooLong);
        }
        if matches!(framing, Framing::Length(length) if length > limits.body) {
            return Err(LocalReply::BodyTooLong);
        }
        let mut bytes = self.worker.pool.take_small();
        let peer = self.open.peer();
        let begun = Exchange::begin(&self.worker, &self.timer, peer, request, &mut bytes);
        let (exchange, attempt) = match begun {
            Ok(begun) => begun,
            Err(reply) => {
                self.worker.pool.give(bytes);
                return Err(reply);
            }
        };
        // A method with content says so even where there is none (RFC 9110, 8.6).
        let bodyless = !matches!(request.method(), b"POST" | b"PUT" | b"PATCH");
        end_head(framing, &mut bytes, bodyless);
        if !self.ends && request.has(Known::Expect, "100-continue") {
            self.stream.proceed();
        }
        Ok(Begun {
            exchange,
            attempt,
            framing,
            head: bytes,
        })
    }

    /// Forwards the request, and passes the response on. Gives whether the client let it finish.
    async fn exchange(&self, begun: Begun) -> bool {
        let Begun {
            mut exchange,
            attempt,
            framing,
            head: bytes,
        } = begun;
        let chunked = framing == Framing::Chunked;
        let relay = Relay {
            framing,
            chunked,
            most: if chunked {
                self.worker.limits.body
            } else {
                u64::MAX
            },
        };
        let wire = Wire::H2(&self.stream);
        let mut upload = Pump::new(bytes, relay, wire);
        let mut read_buffer = ReadBuffer::default();
        let mut source = Source {
            wire,
            read_buffer: &mut read_buffer,
            pool: &self.worker.pool,
            takes_interim: true,
        };
        let response = exchange
            .response(&self.worker, &self.timer, attempt, &mut source, &mut upload)
            .await;
        let completed = match response {
            Ok(response) => {
                self.begin_response(&exchange, &response);
                let begun = (Vec::new(), false);
                let relayed = exchange
                    .relay(&self.timer, response, begun, &mut source, &mut upload)
                    .await;
                match relayed {
                    Ok(()) => true,
                    Err(side) => {
                        self.stream.break_off(match side {
                            Side::Client => Reason::CANCEL,
                            Side::Endpoint => Reason::INTERNAL_ERROR,
                        });
                        side == Side::Endpoint
                    }
                }
            }
            Err(reply) => self.refuse(reply).await,
        };
        upload.finish(&mut read_buffer, &self.worker.pool);
        read_buffer.clear(&self.worker.pool);
        completed
    }

    /// Makes the head of the response, which goes out with the first of its body.
    fn begin_response(&self, exchange: &Exchange, response: &EndpointResponse) {
        let message = response.connection.response();
        let response = response_of(message, |fields| {
            let now = self.worker.date();
            headers::towards_client(message, false, &now, fields);
            exchange.stick(fields);
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

    /// Sends the proxy's own response. Gives whether the client let it finish.
    async fn refuse(&self, reply: LocalReply) -> bool {
        self.worker.counters.refused(reply);
        if reply == LocalReply::ClientGone {
            return false;
        }
        let mut response = Response::new(());
        *response.status_mut() = reply.status();
        let mut fields = Fields::default();
        let body = reply.write(self.json, &mut fields);
        fields.add(b"date", &[&*self.worker.date()]);
        *response.headers_mut() = fields.into_map();
        self.stream.begin_response(response);
        let body = if self.to_head { "" } else { &body };
        let within = self.worker.table().timeouts.body_idle;
        let mut written = 0;
        let sent = self
            .timer
            .wait(within, |cx| {
                let part = Part {
                    before: b"",
                    data: body.as_bytes(),
                    trailers: b"",
                    is_last: true,
                };
                self.stream.poll_write(cx, part, &mut written)
            })
            .await;
        matches!(sent, Ok(Ok(())))
    }
}
