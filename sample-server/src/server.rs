//! Accepts connections, serves each in a task, and waits for all of them at the end.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::options::Config;
use crate::router::{Router, UpgradeSlot};
use crate::websocket;

/// The pause after an accept that failed for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
        io::ErrorKind::AddrInUse => "another program has this port".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 need privileges".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => source.to_string(),
    })]
    Listen {
        /// The address that was configured.
        address: SocketAddr,
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

/// Binds the address. Returns the actual address too: for port 0 the system picks a port.
///
/// # Errors
/// If the address is in use, not one of this machine's, or not permitted.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let real = listener.local_addr().map_err(failed)?;
    Ok((listener, real))
}

/// Serves until `shutdown` completes and the requests in flight are complete, or until the crash
/// that is configured.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Ended {
    let router = Arc::new(Router::new(config, Instant::now()));
    let (stop, stopping) = watch::channel(false);
    // At a crash it is dropped, with all its tasks.
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            () = router.crash.notified() => return Ended::Crashed,
            stream = accept(&listener) => {
                connections.spawn(serve(stream, Arc::clone(&router), stopping.clone()));
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

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The client left before it was accepted: no pause is needed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves one connection from accept to close, also as a WebSocket.
async fn serve(stream: TcpStream, router: Arc<Router>, mut stopping: watch::Receiver<bool>) {
    // An error only means that responses are late.
    let _ = stream.set_nodelay(true);
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
