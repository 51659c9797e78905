//! Accepts connections, each worker for itself, and has them served.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::access_log::AccessLog;
use crate::access_log::own::OfWorker;
use crate::config::{Config, Limits, Listener};
use crate::server::admission::{Admission, ConnectionPermit, Full};
use crate::server::h1::Jobs;
use crate::server::listeners::Bound;
use crate::server::{h1, h2};
use crate::table::Table;
use crate::wire::h2::connection::H2Socket;
use crate::wire::listener_id::ListenerId;
use crate::wire::peer::{Peer, is_in};
use crate::wire::proxy_protocol;
use crate::wire::socket::{Bytestream, Socket};
use crate::wire::tls::{Accepted, ListenerTls};
use crate::worker::Worker;
use crate::worker::counters::Counters;
use crate::worker::log_throttle::LogThrottle;
use crate::worker::order::{Order, ShutdownPhase};

/// How long to wait when the system has no file descriptor left for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often idle connections are looked through.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// What a worker is made of.
pub(crate) struct Setup {
    pub(crate) index: usize,
    /// Bound already, this worker's own sockets.
    pub(crate) listeners: Vec<Bound>,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) shared: Shared,
}

/// What all workers have in common.
#[derive(Clone)]
pub(crate) struct Shared {
    table: Arc<ArcSwap<Table>>,
    limits: Limits,
    admissions: Admissions,
    /// Places for the clients of all listeners.
    files: Arc<Semaphore>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) access_log: Option<Arc<AccessLog>>,
    shutdown_phase: watch::Receiver<ShutdownPhase>,
}

/// Where a worker accepts connections.
struct Port {
    listener: Listener,
    id: ListenerId,
    tls: Option<Arc<ListenerTls>>,
    admission: Arc<Admission>,
    /// One for all ports of the worker.
    jobs: Rc<Jobs>,
}

/// Who may connect to which listener, for all workers.
type Admissions = HashMap<ListenerId, Arc<Admission>>;

impl Shared {
    /// For so many workers, with these limits, and so many clients of all listeners. They are at the
    /// stage that is sent last.
    pub(crate) fn new(
        config: &Config,
        (limits, clients): (Limits, usize),
        table: Arc<ArcSwap<Table>>,
        workers: usize,
    ) -> (Self, watch::Sender<ShutdownPhase>) {
        let (sender, shutdown_phase) = watch::channel(ShutdownPhase::Serving);
        let files = Arc::new(Semaphore::new(clients.min(Semaphore::MAX_PERMITS)));
        let admission = |listener: &Listener| {
            let admission = Admission::new(&limits, files.clone());
            (listener.id(), Arc::new(admission))
        };
        let shared = Self {
            table,
            limits,
            admissions: config.listeners.iter().map(admission).collect(),
            files: files.clone(),
            counters: Arc::new(Counters::new(workers)),
            access_log: None,
            shutdown_phase,
        };
        (shared, sender)
    }
}

/// Runs a worker on the calling thread until it was told to stop and its last connection has
/// ended.
pub(crate) fn run(setup: Setup) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(async move {
        let Setup {
            index,
            listeners,
            mut orders,
            shared,
        } = setup;
        let Shared {
            table,
            limits,
            admissions,
            files,
            counters,
            access_log,
            mut shutdown_phase,
        } = shared;
        let access_log = access_log.map(|log| OfWorker::new(log, index));
        if let Some(log) = &access_log {
            tokio::task::spawn_local(log.clone().run());
        }
        let phase = shutdown_phase.clone();
        let worker = Worker::new(index, table, limits, &counters, phase, access_log);
        let jobs = Rc::new(h1::jobs());
        for bound in listeners {
            let id = bound.id();
            let Bound {
                listener,
                tls,
                socket,
                ..
            } = bound;
            // What is accepted on it inherits this from it, on Linux.
            rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
            let socket = TcpListener::from_std(socket)?;
            let admission = admissions.get(&listener.id()).cloned();
            let port = Rc::new(Port {
                admission: admission
                    .unwrap_or_else(|| Arc::new(Admission::new(&limits, files.clone()))),
                listener,
                id,
                tls,
                jobs: jobs.clone(),
            });
            worker.spawn(accept(worker.clone(), port, socket));
        }
        let timers = worker.timers.clone();
        tokio::task::spawn_local(async move { timers.run().await });
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        loop {
            let ended = async {
                // Err: the control thread is gone, which is as good as being told to stop.
                let _ = shutdown_phase
                    .wait_for(|shutdown_phase| *shutdown_phase != ShutdownPhase::Serving)
                    .await;
                // HTTP/2 says so at once, and loses nothing by it (RFC 9113, 6.8).
                worker.timers.wake_all();
                let _ = shutdown_phase
                    .wait_for(|shutdown_phase| *shutdown_phase == ShutdownPhase::Stopping)
                    .await;
                worker.timers.wake_all();
                worker.all_ended().await;
            };
            tokio::select! {
                () = ended => return Ok(()),
                order = orders.recv() => match order {
                    Some(Order::End) | None => return Ok(()),
                    Some(order) => worker.obey(order),
                },
                _ = tidy.tick() => worker.tidy(),
            }
        }
    })
}

