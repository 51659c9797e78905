//! Clients: one over HTTP/1.1 that counts bytes, and one over HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::HeaderMap;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::clock::Watched;
use super::endpoint::reset;
use super::message::{Body, Reader, field, length_of_response};

/// What ends in this time was not kept. A wait for a socket may take a tick of the paused clock.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A request as either wire writes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) target: &'static str,
    pub(crate) host: &'static str,
    pub(crate) fields: &'static [(&'static str, &'static str)],
    pub(crate) body: &'static str,
    /// The body goes without saying how long it is.
    pub(crate) streams: bool,
}

/// One thing that a client of HTTP/1.1 does that is told so down to the bytes.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    Bytes(&'static str),
    /// So many times `x`.
    Many(usize),
    Wait(Duration),
    /// Reads a response.
    Read,
    /// Ends its half.
    End,
    /// Resets the connection.
    Reset,
}

/// How a connection ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By the proxy, at once after the last response.
    Closed,
    /// By the proxy, with a reset.
    Reset,
    /// It was kept for a while.
    Kept,
    /// By the client.
    Left,
}

/// What a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    /// 0: none.
    pub(crate) status: u16,
    /// Over HTTP/2, written like one of HTTP/1.1.
    pub(crate) head: String,
    pub(crate) body: Body,
    /// Over HTTP/2: the code of the reset that ended it.
    pub(crate) reset: Option<h2::Reason>,
}

pub(crate) enum Client {
    Http1(Reader),
    Http2(SendRequest<Bytes>),
}

impl Request {
    pub(crate) const fn with(method: &'static str, body: &'static str) -> Self {
        Self {
            method,
            target: "/",
            host: "a",
            fields: &[],
            body,
            streams: false,
        }
    }

    pub(crate) const fn streaming(self) -> Self {
        Self {
            streams: true,
            ..self
        }
    }

    pub(crate) const fn fields(self, fields: &'static [(&'static str, &'static str)]) -> Self {
        Self { fields, ..self }
    }

    pub(crate) const fn to(self, target: &'static str) -> Self {
        Self { target, ..self }
    }

    pub(crate) const fn at(self, host: &'static str) -> Self {
        Self { host, ..self }
    }

    /// As HTTP/1.1 has it.
    pub(crate) fn text(&self) -> String {
        let Self {
            method,
            target,
            host,
            body,
            ..
        } = self;
        let mut text = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = body.len();
        match self.streams {
            true => text.push_str(&format!(
                "transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
            )),
            false if body.is_empty() => text.push_str("\r\n"),
            false => text.push_str(&format!("content-length: {length}\r\n\r\n{body}")),
        }
        text
    }
}

impl Response {
    const NONE: Self = Self {
        status: 0,
        head: String::new(),
        body: Body {
            data: Vec::new(),
            trailers: String::new(),
            is_whole: false,
        },
        reset: None,
    };

    /// The error type that the proxy gives for a response of its own.
    pub(crate) fn error(&self) -> Option<&str> {
        field(&self.head, "proxy-status")?.strip_prefix("crossfade; ")
    }
}

impl Client {
    pub(crate) fn http1(stream: TcpStream) -> Self {
        Self::Http1(Reader::new(stream))
    }

    pub(crate) async fn http2(stream: TcpStream) -> Self {
        let (sender, connection) = h2::client::handshake(Watched(stream)).await.unwrap();
        // How a connection ends, its streams know.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Self::Http2(sender)
    }

    /// Goes away, and cares for no response.
    pub(crate) fn leave(self) {
        if let Self::Http1(reader) = self {
            reset(&reader.stream.0);
        }
    }

