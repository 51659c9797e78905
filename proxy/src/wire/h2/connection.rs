//! What HTTP/2's frames are read from and written to.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::refusals::{Next, Refusals, Response};
use crate::wire::socket::Bytestream;

/// The first frame's kind has to be that of SETTINGS (RFC 9113, 3.4).
const SETTINGS: u8 = 4;
/// Where in a frame its kind is.
const KIND: usize = 3;
/// How long a client's preface is, which comes before its first frame.
const PREFACE: usize = 24;

/// What every client begins with (RFC 9113, 3.4).
const CLIENT_PREFACE: &[u8; PREFACE] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A frame's head.
const HEAD: usize = 9;
/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, 6.5.2), and its value where a client says none.
const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
const DEFAULT_WINDOW: u32 = 65_535;
/// A first frame that is longer is left to the crate.
const MOST_SETTINGS: usize = 1024;

/// A connection, and what was read from it already.
pub(crate) struct H2Socket {
    read: Vec<u8>,
    stream: Bytestream,
    /// How many bytes come before the first frame's kind; `None`: it was seen.
    until_kind: Option<usize>,
    /// Of a client: requests that are refused.
    refusals: Option<Refusals>,
    /// A response of ours that is being written, and how much of it was.
    response: Option<(Response, usize)>,
}

impl H2Socket {
    /// To a client, of which so much was read already.
    pub(crate) fn to_client(read: Vec<u8>, stream: Bytestream) -> Self {
        Self {
            read,
            stream,
            until_kind: Some(PREFACE + KIND),
            refusals: Some(Refusals::default()),
            response: None,
        }
    }

    /// To an endpoint.
    pub(crate) fn to_endpoint(stream: Bytestream) -> Self {
        Self {
            read: Vec::new(),
            stream,
            until_kind: Some(KIND),
            refusals: None,
            response: None,
        }
    }

    /// Waits for a client's first frame. Gives the window with which its streams begin. All of it is
    /// read once more by the crate.
    pub(crate) fn poll_first_window(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<u32>> {
        loop {
            if let Some(window) = first_window(&self.read) {
                return Poll::Ready(Ok(window));
            }
            let mut room = [0; MOST_SETTINGS];
            let mut came = ReadBuf::new(&mut room);
            ready!(self.stream.poll_read(cx, &mut came))?;
            if came.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.read.extend_from_slice(came.filled());
        }
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return self.stream.poll_read(cx, buffer);
        }
        let count = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..count]);
        self.read.drain(..count);
        if self.read.is_empty() {
            self.read = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(refusals) = &mut self.refusals else {
            return self.stream.poll_write(cx, slices);
        };
        loop {
            if let Some((response, written)) = &mut self.response {
                while *written < response.len() {
                    let rest = [IoSlice::new(&response[*written..])];
                    match ready!(self.stream.poll_write(cx, &rest))? {
                        0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        more => *written += more,
                    }
                }
                refusals.responded(response);
                self.response = None;
            }
            let written = match refusals.next(slices) {
                Next::Response(response) => {
                    self.response = Some((response, 0));
                    continue;
                }
                Next::Bytes(count) => {
                    let before = [IoSlice::new(&slices[0][..count])];
                    ready!(self.stream.poll_write(cx, &before))?
                }
                Next::All => ready!(self.stream.poll_write(cx, slices))?,
            };
            refusals.wrote(slices, written);
            return Poll::Ready(Ok(written));
        }
    }

    /// Looks at the first frame, which the crate lets be any.
    fn check(&mut self, came: &[u8]) -> io::Result<()> {
        let Some(until) = self.until_kind else {
            return Ok(());
        };
        self.until_kind = until.checked_sub(came.len());
        match came.get(until) {
            Some(kind) if *kind != SETTINGS => Err(io::ErrorKind::InvalidData.into()),
            _ => Ok(()),
        }
    }
}

/// The window that a client has said in its first frame; `None`: more of that is needed. What is wrong
/// with it, the crate says.
fn first_window(came: &[u8]) -> Option<u32> {
    let begins = came.len().min(PREFACE);
    if came[..begins] != CLIENT_PREFACE[..begins] {
        return Some(DEFAULT_WINDOW);
    }
    let (head, payload) = came.get(PREFACE..)?.split_first_chunk::<HEAD>()?;
    let [high, middle, low, kind, ..] = *head;
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    if kind != SETTINGS || length > MOST_SETTINGS {
        return Some(DEFAULT_WINDOW);
    }
    let mut window = DEFAULT_WINDOW;
    for setting in payload.get(..length)?.chunks_exact(6) {
        if let &[a, b, c, d, e, f] = setting
            && [a, b] == INITIAL_WINDOW_SIZE
        {
            window = u32::from_be_bytes([c, d, e, f]);
        }
    }
    Some(window)
}

impl AsyncRead for H2Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.poll_receive(cx, buffer))?;
        Poll::Ready(self.check(&buffer.filled()[before..]))
    }
}

impl AsyncWrite for H2Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_window_is_known_from_the_last_byte_of_the_first_frame_on() {
        let table_size = [0, 1, 0, 0, 16, 0];
        let window = |value: u8| [0, 4, 0, 0, 0, value];
        let frame = |kind: u8, settings: &[[u8; 6]]| {
            let length = u8::try_from(6 * settings.len()).unwrap();
            let head = [0, 0, length, kind, 0, 0, 0, 0, 0];
            [&CLIENT_PREFACE[..], &head, &settings.concat()].concat()
        };
        for (came, want) in [
            (frame(4, &[]), DEFAULT_WINDOW),
            (frame(4, &[table_size]), DEFAULT_WINDOW),
            (frame(4, &[table_size, window(0)]), 0),
            (frame(4, &[window(0), table_size, window(7)]), 7),
        ] {
            for length in 0..came.len() {
                assert_eq!(first_window(&came[..length]), None, "{length} of {came:?}");
            }
            assert_eq!(first_window(&came), Some(want), "{came:?}");
            let more = [&came[..], b"more"].concat();
            assert_eq!(first_window(&more), Some(want), "{more:?}");
        }
        // The crate says what is wrong with these.
        let long = [&CLIENT_PREFACE[..], &[0, 4, 1, 4, 0, 0, 0, 0, 0]].concat();
        for came in [b"GET / HTTP/1.1".to_vec(), frame(6, &[window(0)]), long] {
            assert_eq!(first_window(&came), Some(DEFAULT_WINDOW), "{came:?}");
        }
    }
}
