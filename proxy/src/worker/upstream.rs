//! A worker's own side of an endpoint: its idle connections, and its attempts that are under way.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use admin_api::{Protocol, RetrySpec};
use http::uri::Scheme;
use slab::Slab;

use crate::table::counts::age::Ages;
use crate::table::counts::claim::Kind;
use crate::table::counts::stats::{ChosenBy, Failure};
use crate::table::endpoint::Endpoint;
use crate::wire::Wire;
use crate::wire::connection::{Connection, Link};
use crate::wire::h2::client::Sessions;
use crate::wire::h2::connection::H2Socket;
use crate::wire::h2::resets::Sharer;
use crate::wire::h2::stream::Stream;
use crate::wire::resources::OpenFiles;
use crate::wire::socket::{Bytestream, Socket};
use crate::wire::timer::{Millis, Timer, Timers};
use crate::worker::connect;

/// Attempts of one request, the first among them.
pub(crate) const MAX_ATTEMPTS: usize = RetrySpec::MAX_ATTEMPTS as usize;
/// Idle connections that a worker keeps to one endpoint: as many as a busy moment had in use, so
/// that the next one makes none. What is not used again soon is closed.
const MAX_IDLE: usize = 1024;
/// How long an idle connection is kept, in milliseconds.
const IDLE_FOR: Millis = 30_000;
/// How long a connection may have been idle and still carry a request that could not be sent
/// twice, in milliseconds.
const FRESH_FOR: Millis = 1_000;

/// The key of an attempt whose claim was given back.
const RELEASED: usize = usize::MAX;

/// One worker's side of one endpoint.
pub(crate) struct Upstream {
    pub(crate) endpoint: Arc<Endpoint>,
    /// Where it is, as the access log says it.
    text: OnceCell<String>,
    worker: usize,
    timers: Rc<Timers>,
    files: OpenFiles,
    /// Last in, first out: those at the bottom grow old and are closed.
    idle: RefCell<Vec<Idle>>,
    /// Where it speaks HTTP/2.
    sessions: Sessions,
    attempts: RefCell<Slab<CancelHandle>>,
}

/// A connection that waits for its next request.
struct Idle {
    socket: Socket,
    since: Millis,
}

/// One sending of a request to an endpoint: holds the claim from the pick to the last byte of
/// the response, or to the end of the upgraded connection. How it ended is counted once.
pub(crate) struct Attempt {
    upstream: Rc<Upstream>,
    started: Instant,
    key: usize,
    chosen_by: ChosenBy,
    settled: bool,
}

/// Cancels an attempt when its endpoint's drain has timed out.
struct CancelHandle {
    /// Of the task that waits for it.
    timer: usize,
    began: Instant,
    cut: bool,
    kind: Kind,
}

impl Upstream {
    pub(crate) fn new(endpoint: Arc<Endpoint>, worker: usize, timers: Rc<Timers>) -> Self {
        Self {
            endpoint,
            text: OnceCell::new(),
            worker,
            timers,
            files: OpenFiles::now(),
            idle: RefCell::default(),
            sessions: Sessions::default(),
            attempts: RefCell::default(),
        }
    }

    /// The endpoint's address.
    pub(crate) fn text(&self) -> &str {
        self.text.get_or_init(|| self.endpoint.target.to_string())
    }

    /// Begins an attempt, whose claim the caller has just taken, in the task with this timer.
    pub(crate) fn begin(self: Rc<Self>, timer: &Timer) -> Attempt {
        let started = Instant::now();
        let key = self.attempts.borrow_mut().insert(CancelHandle {
            timer: timer.key(),
            began: started,
            cut: false,
            kind: Kind::Request,
        });
        Attempt {
            upstream: self,
            started,
            key,
            chosen_by: ChosenBy::Split,
            settled: false,
        }
    }

    /// A connection for one request of this client that is there already: an idle one; where the
    /// endpoint speaks HTTP/2, a stream of one.
    pub(crate) fn connection_at_hand(
        &self,
        repeatable: bool,
        client: Wire<'_>,
    ) -> Option<Connection> {
        let link = if self.endpoint.transport.protocol == Protocol::H2 {
            let apart = client.client_apart(self.timers.now());
            Link::H2(Box::new(self.sessions.free_stream(apart)?))
        } else {
            Link::H1(self.idle_socket(repeatable)?)
        };
        Some(Connection::new(link, true))
    }

