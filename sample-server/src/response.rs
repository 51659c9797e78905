//! The responses, and bodies that are slow or cut.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde::Serialize;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::faults::Fault;
use crate::options::Config;

/// The body of any response.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A slow body is sent in about this many pieces.
const PIECES: u32 = 10;

/// The bodies of the two responses, made once.
#[derive(Debug)]
pub(crate) struct Responses {
    hello: Bytes,
    error: Bytes,
    slow_body: Duration,
}

#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    padding: Option<String>,
}

impl Responses {
    pub(crate) fn new(config: &Config) -> Self {
        let body = |message| padded(message, &config.version, config.body_bytes);
        Self {
            hello: body("Hello World"),
            error: body("Internal Server Error"),
            slow_body: config.slow_body,
        }
    }

    /// The response with this fault.
    pub(crate) fn with(&self, fault: Fault) -> Response<ResponseBody> {
        let (status, body) = if fault.error {
            (StatusCode::INTERNAL_SERVER_ERROR, self.error.clone())
        } else {
            (StatusCode::OK, self.hello.clone())
        };
        let body = if fault.cut || !self.slow_body.is_zero() {
            PacedBody::new(body, self.slow_body, fault.cut).boxed_unsync()
        } else {
            full(body)
        };
        json(status, body)
    }
}

/// A body that is complete at once.
pub(crate) fn full(body: impl Into<Bytes>) -> ResponseBody {
    Full::new(body.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A plain-text response.
pub(crate) fn text(status: StatusCode, body: &'static str) -> Response<ResponseBody> {
    with_type(status, full(body), HeaderValue::from_static("text/plain"))
}

/// A JSON response.
pub(crate) fn json(status: StatusCode, body: ResponseBody) -> Response<ResponseBody> {
    with_type(status, body, HeaderValue::from_static("application/json"))
}

fn with_type(status: StatusCode, body: ResponseBody, kind: HeaderValue) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The message as JSON, padded to `size` bytes if it is shorter.
fn padded(message: &str, version: &str, size: usize) -> Bytes {
    let encode = |padding: Option<String>| {
        // A struct of strings always serializes.
        serde_json::to_vec(&Message {
            message,
            version,
            padding,
        })
        .unwrap_or_default()
    };
    let plain = encode(None);
    if size <= plain.len() {
        return plain.into();
    }
    let smallest = encode(Some(String::new())).len();
    encode(Some("x".repeat(size.saturating_sub(smallest)))).into()
}

/// A body that is sent in equal pieces over some time, and may be cut half-way.
struct PacedBody {
    /// The announced bytes that are not sent yet; a cut leaves some of them unsent.
    rest: Bytes,
    piece: usize,
    pace: Duration,
    next: Pin<Box<Sleep>>,
    /// The length of `rest` at which the body is cut.
    cut_at: Option<usize>,
    /// The connection had a chance to write the piece before the cut.
    flushed: bool,
}

impl PacedBody {
    fn new(body: Bytes, over: Duration, cut: bool) -> Self {
        let pieces = if over.is_zero() { 1 } else { PIECES };
        Self {
            piece: body.len().div_ceil(pieces as usize).max(1),
            pace: over / pieces,
            next: Box::pin(sleep_until(Instant::now() + over / pieces)),
            cut_at: cut.then_some(body.len() - body.len() / 2),
            rest: body,
            flushed: false,
        }
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if self.cut_at == Some(self.rest.len()) {
            if !self.flushed {
                // hyper flushes when the body is pending. An error at once would discard the first
                // half.
                self.flushed = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "cut half-way, as configured");
            return Poll::Ready(Some(Err(cut.into())));
        }
        if !self.pace.is_zero() {
            std::task::ready!(self.next.as_mut().poll(cx));
            let due = self.next.deadline() + self.pace;
            self.next.as_mut().reset(due);
        }
        let most = self.rest.len() - self.cut_at.unwrap_or(0);
        let size = self.piece.min(most);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_body_is_byte_for_byte_what_clients_expect() {
        let body = padded("Hello World", "1.0.0", 0);
        assert_eq!(body, r#"{"message":"Hello World","version":"1.0.0"}"#);
    }

    #[test]
    fn padding_fills_up_to_the_size() {
        for size in [60, 100, 65_536] {
            assert_eq!(padded("Hello World", "1.0.0", size).len(), size);
        }
    }

    #[test]
    fn a_size_below_the_plain_body_changes_nothing() {
        assert_eq!(padded("Hello World", "1", 5), padded("Hello World", "1", 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_takes_its_time_and_is_whole() {
        let start = Instant::now();
        let body = PacedBody::new(Bytes::from("0123456789abc"), Duration::from_secs(5), false);
        let whole = body.collect().await.unwrap().to_bytes();
        assert_eq!(whole, "0123456789abc");
        // 13 bytes are 7 pieces of 2, one every 500 ms.
        let want = Duration::from_millis(3500);
        let took = start.elapsed();
        assert!(
            took >= want && took < want + Duration::from_millis(100),
            "{took:?}"
        );
    }

    #[tokio::test]
    async fn a_cut_body_announces_all_and_sends_half() {
        let mut body = PacedBody::new(Bytes::from("0123456789"), Duration::ZERO, true);
        assert_eq!(body.size_hint().exact(), Some(10));
        let first = body.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "01234");
        assert!(body.frame().await.unwrap().is_err());
    }
}
