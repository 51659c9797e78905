//! A TCP connection, as tokio's reactor tells of it: what may be read, and how the other side has
//! ended it.
//!
//! The reactor tells of every change once, and a task that reads clears what it was told. A task
//! that does not read, but wants to know when the other side ends, has to clear it, too: so what
//! may be left to read is noted here.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::TcpStream;
use tokio::task::coop;

/// A TCP connection.
pub(crate) struct Tcp {
    stream: TcpStream,
    /// There may be something to read that the reactor does not tell of again.
    unread: Cell<bool>,
}

/// How the other side has ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It sends no more. It may have closed the connection, or still read: that cannot be told.
    Half,
    /// The connection is gone.
    Whole,
}

/// What a system call has done of what it could have done.
pub(crate) struct Moved {
    pub(crate) count: usize,
    pub(crate) all: usize,
}

impl Tcp {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            unread: Cell::new(false),
        }
    }

    /// The stream, for what neither reads nor waits for something to read.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Makes a system call on the socket once it is ready for it. One that did not do all that it
    /// could would find nothing to do if it were made again, and so it is not until there is news.
    pub(crate) fn poll_io(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut call: impl FnMut() -> io::Result<Moved>,
    ) -> Poll<io::Result<usize>> {
        // Other tasks of the worker get their turn, too.
        let turn = ready!(coop::poll_proceed(cx));
        if interest.is_readable()
            && self.unread.get()
            && let Some(read) = self.catch_up(&mut call)
        {
            turn.made_progress();
            return Poll::Ready(read);
        }
        loop {
            let mut part = None;
            let moved = self.stream.try_io(interest, || match call()? {
                Moved { count, all } if (1..all).contains(&count) => {
                    part = Some(count);
                    Err(io::ErrorKind::WouldBlock.into())
                }
                Moved { count, .. } => Ok(count),
            });
            let moved = part.map_or(moved, Ok);
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(match interest {
                        Interest::READABLE => self.stream.poll_read_ready(cx),
                        _ => self.stream.poll_write_ready(cx),
                    })?;
                }
                moved => {
                    turn.made_progress();
                    return Poll::Ready(moved);
                }
            }
        }
    }

    /// Reads what the reactor does not tell of again. `None`: nothing is left of it.
    fn catch_up(&self, mut call: impl FnMut() -> io::Result<Moved>) -> Option<io::Result<usize>> {
        let read = match call() {
            Ok(Moved { count, all }) => {
                // What fills the room may not be all of it.
                self.unread.set(count == all);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.unread.set(false);
                return None;
            }
            Err(error) => Err(error),
        };
        Some(read)
    }

    /// Reads into what room `buffer` has.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.get() {
            let read = self.catch_up(|| {
                let room = buffer.initialize_unfilled();
                let all = room.len();
                let (_, count) = rustix::net::recv(&self.stream, room, RecvFlags::empty())?;
                buffer.advance(count);
                Ok(Moved { count, all })
            });
            if let Some(read) = read {
                return Poll::Ready(read.map(drop));
            }
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }

    /// Waits for something to read (`None`), or for the other side's end, which comes first.
    pub(crate) fn poll_news(&self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        if ready!(self.stream.poll_read_ready(cx)).is_err() {
            return Poll::Ready(Some(Ended::Whole));
        }
        let ready = self.readiness();
        Poll::Ready(if ready.is_write_closed() {
            Some(Ended::Whole)
        } else if ready.is_read_closed() {
            Some(Ended::Half)
        } else {
            None
        })
    }

    /// Waits for the other side's end, and leaves what there is to read.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            if let Some(ended) = ready!(self.poll_news(cx)) {
                return Poll::Ready(ended);
            }
            self.unread.set(true);
            let cleared = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            // An error is what was asked for.
            let _ = self.stream.try_io(Interest::READABLE, cleared);
        }
    }

    /// What the reactor has told of a socket that is ready for something.
    fn readiness(&self) -> Ready {
        let ready = pin!(self.stream.ready(Interest::READABLE | Interest::WRITABLE));
        match ready.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(ready)) => ready,
            Poll::Ready(Err(_)) | Poll::Pending => Ready::EMPTY,
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsFd for Tcp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
