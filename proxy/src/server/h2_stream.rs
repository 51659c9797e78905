//! One stream of a client: reads its request, forwards it, and passes the response on.

use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};

use super::h2_client::Open;
use super::incoming::{Incoming, Started, may_pass, write_reply};
use super::linger::linger;
use crate::forward::relay::Side;
use crate::forward::{EndpointResponse, Exchange};
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
use crate::wire::{Wire, headers};
use crate::worker::Worker;

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
    if completed && !client.ends && !client.stream.is_over() {
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
            Ok(()) => self.begin_read(head.over(&text)).await,
            Err(unfit) => Err(unfit),
        };
        self.worker.pool.give(text);
        begun
    }

    async fn begin_read(&mut self, head: Message<'_>) -> Result<Started, Unfit> {
        self.json = wants_json(head);
        let framing = match request_framing(head).map_err(LocalReply::from)? {
            _ if self.ends => Framing::Empty,
            // Only its end says how long it is.
            Framing::Empty => Framing::Chunked,
            framing => framing,
        };
        let incoming = Incoming {
            worker: &self.worker,
            timer: &self.timer,
            peer: self.open.peer(),
            head,
            framing,
            client: Wire::H2(&self.stream),
        };
        let begun = match incoming.begin() {
            // Rare, and so not worth memory in every request.
            Err(reply) if may_pass(reply) => Box::pin(incoming.begin_when_it_may()).await,
            begun => begun,
        };
        begun.map_err(Unfit::from)
    }

    /// Forwards the request, and passes the response on. Gives whether the client let it finish.
    async fn exchange(&self, mut begun: Started) -> bool {
        let (exchange, upload) = (&mut begun.exchange, &mut begun.upload);
        let mut read_buffer = ReadBuffer::default();
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
        let completed = match response {
            Ok(mut response) => {
                self.begin_response(exchange, &response);
                let begun = (Vec::new(), false);
                let relayed = exchange
                    .relay(&self.timer, &mut response, begun, &mut source, upload)
                    .await;
                match response.settle(relayed) {
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
        let body = write_reply(&self.worker, reply, self.json, self.to_head, &mut fields);
        *response.headers_mut() = fields.into_map();
        self.stream.begin_response(response);
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
