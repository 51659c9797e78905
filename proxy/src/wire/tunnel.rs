//! An upgraded connection: bytes both ways, until both sides have ended or a drain has no more
//! time for it.

use std::io;
use std::task::{Context, Poll, ready};

use crate::wire::socket::{Pool, ReadBuffer, Socket};
use crate::wire::timer::Timer;

/// One direction of it.
struct Way<'t> {
    from: &'t Socket,
    read_buffer: &'t mut ReadBuffer,
    to: &'t Socket,
    written: usize,
    is_over: bool,
}

/// Relays both ways. What was read of either side before comes first.
pub(crate) async fn tunnel(
    pool: &Pool,
    timer: &Timer,
    client: (&Socket, &mut ReadBuffer),
    endpoint: (&Socket, &mut ReadBuffer),
) {
    let way = |from, read_buffer, to| Way {
        from,
        read_buffer,
        to,
        written: 0,
        is_over: false,
    };
    let mut up = way(client.0, client.1, endpoint.0);
    let mut down = way(endpoint.0, endpoint.1, client.0);
    timer.clear();
    std::future::poll_fn(|cx| {
        if timer.is_cut() {
            return Poll::Ready(());
        }
        for way in [&mut up, &mut down] {
            // An error is how such a connection often ends; it is not reported.
            if let Poll::Ready(Err(_)) = way.poll(cx, pool) {
                return Poll::Ready(());
            }
        }
        if up.is_over && down.is_over {
            return Poll::Ready(());
        }
        timer.poll(cx).map(|_| ())
    })
    .await;
}

impl Way<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, pool: &Pool) -> Poll<io::Result<()>> {
        while !self.is_over {
            ready!(
                self.to
                    .poll_write_all(cx, [self.read_buffer.data()], &mut self.written)
            )?;
            self.read_buffer.consume(self.written);
            self.written = 0;
            let read = self.read_buffer.poll_fill(self.from, pool, usize::MAX, cx);
            if ready!(read)? == 0 {
                ready!(self.to.poll_shutdown(cx))?;
                self.is_over = true;
            }
        }
        Poll::Ready(Ok(()))
    }
}
