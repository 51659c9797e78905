//! A connection's bytes: read into buffers that are there only while there is something in
//! them, and written several pieces at a time.

use std::cell::{Ref, RefCell};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::wire::gauges::BufferedBytes;
use crate::wire::head::Head;
use crate::wire::tcp::{Ended, Moved, Tcp};
use crate::wire::timer::Timer;
use crate::wire::tls::{ClientTls, EndpointTls};

/// A read buffer's size: a head and a body of 16 KiB come in one read.
pub(crate) const BUFFER: usize = 32 * 1024;
/// Free buffers that a worker keeps. Those are used while bytes move, and few at a time.
const MAX_FREE: usize = 32;
/// Free buffers for heads that a worker keeps: one is used for as long as a response takes.
const MAX_FREE_SMALL: usize = 512;
/// Pieces that are no longer together are sent as one: copying them costs less than what the
/// kernel does for a list of pieces.
const GATHERED: usize = 1024;
/// What a connection that waits may keep without giving its buffer back.
const SMALL: usize = 2 * 1024;

/// A stream of bytes, both ways at once.
pub(crate) struct Socket {
    stream: RefCell<Bytestream>,
    half_close: HalfClose,
}

/// What a client means that ends its half of a connection while it has a response to come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HalfClose {
    /// It has left.
    #[default]
    Abort,
    /// It waits for its response.
    Serve,
}

/// What is below: TCP, or TLS over it.
pub(crate) enum Bytestream {
    Plain(Tcp),
    /// To a client.
    Tls(Box<ClientTls>),
    ToEndpoint(Box<EndpointTls>),
}

/// Free buffers and heads of one worker.
#[derive(Default)]
pub(crate) struct Pool {
    free: RefCell<Vec<Vec<u8>>>,
    small: RefCell<Vec<Vec<u8>>>,
    heads: RefCell<Vec<Head>>,
    pub(crate) buffered: Arc<BufferedBytes>,
}

/// What was read from a socket and not used yet.
#[derive(Default)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Bytestream {
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self::Plain(Tcp::new(stream))
    }

    fn tcp(&self) -> &Tcp {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.tcp(),
            Self::ToEndpoint(tls) => tls.tcp(),
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match (self, slices) {
            (Self::Plain(tcp), slices) => poll_send(tcp, cx, slices),
            (Self::Tls(tls), slices) => Pin::new(&mut **tls).poll_write_vectored(cx, slices),
            (Self::ToEndpoint(tls), slices) => Pin::new(&mut **tls).poll_write_vectored(cx, slices),
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
            Self::ToEndpoint(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
            Self::ToEndpoint(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
    }

    /// Reads into what room `buffer` has.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, buffer),
            Self::ToEndpoint(tls) => Pin::new(&mut **tls).poll_read(cx, buffer),
        }
    }

    /// Whether nothing of what came is held back by TLS.
    fn is_bare(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(tls) => tls.holds_nothing(),
            Self::ToEndpoint(tls) => tls.holds_nothing(),
        }
    }
}

impl Socket {
    /// To a client, or to an endpoint.
    pub(crate) fn new(stream: Bytestream) -> Self {
        Self {
            stream: RefCell::new(stream),
            half_close: HalfClose::default(),
        }
    }

    /// To a client that means this by the end of its half.
    pub(crate) fn of_client(stream: Bytestream, half_close: HalfClose) -> Self {
        Self {
            half_close,
            ..Self::new(stream)
        }
    }

    #[cfg(test)]
    pub(crate) fn plain(tcp: TcpStream) -> Self {
        Self::new(Bytestream::plain(tcp))
    }

    /// What is below, for another protocol over it.
    pub(crate) fn into_inner(self) -> Bytestream {
        self.stream.into_inner()
    }

    /// Reads into the room that there is. 0: the other side has closed its half.
    fn poll_read(&self, cx: &mut Context<'_>, room: &mut Room<'_>) -> Poll<io::Result<usize>> {
        match &mut *self.stream.borrow_mut() {
            Bytestream::Plain(tcp) => poll_recv(tcp, cx, room),
            Bytestream::Tls(tls) => pin!(tls.read_buf(room.make())).poll(cx),
            Bytestream::ToEndpoint(tls) => pin!(tls.read_buf(room.make())).poll(cx),
        }
    }

