//! A message on its way from one connection to another: its head as it was written anew, then
//! its body, a piece at a time. Nothing more is read before what was read is written.

use std::io::{self, Write};
use std::task::{Context, Poll, ready};

use crate::wire::expectation::Expectation;
use crate::wire::h1::body::{self, BadFraming, Decoder, Framing};
use crate::wire::h1::head::read_trailers;
use crate::wire::h1::splice::{Broken, SPLICE_FROM, Splice};
use crate::wire::h2::stream::Part;
use crate::wire::head::Head;
use crate::wire::socket::{Pool, ReadBuffer};
use crate::wire::{Wire, headers};

/// Where a body comes from.
pub(crate) struct Source<'s> {
    pub(crate) wire: Wire<'s>,
    pub(crate) read_buffer: &'s mut ReadBuffer,
    pub(crate) pool: &'s Pool,
    /// The client behind it can be sent interim responses (RFC 9110, 15.2).
    pub(crate) takes_interim: bool,
    pub(crate) expectation: Expectation,
}

/// How much of a body may come, and how it is passed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relay {
    pub(crate) framing: Framing,
    /// In chunks, whatever it came in.
    pub(crate) chunked: bool,
    /// The most bytes of body; more is refused.
    pub(crate) most: u64,
    /// The kernel may move what is left of a large body.
    pub(crate) splices: bool,
}

/// One message that is being passed on.
pub(crate) struct Pump {
    decoder: Decoder,
    chunked: bool,
    /// Bytes of body that may still come. `None`: any number, uncounted.
    allowance: Option<u64>,
    state: State,
    piece: Outgoing,
    /// Bytes of the piece that were written.
    written: usize,
    /// Bytes that were written in all.
    passed: u64,
    /// Those that are no data of the body: the head, and what frames chunks.
    beside: usize,
    splices: bool,
    splice: Option<Splice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next piece is not known yet.
    Reading,
    Writing,
    /// The piece is written, and its data is still in the inbox.
    Written,
    Splicing,
    /// All is written; the data of the last piece is still in the inbox.
    Done,
}

/// A piece that is being written: bytes of ours, and between them data from the front of the
/// inbox.
#[derive(Debug, Default)]
struct Outgoing {
    /// The message's head, with the first piece; a chunk's size line.
    before: Vec<u8>,
    data: usize,
    after: &'static [u8],
    /// Trailer fields at the front of the inbox, where there is no data.
    trailers: usize,
    /// Framing behind the data in the inbox, which is taken off with it.
    behind: usize,
    is_first: bool,
    is_last: bool,
    is_written: bool,
}

/// Why a message could not be passed on whole.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The side it comes from failed, or ended too early.
    From,
    /// It is not framed as it should be.
    Framing,
    /// It is longer than is allowed.
    TooLong,
    /// The side it goes to failed.
    To,
}

impl Source<'_> {
    /// Notes that a client does not wait for a 100 any more, if some of its body came.
    pub(crate) fn expects_no_longer(&mut self, upload: &Pump) {
        if self.expectation == Expectation::GoAhead && !upload.can_rewind() {
            self.expectation = Expectation::BodyCame;
        }
    }
}

impl From<BadFraming> for Stopped {
    fn from(_: BadFraming) -> Self {
        Self::Framing
    }
}

impl From<Broken> for Stopped {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::From => Self::From,
            Broken::To => Self::To,
        }
    }
}

impl Pump {
    /// Passes on `head`, and the body that follows it, which comes on `from`.
    pub(crate) fn new(head: Vec<u8>, relay: Relay, from: Wire<'_>) -> Self {
        Self {
            beside: head.len(),
            decoder: Decoder::new(from.decoding(relay.framing)),
            chunked: relay.chunked,
            allowance: (relay.most < u64::MAX).then_some(relay.most),
            state: State::Reading,
            piece: Outgoing {
                before: head,
                is_first: true,
                ..Outgoing::default()
            },
            written: 0,
            passed: 0,
            splices: relay.splices,
            splice: None,
        }
    }

    /// Whether nothing of it was written.
    pub(crate) fn is_untouched(&self) -> bool {
        self.piece.is_first && self.written == 0 && !self.piece.is_written
    }

