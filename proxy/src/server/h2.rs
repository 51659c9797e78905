//! A client's connection: takes its streams up as they come, each in a task of its own, and sees
//! to it that one client does not take more than its share.
//!
//! A client may give requests up, as browsers do. One that gives up many before their responses have
//! begun is slowed down: its next requests wait. If it goes on, it is told to go, and what it has under
//! way finishes. If it goes on even then, its connection is closed.
//!
//! Where much waits in memory for clients that do not take it, each connection has few requests served
//! at once. Its other requests wait, and are refused where many do; a client may send those again
//! (RFC 9113, 8.7). Connections that begin then may have no more streams than that, and are told to go
//! when it is over. A client that begins with hardly any window for responses may have few streams
//! in any case: all of their responses would wait.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;

use super::h2_client::{Allowance, Ended, H2Client, Open};
use super::h2_stream;
use crate::wire::h2::backlog::{Backlog, FEW, Queued};
use crate::wire::h2::connection::H2Socket;
use crate::wire::peer::Peer;
use crate::wire::timer::{Millis, Timer};
use crate::worker::Worker;

/// Streams of one connection that are open at the same time.
const MAX_STREAMS: u32 = 100;
/// The same of one that begins while much waits for clients.
const FEW_STREAMS: u32 = FEW as u32;
/// The same of one whose responses have hardly any window to begin with: less than this.
const NARROW_STREAMS: u32 = 2;
const NARROW: u32 = 16 * 1024;
/// What may be sent on one stream before it has to be written on; what streams there are share
/// the connection's.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Of one stream, what its client has room for and was not written yet.
const SEND_BUFFER: usize = 32 * 1024;
/// How long a client that was told to go may take, once nothing of its is under way.
const LINGER: Duration = Duration::from_secs(1);
/// Requests that may come in one read together with their resets: a browser gives up all of a page.
const RESET_AT_ONCE: usize = 256;
/// Streams that are reset here whose late frames are expected for a while.
const RESET_HERE: usize = 2 * MAX_STREAMS as usize;
/// From when on requests do not wait behind responses of which nothing is taken, where many wait.
const STALLED: Millis = 1_000;
/// How often it is looked whether requests that wait may begin.
const LOOK: Duration = Duration::from_millis(20);

/// Serves a client's connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, mut transport: H2Socket, peer: Peer) {
    let timer = worker.timers.timer();
    let within = worker.table().timeouts.header;
    let first_window = timer.wait(within, |cx| transport.poll_first_window(cx));
    // A client that does not begin with the preface gets no response.
    let Ok(Ok(window)) = first_window.await else {
        return;
    };
    let backlog = Backlog::new(worker.backlog.clone());
    let has_few = backlog.is_pressed();
    let streams = match (window < NARROW, has_few) {
        (true, _) => NARROW_STREAMS,
        (false, true) => FEW_STREAMS,
        (false, false) => MAX_STREAMS,
    };
    let builder = builder(&worker, streams);
    let mut handshake = std::pin::pin!(builder.handshake(transport));
    let shaken = timer.wait(within, |cx| handshake.as_mut().poll(cx)).await;
    let Ok(Ok(connection)) = shaken else { return };
    // A first request that is there already may take longer than a handshake.
    timer.clear();
    let client = H2Client::new(peer, backlog);
    let mut session = Session {
        worker,
        connection,
        client,
        timer,
        taken_up: 0,
        waiting: VecDeque::new(),
        moved: (0, None),
        has_few,
        was: State::Busy,
        leaving: false,
    };
    poll_fn(|cx| session.poll(cx)).await;
}

fn builder(worker: &Worker, streams: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_AT_ONCE)
        .max_concurrent_reset_streams(RESET_HERE)
        .max_header_list_size(worker.limits.header_bytes as u32)
        .enable_connect_protocol();
    builder
}

/// A connection that is served.
struct Session {
    worker: Rc<Worker>,
    connection: Connection<H2Socket, Bytes>,
    client: Rc<H2Client>,
    /// Rings when nothing was under way for long.
    timer: Timer,
    taken_up: u64,
    /// Requests of a client that is slowed down.
    waiting: VecDeque<Waiting>,
    /// When a response was last seen to go on that had waited, and how often one had till then.
    moved: (Millis, Option<u64>),
    /// It may have few streams.
    has_few: bool,
    was: State,
    /// The client was told that no new streams are taken up (RFC 9113, 6.8).
    leaving: bool,
}

