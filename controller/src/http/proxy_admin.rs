//! A client of the proxy's admin API.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use admin_api::{
    Changed, Changes, DrainReceipt, DrainRequest, ErrorBody, ServiceList, ServiceSpec,
    ServiceStats, ServiceView, Status,
};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};

use crate::http::exchange::exchange;

/// How long a call may take that does not wait for anything.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// The proxy's admin API.
#[derive(Debug)]
pub struct ProxyAdmin {
    dial: Dial,
    token: String,
}

/// How the admin port is reached.
#[derive(Debug)]
pub enum Dial {
    /// By TCP, on loopback.
    Tcp(SocketAddr),
    /// By a unix socket.
    Unix {
        /// Its path.
        socket: PathBuf,
        /// Where the proxy of an older release is, while there is none behind the socket.
        older: Option<SocketAddr>,
    },
    /// In memory, so that a test can pause the clock: to tokio a socket that waits is idle.
    #[cfg(test)]
    Memory(tokio::sync::mpsc::UnboundedSender<tokio::io::DuplexStream>),
}

/// Why the proxy did not do it.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There was no response.
    #[error("the proxy cannot be reached: {0}")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There was no response in time.
    #[error("the proxy did not respond within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It refused, in its own words.
    #[error("the proxy refused: {}{message}", field.as_ref().map(|f| format!("{f}: ")).unwrap_or_default())]
    Refused {
        /// The response's status.
        status: StatusCode,
        /// The error's code.
        code: String,
        /// The error's message.
        message: String,
        /// The field it is about.
        field: Option<String>,
    },
    /// The response was not what the API promises.
    #[error("invalid response of the proxy: {0}")]
    Nonsense(#[source] serde_json::Error),
}

impl AdminError {
    /// The proxy does not have what was named: it came back empty, or it is gone for good.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// What the proxy has contradicts it.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::CONFLICT)
    }
}

type AdminResult<T> = Result<T, AdminError>;

impl ProxyAdmin {
    /// A client of the admin port at `dial`.
    pub fn new(dial: Dial, token: String) -> Self {
        Self { dial, token }
    }

    /// `GET /v1/status`.
    pub async fn status(&self) -> AdminResult<Status> {
        self.call_bare(Method::GET, "/v1/status").await
    }

    /// `GET /v1/services`.
    pub async fn services(&self) -> AdminResult<ServiceList> {
        self.call_bare(Method::GET, "/v1/services").await
    }

    /// `GET /v1/changes`; responds when the table, or an endpoint's health, is another than was seen
    /// last, after `wait` at the latest.
    pub async fn changes(&self, seen: Option<&str>, wait: Duration) -> AdminResult<Changes> {
        let seen = seen.map_or_else(String::new, |seen| format!("after={seen}&"));
        let path = format!("/v1/changes?{seen}wait={}ms", wait.as_millis());
        self.call(Method::GET, &path, None::<&()>, CALL_TIMEOUT + wait)
            .await
    }

    /// `GET /v1/services/{name}`.
    pub async fn service(&self, name: &str) -> AdminResult<ServiceView> {
        let path = format!("/v1/services/{name}");
        self.call_bare(Method::GET, &path).await
    }

    /// `PUT /v1/services/{name}`.
    pub async fn put_service(&self, spec: &ServiceSpec) -> AdminResult<Changed> {
        let path = format!("/v1/services/{}", spec.name);
        self.call(Method::PUT, &path, Some(spec), CALL_TIMEOUT)
            .await
    }

    /// The same, and takes these services out in the same swap.
    pub async fn put_in_place_of(
        &self,
        replaced: &[String],
        spec: &ServiceSpec,
    ) -> AdminResult<Changed> {
        let path = format!("/v1/services/{}?replaces={}", spec.name, replaced.join(","));
        self.call(Method::PUT, &path, Some(spec), CALL_TIMEOUT)
            .await
    }

    /// `DELETE /v1/services/{name}`.
    pub async fn delete_service(&self, name: &str) -> AdminResult<Changed> {
        let path = format!("/v1/services/{name}");
        self.call_bare(Method::DELETE, &path).await
    }

