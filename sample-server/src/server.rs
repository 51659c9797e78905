//! Accepts connections, gives each a task, and sees them all to their end.

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

/// After an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a server came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop, and every request in flight was answered.
    Stopped,
    /// A request crashed it, as it was told to. What is in flight is lost.
    Crashed,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {}", match source.kind() {
        io::ErrorKind::AddrInUse => "another program has this port".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 need privileges".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => source.to_string(),
    })]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The signals cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(#[source] io::Error),
    /// The runtime cannot be built.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

/// Takes the address; tells the real one, which for port 0 the system has picked.
///
/// # Errors
/// When the address is taken, not of this machine, or not permitted.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let real = listener.local_addr().map_err(failed)?;
    Ok((listener, real))
}

/// Serves until `shutdown` completes and what was in flight then is done, or until a crash that
/// the config asks for.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Ended {
    let router = Arc::new(Router::new(config, Instant::now()));
    let (stop, stopping) = watch::channel(false);
    // Dropped with all its tasks at a crash.
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
            // A client that left before it was accepted is no reason to wait.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// One connection, from accept to close, as a WebSocket too.
async fn serve(stream: TcpStream, router: Arc<Router>, mut stopping: watch::Receiver<bool>) {
    // Only a hint to the kernel: without it answers are late, not wrong.
    let _ = stream.set_nodelay(true);
    let upgrades = UpgradeSlot::default();
    let service = service_fn(|request| router.answer(request, &upgrades));
    let connection = http1::Builder::new()
        // A connection is closed when a fault says so and not by a clock that nobody set.
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
    // A client that breaks off is its own affair, and a cut body ends in an error by design.
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
        // As above: a WebSocket that ends badly has ended.
        let _ = websocket::echo(upgraded, router.version(), stopped(&mut stopping)).await;
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which is as good as being told.
    let _ = stopping.wait_for(|stop| *stop).await;
}
