//! The two wires, as the code that moves a message sees them: a connection of HTTP/1.1, or a stream
//! of HTTP/2.

pub(crate) mod address;
pub(crate) mod buffered;
pub(crate) mod connection;
pub(crate) mod discard;
pub(crate) mod expectation;
pub(crate) mod fields;
pub(crate) mod forwarding;
pub(crate) mod gauges;
pub(crate) mod h1;
pub(crate) mod h2;
pub(crate) mod head;
pub(crate) mod headers;
pub(crate) mod keep_alive;
pub(crate) mod listener_id;
pub(crate) mod max_forwards;
pub(crate) mod path;
pub(crate) mod peer;
pub(crate) mod proxy_protocol;
pub(crate) mod pump;
pub(crate) mod reply;
pub(crate) mod resources;
pub(crate) mod response;
pub(crate) mod sink;
pub(crate) mod socket;
pub(crate) mod target;
pub(crate) mod tcp;
pub(crate) mod timer;
pub(crate) mod tls;
pub(crate) mod tunnel;
pub(crate) mod unix;
pub(crate) mod websocket;

use std::cell::Ref;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::wire::h1::body::Framing;
use crate::wire::h1::write::write_interim;
use crate::wire::h2::client::STREAM_WINDOW;
use crate::wire::h2::resets::Sharer;
use crate::wire::h2::stream::{Part, Stream};
use crate::wire::head::Message;
use crate::wire::socket::{Pool, ReadBuffer, Socket};
use crate::wire::tcp::Tcp;
use crate::wire::timer::{Millis, Timer};