    /// Whether all of it was written.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How many bytes were written so far.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    /// How many of them are data of the body.
    pub(crate) fn body_passed(&self) -> u64 {
        self.passed.saturating_sub(self.beside as u64)
    }

    /// Whether it waits for the side that it comes from.
    pub(crate) fn is_starved(&self) -> bool {
        match self.state {
            State::Reading => true,
            State::Splicing => self.splice.as_ref().is_some_and(Splice::is_empty),
            State::Writing | State::Written | State::Done => false,
        }
    }

    /// Whether the rest of the body is here, where `has_ended` says that no more comes; if so, whether
    /// it is the last that is here.
    pub(crate) fn rest_is_here(&self, read_buffer: &ReadBuffer, has_ended: bool) -> Option<bool> {
        let rest = read_buffer
            .data()
            .get(self.piece.data + self.piece.behind..)?;
        if self.piece.is_last && self.state != State::Reading {
            return Some(rest.is_empty());
        }
        match self.decoder.plain() {
            Some(Some(left)) if rest.len() as u64 >= left => Some(rest.len() as u64 == left),
            Some(None) if has_ended => Some(true),
            Some(_) => None,
            // It is looked through only where it seems to be whole.
            None if rest.ends_with(b"0\r\n\r\n") => self.decoder.ends_with(rest).then_some(true),
            None => None,
        }
    }

    /// Whether all that was written is still here.
    pub(crate) fn can_rewind(&self) -> bool {
        self.piece.is_first
    }

    /// Whether all of it is here, so that it could be sent again from its beginning.
    pub(crate) fn is_here(&self, read_buffer: &ReadBuffer) -> bool {
        if self.state != State::Reading {
            return self.piece.is_first && self.piece.is_last;
        }
        let (mut ahead, input) = (self.decoder, read_buffer.data());
        let end = match ahead.next(input) {
            Ok(body::Piece::Data { skip, data }) => ahead.next(&input[skip + data..]),
            other => other,
        };
        // As one piece: see `data`.
        self.is_untouched() && matches!(end, Ok(body::Piece::End { trailers: 0, .. }))
    }

    /// Begins again, for another connection, if all that was written is still here.
    pub(crate) fn rewind(&mut self) -> bool {
        if self.piece.is_first {
            self.passed = 0;
            self.written = 0;
            self.piece.is_written = false;
            if self.state != State::Reading {
                self.state = State::Writing;
            }
        }
        self.piece.is_first
    }

    /// Takes what was written off the inbox, and gives the buffer of the head back.
    pub(crate) fn finish(&mut self, read_buffer: &mut ReadBuffer, pool: &Pool) {
        self.take_off(read_buffer);
        pool.give(std::mem::take(&mut self.piece.before));
    }