    /// A new connection, made within so much time for each step; where the endpoint speaks HTTP/2, a
    /// stream, of a connection that another request may have made meanwhile; `apart` is the client, if
    /// that is not to be shared.
    pub(crate) async fn connect(
        &self,
        timer: &Timer,
        within: Duration,
        apart: Option<Rc<Sharer>>,
    ) -> io::Result<Connection> {
        if self.endpoint.transport.protocol == Protocol::H2 {
            let (stream, reused) = self.stream(timer, within, apart).await?;
            return Ok(Connection::new(Link::H2(Box::new(stream)), reused));
        }
        let stream = connect::open(&self.endpoint, timer, within, self.files).await?;
        Ok(Connection::new(Link::H1(Socket::new(stream)), false))
    }

    async fn stream(
        &self,
        timer: &Timer,
        within: Duration,
        apart: Option<Rc<Sharer>>,
    ) -> io::Result<(Stream, bool)> {
        let connect = || async move {
            let stream = connect::open(&self.endpoint, timer, within, self.files).await?;
            let scheme = match stream {
                Bytestream::Plain(_) => Scheme::HTTP,
                Bytestream::Tls(_) | Bytestream::ToEndpoint(_) => Scheme::HTTPS,
            };
            Ok((H2Socket::to_endpoint(stream), scheme))
        };
        self.sessions.stream(timer, within, apart, connect).await
    }

    /// An idle connection that can carry a request. One that could not be sent twice gets only
    /// a connection that was used a moment ago and that shows nothing to read: an endpoint that
    /// is about to close a connection would reset it.
    fn idle_socket(&self, repeatable: bool) -> Option<Socket> {
        let mut idle = self.idle.borrow_mut();
        while let Some(connection) = idle.pop() {
            if !connection.socket.seems_quiet() {
                continue;
            }
            let rested = self.timers.now() - connection.since >= FRESH_FOR;
            if !repeatable && (rested || !connection.socket.is_quiet()) {
                idle.push(connection);
                return None;
            }
            // A request that breaks on it is a failure of the version: that is worth a look.
            if rested && !connection.socket.is_quiet() {
                continue;
            }
            return Some(connection.socket);
        }
        None
    }

    /// Keeps a connection whose response was read whole, with nothing behind it. Of a stream, there
    /// is nothing to keep.
    pub(crate) fn keep(&self, link: Link) {
        let Link::H1(socket) = link else { return };
        let mut idle = self.idle.borrow_mut();
        if !self.endpoint.claims.is_retired() && idle.len() < MAX_IDLE {
            let since = self.timers.now();
            idle.push(Idle { socket, since });
        }
    }

    /// Closes connections that were idle for long, or that the endpoint has closed. Gives
    /// whether nothing is left of this side: no connection, no attempt.
    pub(crate) fn tidy(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        let now = self.timers.now();
        idle.retain(|connection| {
            let stays = now - connection.since < IDLE_FOR && connection.socket.seems_quiet();
            if !stays {
                connection.socket.send_close_notify();
            }
            stays
        });
        let no_sessions = self.sessions.tidy(now, IDLE_FOR);
        idle.is_empty() && no_sessions && self.attempts.borrow().is_empty()
    }

    /// Closes every idle connection.
    pub(crate) fn close_idle(&self) {
        for connection in self.idle.borrow_mut().drain(..) {
            connection.socket.send_close_notify();
        }
        self.sessions.close();
    }

    /// How old the oldest is of what is under way.
    pub(crate) fn ages(&self) -> Ages {
        let (now, mut ages) = (Instant::now(), Ages::default());
        for (_, handle) in self.attempts.borrow().iter() {
            ages.note(handle.kind, now.duration_since(handle.began));
        }
        ages
    }

    /// Wakes every task that has an attempt here.
    pub(crate) fn wake(&self) {
        for (_, handle) in self.attempts.borrow().iter() {
            self.timers.wake(handle.timer);
        }
    }

    /// Cuts what is under way of one kind.
    pub(crate) fn cut(&self, kind: Kind) {
        for (_, handle) in self.attempts.borrow_mut().iter_mut() {
            if handle.kind == kind && !handle.cut {
                handle.cut = true;
                self.timers.cut(handle.timer);
            }
        }
    }
}

impl Attempt {
    pub(crate) fn upstream(&self) -> &Rc<Upstream> {
        &self.upstream
    }

