//! HTTP/1.1 as bytes on a socket, for both ends of the harness. Nothing here forgives anything:
//! what a client library would hide is what is to be seen.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Heads past this are refused.
const MAX_HEAD: usize = 16 * 1024;

/// A connection, and what came on it and was not taken yet.
pub(super) struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Known(usize),
    Chunked,
}

/// The head of a request, as far as it matters here.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) path: String,
    pub(super) length: Length,
    pub(super) close: bool,
}

/// The head of a response, as far as it matters here.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    pub(super) length: Length,
    pub(super) close: bool,
    /// The origin that says it has responded.
    pub(super) endpoint: Option<u32>,
    /// The proxy's reason, where the response is its own.
    pub(super) reason: Option<String>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::new(),
        })
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The bytes of the next head. `None`: the connection was closed with nothing of it come.
    pub(super) async fn head(&mut self) -> io::Result<Option<Bytes>> {
        let mut looked = 0;
        loop {
            let from = looked;
            let end = self.buffer[from..]
                .windows(4)
                .position(|w| w == b"\r\n\r\n");
            if let Some(end) = end {
                return Ok(Some(self.buffer.split_to(from + end + 4).freeze()));
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(invalid("a head without an end"));
            }
            looked = self.buffer.len().saturating_sub(3);
            if self.read().await? == 0 {
                return match self.buffer.len() {
                    0 => Ok(None),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// A whole body.
    pub(super) async fn body(&mut self, length: Length) -> io::Result<Bytes> {
        match length {
            Length::Known(length) => self.exactly(length).await,
            Length::Chunked => {
                let mut body = BytesMut::new();
                loop {
                    let line = self.line().await?;
                    let digits = line.split(';').next().unwrap_or_default().trim();
                    let size = usize::from_str_radix(digits, 16)
                        .map_err(|_| invalid("a chunk without a size"))?;
                    if size == 0 {
                        break;
                    }
                    body.extend_from_slice(&self.exactly(size).await?);
                    if !self.line().await?.is_empty() {
                        return Err(invalid("a chunk that is longer than it says"));
                    }
                }
                // Trailer fields, and the empty line that ends them.
                while !self.line().await?.is_empty() {}
                Ok(body.freeze())
            }
        }
    }

    /// So many bytes.
    pub(super) async fn exactly(&mut self, length: usize) -> io::Result<Bytes> {
        while self.buffer.len() < length {
            if self.read().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = self.buffer.split_to(end);
                self.buffer.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.read().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Waits for bytes that were not requested. Gives how many bytes; 0: its end.
    pub(super) async fn unasked(&mut self) -> usize {
        if !self.buffer.is_empty() {
            return self.buffer.len();
        }
        self.read().await.unwrap_or(0)
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.buffer.reserve(16 * 1024);
        self.stream.read_buf(&mut self.buffer).await
    }
}

impl RequestHead {
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Self> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        request.parse(bytes).map_err(invalid)?;
        let path = request.path.unwrap_or_default().to_owned();
        let fields = Fields::of(request.headers)?;
        Ok(Self {
            path,
            length: fields.length.unwrap_or(Length::Known(0)),
            close: fields.close,
        })
    }
}

impl ResponseHead {
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Self> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        response.parse(bytes).map_err(invalid)?;
        let status = response.code.unwrap_or_default();
        let fields = Fields::of(response.headers)?;
        let length = match (fields.length, status) {
            (Some(length), _) => length,
            (None, 100..=199 | 204 | 304) => Length::Known(0),
            (None, _) => return Err(invalid("a response that does not say how long it is")),
        };
        Ok(Self {
            status,
            length,
            close: fields.close,
            endpoint: fields.endpoint,
            reason: fields.reason,
        })
    }
}

#[derive(Default)]
struct Fields {
    length: Option<Length>,
    close: bool,
    endpoint: Option<u32>,
    reason: Option<String>,
}

impl Fields {
    fn of(headers: &[httparse::Header<'_>]) -> io::Result<Self> {
        let mut fields = Self::default();
        for header in headers {
            let value = std::str::from_utf8(header.value).map_err(invalid)?;
            let is = |name| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                fields.length = Some(Length::Known(value.parse().map_err(invalid)?));
            } else if is("transfer-encoding") {
                fields.length = Some(Length::Chunked);
            } else if is("connection") {
                fields.close = value.eq_ignore_ascii_case("close");
            } else if is("x-endpoint") {
                fields.endpoint = Some(value.parse().map_err(invalid)?);
            } else if is("proxy-status") {
                fields.reason = Some(value.to_owned());
            }
        }
        Ok(fields)
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