async fn accept(worker: Rc<Worker>, port: Rc<Port>, mut socket: TcpListener) {
    let mut shutdown_phase = worker.shutdown_phase();
    let warnings = ThrottledWarnings::default();
    loop {
        accept_while_serving(&worker, &port, &socket, &mut shutdown_phase, &warnings).await;
        if !is_kept_by_successor(&shutdown_phase.borrow(), &port.id) {
            break;
        }
        match leave_to_successor(socket, &port.id, &mut shutdown_phase).await {
            Ok(Some(back)) => socket = back,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "cannot accept connections again");
                return;
            }
        }
    }
    // Connections that wait in the backlog were accepted as far as their clients know.
    while let Some(Ok((stream, peer))) = now_or_never(socket.accept()).await {
        admit(&worker, &port, stream, peer.ip(), &warnings).await;
    }
}

async fn accept_while_serving(
    worker: &Rc<Worker>,
    port: &Rc<Port>,
    socket: &TcpListener,
    shutdown_phase: &mut watch::Receiver<ShutdownPhase>,
    warnings: &ThrottledWarnings,
) {
    let mut is_over =
        pin!(shutdown_phase.wait_for(|shutdown_phase| *shutdown_phase != ShutdownPhase::Serving));
    loop {
        tokio::select! {
            accepted = poll_fn(|cx| socket.poll_accept(cx)) => match accepted {
                Ok((stream, peer)) => admit(worker, port, stream, peer.ip(), warnings).await,
                Err(error) => pause_after(&error, &warnings.failed).await,
            },
            _ = &mut is_over => return,
        }
    }
}

/// Has a client served that has just connected, once there is a place for it. Until then no
/// other one is accepted: they wait in the system's backlog.
async fn admit(
    worker: &Rc<Worker>,
    port: &Rc<Port>,
    stream: TcpStream,
    ip: IpAddr,
    warnings: &ThrottledWarnings,
) {
    let ip = ip.to_canonical();
    let (now, limits) = (Instant::now(), &worker.limits);
    let trusted = &port.listener.trusted_proxies;
    let trusted = is_in(trusted, ip).then(|| trusted.clone());
    let counted = match port.admission.count(ip) {
        Some(counted) => counted,
        None if trusted.is_some() || is_in(&port.listener.proxy_protocol, ip) => None,
        None => {
            worker.counters.turns_away();
            if let Some(times) = warnings.crowd.happened(now) {
                let limit = limits.connections_per_address;
                tracing::warn!(client = %ip, limit, times, "a client has reached limits.connections_per_address: further connections are closed");
            }
            return;
        }
    };
    let place = match port.admission.place_now() {
        Ok(place) => Some(place),
        Err(full) => {
            worker.counters.waits();
            if let Some(times) = warnings.full.happened(now) {
                let (listener, limit) = (port.listener.address, limits.connections);
                match full {
                    Full::Listener => {
                        tracing::warn!(%listener, limit, times, "limits.connections is reached: further clients wait until a connection closes");
                    }
                    Full::Files => {
                        tracing::warn!(%listener, times, "all listeners together have as many clients as the limit of open files allows: further clients wait until a connection closes");
                    }
                }
            }
            port.admission.place().await
        }
    };
    if let Some(place) = place {
        let place = ConnectionPermit::new(place, counted);
        let peer = Peer::new(ip, trusted, port.tls.is_some());
        worker.spawn(greet(worker.clone(), port.clone(), stream, peer, place));
    }
}