    /// Writes all parts, one after the other, in as few system calls as there can be.
    pub(crate) fn poll_write_all<const N: usize>(
        &self,
        cx: &mut Context<'_>,
        parts: [&[u8]; N],
        written: &mut usize,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut slices = [IoSlice::new(&[]); N];
            let mut count = 0;
            let mut skip = *written;
            for part in parts {
                let from = skip.min(part.len());
                skip -= from;
                if from < part.len() {
                    slices[count] = IoSlice::new(&part[from..]);
                    count += 1;
                }
            }
            let mut stream = self.stream.borrow_mut();
            let slices = &slices[..count];
            let sent = match slices {
                [] => return stream.poll_flush(cx),
                [_] => stream.poll_write(cx, slices),
                _ => match gather(slices, &mut [0; GATHERED]) {
                    Some(gathered) => stream.poll_write(cx, &[IoSlice::new(gathered)]),
                    None => stream.poll_write(cx, slices),
                },
            };
            match ready!(sent)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
        }
    }

    /// Writes all parts; the other side has to take something every `within`.
    pub(crate) async fn write_all<const N: usize>(
        &self,
        timer: &Timer,
        within: Duration,
        parts: [&[u8]; N],
    ) -> io::Result<()> {
        let mut written = 0;
        let mut before = 0;
        let outcome = timer.wait(within, |cx| {
            let outcome = self.poll_write_all(cx, parts, &mut written);
            if written > before {
                before = written;
                timer.set(within);
            }
            outcome
        });
        outcome.await?
    }

    /// Ends this side's half.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.borrow_mut().poll_shutdown(cx)
    }

    /// Says over TLS that nothing more comes (RFC 9112, 9.8), as far as there is room for that. It
    /// is about to be dropped, which says it over TCP alone.
    pub(crate) fn send_close_notify(&self) {
        if self.as_plain().is_none() {
            let _ = self.poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Has the connection reset, and not ended, when it is dropped.
    pub(crate) fn reset_when_dropped(&self) {
        // A connection that is gone already was not ended by this side.
        let _ = self.stream.borrow().tcp().stream().set_zero_linger();
    }

    /// Whether there is nothing to read, neither bytes nor the end, as far as this process was
    /// told. No system call is made while nothing was.
    pub(crate) fn seems_quiet(&self) -> bool {
        let stream = self.stream.borrow();
        let read = stream.tcp().stream().try_read(&mut [0]);
        stream.is_bare() && matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same, as the system knows it at this moment.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self.peek(), Err(rustix::io::Errno::AGAIN))
    }

    /// Whether the client has left, from which nothing is expected. If not, the task is woken when
    /// it does. What it sends meanwhile stays there for its time.
    ///
    /// The end of its half is that of all it has asked for, whatever it has sent ahead: unless its
    /// listener serves such clients, of which nothing more is known then until something is written.
    pub(crate) fn has_left(&self, cx: &mut Context<'_>) -> bool {
        let ended = match &mut *self.stream.borrow_mut() {
            Bytestream::Plain(tcp) => tcp.poll_ended(cx),
            Bytestream::Tls(tls) => tls.poll_ended(cx),
            Bytestream::ToEndpoint(tls) => tls.poll_ended(cx),
        };
        match ended {
            Poll::Ready(Ended::Whole) => true,
            Poll::Ready(Ended::Half) => self.half_close == HalfClose::Abort,
            Poll::Pending => false,
        }
    }

    fn peek(&self) -> rustix::io::Result<usize> {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let stream = self.stream.borrow();
        let (_, length) = rustix::net::recv(stream.tcp(), &mut [0u8; 1][..], flags)?;
        Ok(length)
    }

    /// The stream, for code that moves bytes without reading them: only where what is on it is
    /// what is meant.
    pub(crate) fn as_plain(&self) -> Option<Ref<'_, Tcp>> {
        Ref::filter_map(self.stream.borrow(), |stream| match stream {
            Bytestream::Plain(tcp) => Some(tcp),
            Bytestream::Tls(_) | Bytestream::ToEndpoint(_) => None,
        })
        .ok()
    }
}

/// One piece made of several, if they are short.
fn gather<'g>(slices: &[IoSlice<'_>], room: &'g mut [u8; GATHERED]) -> Option<&'g [u8]> {
    let mut length = 0;
    for slice in slices {
        room.get_mut(length..length + slice.len())?
            .copy_from_slice(slice);
        length += slice.len();
    }
    Some(&room[..length])
}

/// Receives into the room that there is. tokio's way to the same system call is much longer.
fn poll_recv(tcp: &Tcp, cx: &mut Context<'_>, room: &mut Room<'_>) -> Poll<io::Result<usize>> {
    tcp.poll_io(cx, Interest::READABLE, || {
        let buffer = room.make();
        let all = buffer.capacity() - buffer.len();
        let (_, count) = rustix::net::recv(tcp, spare_capacity(buffer), RecvFlags::empty())?;
        Ok(Moved { count, all })
    })
}

/// Sends what there is room for.
fn poll_send(tcp: &Tcp, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    tcp.poll_io(cx, Interest::WRITABLE, || {
        let count = match slices {
            [slice] => rustix::net::send(tcp, slice, SendFlags::NOSIGNAL)?,
            slices => rustix::io::writev(tcp, slices)?,
        };
        let all = slices.iter().map(|slice| slice.len()).sum();
        Ok(Moved { count, all })
    })
}

