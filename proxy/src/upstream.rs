//! A worker's own side of an endpoint: its idle connections, and its tries that are under way.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use rustix::net::RecvFlags;
use slab::Slab;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::body::Body;
use crate::endpoint::Endpoint;
use crate::stats::Failure;

/// Idle connections that a worker keeps to one endpoint.
const MAX_IDLE: usize = 256;
/// How long an idle connection is kept.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// How long a connection may have been idle and still carry a request that must not be sent
/// twice.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// One worker's side of one endpoint.
pub(crate) struct Upstream {
    pub(crate) endpoint: Arc<Endpoint>,
    worker: usize,
    /// Last in, first out: those at the bottom grow old and are closed.
    idle: RefCell<Vec<Connection>>,
    tries: RefCell<Slab<Rc<Lifeline>>>,
}

/// A connection to an endpoint.
///
/// Dropping it closes it, in the middle of whatever it carries.
pub(crate) struct Connection {
    sender: http1::SendRequest<Body>,
    driver: AbortHandle,
    /// The same socket, to see whether anything came on it that hyper has not read yet.
    socket: OwnedFd,
    idle_since: Instant,
    pub(crate) reused: bool,
}

/// One sending of a request to an endpoint: holds the claim from the pick to the last byte of
/// the answer, or to the end of the upgraded connection. How it ended is counted once.
pub(crate) struct Try {
    upstream: Rc<Upstream>,
    started: Instant,
    lifeline: Rc<Lifeline>,
    key: usize,
    settled: bool,
}

/// By which a try is told that its endpoint's drain has no more time for it.
#[derive(Default)]
struct Lifeline {
    cut: Cell<bool>,
    upgraded: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// The client's connection, once the head of the answer was passed on: from there on
    /// nothing less than its end cuts the answer.
    client: RefCell<Option<Rc<Notify>>>,
}

impl Upstream {
    pub(crate) fn new(endpoint: Arc<Endpoint>, worker: usize) -> Self {
        Self {
            endpoint,
            worker,
            idle: RefCell::default(),
            tries: RefCell::default(),
        }
    }

    /// Begins a try, whose claim the caller has just taken.
    pub(crate) fn begin(self: Rc<Self>) -> Try {
        let lifeline = Rc::new(Lifeline::default());
        let key = self.tries.borrow_mut().insert(lifeline.clone());
        Try {
            upstream: self,
            started: Instant::now(),
            lifeline,
            key,
            settled: false,
        }
    }

    /// An idle connection that can carry a request. One that must not be sent twice gets only
    /// a connection that was used a moment ago and that shows nothing to read: an endpoint that
    /// is about to close a connection would have it answered by a reset.
    pub(crate) fn idle_connection(&self, idempotent: bool) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|connection| !connection.sender.is_closed());
        // One that was put back a moment ago may need another turn of its driver.
        let at = idle
            .iter()
            .rposition(|connection| connection.sender.is_ready())?;
        let usable =
            idempotent || (idle[at].idle_since.elapsed() < FRESH_FOR && idle[at].is_quiet());
        usable.then(|| {
            let mut connection = idle.remove(at);
            connection.reused = true;
            connection
        })
    }

    /// A new connection.
    pub(crate) async fn connect(&self, within: Duration) -> io::Result<Connection> {
        let connecting = TcpStream::connect(self.endpoint.target);
        let stream = tokio::time::timeout(within, connecting)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&crate::keep_alive())?;
        let socket = rustix::io::dup(&stream)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // What goes wrong on it reaches whoever waits for an answer.
        let driver = tokio::task::spawn_local(driver.with_upgrades()).abort_handle();
        Ok(Connection {
            sender,
            driver,
            socket,
            idle_since: Instant::now(),
            reused: false,
        })
    }

    /// Keeps a connection whose answer was read whole.
    pub(crate) fn keep(&self, mut connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        let closing = self.endpoint.claims.is_retired() || connection.sender.is_closed();
        if !closing && idle.len() < MAX_IDLE {
            connection.idle_since = Instant::now();
            idle.push(connection);
        }
    }

    /// Closes connections that were idle for long, or that the endpoint has closed. Gives
    /// whether nothing is left of this side: no connection, no try.
    pub(crate) fn tidy(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|connection| {
            !connection.sender.is_closed() && connection.idle_since.elapsed() < IDLE_FOR
        });
        idle.is_empty() && self.tries.borrow().is_empty()
    }

    /// Closes every idle connection.
    pub(crate) fn close_idle(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Cuts what is under way: requests, or upgraded connections.
    pub(crate) fn cut(&self, upgraded: bool) {
        for (_, lifeline) in self.tries.borrow().iter() {
            if lifeline.upgraded.get() == upgraded && !lifeline.cut.replace(true) {
                self.endpoint.count_cut(upgraded);
                if let Some(client) = lifeline.client.take() {
                    client.notify_one();
                }
                if let Some(waker) = lifeline.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

impl Connection {
    /// Sends a request, and waits for the head of its answer. A request of which nothing was
    /// sent comes back with the error.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        self.sender.try_send_request(request).await
    }

    /// Whether there is nothing to read on it, neither bytes nor its end.
    fn is_quiet(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(&self.socket, &mut byte, flags);
        matches!(peeked, Err(rustix::io::Errno::AGAIN))
    }
}

impl Try {
    pub(crate) fn upstream(&self) -> &Rc<Upstream> {
        &self.upstream
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&self) {
        let endpoint = &self.upstream.endpoint;
        endpoint
            .stats
            .answered_after(self.upstream.worker, self.started.elapsed());
    }

    /// The answer was passed on whole.
    pub(crate) fn responded(mut self, status: StatusCode) {
        self.settled = true;
        self.upstream
            .endpoint
            .stats
            .responded(self.upstream.worker, status);
    }

    /// It failed, and its version is to blame.
    pub(crate) fn failed(mut self, failure: Failure) {
        self.settled = true;
        self.upstream
            .endpoint
            .stats
            .failed(self.upstream.worker, failure);
    }

    /// It ended, and nobody is to blame: a kept connection had been closed, or a drain cut it.
    pub(crate) fn excused(mut self) {
        self.settled = true;
    }

    /// The head of the answer is passed on to this client.
    pub(crate) fn relaying(&self, client: Rc<Notify>) {
        self.lifeline.client.replace(Some(client));
    }

    /// It goes on as an upgraded connection.
    pub(crate) fn upgrade(&mut self) {
        self.settled = true;
        let Upstream {
            endpoint, worker, ..
        } = &*self.upstream;
        endpoint
            .stats
            .responded(*worker, StatusCode::SWITCHING_PROTOCOLS);
        endpoint.claims.upgrade(*worker);
        self.lifeline.upgraded.set(true);
    }

    /// Ends once the endpoint's drain has no more time for this try.
    pub(crate) async fn cut(&self) {
        std::future::poll_fn(|cx| {
            if self.lifeline.cut.get() {
                return Poll::Ready(());
            }
            let mut waker = self.lifeline.waker.borrow_mut();
            match &mut *waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        let Upstream {
            endpoint,
            worker,
            tries,
            ..
        } = &*self.upstream;
        tries.borrow_mut().remove(self.key);
        if !self.settled && !self.lifeline.cut.get() {
            endpoint.stats.client_gone(*worker);
        }
        if self.lifeline.upgraded.get() {
            endpoint.claims.release_upgraded(*worker);
        } else {
            endpoint.claims.release(*worker);
        }
    }
}
