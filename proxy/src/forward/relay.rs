//! The life of a request from the head of its response to the response's last byte.
//!
//! The wire on which the client is has written the response's head (`server/h1.rs`,
//! `server/h2.rs`); the rest of the request may still be on its way.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Duration;

use crate::forward::{EndpointResponse, Exchange};
use crate::table::counts::stats::Failure;
use crate::wire::connection::{Connection, Link};
use crate::wire::h1::body::Framing;
use crate::wire::pump::{Pump, Relay, Source, Stopped};
use crate::wire::response::ResponseHead;
use crate::wire::timer::Timer;
use crate::worker::upstream::Upstream;

/// Whose doing it was that a response broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Endpoint,
}

/// The bodies of a request and its response, both on their way.
pub(super) struct Bodies<'b, 's> {
    pub(super) timer: &'b Timer,
    /// How long they may stand still.
    pub(super) idle: Duration,
    pub(super) client: &'b mut Source<'s>,
    pub(super) upload: &'b mut Pump,
}

impl Exchange {
    /// Passes a response on to its last byte, and settles the try. `begun` is the response's head
    /// as the client's wire writes it, and `chunked` says whether its body goes on in chunks.
    pub(crate) async fn relay(
        &self,
        timer: &Timer,
        response: EndpointResponse,
        begun: (Vec<u8>, bool),
        client: &mut Source<'_>,
        upload: &mut Pump,
    ) -> Result<(), Side> {
        let EndpointResponse {
            mut attempt,
            connection,
            head,
        } = response;
        if matches!(head.framing, Framing::Chunked | Framing::UntilClose) {
            attempt.stream();
        }
        let mut bodies = Bodies {
            timer,
            idle: self.body_idle(),
            client,
            upload,
        };
        let relayed = bodies
            .relay(attempt.upstream(), connection, &head, begun, u64::MAX)
            .await;
        match relayed {
            Ok(()) => attempt.responded(head.status),
            Err(Side::Endpoint) => attempt.failed(Failure::Body),
            // Dropped unsettled.
            Err(Side::Client) => {}
        }
        relayed
    }
}

impl Bodies<'_, '_> {
    /// Moves both bodies, until the response's is through, and keeps the connection where another
    /// request may follow. A response's body that is longer than `most` is cut.
    pub(super) async fn relay(
        &mut self,
        upstream: &Upstream,
        mut connection: Connection,
        head: &ResponseHead,
        (begun, chunked): (Vec<u8>, bool),
        most: u64,
    ) -> Result<(), Side> {
        let pool = self.client.pool;
        let keeps = connection.take_off(head, pool);
        let mut endpoint = Source {
            wire: connection.link.wire(),
            read_buffer: &mut connection.read_buffer,
            pool,
            takes_interim: false,
        };
        let relay = Relay {
            framing: head.framing,
            chunked,
            most,
        };
        let mut download = Pump::new(begun, relay, endpoint.wire);
        let relayed = self.pass_on(&mut endpoint, &mut download).await;
        download.finish(endpoint.read_buffer, pool);
        if relayed.is_ok() {
            let whole = self.upload.is_done() && connection.read_buffer.is_empty();
            connection.read_buffer.park(pool);
            match connection.link {
                Link::H1(socket) if keeps && whole => upstream.keep(socket),
                _ => {}
            }
        }
        relayed
    }

    /// Moves both bodies at the same time, until the response's is through.
    async fn pass_on(
        &mut self,
        endpoint: &mut Source<'_>,
        download: &mut Pump,
    ) -> Result<(), Side> {
        let Self {
            timer,
            idle,
            client,
            upload,
        } = self;
        let (to_client, to_endpoint) = (client.wire, endpoint.wire);
        let mut sending = !upload.is_done();
        let mut client_failed = false;
        timer.set(*idle);
        poll_fn(|cx| {
            if timer.is_cut() {
                return Poll::Ready(Err(Side::Client));
            }
            let mut moved = false;
            if sending {
                match upload.poll(cx, client, to_endpoint, &mut moved) {
                    Poll::Ready(outcome) => {
                        sending = false;
                        client_failed = !matches!(outcome, Ok(()) | Err(Stopped::To));
                    }
                    Poll::Pending => {}
                }
            }
            match download.poll(cx, endpoint, to_client, &mut moved) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                // The client has gone, or wants no more.
                Poll::Ready(Err(Stopped::To | Stopped::TooLong)) => {
                    return Poll::Ready(Err(Side::Client));
                }
                // The rest of the request will never come: what response it could have, it had.
                _ if client_failed => return Poll::Ready(Err(Side::Client)),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Side::Endpoint)),
                Poll::Pending => {}
            }
            if moved {
                timer.set(*idle);
            }
            let _ = ready!(timer.poll(cx));
            let waits_for_client = !download.is_starved() || sending && upload.is_starved();
            Poll::Ready(Err(if waits_for_client {
                Side::Client
            } else {
                Side::Endpoint
            }))
        })
        .await
    }
}