    /// Passes on what there is, to the end. `moved` is set when anything was.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Source<'_>,
        to: Wire<'_>,
        moved: &mut bool,
    ) -> Poll<Result<(), Stopped>> {
        loop {
            match self.state {
                State::Reading => ready!(self.poll_read(cx, from, to, moved))?,
                State::Writing => {
                    let before = self.written;
                    let outcome = self.poll_write(cx, from.read_buffer, to);
                    *moved |= self.written > before;
                    self.passed += self.written.saturating_sub(before) as u64;
                    ready!(outcome).map_err(|_| Stopped::To)?;
                }
                State::Written => {
                    // A head alone stays, for another connection, until more is there.
                    if self.piece.data + self.piece.behind > 0 {
                        self.take_off(from.read_buffer);
                    }
                    self.state = State::Reading;
                }
                State::Splicing => {
                    let count = ready!(self.poll_splice(cx, from, to))?;
                    *moved |= count > 0;
                    self.passed += count as u64;
                }
                State::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Finds the next piece, and reads more where there is none.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Source<'_>,
        to: Wire<'_>,
        moved: &mut bool,
    ) -> Poll<Result<(), Stopped>> {
        match self.decoder.next(from.read_buffer.data())? {
            body::Piece::Data { skip, data } => {
                from.read_buffer.consume(skip);
                self.data(&from.read_buffer.data()[data..], data, from.wire.is_over())?;
                if self.piece.before.is_empty() && !self.chunked {
                    // Nothing of ours will go before the data any more, however slowly it goes.
                    from.pool.give(std::mem::take(&mut self.piece.before));
                }
            }
            body::Piece::End { skip, trailers } => {
                from.read_buffer.consume(skip);
                self.end(&from.read_buffer.data()[..trailers])?;
            }
            body::Piece::More if self.is_untouched() => {
                // A head does not wait for its body, but takes along what is there.
                match from.wire.poll_at_hand(cx, from.read_buffer, from.pool) {
                    Poll::Ready(Ok(read)) => self.take_up(read, from)?,
                    _ => self.state = State::Writing,
                }
            }
            body::Piece::More if self.may_splice(from, to) => {
                self.renew();
                self.state = State::Splicing;
            }
            body::Piece::More => {
                let read = if to.reads_little() {
                    from.wire.poll_fill_little(cx, from.read_buffer, from.pool)
                } else {
                    from.wire.poll_fill(cx, from.read_buffer, from.pool)
                };
                let read = ready!(read).map_err(|_| Stopped::From)?;
                *moved = true;
                self.take_up(read, from)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// So many bytes came; 0: the body has ended, if it may.
    fn take_up(&mut self, read: usize, from: &mut Source<'_>) -> Result<(), Stopped> {
        match read {
            1.. => Ok(()),
            0 if self.decoder.ends_here() => {
                from.wire.take_trailers(from.read_buffer, from.pool);
                self.end(from.read_buffer.data())
            }
            0 => Err(Stopped::From),
        }
    }

    /// The next piece is `data` bytes at the front of the inbox, with `rest` behind them. The
    /// wire that it came on may know that it `is_last`.
    fn data(&mut self, rest: &[u8], data: usize, is_last: bool) -> Result<(), Stopped> {
        if let Some(allowance) = &mut self.allowance {
            let left = allowance.checked_sub(data as u64);
            *allowance = left.ok_or(Stopped::TooLong)?;
        }
        self.renew();
        self.state = State::Writing;
        self.piece.data = data;
        self.piece.is_last = is_last;
        let mut ahead = self.decoder;
        if let Ok(body::Piece::End { skip, trailers: 0 }) = ahead.next(rest) {
            // The end is here already, and goes with the last of the data.
            self.decoder = ahead;
            self.piece.behind = skip;
            self.piece.is_last = true;
        }
        if self.chunked {
            let before = self.piece.before.len();
            // Writing to memory does not fail.
            let _ = write!(self.piece.before, "{data:x}\r\n");
            self.piece.after = if self.piece.is_last {
                b"\r\n0\r\n\r\n"
            } else {
                b"\r\n"
            };
            self.beside += self.piece.before.len() - before + self.piece.after.len();
        }
        Ok(())
    }

    /// The body has ended, with these trailer fields at the front of the inbox.
    fn end(&mut self, trailers: &[u8]) -> Result<(), Stopped> {
        self.renew();
        self.state = State::Writing;
        self.piece.is_last = true;
        self.piece.behind = trailers.len();
        self.piece.trailers = trailers.len();
        let mut fields = Head::default();
        if !trailers.is_empty() {
            read_trailers(trailers, &mut fields).map_err(|_| Stopped::Framing)?;
        }
        if self.chunked {
            let before = self.piece.before.len();
            self.piece.before.extend_from_slice(b"0\r\n");
            headers::trailers(fields.over(trailers), &mut self.piece.before);
            self.piece.before.extend_from_slice(b"\r\n");
            self.beside += self.piece.before.len() - before;
        }
        Ok(())
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        read_buffer: &ReadBuffer,
        to: Wire<'_>,
    ) -> Poll<io::Result<()>> {
        let piece = &self.piece;
        let data = &read_buffer.data()[..piece.data];
        match to {
            Wire::H1(socket) => {
                let parts = [&*piece.before, data, piece.after];
                ready!(socket.poll_write_all(cx, parts, &mut self.written))?;
            }
            Wire::H2(stream) => {
                let part = Part {
                    before: &piece.before,
                    data,
                    trailers: &read_buffer.data()[piece.data..piece.data + piece.trailers],
                    is_last: piece.is_last,
                };
                ready!(stream.poll_write(cx, part, &mut self.written))?;
            }
            Wire::Nowhere => self.written = piece.before.len() + piece.data + piece.after.len(),
        }
        self.piece.is_written = true;
        self.state = if self.piece.is_last {
            State::Done
        } else {
            State::Written
        };
        Poll::Ready(Ok(()))
    }

    /// The piece that was written is over.
    fn take_off(&mut self, read_buffer: &mut ReadBuffer) {
        if matches!(self.state, State::Written | State::Done) {
            read_buffer.consume(self.piece.data + self.piece.behind);
        }
        self.renew();
    }

    /// Forgets the piece before, if it was written.
    fn renew(&mut self) {
        if !self.piece.is_written {
            return;
        }
        self.piece.before.clear();
        self.piece = Outgoing {
            before: std::mem::take(&mut self.piece.before),
            ..Outgoing::default()
        };
        self.written = 0;
    }

    /// Whether what is left may be moved without being looked at, and is worth it.
    fn may_splice(&mut self, from: &Source<'_>, to: Wire<'_>) -> bool {
        let worth = match self.decoder.plain() {
            Some(left) => left.is_none_or(|left| left >= SPLICE_FROM),
            None => false,
        };
        let possible = worth
            && self.splices
            && !self.chunked
            && self.allowance.is_none()
            && from.read_buffer.is_empty();
        // A head whose body is waited for stays, for another connection.
        let may_wait = from.expectation == Expectation::GoAhead;
        if possible && !may_wait && from.wire.as_plain().is_some() && to.as_plain().is_some() {
            self.splice = Splice::begin();
        }
        self.splice.is_some()
    }

    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &Source<'_>,
        to: Wire<'_>,
    ) -> Poll<Result<usize, Stopped>> {
        let left = self.decoder.plain().flatten();
        let (Some(splice), Some(from), Some(to)) =
            (&mut self.splice, from.wire.as_plain(), to.as_plain())
        else {
            self.state = State::Reading;
            return Poll::Ready(Ok(0));
        };
        let moved = ready!(splice.poll_move(cx, &from, &to, left))?;
        self.decoder.moved(moved as u64);
        if moved == 0 && !self.decoder.ends_here() {
            return Poll::Ready(Err(Stopped::From));
        }
        if moved == 0 || self.decoder.is_done() {
            self.splice = None;
            self.state = State::Done;
        }
        Poll::Ready(Ok(moved))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::wire::socket::Socket;

    async fn connected() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Socket::plain(near.unwrap()), far.unwrap().0)
    }

    /// What a pump does of whose body the first bytes came along with the head.
    async fn state_after_the_first_bytes(most: u64) -> State {
        let (from, _sender) = connected().await;
        let (to, _receiver) = connected().await;
        let (mut read_buffer, pool) = (ReadBuffer::default(), Pool::default());
        read_buffer.push(&[0; 100], &pool);
        let mut source = Source {
            wire: Wire::H1(&from),
            read_buffer: &mut read_buffer,
            pool: &pool,
            takes_interim: false,
            expectation: Expectation::Nothing,
        };
        let relay = Relay {
            framing: Framing::Length(1024 * 1024),
            chunked: false,
            most,
            splices: true,
        };
        let mut pump = Pump::new(b"head".to_vec(), relay, source.wire);
        poll_fn(|cx| {
            let polled = pump.poll(cx, &mut source, Wire::H1(&to), &mut false);
            assert!(polled.is_pending());
            Poll::Ready(())
        })
        .await;
        pump.state
    }

    #[test]
    fn a_message_is_here_when_the_last_of_its_body_is() {
        let pool = Pool::default();
        for (framing, all) in [
            (Framing::Length(5), "order"),
            (Framing::Chunked, "5\r\norder\r\n0\r\n\r\n"),
        ] {
            let relay = Relay {
                framing,
                chunked: framing == Framing::Chunked,
                most: u64::MAX,
                splices: true,
            };
            let pump = Pump::new(b"head".to_vec(), relay, Wire::Nowhere);
            for length in 0..=all.len() {
                let mut read_buffer = ReadBuffer::default();
                read_buffer.push(&all.as_bytes()[..length], &pool);
                assert_eq!(pump.is_here(&read_buffer), length == all.len(), "{length}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_left_of_a_large_body_is_spliced_where_nothing_has_to_be_counted() {
        assert_eq!(state_after_the_first_bytes(u64::MAX).await, State::Splicing);
        assert_eq!(
            state_after_the_first_bytes(2 * 1024 * 1024).await,
            State::Reading
        );
    }
}