/// A request that has to wait.
struct Waiting {
    _queued: Queued,
    open: Open,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
}

/// What is to be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No stream is open.
    Idle,
    /// Requests wait.
    Slowed,
    Busy,
}

impl Session {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // Ended: by the client, by both, or by an error that was told to the client.
            if self.poll_streams(cx).is_ready() {
                return Poll::Ready(());
            }
            let state = self.state();
            if state != self.was {
                self.was = state;
                self.set_timer();
            }
            let must_leave = self.must_leave();
            if self.timer.poll(cx).is_pending() {
                if self.leaving || !must_leave {
                    return Poll::Pending;
                }
            } else if state == State::Slowed {
                self.set_timer();
                continue;
            } else if self.leaving {
                return Poll::Ready(());
            }
            self.leaving = true;
            self.connection.graceful_shutdown();
            self.set_timer();
        }
    }

    fn state(&self) -> State {
        match self.client.streams() {
            0 => State::Idle,
            _ if !self.waiting.is_empty() => State::Slowed,
            _ => State::Busy,
        }
    }

    fn must_leave(&self) -> bool {
        self.taken_up >= self.worker.limits.requests_per_connection
            || self.worker.is_leaving()
            || self.has_few && !self.client.backlog().is_pressed()
            || self.allowance() == Allowance::Leaving
    }

    fn allowance(&self) -> Allowance {
        let served = self.client.streams() - self.waiting.len();
        self.client.allowance(self.timer.now(), served)
    }

    /// Takes up what streams there are, and moves the bytes of all of them.
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let allowance = self.allowance();
            if allowance == Allowance::Ended {
                self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.taken_up += 1;
                    if allowance == Allowance::Full && self.waiting.is_empty() {
                        self.serve(self.client.open(), request, respond);
                    } else if let Some(queued) = self.client.backlog().queue() {
                        self.waiting.push_back(Waiting {
                            _queued: queued,
                            open: self.client.open(),
                            request,
                            respond,
                        });
                    } else {
                        self.refuse(respond);
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending if self.waiting.is_empty() => return Poll::Pending,
                Poll::Pending if self.forget_given_up(cx) => {}
                Poll::Pending if self.refuse_waiting() => {}
                Poll::Pending => {
                    self.serve_waiting();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Forgets requests that were given up while they waited. Gives whether there were any.
    fn forget_given_up(&mut self, cx: &mut Context<'_>) -> bool {
        let (before, now) = (self.waiting.len(), self.timer.now());
        self.waiting.retain_mut(|waiting| {
            let is_given_up = waiting.respond.poll_reset(cx).is_ready();
            if is_given_up {
                waiting.open.ended(Ended::GivenUp, now);
            }
            !is_given_up
        });
        self.waiting.len() < before
    }

    /// Refuses requests that wait behind responses of which nothing is taken, where many requests
    /// wait. Gives whether there were any.
    fn refuse_waiting(&mut self) -> bool {
        let (now, backlog) = (self.timer.now(), self.client.backlog());
        let moves = backlog.moves();
        if moves.is_none() || moves != self.moved.1 {
            self.moved = (now, moves);
        }
        if !backlog.has_many_requests() || now - self.moved.0 < STALLED {
            return false;
        }
        for waiting in std::mem::take(&mut self.waiting) {
            self.refuse(waiting.respond);
        }
        true
    }

    /// Nothing of the request was processed: its client may send it again.
    fn refuse(&self, mut respond: SendResponse<Bytes>) {
        self.worker.counters.refuses_stream();
        respond.send_reset(Reason::REFUSED_STREAM);
    }

    /// Serves requests that have waited, if they may begin.
    fn serve_waiting(&mut self) {
        while self.allowance() == Allowance::Full
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.serve(waiting.open, waiting.request, waiting.respond);
        }
    }

    fn serve(&self, open: Open, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let worker = self.worker.clone();
        self.worker
            .spawn(h2_stream::serve(worker, open, request, respond));
    }

    fn set_timer(&self) {
        match (self.was, self.leaving) {
            (State::Busy, _) => self.timer.clear(),
            (State::Slowed, _) => self.timer.set(LOOK),
            (State::Idle, true) => self.timer.set(LINGER),
            // A connection is made for a request.
            (State::Idle, false) if self.taken_up == 0 => {
                self.timer.set(self.worker.table().timeouts.header);
            }
            (State::Idle, false) => self.timer.set(self.worker.table().timeouts.keep_alive),
        }
    }
}
