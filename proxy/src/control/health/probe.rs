//! One probe of an endpoint: over HTTP, by a TCP connection, or over gRPC. An error says
//! what was wrong with the response, or that there was none.

use std::io;

use admin_api::{HealthSpec, Probe, Protocol, StatusRange};
use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::grpc;
use super::text::text;
use crate::table::endpoint::{Endpoint, ProbeError, ProbeErrorKind};
use crate::wire::address::SocketAddress;
use crate::wire::{resources, unix};

/// How much of a response's body is looked at.
const MAX_BODY: usize = 64 * 1024;
const AGENT: &str = "crossfade-health";

/// Probes an endpoint, as `spec` says, and gives up after its timeout.
pub(super) async fn probe(
    endpoint: &Endpoint,
    spec: &HealthSpec,
    host: &str,
) -> Result<(), ProbeError> {
    let timeout = spec.timeout.get();
    let probed = tokio::time::timeout(timeout, async {
        let stream = connect(&endpoint.target).await;
        let stream = stream.map_err(|error| cannot_connect(&error))?;
        let exchanged = exchange_as(stream, endpoint, spec, host).await;
        exchanged.map_err(|reason| ProbeError {
            kind: ProbeErrorKind::Response,
            reason,
        })
    });
    probed.await.unwrap_or_else(|_| {
        Err(ProbeError {
            kind: ProbeErrorKind::Silent,
            reason: format!("no response within {timeout:?}"),
        })
    })
}

async fn connect(target: &SocketAddress) -> io::Result<TcpStream> {
    match target {
        SocketAddress::Ip(address) => TcpStream::connect(address).await,
        SocketAddress::Unix(path) => unix::connect(path).await,
    }
}

/// What it says of an endpoint that no connection to it could be made.
fn cannot_connect(error: &io::Error) -> ProbeError {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused => ProbeErrorKind::Refused,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::TimedOut => ProbeErrorKind::Silent,
        _ if resources::are_exhausted(error) => ProbeErrorKind::Exhausted,
        // It may still be this machine that cannot.
        _ => ProbeErrorKind::Response,
    };
    ProbeError {
        kind,
        reason: text(error),
    }
}

/// Asks over a connection that is there, by TLS where the endpoint is reached by it.
async fn exchange_as(
    stream: TcpStream,
    endpoint: &Endpoint,
    spec: &HealthSpec,
    host: &str,
) -> Result<(), String> {
    match &endpoint.transport.tls {
        None => exchange(stream, endpoint, spec, host).await,
        Some(tls) => {
            let stream = tls.connect(stream, &endpoint.address).await;
            let stream = stream.map_err(|error| format!("TLS handshake failed: {error}"))?;
            exchange(stream, endpoint, spec, host).await
        }
    }
}

/// Asks over a connection that is there.
async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    endpoint: &Endpoint,
    spec: &HealthSpec,
    host: &str,
) -> Result<(), String> {
    match (spec.protocol, endpoint.transport.protocol) {
        (Probe::Tcp, _) => Ok(()),
        (Probe::Grpc, _) => grpc::probe(stream, spec.service.as_deref().unwrap_or(""), host).await,
        (Probe::Http, Protocol::Http1) => probe_http1(stream, spec, host).await,
        (Probe::Http, Protocol::H2) => probe_http2(stream, spec, host).await,
    }
}

async fn probe_http1<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    spec: &HealthSpec,
    host: &str,
) -> Result<(), String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::try_from(&spec.path).map_err(text)?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(host).map_err(text)?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let response = async move {
        let response = sender.send_request(request).await.map_err(text)?;
        check(response, spec).await
    };
    // The connection ends when the response has dropped its sender; what went wrong on it, the
    // response says too.
    let (response, _) = tokio::join!(response, connection);
    response
}

async fn probe_http2<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    spec: &HealthSpec,
    host: &str,
) -> Result<(), String> {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(text)?;
    let mut request = Request::new(Empty::<Bytes>::new());
    let uri = format!("http://{host}{}", spec.path);
    *request.uri_mut() = Uri::try_from(uri).map_err(text)?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    let response = async move {
        let response = sender.send_request(request).await.map_err(text)?;
        check(response, spec).await
    };
    // The connection goes on only for as long as the response takes.
    tokio::pin!(response);
    tokio::select! {
        response = &mut response => response,
        _ = connection => response.await,
    }
}

/// Whether a response is as good as it should be.
async fn check(response: Response<Incoming>, spec: &HealthSpec) -> Result<(), String> {
    let status = response.status();
    if !spec.status.contains(status.as_u16()) {
        let wanted = if spec.status == StatusRange::default() {
            String::new()
        } else {
            format!(", not {}", spec.status)
        };
        return Err(format!("responded with {status}{wanted}"));
    }
    match &spec.body {
        None => Ok(()),
        Some(wanted) => check_body(response.into_body(), wanted).await,
    }
}

async fn check_body(body: Incoming, wanted: &str) -> Result<(), String> {
    let mut body = Limited::new(body, MAX_BODY);
    let mut read = Vec::new();
    let contains = |read: &[u8]| {
        let mut windows = read.windows(wanted.len().max(1));
        wanted.is_empty() || windows.any(|window| window == wanted.as_bytes())
    };
    while let Some(frame) = body.frame().await {
        // Too long is no error here: what was wanted is not in the part that counts.
        let Ok(frame) = frame else { break };
        read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
    }
    if contains(&read) {
        Ok(())
    } else {
        Err(format!(
            "the body of its response does not contain `{wanted}`"
        ))
    }
}

#[cfg(test)]
mod tests {
    use admin_api::Period;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Probes an endpoint at an address over HTTP.
    async fn kind(address: std::net::SocketAddr) -> Result<(), ProbeErrorKind> {
        let service = crate::testing::service(
            &format!(r#"{{"name":"web","endpoints":[{{"address":"{address}","version":"1"}}]}}"#),
            None,
        );
        let endpoint = service.endpoints().next().unwrap().clone();
        let spec = HealthSpec {
            timeout: Period::from_millis(50),
            ..HealthSpec::of_path("/")
        };
        probe(&endpoint, &spec, "a")
            .await
            .map_err(|error| error.kind)
    }

    #[test]
    fn what_this_machine_has_run_out_of_is_not_the_endpoints() {
        use rustix::io::Errno;
        for (errno, want) in [
            (Errno::MFILE, ProbeErrorKind::Exhausted),
            (Errno::ADDRNOTAVAIL, ProbeErrorKind::Exhausted),
            (Errno::CONNREFUSED, ProbeErrorKind::Refused),
            (Errno::CONNRESET, ProbeErrorKind::Response),
        ] {
            assert_eq!(cannot_connect(&errno.into()).kind, want, "{errno}");
        }
    }

    #[tokio::test]
    async fn a_probe_that_gets_nothing_back_is_told_from_one_that_gets_a_bad_response() {
        // The kernel takes connections for a program that is frozen.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(kind(address).await, Err(ProbeErrorKind::Silent));
        let serving = tokio::spawn(async move {
            // The first probe's connection waits here, too.
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let response = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n";
                let _ = stream.write_all(response).await;
            }
        });
        assert_eq!(kind(address).await, Err(ProbeErrorKind::Response));
        serving.abort();
        let _ = serving.await;
        assert_eq!(kind(address).await, Err(ProbeErrorKind::Refused));
    }
}
