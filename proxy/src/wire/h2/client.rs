//! A worker's connections to one endpoint that speaks HTTP/2: its requests share one, and where
//! the streams of that run out, a further one.

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
use super::stream::{Load, Stream, StreamSlot};
use crate::wire::timer::{Millis, Timer};

/// Connections to one endpoint.
const MAX_SESSIONS: usize = 8;
/// Streams of one connection, where the endpoint allows as many.
const MAX_STREAMS: usize = 1_000;
/// Until an endpoint has said how many streams it takes: more than it can say.
const UNKNOWN: usize = usize::MAX - 1;
/// What may come on one stream before it has to be written on.
const STREAM_WINDOW: u32 = 128 * 1024;
/// All clients share a connection: those that are slow must not use up the others' room.
const CONNECTION_WINDOW: u32 = 128 * 1024 * 1024;
/// Of one stream, what the endpoint has room for and was not written yet.
const SEND_BUFFER: usize = 32 * 1024;
/// The longest head of a response.
const MAX_HEAD: u32 = 256 * 1024;

/// The connections.
#[derive(Default)]
pub(crate) struct Sessions {
    open: RefCell<Vec<Session>>,
    /// Held while one is made: other requests that need one wait, and share it.
    opening: Mutex<()>,
}

struct Session {
    sender: SendRequest<Bytes>,
    scheme: Scheme,
    load: Rc<Load>,
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
        let most = self.sender.current_max_send_streams().min(MAX_STREAMS);
        self.load.streams.get() < most
    }

    fn stream(&self) -> Stream {
        self.load.streams.set(self.load.streams.get() + 1);
        self.load.was_used.set(true);
        let place = StreamSlot(self.load.clone());
        Stream::to_endpoint(self.sender.clone(), self.scheme.clone(), place)
    }
}

impl Sessions {
    /// A stream, and whether its connection was there before. `connect` makes a connection.
    pub(crate) async fn stream<F: Future<Output = io::Result<(H2Socket, Scheme)>>>(
        &self,
        timer: &Timer,
        within: Duration,
        connect: impl FnOnce() -> F,
    ) -> io::Result<(Stream, bool)> {
        if let Some(stream) = self.free_stream() {
            return Ok((stream, true));
        }
        let mut lock = std::pin::pin!(self.opening.lock());
        let _opening = timer.wait(within, |cx| lock.as_mut().poll(cx)).await?;
        if let Some(stream) = self.free_stream() {
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
            load: Rc::default(),
        };
        let stream = session.stream();
        self.open.borrow_mut().push(session);
        Ok((stream, false))
    }

    /// A stream of a connection that has room for it; where there may be no further ones, of
    /// the one with the fewest, on which it has to wait.
    pub(crate) fn free_stream(&self) -> Option<Stream> {
        let mut open = self.open.borrow_mut();
        open.retain_mut(Session::is_open);
        let free = open.iter().find(|session| session.has_room());
        let session = match free {
            None if open.len() >= MAX_SESSIONS => {
                open.iter().min_by_key(|session| session.load.streams.get())
            }
            free => free,
        };
        session.map(Session::stream)
    }

    /// Closes those that were idle for so long, or that the endpoint has closed. Gives whether
    /// none is left.
    pub(crate) fn tidy(&self, now: Millis, idle_for: Millis) -> bool {
        let mut open = self.open.borrow_mut();
        open.retain_mut(|session| {
            let load = &session.load;
            if load.was_used.take() || load.streams.get() > 0 {
                load.used_at.set(now);
            }
            session.is_open() && now - session.load.used_at.get() < idle_for
        });
        open.is_empty()
    }

    /// Closes each of them, as soon as its streams have ended.
    pub(crate) fn close(&self) {
        self.open.borrow_mut().clear();
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
        sessions.stream(&timers.timer(), WITHIN, connect).await
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
                drop(sessions.free_stream());
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
