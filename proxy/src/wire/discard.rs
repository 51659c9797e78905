//! What a client goes on sending of a request that has its response already, or one that its endpoint
//! reads no more of: it is read and forgotten, so that a client that sends first and reads later gets
//! to read the response (RFC 9112, 9.6). That costs bandwidth, and so has an end.

use std::task::{Context, Poll, ready};

use crate::wire::pump::Source;
use crate::wire::timer::{Millis, Timer};

/// How long a client may go on, however slowly.
const ANY_RATE: Millis = 30_000;
/// How long one may go on that sends fast.
const LONGEST: Millis = 10 * 60_000;
/// Fast: so many bytes a second, on the average.
const FAST: u64 = 64 * 1024;
/// Reads in one turn; other connections have theirs in between.
const READS: usize = 16;

/// A request whose rest is forgotten.
pub(crate) struct Discard {
    since: Millis,
    bytes: u64,
    most: u64,
}

impl Discard {
    /// Begins with nothing of `most` bytes.
    pub(crate) fn begin(timer: &Timer, most: u64) -> Self {
        Self {
            since: timer.now(),
            bytes: 0,
            most,
        }
    }

    /// How many bytes were forgotten.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads and forgets what there is. Ready: nothing more comes, or the client has had its time.
    /// `moved` is set when anything came.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Source<'_>,
        timer: &Timer,
        moved: &mut bool,
    ) -> Poll<()> {
        for _ in 0..READS {
            client.read_buffer.consume(client.read_buffer.data().len());
            let read = client.wire.poll_fill(cx, client.read_buffer, client.pool);
            match ready!(read) {
                Ok(read @ 1..) => self.bytes += read as u64,
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
            *moved = true;
            if self.bytes >= self.most || !may_go_on(timer.now() - self.since, self.bytes) {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Whether a client may go on that has sent so many bytes in this time.
fn may_go_on(time: Millis, bytes: u64) -> bool {
    time <= ANY_RATE || time <= LONGEST && bytes / time >= FAST / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_that_sends_fast_may_go_on_for_long() {
        for (seconds, bytes, want) in [
            (0, 0, true),
            (30, 1, true),
            (31, 1, false),
            (31, 31 * FAST, true),
            (31, 31 * FAST / 2, false),
            (600, 600 * FAST, true),
            (601, u64::MAX, false),
        ] {
            let got = may_go_on(seconds * 1_000, bytes);
            assert_eq!(got, want, "{bytes} bytes in {seconds} s");
        }
    }
}