async fn greet(
    worker: Rc<Worker>,
    port: Rc<Port>,
    mut stream: TcpStream,
    mut peer: Peer,
    _place: ConnectionPermit,
) {
    let _open = worker.counters.connection();
    let header = worker.table().timeouts.header;
    if is_in(&port.listener.proxy_protocol, peer.ip) {
        // What other connections do not need is not in the memory of all of them.
        match Box::pin(behind_balancer(&port, &mut stream, header)).await {
            Ok(Some(client)) => peer = client,
            Ok(None) => {}
            Err(error) => {
                worker.counters.handshake_failed();
                tracing::debug!(balancer = %peer.ip, %error, "a connection is closed: it has no valid PROXY header");
                return;
            }
        }
    }
    let stream = match &port.tls {
        None => Bytestream::plain(stream),
        // What other connections do not need is not in the memory of all of them.
        Some(tls) => match Box::pin(tls.accept(stream, header)).await {
            Ok(Accepted::Tls(stream)) if stream.speaks_h2() => {
                peer.tls_version = stream.version();
                peer.identity = stream.identity();
                let stream = Bytestream::Tls(Box::new(stream));
                let h2_socket = H2Socket::to_client(Vec::new(), stream);
                return Box::pin(h2::serve(worker, h2_socket, peer)).await;
            }
            Ok(Accepted::Tls(stream)) => {
                peer.tls_version = stream.version();
                peer.identity = stream.identity();
                Bytestream::Tls(Box::new(stream))
            }
            Ok(Accepted::Plain(stream)) => {
                let socket = Socket::new(Bytestream::plain(stream));
                return Box::pin(h1::refuse_plain(worker, socket, peer)).await;
            }
            Err(error) => {
                worker.counters.handshake_failed();
                tracing::debug!(client = %peer.ip, %error, "TLS handshake with a client failed");
                return;
            }
        },
    };
    let socket = Socket::of_client(stream, port.listener.half_close);
    h1::serve(worker, &port.jobs, socket, peer).await;
}

/// The client of a connection that a balancer passes on. `None`: that is the balancer itself.
async fn behind_balancer(
    port: &Port,
    stream: &mut TcpStream,
    within: Duration,
) -> io::Result<Option<Peer>> {
    let read = tokio::time::timeout(within, proxy_protocol::read(stream)).await;
    let client = read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(client.map(|ip| {
        let ip = ip.to_canonical();
        let trusted = &port.listener.trusted_proxies;
        let trusted = is_in(trusted, ip).then(|| trusted.clone());
        Peer::new(ip, trusted, port.tls.is_some())
    }))
}

/// Whether another process accepts on this socket, too.
fn is_kept_by_successor(shutdown_phase: &ShutdownPhase, id: &ListenerId) -> bool {
    matches!(shutdown_phase, ShutdownPhase::Leaving(kept) if kept.contains(id))
}

/// Leaves a socket alone for as long as another process accepts on it. Gives it back if that
/// process has died. Nothing is lost meanwhile: connections wait in the backlog, which both share.
async fn leave_to_successor(
    socket: TcpListener,
    id: &ListenerId,
    shutdown_phase: &mut watch::Receiver<ShutdownPhase>,
) -> io::Result<Option<TcpListener>> {
    let socket = socket.into_std()?;
    let is_over = |phase: &ShutdownPhase| !is_kept_by_successor(phase, id);
    let back = shutdown_phase.wait_for(is_over);
    match back.await.as_deref() {
        Ok(ShutdownPhase::Serving) => TcpListener::from_std(socket).map(Some),
        _ => Ok(None),
    }
}

/// What is said of connections, each once in a while.
#[derive(Default)]
struct ThrottledWarnings {
    /// None could be accepted.
    failed: LogThrottle,
    /// The listener has no place.
    full: LogThrottle,
    /// An address has too many.
    crowd: LogThrottle,
}

/// Waits where trying at once to accept a connection again would spin, and says why.
async fn pause_after(error: &io::Error, throttle: &LogThrottle) {
    let gone = [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
    ];
    if !gone.contains(&error.kind()) {
        if let Some(times) = throttle.happened(Instant::now()) {
            tracing::warn!(%error, times, "cannot accept a connection; trying again every {ACCEPT_PAUSE:?}");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// What a future gives without waiting.
async fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}
