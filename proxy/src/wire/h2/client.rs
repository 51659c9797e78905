//! A worker's connections to one endpoint that speaks HTTP/2: its requests share one, and where
//! the streams of that run out, a further one. Those of a client that gives up many have one for
//! themselves.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use http::uri::Scheme;
use tokio::sync::{Mutex, oneshot};

use super::connection::H2Socket;
use super::load::Load;
use super::resets::Sharer;
use super::stream::Stream;
use crate::wire::timer::{Millis, Timer};

/// Connections to one endpoint that clients share, and so many of those that are one client's each.
const MAX_SESSIONS: usize = 8;
/// Streams of one connection, where the endpoint allows as many.
const MAX_STREAMS: usize = 1_000;
/// Until an endpoint has said how many streams it takes: more than it can say.
const UNKNOWN: usize = usize::MAX - 1;
/// What may come on one stream before it has to be written on.
pub(crate) const STREAM_WINDOW: u32 = 128 * 1024;
/// All clients share a connection: those that are slow must not use up the others' room.
const CONNECTION_WINDOW: u32 = 128 * 1024 * 1024;
/// Of one stream, what the endpoint has room for and was not written yet.
const SEND_BUFFER: usize = 32 * 1024;
/// The longest head of a response.
const MAX_HEAD: u32 = 256 * 1024;
/// Streams that were reset here whose late frames are expected, and for how long.
const RESET_HERE: usize = 1_000;
const RESET_FOR: Duration = Duration::from_secs(5);

/// The connections.
#[derive(Default)]
pub(crate) struct Sessions {
    open: RefCell<Vec<Session>>,
    /// Those that get no new streams, since too many of theirs were given up.
    spent: RefCell<Vec<Session>>,
    /// Held while one is made: other requests that need one wait, and share it.
    opening: Mutex<()>,
    /// The same of those that are not shared.
    opening_apart: Mutex<()>,
}

struct Session {
    sender: SendRequest<Bytes>,
    scheme: Scheme,
    load: Rc<Load>,
    /// Whose it is; `None`: all clients share it.
    apart: Option<Rc<Sharer>>,
}

impl Session {
    /// Whether the endpoint takes new streams on it.
    fn is_open(&mut self) -> bool {
        let ready = self
            .sender
            .poll_ready(&mut Context::from_waker(Waker::noop()));
        !matches!(ready, Poll::Ready(Err(_)))
    }

    fn has_room(&self) -> bool {
        self.load.streams.get() < self.max_streams()
    }

    fn max_streams(&self) -> usize {
        self.sender.current_max_send_streams().min(MAX_STREAMS)
    }

    fn is_spent(&self) -> bool {
        self.load.has_given_up() && self.load.is_spent(self.max_streams())
    }

    fn stream(&self) -> Stream {
        let (sender, scheme) = (self.sender.clone(), self.scheme.clone());
        Stream::to_endpoint(sender, scheme, self.load.slot())
    }

    /// Whether it is this client's.
    fn is_of(&self, apart: &Rc<Sharer>) -> bool {
        let of = self.apart.as_ref();
        of.is_some_and(|of| Rc::ptr_eq(of, apart))
    }
}

impl Sessions {
    /// A stream, of a connection that is `apart` or shared, and whether that was there before.
    /// `connect` makes a connection.
    pub(crate) async fn stream<F: Future<Output = io::Result<(H2Socket, Scheme)>>>(
        &self,
        timer: &Timer,
        within: Duration,
        apart: Option<Rc<Sharer>>,
        connect: impl FnOnce() -> F,
    ) -> io::Result<(Stream, bool)> {
        if let Some(stream) = self.free_stream(apart.as_ref()) {
            return Ok((stream, true));
        }
        let opening = match apart {
            None => &self.opening,
            Some(_) => &self.opening_apart,
        };
        let mut lock = std::pin::pin!(opening.lock());
        let _opening = timer.wait(within, |cx| lock.as_mut().poll(cx)).await?;
        if let Some(stream) = self.free_stream(apart.as_ref()) {
            return Ok((stream, true));
        }
        let (transport, scheme) = connect().await?;
        let (sender, connection) = builder()
            .handshake(transport)
            .await
            .map_err(io::Error::other)?;
        let (began, mut has_begun) = oneshot::channel();
        tokio::task::spawn_local(drive(connection, sender.clone(), began));
        // Until the endpoint has said how many streams it takes.
        timer
            .wait(within, |cx| Pin::new(&mut has_begun).poll(cx))
            .await?
            .map_err(|_| io::ErrorKind::ConnectionAborted)?;
        let session = Session {
            sender,
            scheme,
            load: Load::new(apart.is_some()),
            apart,
        };
        let stream = session.stream();
        self.open.borrow_mut().push(session);
        Ok((stream, false))
    }

    /// A stream of a connection that has room for it; where there may be no further ones, of
    /// the one with the fewest, on which it has to wait.
    pub(crate) fn free_stream(&self, apart: Option<&Rc<Sharer>>) -> Option<Stream> {
        let mut open = self.open.borrow_mut();
        open.retain_mut(Session::is_open);
        self.set_spent_aside(&mut open);
        let alike = open
            .iter()
            .filter(|session| session.apart.is_some() == apart.is_some());
        let may_use = |session: &Session| apart.is_none_or(|apart| session.is_of(apart));
        let mut usable = alike.clone().filter(|session| may_use(session));
        let session = match usable.clone().find(|session| session.has_room()) {
            None if alike.clone().count() >= MAX_SESSIONS => {
                alike.min_by_key(|session| session.load.streams.get())
            }
            // One client has one.
            None if apart.is_some() => usable.next(),
            free => free,
        };
        session.map(Session::stream)
    }

