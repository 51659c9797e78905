//! One request over a connection of its own, which is closed with the end of the response.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Sends the request over `io`, and returns the response as soon as its head is there.
pub(crate) async fn send<I>(
    io: I,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Response<Incoming>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    // Ends with the response. An error of the connection is one of the request or the body, too.
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// The same, with the whole body.
pub(crate) async fn exchange<I>(
    io: I,
    request: Request<Full<Bytes>>,
) -> hyper::Result<(StatusCode, Bytes)>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let response = send(io, request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn request() -> Request<Full<Bytes>> {
        let request = Request::builder().uri("/v1/status").header("host", "proxy");
        request.body(Full::new(Bytes::new())).expect("a request")
    }

    /// What `exchange` makes of these bytes of a peer, which closes its side after them.
    async fn exchanged(bytes: &'static str) -> (hyper::Result<(StatusCode, Bytes)>, DuplexStream) {
        let (ours, mut theirs) = duplex(1024);
        let peer = async {
            let mut head = [0; 1024];
            let read = theirs.read(&mut head).await.expect("a request");
            assert!(head[..read].starts_with(b"GET /v1/status HTTP/1.1\r\n"));
            theirs.write_all(bytes.as_bytes()).await.expect("written");
        };
        let (got, ()) = tokio::join!(exchange(ours, request()), async {
            peer.await;
        });
        (got, theirs)
    }

    #[tokio::test]
    async fn a_connection_carries_one_request_and_is_closed_after_the_response() {
        let (got, mut peer) = exchanged("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        let (status, body) = got.expect("a response");
        assert_eq!((status, &*body), (StatusCode::OK, &b"hi"[..]));
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).await.expect("closed");
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn bytes_that_are_no_response_are_an_error() {
        let (got, _peer) = exchanged("hello\r\n\r\n").await;
        assert!(got.expect_err("no HTTP").is_parse());
    }
}
