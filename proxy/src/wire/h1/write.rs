//! What this wire writes of heads: their first line, their fields, and how a body is framed.

use std::io;
use std::time::Duration;

use http::Version;

use super::body::Framing;
use crate::wire::head::Message;
use crate::wire::headers;
use crate::wire::sink::Sink;
use crate::wire::socket::{Pool, Socket};
use crate::wire::timer::Timer;

/// Writes the head that a client should see of an endpoint's response, but for how the body is
/// framed. `now` is the time as `Date` says it.
pub(crate) fn response_fields(
    version: Version,
    response: Message<'_>,
    now: &[u8],
    to: &mut Vec<u8>,
) {
    let status = response.status();
    status_line(version, status, response.reason(), to);
    headers::towards_client(response, status == 101, now, to);
}

/// Writes how the body that follows a head is framed, and ends the head. Gives whether it goes
/// on in chunks.
pub(crate) fn end_head(framing: Framing, to: &mut Vec<u8>, bodyless: bool) -> bool {
    let chunked = match framing {
        Framing::Empty if bodyless => false,
        Framing::Empty => {
            to.add(b"content-length", &[b"0"]);
            false
        }
        Framing::Length(length) => {
            let mut digits = itoa::Buffer::new();
            to.add(b"content-length", &[digits.format(length).as_bytes()]);
            false
        }
        Framing::Chunked | Framing::UntilClose => {
            to.add(b"transfer-encoding", &[b"chunked"]);
            true
        }
    };
    to.extend_from_slice(b"\r\n");
    chunked
}

pub(crate) fn status_line(version: Version, status: u16, reason: &[u8], to: &mut Vec<u8>) {
    let version: &[u8] = if version == Version::HTTP_10 {
        b"HTTP/1.0 "
    } else {
        b"HTTP/1.1 "
    };
    to.extend_from_slice(version);
    let mut digits = itoa::Buffer::new();
    to.extend_from_slice(digits.format(status).as_bytes());
    to.push(b' ');
    to.extend_from_slice(reason);
    to.extend_from_slice(b"\r\n");
}

pub(crate) fn say_connection(version: Version, keep_alive: bool, to: &mut Vec<u8>) {
    match (version, keep_alive) {
        (_, false) => to.add(b"connection", &[b"close"]),
        (Version::HTTP_10, true) => to.add(b"connection", &[b"keep-alive"]),
        (_, true) => {}
    }
}

/// Passes an interim response on.
pub(crate) async fn write_interim(
    to: &Socket,
    pool: &Pool,
    timer: &Timer,
    within: Duration,
    response: Message<'_>,
) -> io::Result<()> {
    let mut bytes = pool.take_small();
    response_fields(Version::HTTP_11, response, b"", &mut bytes);
    bytes.extend_from_slice(b"\r\n");
    let written = to.write_all(timer, within, [&bytes]).await;
    pool.give(bytes);
    written
}
