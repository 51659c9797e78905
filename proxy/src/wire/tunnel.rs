//! An upgraded connection: bytes both ways, until both sides have ended or a drain has no more
//! time for it. Over HTTP/2 it is a stream (RFC 8441).

use std::task::{Context, Poll, ready};

use crate::wire::Wire;
use crate::wire::socket::{Pool, ReadBuffer};
use crate::wire::timer::Timer;

/// One direction of it.
struct Way<'t> {
    from: Wire<'t>,
    read_buffer: &'t mut ReadBuffer,
    to: Wire<'t>,
    written: usize,
    moved: u64,
    is_over: bool,
}

/// How it has ended, and how many bytes went each way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tunnelled {
    pub(crate) ended: Ended,
    pub(crate) to_endpoint: u64,
    pub(crate) to_client: u64,
}

/// What has ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both sides, each its half.
    Whole,
    /// A drain had no more time.
    Cut,
    /// This side broke off.
    Client,
    Endpoint,
}

/// The side of a direction that broke off.
enum Broken {
    From,
    To,
}

/// Relays both ways. What was read of either side before comes first.
pub(crate) async fn tunnel(
    pool: &Pool,
    timer: &Timer,
    client: (Wire<'_>, &mut ReadBuffer),
    endpoint: (Wire<'_>, &mut ReadBuffer),
) -> Tunnelled {
    let way = |from, read_buffer, to| Way {
        from,
        read_buffer,
        to,
        written: 0,
        moved: 0,
        is_over: false,
    };
    let mut up = way(client.0, client.1, endpoint.0);
    let mut down = way(endpoint.0, endpoint.1, client.0);
    timer.clear();
    let ended = std::future::poll_fn(|cx| {
        if timer.is_cut() {
            return Poll::Ready(Ended::Cut);
        }
        // An error is how such a connection often ends.
        match up.poll(cx, pool) {
            Poll::Ready(Err(Broken::From)) => return Poll::Ready(Ended::Client),
            Poll::Ready(Err(Broken::To)) => return Poll::Ready(Ended::Endpoint),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        match down.poll(cx, pool) {
            Poll::Ready(Err(Broken::From)) => return Poll::Ready(Ended::Endpoint),
            Poll::Ready(Err(Broken::To)) => return Poll::Ready(Ended::Client),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if up.is_over && down.is_over {
            return Poll::Ready(Ended::Whole);
        }
        timer.poll(cx).map(|_| Ended::Cut)
    })
    .await;
    Tunnelled {
        ended,
        to_endpoint: up.moved,
        to_client: down.moved,
    }
}

impl Way<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, pool: &Pool) -> Poll<Result<(), Broken>> {
        while !self.is_over {
            let data = self.read_buffer.data();
            let sent = self.to.poll_send(cx, data, &mut self.written);
            ready!(sent).map_err(|_| Broken::To)?;
            self.read_buffer.consume(self.written);
            self.moved += self.written as u64;
            self.written = 0;
            let read = self.from.poll_fill(cx, self.read_buffer, pool);
            if ready!(read).map_err(|_| Broken::From)? == 0 {
                ready!(self.to.poll_shutdown(cx)).map_err(|_| Broken::To)?;
                self.is_over = true;
            }
        }
        Poll::Ready(Ok(()))
    }
}
