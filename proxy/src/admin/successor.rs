//! The admin API of a process that has handed over: what was asked here is asked of its successor,
//! which owns the table.

use std::time::{Duration, Instant};

use admin_api::Period;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use super::{AdminResponse, HANDED_OVER, Problem};

/// Where the successor's admin API is; `None` until it is known, or it is our turn again.
pub(crate) type Address = watch::Sender<Option<Successor>>;

/// A process that has taken over, as this API sees it.
#[derive(Debug, Clone)]
pub(crate) struct Successor {
    /// `None`: it has no admin API.
    pub(crate) admin: Option<String>,
}

/// Forwards the request to the successor, and gives the successor's response.
pub(super) async fn forward(
    successor: &Address,
    head: &Parts,
    body: Bytes,
    began: Instant,
) -> Result<AdminResponse, Problem> {
    let mut successor = successor.subscribe();
    let known = successor.wait_for(Option::is_some).await;
    let address = known.ok().and_then(|known| known.clone()?.admin);
    let address = address.ok_or_else(|| {
        let message = "another process of the proxy has taken over, and has no admin API";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, HANDED_OVER, message)
    })?;
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        let message =
            format!("another process of the proxy has taken over, and {address}: {error}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, HANDED_OVER, message)
    };
    match address.strip_prefix("unix:") {
        Some(path) => match UnixStream::connect(path).await {
            Ok(stream) => exchange(stream, head, body, began).await.map_err(failed),
            Err(error) => Err(failed(error.into())),
        },
        None => match TcpStream::connect(&address).await {
            Ok(stream) => exchange(stream, head, body, began).await.map_err(failed),
            Err(error) => Err(failed(error.into())),
        },
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    head: &Parts,
    body: Bytes,
    began: Instant,
) -> Result<AdminResponse, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the response; an error of it is the response's.
    tokio::spawn(connection);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = still_to_wait(&head.uri, began.elapsed());
    *request.headers_mut() = head.headers.clone();
    // The body is whole by now, whatever it came in.
    request.headers_mut().remove(TRANSFER_ENCODING);
    request.headers_mut().remove(CONTENT_LENGTH);
    let close = HeaderValue::from_static("close");
    request.headers_mut().insert(CONNECTION, close);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(AdminResponse::from_parts(head, Full::new(body)))
}

/// The same target, without what was waited here already.
fn still_to_wait(uri: &Uri, waited: Duration) -> Uri {
    let rest = || {
        let wait: Period = uri.query()?.strip_prefix("wait=")?.parse().ok()?;
        let rest = wait.get().saturating_sub(waited).as_millis();
        format!("{}?wait={rest}ms", uri.path()).parse().ok()
    };
    rest().unwrap_or_else(|| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_waited_here_waits_for_the_rest_there() {
        let waited = Duration::from_secs(10);
        let rest = |uri: &str| still_to_wait(&uri.parse().unwrap(), waited).to_string();
        assert_eq!(rest("/v1/x/drain?wait=30s"), "/v1/x/drain?wait=20000ms");
        assert_eq!(rest("/v1/x/drain?wait=3s"), "/v1/x/drain?wait=0ms");
        assert_eq!(rest("/v1/status"), "/v1/status");
    }
}