impl Pool {
    /// With what counts the memory of its worker.
    pub(crate) fn new(buffered: Arc<BufferedBytes>) -> Self {
        Self {
            buffered,
            ..Self::default()
        }
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> Vec<u8> {
        let free = self.free.borrow_mut().pop();
        free.unwrap_or_else(|| Vec::with_capacity(BUFFER))
    }

    /// An empty buffer for a head that is written, most of which are small.
    pub(crate) fn take_small(&self) -> Vec<u8> {
        let free = self.small.borrow_mut().pop();
        free.unwrap_or_else(|| Vec::with_capacity(SMALL))
    }

    /// What a head can be read into.
    pub(crate) fn head(&self) -> Head {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes it back.
    pub(crate) fn give_head(&self, head: Head) {
        let mut heads = self.heads.borrow_mut();
        if heads.len() < MAX_FREE {
            heads.push(head);
        }
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        let (free, most) = match buffer.capacity() {
            BUFFER => (&self.free, MAX_FREE),
            SMALL => (&self.small, MAX_FREE_SMALL),
            _ => return,
        };
        let mut free = free.borrow_mut();
        if free.len() < most {
            buffer.clear();
            free.push(buffer);
        }
    }
}

impl ReadBuffer {
    pub(crate) fn data(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
    }

    /// Adds bytes that came otherwise than from a socket.
    pub(crate) fn push(&mut self, bytes: &[u8], pool: &Pool) {
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.capacity() < BUFFER && self.bytes.len() + bytes.len() > SMALL {
            let small = std::mem::replace(&mut self.bytes, pool.take());
            self.bytes.extend_from_slice(&small);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// How much memory it has once so many bytes more were read: it is doubled where it is full.
    pub(crate) fn held_with(&self, more: usize) -> usize {
        let held = self.bytes.capacity().max(BUFFER);
        if self.data().len() + more > held {
            2 * held
        } else {
            held
        }
    }

    /// Copies what is there in `from` to a place before it.
    pub(crate) fn move_forward(&mut self, from: Range<usize>, to: usize) {
        self.bytes[self.start..].copy_within(from, to);
    }

    /// Takes bytes out of the middle.
    pub(crate) fn remove(&mut self, range: Range<usize>) {
        self.bytes
            .drain(self.start + range.start..self.start + range.end);
    }

    /// What so many bytes take.
    pub(crate) fn capacity_for(bytes: usize) -> usize {
        if bytes > SMALL { BUFFER } else { bytes }
    }

    /// Reads a bit more behind what is there, and has no more memory than that takes.
    pub(crate) fn poll_fill_little(
        &mut self,
        socket: &Socket,
        pool: &Pool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.park(pool);
        let mut room = Room {
            read_buffer: self,
            pool,
            most: 0,
        };
        socket.poll_read(cx, &mut room)
    }

    /// Reads more behind what is there, which stays within `most` bytes. Gives how many bytes
    /// came. A task that waits here holds no more memory than what it has read.
    pub(crate) fn poll_fill(
        &mut self,
        socket: &Socket,
        pool: &Pool,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.data().len() >= most {
            return Poll::Ready(Err(io::ErrorKind::StorageFull.into()));
        }
        let mut room = Room {
            read_buffer: self,
            pool,
            most,
        };
        let read = socket.poll_read(cx, &mut room);
        if read.is_pending() {
            self.park(pool);
        }
        read
    }

    /// Forgets what is left, and gives the buffer back.
    pub(crate) fn clear(&mut self, pool: &Pool) {
        self.consume(self.data().len());
        self.park(pool);
    }

    /// Gives the buffer back where what is left in it is little.
    pub(crate) fn park(&mut self, pool: &Pool) {
        let left = self.bytes.len() - self.start;
        if self.bytes.capacity() >= BUFFER && left <= SMALL {
            let small = self.bytes[self.start..].to_vec();
            pool.give(std::mem::replace(&mut self.bytes, small));
            self.start = 0;
        }
    }
}

/// Room for more behind what is in an inbox, made when there is something to put there.
struct Room<'r> {
    read_buffer: &'r mut ReadBuffer,
    pool: &'r Pool,
    /// 0: for little.
    most: usize,
}

impl Room<'_> {
    fn make(&mut self) -> &mut Vec<u8> {
        let ReadBuffer { bytes, start } = &mut *self.read_buffer;
        if self.most == 0 {
            bytes.drain(..*start);
            *start = 0;
            bytes.reserve_exact(SMALL);
            return bytes;
        }
        if bytes.capacity() < BUFFER {
            let small = std::mem::replace(bytes, self.pool.take());
            bytes.extend_from_slice(&small[*start..]);
        } else if *start > 0 {
            bytes.drain(..*start);
        }
        *start = 0;
        if bytes.len() == bytes.capacity() {
            bytes.reserve_exact(bytes.capacity().min(self.most - bytes.len()));
        }
        bytes
    }
}
