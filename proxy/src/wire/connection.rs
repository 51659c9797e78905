//! A connection to an endpoint, as the one request sees it that is on it.

use std::io;
use std::task::{Context, Poll, ready};

use crate::wire::Wire;
use crate::wire::h1::body::Framing;
use crate::wire::h1::head::{
    BadHead, find_response_end, read_response, response_at_once, response_framing,
};
use crate::wire::h2::stream::Stream;
use crate::wire::head::{Head, Message};
use crate::wire::response::{NoResponse, ResponseHead};
use crate::wire::socket::{Pool, ReadBuffer, Socket};

/// The longest head of a response.
const MAX_HEAD: usize = 256 * 1024;

/// A connection to an endpoint. Dropping it ends it, in the middle of whatever it carries.
pub(crate) struct Connection {
    pub(crate) link: Link,
    pub(crate) read_buffer: ReadBuffer,
    /// Of the response, once it is there.
    head: Head,
    /// Bytes of the inbox that were searched for the end of a head.
    scanned: usize,
    /// It carried a request before.
    pub(crate) reused: bool,
}

/// What a request goes over.
pub(crate) enum Link {
    /// A connection that it has for itself.
    H1(Socket),
    /// A stream, beside others.
    H2(Box<Stream>),
    /// The response is here whole, and its connection is given back.
    Released,
}

impl Connection {
    pub(crate) fn new(link: Link, reused: bool) -> Self {
        Self {
            link,
            read_buffer: ReadBuffer::default(),
            head: Head::default(),
            scanned: 0,
            reused,
        }
    }

    /// Reads the head of a response to this client.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        pool: &Pool,
        to_head: bool,
        client: Wire<'_>,
    ) -> Poll<Result<ResponseHead, NoResponse>> {
        let Self {
            link,
            read_buffer,
            head,
            scanned,
            ..
        } = self;
        let socket = match link {
            Link::H1(socket) => socket,
            Link::H2(stream) => return stream.poll_head(cx, read_buffer, pool, to_head, head),
            Link::Released => return Poll::Pending,
        };
        loop {
            if let Some(length) = read_head(read_buffer, scanned, pool, head)? {
                let message = head.over(&read_buffer.data()[..length]);
                let framing = response_framing(message, to_head)?;
                *scanned = 0;
                return Poll::Ready(Ok(ResponseHead {
                    length,
                    status: message.status(),
                    framing,
                }));
            }
            let silently = read_buffer.is_empty();
            let read = if client.reads_little() && read_buffer.data().len() < MAX_HEAD {
                read_buffer.poll_fill_little(socket, pool, cx)
            } else {
                read_buffer.poll_fill(socket, pool, MAX_HEAD, cx)
            };
            match ready!(read) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    return Poll::Ready(Err(NoResponse::Bad));
                }
                Ok(0) | Err(_) => return Poll::Ready(Err(NoResponse::Broken { silently })),
            }
        }
    }

    /// The head of the response that was read, until it is taken off.
    pub(crate) fn response(&self) -> Message<'_> {
        self.head.over(self.read_buffer.data())
    }

    /// Takes the head of the response off the inbox. Gives whether another request may follow the
    /// response, once all of it was read.
    pub(crate) fn take_off(&mut self, head: &ResponseHead, pool: &Pool) -> bool {
        let keeps = head.framing != Framing::UntilClose && self.response().keeps_alive();
        self.read_buffer.consume(head.length);
        pool.give_head(std::mem::take(&mut self.head));
        keeps
    }
}

impl Link {
    pub(crate) fn wire(&self) -> Wire<'_> {
        match self {
            Self::H1(socket) => Wire::H1(socket),
            Self::H2(stream) => Wire::H2(stream),
            Self::Released => Wire::Nowhere,
        }
    }
}

/// Reads the head of a response that the inbox begins with, if it is whole, and gives its length.
fn read_head(
    read_buffer: &ReadBuffer,
    scanned: &mut usize,
    pool: &Pool,
    head: &mut Head,
) -> Result<Option<usize>, BadHead> {
    let bytes = read_buffer.data();
    if bytes.is_empty() {
        return Ok(None);
    }
    if head.is_unused() {
        *head = pool.head();
    }
    // Most come whole, and are well.
    if *scanned == 0
        && let Some(length) = response_at_once(bytes, head)
    {
        return Ok(Some(length));
    }
    let Some(length) = find_response_end(bytes, scanned) else {
        return Ok(None);
    };
    read_response(&bytes[..length], head)?;
    Ok(Some(length))
}
