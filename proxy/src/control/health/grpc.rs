//! gRPC's own health check, `grpc.health.v1.Health/Check`, over HTTP/2.
//!
//! Its two messages have one field each, so they are written and read by hand: a length of five
//! bytes, then the message.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE};
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::text::text;

const MAX_RESPONSE: usize = 4096;
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Asks whether `service` is served; the server as a whole where it is empty.
pub(super) async fn probe<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    service: &str,
    host: &str,
) -> Result<(), String> {
    let io = TokioIo::new(stream);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io)
        .await
        .map_err(text)?;
    let mut request = Request::new(Full::new(question(service)));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    let uri = format!("http://{host}/grpc.health.v1.Health/Check");
    *request.uri_mut() = Uri::try_from(uri).map_err(text)?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let response = async {
        let response = sender.send_request(request).await.map_err(text)?;
        if response.status() != 200 {
            return Err(format!("responded with {}", response.status()));
        }
        check_status(response.headers())?;
        let body = Limited::new(response.into_body(), MAX_RESPONSE);
        let body = body.collect().await.map_err(text)?;
        if let Some(trailers) = body.trailers() {
            check_status(trailers)?;
        }
        verdict(&body.to_bytes())
    };
    // The connection goes on only for as long as the response takes.
    tokio::pin!(response);
    tokio::select! {
        response = &mut response => response,
        _ = connection => response.await,
    }
}

/// A `HealthCheckRequest` as it goes over the wire.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, a string.
        message.push(0x0A);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7F) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

fn check_status(fields: &HeaderMap) -> Result<(), String> {
    match fields.get(&GRPC_STATUS).map(HeaderValue::as_bytes) {
        None | Some(b"0") => Ok(()),
        Some(b"5") => Err("gRPC does not know the service (NOT_FOUND)".into()),
        Some(b"12") => Err("has no gRPC health service (UNIMPLEMENTED)".into()),
        Some(code) => Err(format!("gRPC status {}", String::from_utf8_lossy(code))),
    }
}

/// What a `HealthCheckResponse` says: field 1 is the status, of which 1 is good.
fn verdict(framed: &[u8]) -> Result<(), String> {
    match framed.get(5..) {
        Some([0x08, 1, ..]) => Ok(()),
        Some([0x08, 2, ..]) => Err("gRPC health: NOT_SERVING".into()),
        Some([0x08, 3, ..]) => Err("gRPC health: SERVICE_UNKNOWN".into()),
        // 0 is not sent at all.
        Some([]) => Err("gRPC health: UNKNOWN".into()),
        _ => Err("its response is not a gRPC health status".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_length_and_a_message() {
        assert_eq!(&question("")[..], b"\0\0\0\0\0");
        assert_eq!(&question("a.B")[..], b"\0\0\0\0\x05\x0A\x03a.B");
        let long = question(&"x".repeat(300));
        assert_eq!(&long[..8], b"\0\0\0\x01\x2F\x0A\xAC\x02");
    }

    #[test]
    fn only_serving_is_good() {
        assert!(verdict(b"\0\0\0\0\x02\x08\x01").is_ok());
        for bad in [
            &b"\0\0\0\0\x02\x08\x02"[..],
            b"\0\0\0\0\x02\x08\x03",
            b"\0\0\0\0\0",
            b"",
            b"<html>",
        ] {
            assert!(verdict(bad).is_err(), "{bad:?}");
        }
    }
}
