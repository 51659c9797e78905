//! The life of a request from the head of its response to the response's last byte.
//!
//! The wire on which the client is has written the response's head (`server/h1.rs`,
//! `server/h2_stream.rs`); the rest of the request may still be on its way.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Duration;

use crate::forward::{EndpointResponse, Exchange};
use crate::table::counts::stats::Failure;
use crate::wire::connection::Connection;
use crate::wire::expectation::Expectation;
use crate::wire::h1::body::Framing;
use crate::wire::pump::{Pump, Relay, Source, Stopped};
use crate::wire::response::ResponseHead;
use crate::wire::timer::Timer;

/// Whose doing it was that a response broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Endpoint,
}

/// Whether another request may follow on the connection to the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Yes,
    No,
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
    /// Passes a response on to its last byte, and gives what came of it, for
    /// [`EndpointResponse::settle`]. `begun` is the response's head as the client's wire writes it,
    /// and `chunked` says whether its body goes on in chunks.
    pub(crate) async fn relay(
        &self,
        timer: &Timer,
        response: &mut EndpointResponse,
        begun: (Vec<u8>, bool),
        client: &mut Source<'_>,
        upload: &mut Pump,
    ) -> Result<Keep, Side> {
        if matches!(
            response.head.framing,
            Framing::Chunked | Framing::UntilClose
        ) {
            response.attempt.stream();
        }
        let mut bodies = Bodies {
            timer,
            idle: self.body_idle(),
            client,
            upload,
        };
        bodies
            .relay(&mut response.connection, &response.head, begun, u64::MAX)
            .await
    }
}

impl EndpointResponse {
    /// Counts what came of it, and keeps its connection where another request may follow.
    pub(crate) fn settle(self, relayed: Result<Keep, Side>) -> Result<(), Side> {
        let keep = match relayed {
            Ok(keep) => keep,
            Err(side) => {
                if side == Side::Endpoint {
                    self.attempt.failed(Failure::Body);
                }
                // Else it is dropped unsettled.
                return Err(side);
            }
        };
        if keep == Keep::Yes {
            self.attempt.upstream().keep(self.connection.link);
        }
        self.attempt.responded(self.head.status);
        Ok(())
    }
}

impl Bodies<'_, '_> {
    /// Moves both bodies, until the response's is through. A response's body that is longer than
    /// `most` is cut.
    pub(super) async fn relay(
        &mut self,
        connection: &mut Connection,
        head: &ResponseHead,
        (begun, chunked): (Vec<u8>, bool),
        most: u64,
    ) -> Result<Keep, Side> {
        let pool = self.client.pool;
        let keeps = connection.take_off(head, pool);
        let mut endpoint = Source {
            wire: connection.link.wire(),
            read_buffer: &mut connection.read_buffer,
            pool,
            takes_interim: false,
            expectation: Expectation::Nothing,
        };
        let relay = Relay {
            framing: head.framing,
            chunked,
            most,
        };
        let mut download = Pump::new(begun, relay, endpoint.wire);
        let relayed = self.pass_on(&mut endpoint, &mut download).await;
        download.finish(endpoint.read_buffer, pool);
        relayed?;
        let whole = self.upload.is_done() && connection.read_buffer.is_empty();
        connection.read_buffer.park(pool);
        Ok(if keeps && whole { Keep::Yes } else { Keep::No })
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
            let waits_for_client = !download.is_starved() || sending && upload.is_starved();
            if !waits_for_client && to_client.has_left(cx) {
                return Poll::Ready(Err(Side::Client));
            }
            let _ = ready!(timer.poll(cx));
            Poll::Ready(Err(if waits_for_client {
                Side::Client
            } else {
                Side::Endpoint
            }))
        })
        .await
    }
}