    /// It is waited for in the task with this timer from now on.
    pub(crate) fn waits_with(&self, timer: &Timer) {
        self.upstream.attempts.borrow_mut()[self.key].timer = timer.key();
    }

    /// The same, of a request whose version was chosen like this.
    pub(crate) fn chosen_by(self, chosen_by: ChosenBy) -> Self {
        // In place: a part cannot be moved out of what has a `drop`.
        let mut attempt = self;
        attempt.chosen_by = chosen_by;
        attempt
    }

    /// Its request was counted by an attempt before.
    pub(crate) fn repeats(self) -> Self {
        let chosen_by = self.chosen_by.repeated();
        self.chosen_by(chosen_by)
    }

    /// The head of the response is there.
    pub(crate) fn response_began(&self) {
        if self.chosen_by != ChosenBy::Client {
            let stats = &self.upstream.endpoint.stats;
            stats.response_began_after(self.upstream.worker, self.started.elapsed());
        }
    }

    /// The response was passed on whole.
    pub(crate) fn responded(mut self, status: u16) {
        self.settled = true;
        let Upstream {
            endpoint, worker, ..
        } = &*self.upstream;
        endpoint.responded(*worker, self.chosen_by, status);
    }

    /// The response is here whole, though not at its client: the endpoint has nothing more to do with it.
    /// Nothing more is counted.
    pub(crate) fn responded_early(&mut self, status: u16) {
        self.settled = true;
        let Upstream {
            endpoint, worker, ..
        } = &*self.upstream;
        endpoint.responded(*worker, self.chosen_by, status);
        self.release();
    }

    /// Gives the claim back, if that was not done.
    fn release(&mut self) {
        let Upstream {
            endpoint,
            worker,
            timers,
            attempts,
            ..
        } = &*self.upstream;
        let key = std::mem::replace(&mut self.key, RELEASED);
        let Some(handle) = attempts.borrow_mut().try_remove(key) else {
            return;
        };
        if handle.cut {
            timers.clear_cut(handle.timer);
            // Before the claim is released: a receipt that says `drained` has it.
            endpoint.count_cut(handle.kind);
        }
        match (self.settled, handle.cut) {
            (true, _) => {}
            (false, true) => endpoint.excused(*worker),
            (false, false) => endpoint.client_gone(*worker, self.chosen_by),
        }
        match handle.kind {
            Kind::Request => endpoint.claims.release(*worker),
            Kind::Stream => endpoint.claims.release_stream(*worker),
            Kind::Upgraded => endpoint.claims.release_upgraded(*worker),
        }
    }

    /// It failed, and its version is to blame.
    pub(crate) fn failed(mut self, failure: Failure) {
        self.settled = true;
        let Upstream {
            endpoint, worker, ..
        } = &*self.upstream;
        endpoint.failed(*worker, self.chosen_by, failure);
    }

    /// It failed, and the version is to blame, but its endpoint is no worse than others.
    pub(crate) fn unserved(mut self, failure: Failure) {
        self.settled = true;
        let Upstream {
            endpoint, worker, ..
        } = &*self.upstream;
        endpoint.unserved(*worker, self.chosen_by, failure);
    }

    /// It ended, and neither side is at fault: a kept connection had been closed, or a drain cut
    /// it.
    pub(crate) fn excused(mut self) {
        self.settled = true;
        self.upstream.endpoint.excused(self.upstream.worker);
    }

    /// A drain cut it, and another endpoint has its request: its client sees nothing of it.
    pub(crate) fn spared(self) {
        {
            let handle = &mut self.upstream.attempts.borrow_mut()[self.key];
            handle.cut = false;
            self.upstream.timers.clear_cut(handle.timer);
        }
        self.excused();
    }

    /// Its response goes on without a length.
    pub(crate) fn stream(&mut self) {
        let Upstream {
            endpoint, worker, ..
        } = &*self.upstream;
        endpoint.claims.stream(*worker);
        self.upstream.attempts.borrow_mut()[self.key].kind = Kind::Stream;
    }

    /// It goes on as an upgraded connection.
    pub(crate) fn upgrade(&mut self) {
        self.settled = true;
        let Upstream {
            endpoint, worker, ..
        } = &*self.upstream;
        endpoint.responded(*worker, self.chosen_by, 101);
        endpoint.claims.upgrade(*worker);
        self.upstream.attempts.borrow_mut()[self.key].kind = Kind::Upgraded;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests;