    /// Sends a request, and reads the response to it. Gives with it whether the connection may
    /// be used for another request.
    pub(crate) async fn send(&mut self, request: &Request) -> (Response, bool) {
        match self {
            Self::Http1(reader) => {
                let sent = reader.stream.write_all(request.text().as_bytes()).await;
                // One that is refused before it was sent whole has a response, too.
                drop(sent);
                let response = response(reader, request.method == "HEAD").await;
                let keeps = response.body.is_whole && field(&response.head, "connection").is_none();
                (response, keeps)
            }
            Self::Http2(sender) => match exchange(sender, request).await {
                Ok(response) => (response, true),
                Err(error) => (
                    Response {
                        reset: error.reason(),
                        ..Response::NONE
                    },
                    error.is_reset(),
                ),
            },
        }
    }
}

/// Does these things on one connection, and then reads all responses that come.
pub(crate) async fn talk(stream: TcpStream, says: &[Say]) -> (Vec<Response>, End) {
    let mut reader = Reader::new(stream);
    let mut responses = Vec::new();
    for say in says {
        // To write to a connection that was refused meanwhile is no fault: there is a response.
        match say {
            Say::Bytes(bytes) => drop(reader.stream.write_all(bytes.as_bytes()).await),
            Say::Many(count) => drop(reader.stream.write_all("x".repeat(*count).as_bytes()).await),
            Say::Wait(time) => tokio::time::sleep(*time).await,
            Say::Read => responses.push(response(&mut reader, false).await),
            Say::End => drop(reader.stream.shutdown().await),
            Say::Reset => {
                reset(&reader.stream.0);
                return (responses, End::Left);
            }
        }
    }
    let mut since = Instant::now();
    loop {
        let next = response(&mut reader, false).await;
        if next.status == 0 {
            break;
        }
        since = Instant::now();
        responses.push(next);
    }
    let (rest, end) = reader.rest().await;
    assert!(rest.is_empty(), "no head: {}", rest.escape_ascii());
    let end = match end {
        Err(()) => End::Reset,
        Ok(()) if since.elapsed() > AT_ONCE => End::Kept,
        Ok(()) => End::Closed,
    };
    (responses, end)
}

/// Reads the next response of HTTP/1.1, interim ones included.
pub(crate) async fn response(reader: &mut Reader, to_head: bool) -> Response {
    let Some(head) = reader.head().await else {
        return Response::NONE;
    };
    let status = head[9..12].parse().unwrap();
    let length = length_of_response(&head, status, to_head);
    let body = reader.body(length).await;
    Response {
        status,
        head,
        body,
        reset: None,
    }
}

async fn exchange(
    sender: &mut SendRequest<Bytes>,
    request: &Request,
) -> Result<Response, h2::Error> {
    std::future::poll_fn(|cx| sender.poll_ready(cx)).await?;
    let mut head = http::Request::builder()
        .method(request.method)
        .uri(format!("http://{}{}", request.host, request.target));
    for (name, value) in request.fields {
        head = head.header(*name, *value);
    }
    if !request.streams && !request.body.is_empty() {
        head = head.header("content-length", request.body.len());
    }
    let ends = request.body.is_empty();
    let (response, mut body) = sender.send_request(head.body(()).unwrap(), ends)?;
    if !ends {
        body.send_data(Bytes::from_static(request.body.as_bytes()), true)?;
    }
    let (parts, mut body) = response.await?.into_parts();
    let mut response = Response {
        status: parts.status.as_u16(),
        head: format!("{}\r\n{}", parts.status, lines(&parts.headers)),
        ..Response::NONE
    };
    while let Some(chunk) = body.data().await {
        match chunk {
            Ok(chunk) => {
                // How much room there is again is nothing to fail by.
                drop(body.flow_control().release_capacity(chunk.len()));
                response.body.data.extend_from_slice(&chunk);
            }
            Err(error) => {
                response.reset = error.reason();
                return Ok(response);
            }
        }
    }
    match body.trailers().await {
        Ok(trailers) => {
            response.body.trailers = trailers.as_ref().map(lines).unwrap_or_default();
            response.body.is_whole = true;
        }
        Err(error) => response.reset = error.reason(),
    }
    Ok(response)
}

fn lines(fields: &HeaderMap) -> String {
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        format!("{name}: {}\r\n", value.to_str().unwrap())
    };
    fields.iter().map(line).collect()
}
