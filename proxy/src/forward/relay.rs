//! The life of a request from the head of its response to the response's last byte.
//!
//! The wire on which the client is has written the response's head (`server/h1.rs`,
//! `server/h2_stream.rs`); the rest of the request may still be on its way.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Duration;

use crate::forward::read_ahead::{Broken, ReadAhead};
use crate::forward::{EndpointResponse, Exchange};
use crate::table::counts::stats::Failure;
use crate::wire::Wire;
use crate::wire::buffered::Reserved;
use crate::wire::connection::Connection;
use crate::wire::expectation::Expectation;
use crate::wire::h1::body::Framing;
use crate::wire::pump::{Pump, Relay, Source, Stopped};
use crate::wire::response::ResponseHead;
use crate::wire::socket::ReadBuffer;
use crate::wire::timer::{Timer, WaitError};

/// How many bytes a client that is waited for has to take in the time in which a body may stand still.
const MIN_PASSED: u64 = 4 * 1024;

/// How long a client may take nothing where much waits for clients.
const PRESSED: Duration = Duration::from_secs(10);

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
    /// It was given back before the response was through.
    Released,
}

/// The bodies of a request and its response, both on their way.
pub(super) struct Bodies<'b, 's> {
    pub(super) timer: &'b Timer,
    /// How long they may stand still.
    pub(super) idle: Duration,
    pub(super) client: &'b mut Source<'s>,
    pub(super) upload: &'b mut Pump,
    /// What of the response is read for a client that takes it slowly.
    pub(super) ahead: Option<Box<ReadAhead<'b>>>,
    /// Bytes of the response's body that went to the client.
    pub(super) passed: u64,
}

/// How far a response has come.
enum Passed {
    /// To its client.
    On,
    /// The rest of it is here; `alone` if there is nothing behind it.
    Here { alone: bool },
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
        let EndpointResponse {
            attempt,
            connection,
            head,
        } = response;
        let most = self.service().buffers.response;
        let ahead = (most > 0).then(|| {
            let reserved = Reserved::new(client.pool, client.wire);
            let ahead = ReadAhead::new(most, reserved, attempt, head.status);
            Box::new(ahead)
        });
        let mut bodies = Bodies {
            timer,
            idle: self.body_idle(),
            client,
            upload,
            ahead,
            passed: 0,
        };
        let relayed = bodies.relay(connection, head, begun, u64::MAX).await;
        self.progress.has_sent(bodies.passed);
        relayed
    }
}

impl EndpointResponse {
    /// Counts what came of it, and keeps its connection where another request may follow.
    pub(crate) fn settle(self, relayed: Result<Keep, Side>) -> Result<(), Side> {
        let keep = match relayed {
            // It is settled already.
            Ok(Keep::Released) => return Ok(()),
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
            splices: self.ahead.is_none(),
        };
        let mut download = Pump::new(begun, relay, endpoint.wire);
        let relayed = self.pass_on(&mut endpoint, &mut download).await;
        self.passed = download.body_passed();
        if let (Ok(Passed::Here { alone }), Some(ahead)) = (&relayed, self.ahead.take()) {
            let _reserved = ahead.release(&mut connection.link, keeps && *alone);
            // Rare, and so not worth memory in every request.
            let rest = self.pass_rest_on(&mut connection.read_buffer, &mut download);
            return Box::pin(rest).await;
        }
        download.finish(endpoint.read_buffer, pool);
        relayed?;
        let whole = self.upload.is_done() && connection.read_buffer.is_empty();
        connection.read_buffer.park(pool);
        Ok(if keeps && whole { Keep::Yes } else { Keep::No })
    }

    /// Passes on what is left of a response, all of which is here.
    async fn pass_rest_on(
        &mut self,
        read_buffer: &mut ReadBuffer,
        download: &mut Pump,
    ) -> Result<Keep, Side> {
        let pool = self.client.pool;
        let mut endpoint = Source {
            wire: Wire::Nowhere,
            read_buffer,
            pool,
            takes_interim: false,
            expectation: Expectation::Nothing,
        };
        let relayed = self.pass_on(&mut endpoint, download).await;
        self.passed = download.body_passed();
        download.finish(endpoint.read_buffer, pool);
        endpoint.read_buffer.clear(pool);
        // The endpoint has done its part.
        relayed.map(|_| Keep::Released).map_err(|_| Side::Client)
    }

    /// Moves both bodies at the same time, until the response's is through, or the rest of it is here.
    async fn pass_on(
        &mut self,
        endpoint: &mut Source<'_>,
        download: &mut Pump,
    ) -> Result<Passed, Side> {
        let Self {
            timer,
            idle,
            client,
            upload,
            ahead,
            passed: _,
        } = self;
        let (to_client, to_endpoint) = (client.wire, endpoint.wire);
        let mut sending = !upload.is_done();
        let mut client_failed = false;
        let (mut passed, mut since) = (0, timer.now());
        let step = PRESSED.min(*idle);
        timer.set(step);
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
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(Passed::On)),
                // The client has gone, or wants no more.
                Poll::Ready(Err(Stopped::To | Stopped::TooLong)) => {
                    return Poll::Ready(Err(Side::Client));
                }
                // The rest of the request will never come: what response it could have, it had.
                _ if client_failed => return Poll::Ready(Err(Side::Client)),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Side::Endpoint)),
                Poll::Pending => {}
            }
            if let Some(ahead) = ahead.as_deref_mut()
                && !download.is_starved()
            {
                match ahead.poll(cx, endpoint, download, to_client) {
                    Ok(Some(alone)) if !sending => return Poll::Ready(Ok(Passed::Here { alone })),
                    Ok(_) => {}
                    Err(Broken) => return Poll::Ready(Err(Side::Endpoint)),
                }
            }
            // A client that takes a byte now and then takes nothing.
            let passed_now = upload.passed() + download.passed();
            if moved && (download.is_starved() || passed_now - passed >= MIN_PASSED) {
                (passed, since) = (passed_now, timer.now());
                timer.set(step);
            }
            let waits_for_client = !download.is_starved() || sending && upload.is_starved();
            if !waits_for_client && to_client.has_left(cx) {
                return Poll::Ready(Err(Side::Client));
            }
            while let WaitError::TimedOut = ready!(timer.poll(cx)) {
                let left = idle.saturating_sub(Duration::from_millis(timer.now() - since));
                if left.is_zero() || waits_for_client && to_client.is_pressed() {
                    break;
                }
                timer.set(left.min(step));
            }
            Poll::Ready(Err(if waits_for_client {
                Side::Client
            } else {
                Side::Endpoint
            }))
        })
        .await
    }
}
