//! The clock of these tests: it stands still while anything moves, and runs fast when nothing does.
//!
//! tokio's own paused clock goes on as soon as no task has anything to do. Over real sockets that
//! is too early: bytes may be inside the kernel, on a busy machine for milliseconds. So this one
//! goes on only if no peer has read or written anything for a moment of real time, a tick at a
//! time at first.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Real time in which nothing moves before the clock goes on.
const QUIET: Duration = Duration::from_millis(3);
/// How far the clock goes on at first, which is a tick of the proxy's own clock.
const STEP: Duration = Duration::from_millis(25);
/// How often it does so before its steps grow, and to what.
const SMALL_STEPS: u32 = 30;
const LONGEST: Duration = Duration::from_millis(500);

thread_local! {
    static MOVED: Cell<u64> = const { Cell::new(0) };
}

/// A peer of the proxy has read or written something.
pub(super) fn moved() {
    MOVED.set(MOVED.get() + 1);
}

/// Drives the clock of this thread's runtime, which is paused. Never ends.
pub(super) async fn run() {
    let (mut before, mut quiet) = (0, 0);
    loop {
        // While it waits for another thread, tokio does not move the clock by itself.
        let waited = tokio::task::spawn_blocking(|| std::thread::sleep(QUIET));
        waited.await.unwrap();
        if MOVED.get() != before {
            (before, quiet) = (MOVED.get(), 0);
            continue;
        }
        quiet += 1;
        let growth = 1 << u32::saturating_sub(quiet, SMALL_STEPS).min(16);
        tokio::time::advance((STEP * growth).min(LONGEST)).await;
    }
}

/// A socket of a peer whose bytes are read and written elsewhere.
pub(crate) struct Watched(pub(crate) TcpStream);

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer).map(note)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes).map(note)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn note<T>(outcome: T) -> T {
    moved();
    outcome
}
