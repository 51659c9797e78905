//! Large bodies, moved by the kernel from one socket to the other through a pipe, without a
//! copy into this process.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;

use crate::wire::tcp::{Moved, Tcp};

/// From here on a pipe is worth its two system calls.
pub(crate) const SPLICE_FROM: u64 = 64 * 1024;
/// What a pipe holds.
const PIPE: usize = 256 * 1024;
/// Pipes of the whole process. The kernel gives a user 64 MiB of them before they shrink.
const MAX_PIPES: usize = 64;

static PIPES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Empty pipes of this worker.
    static FREE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe on loan to one body.
pub(crate) struct Splice {
    /// `Some` until it is dropped.
    pipe: Option<Pipe>,
    /// Bytes in it.
    held: usize,
}

struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// Which side failed.
pub(crate) enum Broken {
    From,
    To,
}

impl Splice {
    /// A pipe, unless too many are in use.
    pub(crate) fn begin() -> Option<Self> {
        let pipe = FREE.with_borrow_mut(Vec::pop).or_else(Pipe::new)?;
        Some(Self {
            pipe: Some(pipe),
            held: 0,
        })
    }

    /// Whether nothing waits for the side that it goes to.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves `left` bytes at most. Gives how many the other side took: 0 when `from` has ended.
    pub(crate) fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &Tcp,
        to: &Tcp,
        left: Option<u64>,
    ) -> Poll<Result<usize, Broken>> {
        let Some(pipe) = &self.pipe else {
            return Poll::Ready(Ok(0));
        };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        if self.held == 0 {
            let want = left.map_or(PIPE, |left| usize::try_from(left).unwrap_or(PIPE).min(PIPE));
            self.held = ready!(from.poll_io(cx, Interest::READABLE, || {
                whole(splice(from, None, &pipe.writer, None, want, flags))
            }))
            .map_err(|_| Broken::From)?;
            if self.held == 0 {
                return Poll::Ready(Ok(0));
            }
        }
        let more = if left.is_some_and(|left| left > self.held as u64) {
            SpliceFlags::MORE
        } else {
            SpliceFlags::empty()
        };
        let moved = ready!(to.poll_io(cx, Interest::WRITABLE, || {
            whole(splice(
                &pipe.reader,
                None,
                to,
                None,
                self.held,
                flags | more,
            ))
        }))
        .map_err(|_| Broken::To)?;
        self.held -= moved;
        Poll::Ready(Ok(moved))
    }
}

/// A system call that does not say how much it could have done.
fn whole(moved: rustix::io::Result<usize>) -> io::Result<Moved> {
    let count = moved?;
    Ok(Moved { count, all: count })
}

impl Pipe {
    fn new() -> Option<Self> {
        let count = |pipes: usize| (pipes < MAX_PIPES).then_some(pipes + 1);
        PIPES
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, count)
            .ok()?;
        let made = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let Ok((reader, writer)) = made else {
            PIPES.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        // A smaller pipe works too, with more calls.
        let _ = fcntl_setpipe_size(&writer, PIPE);
        Some(Self { reader, writer })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Splice {
    fn drop(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        // A pipe with something in it belongs to a body that broke off.
        if self.held == 0 {
            // At the end of a thread there is no further use for it.
            let _ = FREE.try_with(|free| free.borrow_mut().push(pipe));
        }
    }
}
