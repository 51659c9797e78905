//! The life of a request from the head of its response to the response's last byte.
//!
//! The wire on which the client is has written the response's head (`server/h1.rs`,
//! `server/h2_stream.rs`); the rest of the request may still be on its way.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::forward::read_ahead::{Broken, ReadAhead};
use crate::forward::{EndpointResponse, Exchange};
use crate::table::counts::stats::Failure;
use crate::wire::Wire;
use crate::wire::buffered::Reserved;
use crate::wire::connection::Connection;
use crate::wire::discard::Discard;
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
    ahead: Option<Box<ReadAhead<'b>>>,
    rest: RestOfRequest,
    /// The endpoint has said that it does not want the request.
    is_refused: bool,
    /// Bytes of the response's body that went to the client.
    pub(super) passed: u64,
}

/// What becomes of what is left of a request.
enum RestOfRequest {
    /// It is sent on.
    Sent,
    /// The endpoint takes no more of it: it is read and forgotten, so that its client comes to read
    /// the response. There may be an end of that, too.
    Forgotten { discard: Discard, is_over: bool },
    /// It will never come.
    Lost,
    /// There is none.
    Over,
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
            ahead,
            is_refused: head.status >= 300,
            ..Bodies::new(timer, self.body_idle(), client, upload)
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

impl<'b, 's> Bodies<'b, 's> {
    /// A request of which so much was sent, and a response of which nothing is read ahead.
    pub(super) fn new(
        timer: &'b Timer,
        idle: Duration,
        client: &'b mut Source<'s>,
        upload: &'b mut Pump,
    ) -> Self {
        Self {
            timer,
            idle,
            client,
            upload,
            ahead: None,
            rest: RestOfRequest::Sent,
            is_refused: false,
            passed: 0,
        }
    }

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
            let keeps = keeps && *alone && self.upload.is_done();
            let _reserved = ahead.release(&mut connection.link, keeps);
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
        let (to_client, to_endpoint) = (self.client.wire, endpoint.wire);
        if self.upload.is_done() {
            self.rest = RestOfRequest::Over;
        }
        let (mut passed, mut since) = (0, self.timer.now());
        let step = PRESSED.min(self.idle);
        self.timer.set(step);
        poll_fn(|cx| {
            if self.timer.is_cut() {
                return Poll::Ready(Err(Side::Client));
            }
            let mut moved = false;
            self.poll_rest(cx, to_endpoint, &mut moved);
            match download.poll(cx, endpoint, to_client, &mut moved) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(Passed::On)),
                // The client has gone, or wants no more.
                Poll::Ready(Err(Stopped::To | Stopped::TooLong)) => {
                    return Poll::Ready(Err(Side::Client));
                }
                // What response the client could have, it had.
                _ if matches!(self.rest, RestOfRequest::Lost) => {
                    return Poll::Ready(Err(Side::Client));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Side::Endpoint)),
                Poll::Pending => {}
            }
            if !download.is_starved() && self.is_stuck() {
                self.forget_rest(cx, &mut moved);
            }
            if let Some(ahead) = self.ahead.as_deref_mut()
                && !download.is_starved()
            {
                match ahead.poll(cx, endpoint, download, to_client) {
                    Ok(Some(alone)) if !matches!(self.rest, RestOfRequest::Sent) => {
                        return Poll::Ready(Ok(Passed::Here { alone }));
                    }
                    Ok(_) => {}
                    Err(Broken) => return Poll::Ready(Err(Side::Endpoint)),
                }
            }
            // A client that takes a byte now and then takes nothing.
            let passed_now = self.passed_of_request() + download.passed();
            if moved && (download.is_starved() || passed_now - passed >= MIN_PASSED) {
                (passed, since) = (passed_now, self.timer.now());
                self.timer.set(step);
            }
            let waits_for_client = !download.is_starved() || self.waits_for_request();
            if !waits_for_client && to_client.has_left(cx) {
                return Poll::Ready(Err(Side::Client));
            }
            let timer = self.timer;
            while let WaitError::TimedOut = ready!(timer.poll(cx)) {
                let left = self
                    .idle
                    .saturating_sub(Duration::from_millis(timer.now() - since));
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

    /// Moves what is left of the request.
    fn poll_rest(&mut self, cx: &mut Context<'_>, to_endpoint: Wire<'_>, moved: &mut bool) {
        match &mut self.rest {
            RestOfRequest::Sent => match self.upload.poll(cx, self.client, to_endpoint, moved) {
                Poll::Ready(Ok(())) => self.rest = RestOfRequest::Over,
                Poll::Ready(Err(Stopped::To)) => self.forget_rest(cx, moved),
                Poll::Ready(Err(_)) => self.rest = RestOfRequest::Lost,
                Poll::Pending => {}
            },
            RestOfRequest::Forgotten {
                discard,
                is_over: is_over @ false,
            } => {
                let polled = discard.poll(cx, self.client, self.timer, moved);
                *is_over = polled.is_ready();
            }
            RestOfRequest::Forgotten { .. } | RestOfRequest::Lost | RestOfRequest::Over => {}
        }
    }

    /// Sends the endpoint no more of the request.
    fn forget_rest(&mut self, cx: &mut Context<'_>, moved: &mut bool) {
        self.rest = RestOfRequest::Forgotten {
            discard: Discard::begin(self.timer, u64::MAX),
            is_over: false,
        };
        self.poll_rest(cx, Wire::Nowhere, moved);
    }

    /// Whether the endpoint, which has refused the request, takes no more of it: where the client does
    /// not take the response either, each of the three waits for another.
    fn is_stuck(&self) -> bool {
        let is_sent = matches!(self.rest, RestOfRequest::Sent);
        is_sent && self.is_refused && !self.upload.is_starved()
    }

    fn waits_for_request(&self) -> bool {
        matches!(self.rest, RestOfRequest::Sent) && self.upload.is_starved()
    }

    /// How many bytes of the request were taken from its client.
    fn passed_of_request(&self) -> u64 {
        let forgotten = match &self.rest {
            RestOfRequest::Forgotten { discard, .. } => discard.bytes(),
            RestOfRequest::Sent | RestOfRequest::Lost | RestOfRequest::Over => 0,
        };
        self.upload.passed() + forgotten
    }
}
