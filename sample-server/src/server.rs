//! Accepts connections, serves each in a task, and waits for all of them at the end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::options::Config;
use crate::router::{Router, UpgradeSlot};
use crate::websocket;

/// The pause after an accept that failed for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// Of TCP.
    Tcp(TcpListener),
    /// Of a unix socket.
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was stopped, and every request in flight got its response.
    Stopped,
    /// A request crashed it, as configured. Requests in flight are lost.
    Crashed,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {}", match source.kind() {
        io::ErrorKind::AddrInUse => "another program listens there".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 need privileges".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => source.to_string(),
    })]
    Listen {
        /// The address that was configured.
        address: ListenAddress,
        /// The system's error.
        source: io::Error,
    },
    /// The signals cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(#[source] io::Error),
    /// The runtime cannot be built.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

/// Binds the address. Returns the actual address too: for port 0 the system picks a port. A unix
/// socket that a program has left behind is replaced.
///
/// # Errors
/// If the address is in use, not one of this machine's, or not permitted.
pub async fn bind(address: ListenAddress) -> Result<(Listener, ListenAddress), StartError> {
    let bound = match &address {
        ListenAddress::Ip(ip) => bind_tcp(*ip).await,
        ListenAddress::Unix(path) => bind_unix(path)
            .await
            .map(|listener| (Listener::Unix(listener), address.clone())),
    };
    bound.map_err(|source| StartError::Listen { address, source })
}

async fn bind_tcp(address: SocketAddr) -> io::Result<(Listener, ListenAddress)> {
    let listener = TcpListener::bind(address).await?;
    let address = ListenAddress::Ip(listener.local_addr()?);
    Ok((Listener::Tcp(listener), address))
}

async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = path
        .symlink_metadata()
        .is_ok_and(|file| file.file_type().is_socket());
    if is_socket && UnixStream::connect(path).await.is_err() {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

/// Serves until `shutdown` completes and the requests in flight are complete, or until the crash
/// that is configured.
pub async fn run(config: Config, listener: Listener, shutdown: impl Future<Output = ()>) -> Ended {
    let router = Arc::new(Router::new(config, Instant::now()));
    let (stop, stopping) = watch::channel(false);
    // At a crash it is dropped, with all its tasks.
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            () = router.crash.notified() => return Ended::Crashed,
            accepted = accept(&listener) => {
                let (router, stopping) = (Arc::clone(&router), stopping.clone());
                match accepted {
                    Accepted::Tcp(stream) => {
                        // An error only means that responses are late.
                        let _ = stream.set_nodelay(true);
                        connections.spawn(serve(stream, router, stopping))
                    }
                    Accepted::Unix(stream) => connections.spawn(serve(stream, router, stopping)),
                };
            }
            Some(_) = connections.join_next() => {}
        }
    }

    drop(listener);
    stop.send_replace(true);
    loop {
        tokio::select! {
            () = router.crash.notified() => return Ended::Crashed,
            done = connections.join_next() => if done.is_none() {
                return Ended::Stopped;
            }
        }
    }
}

async fn accept(listener: &Listener) -> Accepted {
    loop {
        let accepted = match listener {
            Listener::Tcp(tcp) => tcp.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
            Listener::Unix(unix) => unix
                .accept()
                .await
                .map(|(stream, _)| Accepted::Unix(stream)),
        };
        match accepted {
            Ok(accepted) => return accepted,
            // The client left before it was accepted: no pause is needed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves one connection from accept to close, also as a WebSocket.
async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Arc<Router>,
    mut stopping: watch::Receiver<bool>,
) {
    let upgrades = UpgradeSlot::default();
    let service = service_fn(|request| router.respond(request, &upgrades));
    let connection = http1::Builder::new()
        // Connections are closed by faults only, not by a timeout that is not configured.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // The client disconnected, or a cut body ended in an error as configured.
    if ended.is_err() {
        return;
    }
    let upgrade = upgrades
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(upgrade) = upgrade
        && let Ok(upgraded) = upgrade.await
    {
        // As above: an error only means that the WebSocket has ended.
        let _ = websocket::echo(upgraded, router.version(), stopped(&mut stopping)).await;
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server has ended, which is a stop too.
    let _ = stopping.wait_for(|stop| *stop).await;
}