    /// `GET /v1/services/{name}/stats`.
    pub async fn stats(&self, name: &str) -> AdminResult<ServiceStats> {
        let path = format!("/v1/services/{name}/stats");
        self.call_bare(Method::GET, &path).await
    }

    /// `POST /v1/services/{name}/drain`; responds when it is drained, after `wait` at the latest.
    pub async fn drain(
        &self,
        name: &str,
        request: &DrainRequest,
        wait: Duration,
    ) -> AdminResult<DrainReceipt> {
        let path = format!("/v1/services/{name}/drain?wait={}ms", wait.as_millis());
        self.call(Method::POST, &path, Some(request), CALL_TIMEOUT + wait)
            .await
    }

    /// A call without a body, which does not wait for anything.
    async fn call_bare<T: DeserializeOwned>(&self, method: Method, path: &str) -> AdminResult<T> {
        self.call(method, path, None::<&()>, CALL_TIMEOUT).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        limit: Duration,
    ) -> AdminResult<T> {
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(AdminError::Nonsense)?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "proxy")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| AdminError::Unreachable(error.into()))?;
        let (status, body) = tokio::time::timeout(limit, self.exchange(request))
            .await
            .map_err(|_| AdminError::TimedOut(limit))??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(AdminError::Nonsense);
        }
        Err(match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(ErrorBody { error }) => AdminError::Refused {
                status,
                code: error.code,
                message: error.message,
                field: error.field,
            },
            Err(_) => AdminError::Refused {
                status,
                code: "unknown".into(),
                message: format!("status {status}"),
                field: None,
            },
        })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> AdminResult<(StatusCode, Bytes)> {
        let exchanged = match &self.dial {
            Dial::Tcp(address) => exchange(connected(*address).await?, request).await,
            Dial::Unix { socket, older } => match (UnixStream::connect(socket).await, older) {
                (Ok(stream), _) => exchange(stream, request).await,
                (Err(error), Some(older)) if is_absent(&error) => {
                    exchange(connected(*older).await?, request).await
                }
                (Err(error), _) => return Err(unreachable(error)),
            },
            #[cfg(test)]
            Dial::Memory(accept) => {
                let (ours, theirs) = tokio::io::duplex(64 * 1024);
                accept
                    .send(theirs)
                    .map_err(|error| AdminError::Unreachable(error.into()))?;
                exchange(ours, request).await
            }
        };
        exchanged.map_err(|error| AdminError::Unreachable(error.into()))
    }
}

async fn connected(address: SocketAddr) -> AdminResult<TcpStream> {
    TcpStream::connect(address).await.map_err(unreachable)
}

fn unreachable(error: io::Error) -> AdminError {
    AdminError::Unreachable(error.into())
}

/// Whether no process is behind a socket: one that was killed leaves its file.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy of an older release, which refuses every call, by TCP.
    async fn older() -> SocketAddr {
        let (url, _) = crate::testing::listener(vec![(418, "{}"); 4]).await;
        let address = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split('/').next());
        address
            .and_then(|address| address.parse().ok())
            .expect("an address")
    }

    #[tokio::test]
    async fn an_older_proxy_is_reached_by_tcp_as_long_as_none_is_behind_the_socket() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let socket = folder.path().join("admin.sock");
        let at = |older| {
            let socket = socket.clone();
            ProxyAdmin::new(Dial::Unix { socket, older }, "secret".into())
        };
        let none = at(None).status().await.expect_err("there is none");
        assert!(matches!(none, AdminError::Unreachable(_)), "{none}");
        let reached = at(Some(older().await)).status().await.expect_err("refused");
        assert!(reached.to_string().contains("418"), "{reached}");
        // The file of one that was killed.
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
        let reached = at(Some(older().await)).status().await.expect_err("refused");
        assert!(reached.to_string().contains("418"), "{reached}");
        // One that listens has the calls to itself, also while it does not respond.
        std::fs::remove_file(&socket).expect("removed");
        let listener = tokio::net::UnixListener::bind(&socket).expect("bound");
        let closes = async { drop(listener.accept().await.expect("a caller")) };
        let admin = at(Some(older().await));
        let (reached, ()) = tokio::join!(admin.status(), closes);
        assert!(
            matches!(reached, Err(AdminError::Unreachable(_))),
            "{reached:?}"
        );
    }
}
