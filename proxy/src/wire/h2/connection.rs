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