/// What a message comes from or goes to.
#[derive(Clone, Copy)]
pub(crate) enum Wire<'w> {
    H1(&'w Socket),
    H2(&'w Stream),
    /// No peer: nothing comes from it, and what goes to it is gone.
    Nowhere,
}

impl<'w> Wire<'w> {
    /// Reads more of a body behind what is in `read_buffer`. Gives how many bytes came; 0: there
    /// are no more.
    pub(crate) fn poll_fill(
        self,
        cx: &mut Context<'_>,
        read_buffer: &mut ReadBuffer,
        pool: &Pool,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::H1(socket) => read_buffer.poll_fill(socket, pool, usize::MAX, cx),
            Self::H2(stream) => stream.poll_fill(cx, read_buffer, pool),
            Self::Nowhere => Poll::Ready(Ok(0)),
        }
    }

    /// The same, but for what a system call would be needed.
    pub(crate) fn poll_at_hand(
        self,
        cx: &mut Context<'_>,
        read_buffer: &mut ReadBuffer,
        pool: &Pool,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::H1(_) => Poll::Pending,
            Self::H2(stream) => stream.poll_fill(cx, read_buffer, pool),
            Self::Nowhere => Poll::Ready(Ok(0)),
        }
    }

    /// Whether nothing comes after what was read, trailer fields neither. Only HTTP/2 can say.
    pub(crate) fn is_over(self) -> bool {
        match self {
            Self::H1(_) | Self::Nowhere => false,
            Self::H2(stream) => stream.is_over(),
        }
    }

    /// Whether trailer fields came apart from a body's data, and were not taken yet.
    pub(crate) fn has_trailers(self) -> bool {
        match self {
            Self::H2(stream) => stream.has_trailers(),
            Self::H1(_) | Self::Nowhere => false,
        }
    }

    /// Puts the trailer fields that came apart from a body's data into `read_buffer`, as lines.
    pub(crate) fn take_trailers(self, read_buffer: &mut ReadBuffer, pool: &Pool) {
        if let Self::H2(stream) = self {
            stream.take_trailers(read_buffer, pool);
        }
    }

    /// How the end of a body is found that is framed like this: on a stream it comes by itself.
    pub(crate) fn decoding(self, framing: Framing) -> Framing {
        match (self, framing) {
            (Self::H1(_) | Self::Nowhere, _) | (_, Framing::Empty) => framing,
            (Self::H2(_), _) => Framing::UntilClose,
        }
    }

    /// Passes an interim response on to a client (RFC 9110, 15.2).
    pub(crate) async fn interim(
        self,
        pool: &Pool,
        timer: &Timer,
        within: Duration,
        response: Message<'_>,
    ) -> io::Result<()> {
        match self {
            Self::H1(socket) => write_interim(socket, pool, timer, within, response).await,
            Self::H2(stream) => stream.interim(response),
            Self::Nowhere => Ok(()),
        }
    }

    /// Tells a client to go on with its body (RFC 9110, 10.1.1).
    pub(crate) async fn proceed(self, timer: &Timer, within: Duration) -> io::Result<()> {
        match self {
            Self::H1(socket) => {
                let go_ahead = [&b"HTTP/1.1 100 Continue\r\n\r\n"[..]];
                socket.write_all(timer, within, go_ahead).await
            }
            Self::H2(stream) => {
                stream.proceed();
                Ok(())
            }
            Self::Nowhere => Ok(()),
        }
    }

    /// Reads more, and not much of it.
    pub(crate) fn poll_fill_little(
        self,
        cx: &mut Context<'_>,
        read_buffer: &mut ReadBuffer,
        pool: &Pool,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::H1(socket) => read_buffer.poll_fill_little(socket, pool, cx),
            Self::H2(_) | Self::Nowhere => self.poll_fill(cx, read_buffer, pool),
        }
    }

    /// Whether only little is to be read ahead for this side, which takes nothing.
    pub(crate) fn reads_little(self) -> bool {
        match self {
            Self::H2(stream) => stream.reads_little(),
            Self::H1(_) | Self::Nowhere => false,
        }
    }

    /// Whether too much waits for clients like this one to let it wait for long.
    pub(crate) fn is_pressed(self) -> bool {
        match self {
            Self::H2(stream) => stream.is_pressed(),
            Self::H1(_) | Self::Nowhere => false,
        }
    }

    /// How much may come from it that was not read.
    pub(crate) fn ahead(self) -> usize {
        match self {
            Self::H2(_) => STREAM_WINDOW as usize,
            Self::H1(_) | Self::Nowhere => 0,
        }
    }

    /// How many bytes of a body come at once, whatever room there is for them.
    pub(crate) fn at_once(self) -> usize {
        match self {
            // The payload of a frame.
            Self::H2(_) => 16 * 1024,
            Self::H1(_) | Self::Nowhere => 1,
        }
    }

    /// Writes bytes of an upgraded connection. `written` counts what of them was taken.
    pub(crate) fn poll_send(
        self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        written: &mut usize,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::H1(socket) => socket.poll_write_all(cx, [bytes], written),
            Self::H2(stream) => stream.poll_write(cx, Part::of(bytes), written),
            Self::Nowhere => Poll::Ready(Ok(())),
        }
    }

    /// Ends this side's half of an upgraded connection.
    pub(crate) fn poll_shutdown(self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::H1(socket) => socket.poll_shutdown(cx),
            Self::H2(stream) => stream.poll_write(cx, Part::END, &mut 0),
            Self::Nowhere => Poll::Ready(Ok(())),
        }
    }

    /// Whether the client has left, from which nothing is expected. If not, the task is woken when
    /// it does.
    pub(crate) fn has_left(self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::H1(socket) => socket.has_left(cx),
            Self::H2(stream) => stream.poll_reset(cx).is_ready(),
            Self::Nowhere => false,
        }
    }

    /// The client, if its requests must not be on one connection with those of others.
    pub(crate) fn client_apart(self, now: Millis) -> Option<&'w Rc<Sharer>> {
        match self {
            Self::H2(stream) => stream.client_apart(now),
            Self::H1(_) | Self::Nowhere => None,
        }
    }

    /// The client, if its requests share a connection.
    pub(crate) fn sharer(self) -> Option<&'w Rc<Sharer>> {
        match self {
            Self::H2(stream) => stream.sharer(),
            Self::H1(_) | Self::Nowhere => None,
        }
    }

    /// The stream of bytes below, where it carries nothing else.
    pub(crate) fn as_plain(self) -> Option<Ref<'w, Tcp>> {
        match self {
            Self::H1(socket) => socket.as_plain(),
            Self::H2(_) | Self::Nowhere => None,
        }
    }
}