    /// Has those get no new streams of whose streams too many were given up. With too many of these,
    /// they are used on.
    fn set_spent_aside(&self, open: &mut Vec<Session>) {
        if let Some(at) = open.iter().position(Session::is_spent) {
            let mut spent = self.spent.borrow_mut();
            if spent.len() < MAX_SESSIONS {
                spent.push(open.remove(at));
            }
        }
    }

    /// Closes those that were idle for so long, or that the endpoint has closed. Gives whether
    /// none is left.
    pub(crate) fn tidy(&self, now: Millis, idle_for: Millis) -> bool {
        let mut spent = self.spent.borrow_mut();
        spent.retain_mut(|session| {
            session.load.refill();
            session.is_open() && session.load.has_others()
        });
        let mut open = self.open.borrow_mut();
        open.retain_mut(|session| {
            let load = &session.load;
            load.refill();
            if load.was_used.take() || load.streams.get() > 0 {
                load.used_at.set(now);
            }
            session.is_open() && now - session.load.used_at.get() < idle_for
        });
        open.is_empty() && spent.is_empty()
    }

    /// Closes each of them, as soon as its streams have ended.
    pub(crate) fn close(&self) {
        self.open.borrow_mut().clear();
        self.spent.borrow_mut().clear();
    }
}

/// Moves the bytes of a connection. It ends with the last of its streams, once it is in no list
/// any more.
async fn drive(
    mut connection: Connection<H2Socket, Bytes>,
    sender: SendRequest<Bytes>,
    began: oneshot::Sender<()>,
) {
    let mut beginning = Some((sender, began));
    let ended = poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        let is_known = |(sender, _): &mut (SendRequest<Bytes>, _)| {
            sender.current_max_send_streams() != UNKNOWN
        };
        if let Some((_, began)) = beginning.take_if(is_known) {
            // The request that made it may be gone already, and the connection goes with its last
            // sender.
            let _ = began.send(());
        }
        // No request waits any more for an endpoint that sends nothing.
        let is_given_up =
            |(_, began): &mut (_, oneshot::Sender<()>)| began.poll_closed(cx).is_ready();
        if beginning.as_mut().is_some_and(is_given_up) {
            return Poll::Ready(Ok(()));
        }
        ended
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a connection to an endpoint ended");
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(UNKNOWN)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESET_HERE)
        .reset_stream_duration(RESET_FOR)
        // Late frames of streams that clients have given up must not end the connection of all.
        .max_local_error_reset_streams(None)
        .max_header_list_size(MAX_HEAD);
    builder
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::LocalSet;

    use super::*;
    use crate::wire::socket::Bytestream;
    use crate::wire::timer::Timers;

    const WITHIN: Duration = Duration::from_millis(200);

    /// A stream of `sessions`, over a connection to `listener` if there is none.
    async fn stream(sessions: &Sessions, listener: &TcpListener) -> io::Result<(Stream, bool)> {
        let timers = Timers::new();
        let ticking = timers.clone();
        tokio::task::spawn_local(async move { ticking.run().await });
        let address = listener.local_addr()?;
        let connect = || async move {
            let tcp = TcpStream::connect(address).await?;
            Ok((H2Socket::to_endpoint(Bytestream::plain(tcp)), Scheme::HTTP))
        };
        sessions
            .stream(&timers.timer(), WITHIN, None, connect)
            .await
    }

    async fn listening() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_closed_when_it_was_idle_for_long_and_not_before() {
        let in_it = async {
            let (sessions, listener) = (Sessions::default(), listening().await);
            let serve = async {
                let (tcp, _) = listener.accept().await.unwrap();
                let mut served = h2::server::handshake(tcp).await.unwrap();
                while served.accept().await.is_some() {}
            };
            let used = async {
                let (stream, reused) = stream(&sessions, &listener).await.unwrap();
                assert!(!reused);
                drop(stream);
                // A worker may be old before it has a connection.
                assert!(!sessions.tidy(100_000, 30_000), "used a moment ago");
                assert!(!sessions.tidy(129_999, 30_000), "for less than that");
                drop(sessions.free_stream(None));
                assert!(!sessions.tidy(130_000, 30_000), "used once more");
                assert!(sessions.tidy(160_000, 30_000));
            };
            // The connection's end ends the other side, too.
            tokio::join!(serve, used);
        };
        LocalSet::new().run_until(in_it).await;
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_connection_on_which_the_endpoint_said_nothing() {
        let in_it = async {
            let (sessions, listener) = (Sessions::default(), listening().await);
            let (failed, accepted) = tokio::join!(stream(&sessions, &listener), listener.accept());
            assert_eq!(failed.err().unwrap().kind(), io::ErrorKind::TimedOut);
            let mut heard = Vec::new();
            accepted.unwrap().0.read_to_end(&mut heard).await.unwrap();
            assert!(heard.starts_with(b"PRI * HTTP/2.0\r\n"));
        };
        let local = LocalSet::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), local.run_until(in_it));
        ended.await.unwrap();
    }
}
