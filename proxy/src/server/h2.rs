//! A client's connection: takes its streams up as they come, each in a task of its own, and sees
//! to it that one client does not take more than its share.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection};

use super::h2_client::H2Client;
use super::h2_stream;
use crate::wire::h2::connection::H2Socket;
use crate::wire::peer::Peer;
use crate::wire::timer::Timer;
use crate::worker::Worker;

/// Streams of one connection that are open at the same time.
const MAX_STREAMS: u32 = 100;
/// What may be sent on one stream before it has to be written on; what streams there are share
/// the connection's.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Of one stream, what its client has room for and was not written yet.
const SEND_BUFFER: usize = 32 * 1024;
/// How long a client that was told to go may take, once nothing of its is under way.
const LINGER: Duration = Duration::from_secs(1);

/// Serves a client's connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, transport: H2Socket, peer: Peer) {
    let timer = worker.timers.timer();
    let within = worker.table().timeouts.header;
    let mut handshake = std::pin::pin!(builder(&worker).handshake(transport));
    let shaken = timer.wait(within, |cx| handshake.as_mut().poll(cx)).await;
    // A client that does not begin with the preface gets no response.
    let Ok(Ok(connection)) = shaken else { return };
    // A first request that is there already may take longer than a handshake.
    timer.clear();
    let client = H2Client::new(peer);
    let mut session = Session {
        worker,
        connection,
        client,
        timer,
        taken_up: 0,
        was_idle: false,
        leaving: false,
    };
    poll_fn(|cx| session.poll(cx)).await;
}

fn builder(worker: &Worker) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(worker.limits.header_bytes as u32);
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
    was_idle: bool,
    /// The client was told that no new streams are taken up (RFC 9113, 6.8).
    leaving: bool,
}

impl Session {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // Ended: by the client, by both, or by an error that was told to the client.
            if self.poll_streams(cx).is_ready() {
                return Poll::Ready(());
            }
            let is_idle = self.client.is_idle();
            if is_idle != self.was_idle {
                self.was_idle = is_idle;
                self.set_timer();
            }
            let enough = self.taken_up >= self.worker.limits.requests_per_connection;
            if self.timer.poll(cx).is_pending() {
                if self.leaving || !(enough || self.worker.is_leaving()) {
                    return Poll::Pending;
                }
            } else if self.leaving {
                return Poll::Ready(());
            }
            self.leaving = true;
            self.connection.graceful_shutdown();
            self.set_timer();
        }
    }

    /// Takes up what streams there are, and moves the bytes of all of them.
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.client.has_no_reset_budget() {
                self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.taken_up += 1;
                    let (worker, open) = (self.worker.clone(), self.client.open());
                    self.worker
                        .spawn(h2_stream::serve(worker, open, request, respond));
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn set_timer(&self) {
        match (self.was_idle, self.leaving) {
            (false, _) => self.timer.clear(),
            (true, true) => self.timer.set(LINGER),
            // A connection is made for a request.
            (true, false) if self.taken_up == 0 => {
                self.timer.set(self.worker.table().timeouts.header);
            }
            (true, false) => self.timer.set(self.worker.table().timeouts.keep_alive),
        }
    }
}
