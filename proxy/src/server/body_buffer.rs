//! A request's body that is read before an endpoint is taken for it (`buffer.request`). Its client may
//! send as slowly as it likes, and what is here whole goes on with its length.

use std::future::poll_fn;
use std::task::{Poll, ready};

use crate::forward::{BodyRead, BodyWait};
use crate::wire::buffered::Reserved;
use crate::wire::expectation::Expectation;
use crate::wire::h1::body::{BadFraming, Decoder, Framing, Piece};
use crate::wire::pump::Source;
use crate::wire::reply::LocalReply;
use crate::wire::socket::{BUFFER, ReadBuffer};
use crate::wire::timer::Timer;

/// A body, as far as it was read.
pub(super) struct Buffered {
    pub(super) framing: Framing,
    pub(super) read: BodyRead,
    pub(super) reserved: Box<Reserved>,
}

/// How much of a body in the read buffer was looked at.
struct Progress {
    decoder: Decoder,
    /// Bytes of it with its framing, and without.
    seen: usize,
    length: u64,
}

/// Reads a body that is framed like this into its client's read buffer, to its end if it fits. One that
/// is whole is there without its framing.
///
/// # Errors
/// What its client gets, which has stopped sending or does not keep to the framing.
pub(super) async fn read(
    timer: &Timer,
    client: &mut Source<'_>,
    framing: Framing,
    wait: BodyWait,
) -> Result<Buffered, LocalReply> {
    if client.expectation == Expectation::GoAhead && client.read_buffer.is_empty() {
        let told = client.wire.proceed(timer, wait.idle).await;
        told.map_err(|_| LocalReply::ClientGone)?;
    }
    let mut reserved = Box::new(Reserved::new(client.pool, client.wire));
    let mut progress = Progress {
        decoder: Decoder::new(client.wire.decoding(framing)),
        seen: 0,
        length: 0,
    };
    timer.set(wait.idle);
    let read = poll_fn(|cx| {
        loop {
            let read = progress.look(client, wait.most);
            if let Some(read) = read.map_err(|BadFraming| LocalReply::BadFraming)? {
                return Poll::Ready(Ok(read));
            }
            let most = wait.most as usize;
            let held = client.read_buffer.held_with(client.wire.at_once());
            if client.read_buffer.data().len() > 2 * most.max(BUFFER) || !reserved.cover(held) {
                return Poll::Ready(Ok(BodyRead::Begun));
            }
            match client.wire.poll_fill(cx, client.read_buffer, client.pool) {
                Poll::Ready(Ok(1..)) => timer.set(wait.idle),
                Poll::Ready(Ok(0)) if progress.decoder.ends_here() => {
                    return Poll::Ready(Ok(match client.wire.has_trailers() {
                        true => BodyRead::Begun,
                        false => BodyRead::Whole,
                    }));
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(LocalReply::ClientGone)),
                Poll::Pending => break,
            }
        }
        ready!(timer.poll(cx));
        Poll::Ready(Err(LocalReply::ClientStalled))
    })
    .await?;
    let mut body = Buffered {
        framing,
        read,
        reserved,
    };
    if read == BodyRead::Whole {
        if client.wire.decoding(framing) == Framing::Chunked {
            take_framing_off(client.read_buffer);
        }
        body.framing = Framing::of_length(progress.length);
    }
    Ok(body)
}

impl Progress {
    /// Looks at what has come. `None`: more is to be read.
    fn look(&mut self, client: &Source<'_>, most: u64) -> Result<Option<BodyRead>, BadFraming> {
        loop {
            match self.decoder.next(&client.read_buffer.data()[self.seen..])? {
                Piece::Data { skip, data } => {
                    self.seen += skip + data;
                    self.length += data as u64;
                }
                Piece::End { trailers: 0, .. } => return Ok(Some(BodyRead::Whole)),
                // They need chunks to go on in.
                Piece::End { .. } => return Ok(Some(BodyRead::Begun)),
                Piece::More if client.wire.is_over() => return Ok(Some(BodyRead::Whole)),
                Piece::More if self.length > most => return Ok(Some(BodyRead::Begun)),
                Piece::More => return Ok(None),
            }
        }
    }
}

/// Leaves of a whole chunked body its data alone.
fn take_framing_off(read_buffer: &mut ReadBuffer) {
    let mut decoder = Decoder::new(Framing::Chunked);
    let (mut from, mut to) = (0, 0);
    // It was read before.
    while let Ok(piece) = decoder.next(&read_buffer.data()[from..]) {
        match piece {
            Piece::Data { skip, data } => {
                from += skip;
                read_buffer.move_forward(from..from + data, to);
                (from, to) = (from + data, to + data);
            }
            Piece::End { skip, .. } => return read_buffer.remove(to..from + skip),
            Piece::More => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::socket::Pool;

    #[test]
    fn of_a_chunked_body_its_data_stays_and_what_comes_behind_it() {
        for (all, want) in [
            ("0\r\n\r\nGET /", "GET /"),
            ("5\r\norder\r\n0\r\n\r\n", "order"),
            (
                "1;a=b\r\no\r\n2\r\nrd\r\n000a\r\n0123456789\r\n0\r\n\r\nGET /",
                "ord0123456789GET /",
            ),
        ] {
            let mut read_buffer = ReadBuffer::default();
            read_buffer.push(b"skip", &Pool::default());
            read_buffer.push(all.as_bytes(), &Pool::default());
            read_buffer.consume(4);
            take_framing_off(&mut read_buffer);
            assert_eq!(read_buffer.data(), want.as_bytes(), "{all}");
        }
    }
}
