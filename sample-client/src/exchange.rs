//! One request and its response on one connection. The request is sent at most once.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::connection::{Connection, IdleEnd, io_error_in};
use crate::failure::{Cause, Failure};
use crate::response::CompleteResponse;

/// This much of a body is kept for printing; the rest is read and discarded.
const KEPT_BODY: usize = 1024 * 1024;

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    /// The connection ended before a byte of the request was written.
    Unsent(IdleEnd),
    /// The request was sent, and failed.
    Failed(Failure),
}

/// The time by which a response has to be complete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    /// The timeout that `at` was computed from, for messages.
    pub(crate) timeout: Duration,
}

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Self {
        Self {
            at: Instant::now() + timeout,
            timeout,
        }
    }

    pub(crate) fn missed(self, cause: Cause, what: &str) -> Failure {
        let within = humantime::format_duration(self.timeout);
        Failure::new(cause, format!("{what} within {within}"))
    }
}

/// Sends the request and reads the whole response. The boolean is whether the connection can take
/// another request.
pub(crate) async fn exchange(
    connection: &mut Connection,
    request: Request<Empty<Bytes>>,
    deadline: Deadline,
) -> Result<(CompleteResponse, bool), ExchangeError> {
    let head = timeout_at(deadline.at, send(connection, request)).await;
    let response =
        head.map_err(|_| ExchangeError::Failed(deadline.missed(Cause::Stall, "no response")))??;
    let (head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let detail = "status 101 to a request without Upgrade";
        return Err(ExchangeError::Failed(Failure::new(Cause::Protocol, detail)));
    }
    let kept = timeout_at(deadline.at, read(body)).await;
    let body = kept
        .map_err(|_| deadline.missed(Cause::Stall, "a response's head, but not its whole body,"))
        .and_then(|body| body)
        .map_err(ExchangeError::Failed)?;
    Ok((
        CompleteResponse::new(head.status.as_u16(), body),
        keeps_alive(&head),
    ))
}

async fn send(
    connection: &mut Connection,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, ExchangeError> {
    if connection.sender.ready().await.is_err() {
        return Err(ExchangeError::Unsent(connection.idle_end().await));
    }
    connection
        .sender
        .try_send_request(request)
        .await
        .map_err(|mut error| {
            // hyper returns the request if and only if nothing of it was written.
            let unsent = error.take_message().is_some();
            let error = error.into_error();
            match (unsent, error.source()) {
                (true, None) => ExchangeError::Unsent(IdleEnd::Closed),
                (true, Some(source)) => ExchangeError::Unsent(IdleEnd::of(source)),
                (false, _) if error.is_parse() => {
                    ExchangeError::Failed(Failure::from_error(Cause::Protocol, &error))
                }
                (false, _) => ExchangeError::Failed(Failure::from_error(Cause::Reset, &error)),
            }
        })
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, Failure> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken_body(&error))?;
        if let Some(data) = frame.data_ref() {
            let room = KEPT_BODY - kept.len();
            kept.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok(kept)
}

fn broken_body(error: &hyper::Error) -> Failure {
    let malformed = io_error_in(error).is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
        )
    });
    let cause = if malformed {
        Cause::Protocol
    } else {
        Cause::Cut
    };
    Failure::from_error(cause, error)
}

/// Whether the server keeps the connection open (RFC 9112, sections 9.3 and 6.3).
fn keeps_alive(head: &Parts) -> bool {
    let says = |token: &str| {
        head.headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    };
    let ends_by_closing = !head.headers.contains_key(CONTENT_LENGTH)
        && !head.headers.contains_key(TRANSFER_ENCODING)
        && !matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    let by_version = head.version >= Version::HTTP_11 || says("keep-alive");
    by_version && !says("close") && !ends_by_closing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(version: Version, headers: &[(&str, &str)], want: bool) {
        let mut builder = Response::builder().version(version);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let (head, ()) = builder.body(()).unwrap().into_parts();
        assert_eq!(keeps_alive(&head), want, "{version:?} {headers:?}");
    }

    #[test]
    fn a_server_says_whether_it_keeps_the_connection() {
        let length = ("content-length", "0");
        check(Version::HTTP_11, &[length], true);
        check(Version::HTTP_11, &[("transfer-encoding", "chunked")], true);
        check(
            Version::HTTP_11,
            &[length, ("connection", "x, Close")],
            false,
        );
        check(Version::HTTP_11, &[], false);
        check(Version::HTTP_10, &[length], false);
        check(
            Version::HTTP_10,
            &[length, ("connection", "keep-alive")],
            true,
        );
    }
}
