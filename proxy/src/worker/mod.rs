//! A worker: one thread with a runtime of its own, that accepts connections and forwards their
//! requests. Nothing of it is shared with other workers but the table and the counters.

pub(crate) mod connect;
pub(crate) mod counters;
pub(crate) mod log_limit;
pub(crate) mod memory;
pub(crate) mod slots;
pub(crate) mod upstream;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, Cache};
use httpdate::HttpDate;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc, watch};

use crate::config::{Config, Limits, Listener};
use crate::server::admission::{Admission, Place};
use crate::server::listeners::Bound;
use crate::server::{h1, h2};
use crate::table::Table;
use crate::table::counts::age::Ages;
use crate::table::counts::claim::Kind;
use crate::table::endpoint::Endpoint;
use crate::table::endpoint_id::EndpointId;
use crate::wire::alarm::{Alarms, Millis};
use crate::wire::h2::transport::Transport;
use crate::wire::headers::Peer;
use crate::wire::socket::{Bytestream, Pool, Socket};
use crate::wire::tls::ListenerTls;
use crate::worker::counters::Counters;
use crate::worker::log_limit::Seldom;
use crate::worker::memory::Tide;
use crate::worker::upstream::Upstream;

/// How long to wait when the system has no file descriptor left for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often idle connections are looked through.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// What the control thread tells a worker.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// The endpoint is retired: close the idle connections to it.
    Retire(EndpointId),
    /// The endpoint's drain has no more time for what it has of this kind: cut it.
    Cut { endpoint: EndpointId, kind: Kind },
    /// Say how old the oldest is that is in flight at these endpoints, and hang up.
    Ages {
        endpoints: Arc<[EndpointId]>,
        to: mpsc::UnboundedSender<(EndpointId, Ages)>,
    },
    /// Finish now, whatever is open.
    End,
}

/// How far the process is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    Serving,
    /// Another process accepts connections at these addresses; at others nobody does. On the
    /// connections that are open, the next answer is the last.
    Leaving(Arc<[SocketAddr]>),
    /// Connections that are idle are closed.
    Stopping,
}

/// What a worker is made of.
pub(crate) struct Setup {
    pub(crate) index: usize,
    pub(crate) table: Arc<ArcSwap<Table>>,
    /// Bound already, this worker's own sockets.
    pub(crate) listeners: Vec<Bound>,
    pub(crate) limits: Limits,
    pub(crate) admissions: Admissions,
    pub(crate) counters: Arc<Counters>,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) stage: watch::Receiver<Stage>,
}

/// One worker, seen from its own tasks.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) counters: counters::Own,
    pub(crate) limits: Limits,
    pub(crate) alarms: Rc<Alarms>,
    pub(crate) pool: Pool,
    pub(crate) jobs: h1::Jobs,
    /// As `Date` says it, and the second that it is of.
    date: Cell<(Millis, Date)>,
    cache: RefCell<Cache<Arc<ArcSwap<Table>>, Arc<Table>>>,
    /// What the cache held when it was last looked at.
    table: RefCell<Rc<Held>>,
    upstreams: RefCell<HashMap<EndpointId, Rc<Upstream>, BuildHasherDefault<Itself>>>,
    open: Cell<usize>,
    tide: Tide,
    closed: Notify,
    stage: RefCell<watch::Receiver<Stage>>,
    /// Of `stage`, what every request asks for.
    phase: Cell<Phase>,
}

/// A stage without what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Leaving,
    Stopping,
}

impl From<&Stage> for Phase {
    fn from(stage: &Stage) -> Self {
        match stage {
            Stage::Serving => Self::Serving,
            Stage::Leaving(_) => Self::Leaving,
            Stage::Stopping => Self::Stopping,
        }
    }
}

/// The hash of an endpoint's number: itself. Nobody else chooses them.
#[derive(Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        // The table looks at the highest bits, too.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// The length of a date in its only format (RFC 9110, 5.6.7).
const DATE: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();

/// A second, as `Date` says it.
#[derive(Clone, Copy)]
pub(crate) struct Date([u8; DATE]);

impl Date {
    fn of(time: SystemTime) -> Self {
        let mut text = [0; DATE];
        // It fits: until the year 9999 there is no other length.
        let _ = write!(&mut text[..], "{}", HttpDate::from(time));
        Self(text)
    }
}

impl std::ops::Deref for Date {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Where a worker accepts connections.
struct Port {
    listener: Listener,
    tls: Option<Arc<ListenerTls>>,
    admission: Arc<Admission>,
}

/// Who may connect to which listener, for all workers.
pub(crate) type Admissions = HashMap<SocketAddr, Arc<Admission>>;

/// Those of a config's listeners.
pub(crate) fn admissions(config: &Config) -> Admissions {
    let listeners = config.listeners.iter();
    listeners
        .map(|listener| (listener.address, Arc::new(Admission::new(&config.limits))))
        .collect()
}

/// A worker's own hold on a table. Its requests count their holds in the `Rc` around it, which
/// no other thread writes; the table's `Arc` is touched once a swap.
pub(crate) struct Held(Arc<Table>);

impl std::ops::Deref for Held {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.0
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
            table,
            listeners,
            limits,
            admissions,
            counters,
            mut orders,
            mut stage,
        } = setup;
        let worker = Worker::new(index, table, limits, &counters, stage.clone());
        for Bound {
            listener,
            tls,
            socket,
            ..
        } in listeners
        {
            // What is accepted on it inherits this from it, on Linux.
            rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
            let socket = TcpListener::from_std(socket)?;
            let admission = admissions.get(&listener.address).cloned();
            let port = Rc::new(Port {
                admission: admission.unwrap_or_else(|| Arc::new(Admission::new(&limits))),
                listener,
                tls,
            });
            worker.spawn(worker.clone().accept(port, socket));
        }
        let alarms = worker.alarms.clone();
        tokio::task::spawn_local(async move { alarms.run().await });
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        loop {
            let ended = async {
                // Err: the control thread is gone, which is as good as being told to stop.
                let _ = stage.wait_for(|stage| *stage != Stage::Serving).await;
                // HTTP/2 says so at once, and loses nothing by it (RFC 9113, 6.8).
                worker.alarms.wake_all();
                let _ = stage.wait_for(|stage| *stage == Stage::Stopping).await;
                worker.alarms.wake_all();
                while worker.open.get() > 0 {
                    worker.closed.notified().await;
                }
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

impl Worker {
    pub(crate) fn new(
        index: usize,
        table: Arc<ArcSwap<Table>>,
        limits: Limits,
        counters: &Arc<Counters>,
        stage: watch::Receiver<Stage>,
    ) -> Rc<Self> {
        let now = table.load_full();
        let phase = Phase::from(&*stage.borrow());
        Rc::new(Self {
            index,
            counters: counters.own(index),
            limits,
            alarms: Alarms::new(),
            pool: Pool::default(),
            jobs: h1::jobs(),
            date: Cell::new((Millis::MAX, Date([0; DATE]))),
            cache: RefCell::new(Cache::new(table)),
            table: RefCell::new(Rc::new(Held(now))),
            upstreams: RefCell::default(),
            open: Cell::new(0),
            tide: Tide::default(),
            closed: Notify::new(),
            phase: Cell::new(phase),
            stage: RefCell::new(stage),
        })
    }

    /// The newest table. A request calls this once, and keeps what it got to its end.
    pub(crate) fn table(&self) -> Rc<Held> {
        let mut cache = self.cache.borrow_mut();
        let newest = cache.load();
        let mut held = self.table.borrow_mut();
        if !Arc::ptr_eq(newest, &held.0) {
            *held = Rc::new(Held(newest.clone()));
        }
        held.clone()
    }

    pub(crate) fn has_newer_than(&self, table: &Rc<Held>) -> bool {
        !Rc::ptr_eq(&self.table(), table)
    }

    /// This worker's side of an endpoint, on which the caller has just taken a claim.
    pub(crate) fn upstream(&self, endpoint: &Arc<Endpoint>) -> Rc<Upstream> {
        let mut upstreams = self.upstreams.borrow_mut();
        let new = || {
            Rc::new(Upstream::new(
                endpoint.clone(),
                self.index,
                self.alarms.clone(),
            ))
        };
        upstreams.entry(endpoint.id).or_insert_with(new).clone()
    }

    /// Runs a task that the worker waits for before it ends.
    pub(crate) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        self.open.set(self.open.get() + 1);
        let open = Open(self.clone());
        // Awaited unboxed, it would be in the new task's memory twice.
        let task = Box::pin(task);
        tokio::task::spawn_local(async move {
            let _open = open;
            task.await;
        });
    }

    async fn accept(self: Rc<Self>, port: Rc<Port>, mut socket: TcpListener) {
        let mut stage = self.stage.borrow().clone();
        let complaints = Complaints::default();
        loop {
            self.accept_while_serving(&port, &socket, &mut stage, &complaints)
                .await;
            if !is_kept_by_successor(&stage.borrow(), &socket) {
                break;
            }
            match leave_to_successor(socket, &mut stage).await {
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
            self.admit(&port, stream, peer.ip(), &complaints).await;
        }
    }

    async fn accept_while_serving(
        self: &Rc<Self>,
        port: &Rc<Port>,
        socket: &TcpListener,
        stage: &mut watch::Receiver<Stage>,
        complaints: &Complaints,
    ) {
        let mut is_over = pin!(stage.wait_for(|stage| *stage != Stage::Serving));
        loop {
            tokio::select! {
                accepted = poll_fn(|cx| socket.poll_accept(cx)) => match accepted {
                    Ok((stream, peer)) => self.admit(port, stream, peer.ip(), complaints).await,
                    Err(error) => pause_after(&error, &complaints.failed).await,
                },
                _ = &mut is_over => return,
            }
        }
    }

    /// Has a client served that has just connected, once there is a place for it. Until then no
    /// other one is accepted: they wait in the system's backlog.
    async fn admit(
        self: &Rc<Self>,
        port: &Rc<Port>,
        stream: TcpStream,
        ip: IpAddr,
        complaints: &Complaints,
    ) {
        let ip = ip.to_canonical();
        let (now, limits) = (Instant::now(), &self.limits);
        let trusted = &port.listener.trusted_proxies;
        let trusted = trusted.iter().any(|net| net.contains(&ip));
        let counted = match port.admission.count(ip) {
            Some(counted) => counted,
            None if trusted => None,
            None => {
                self.counters.turns_away();
                if let Some(times) = complaints.crowd.happened(now) {
                    let limit = limits.connections_per_address;
                    tracing::warn!(client = %ip, limit, times, "a client has as many connections as limits.connections_per_address allows: more are closed");
                }
                return;
            }
        };
        let permit = match port.admission.place_now() {
            Some(permit) => Some(permit),
            None => {
                self.counters.waits();
                if let Some(times) = complaints.full.happened(now) {
                    let (listener, limit) = (port.listener.address, limits.connections);
                    tracing::warn!(%listener, limit, times, "as many clients are connected as limits.connections allows: more wait until one leaves");
                }
                port.admission.place().await
            }
        };
        if let Some(permit) = permit {
            let place = Place::new(permit, counted);
            let peer = Peer::new(ip, trusted, port.tls.is_some());
            self.spawn(self.clone().greet(port.clone(), stream, peer, place));
        }
    }

    async fn greet(self: Rc<Self>, port: Rc<Port>, stream: TcpStream, peer: Peer, _place: Place) {
        let _open = self.counters.connection();
        let socket = match &port.tls {
            None => Socket::plain(stream),
            // What other connections do not need is not in the memory of all of them.
            Some(tls) => match Box::pin(tls.accept(stream)).await {
                Ok(stream) if stream.speaks_h2() => {
                    let stream = Bytestream::Tls(Box::new(stream));
                    let transport = Transport::to_client(Vec::new(), stream);
                    return Box::pin(h2::serve(self, transport, peer)).await;
                }
                Ok(stream) => Socket::tls(stream),
                Err(error) => {
                    self.counters.handshake_failed();
                    tracing::debug!(client = %peer.ip, %error, "no TLS handshake");
                    return;
                }
            },
        };
        h1::serve(self, socket, peer).await;
    }

    /// Whether the proxy is about to end, and connections with it.
    pub(crate) fn is_stopping(&self) -> bool {
        self.phase() == Phase::Stopping
    }

    /// Whether the next answer on a connection is the last.
    pub(crate) fn is_leaving(&self) -> bool {
        self.phase() != Phase::Serving
    }

    fn phase(&self) -> Phase {
        let mut stage = self.stage.borrow_mut();
        // Err: the control thread is gone; what it said last holds.
        if stage.has_changed().unwrap_or(false) {
            self.phase.set(Phase::from(&*stage.borrow_and_update()));
        }
        self.phase.get()
    }

    /// The time as `Date` says it (RFC 9110, 6.6.1).
    pub(crate) fn date(&self) -> Date {
        let second = self.alarms.now() / 1000;
        if self.date.get().0 != second {
            self.date.set((second, Date::of(SystemTime::now())));
        }
        self.date.get().1
    }

    fn obey(&self, order: Order) {
        match order {
            Order::Retire(id) => {
                if let Some(upstream) = self.upstreams.borrow().get(&id) {
                    upstream.close_idle();
                }
            }
            Order::Cut { endpoint, kind } => {
                if let Some(upstream) = self.upstreams.borrow().get(&endpoint) {
                    upstream.cut(kind);
                }
            }
            Order::Ages { endpoints, to } => {
                let upstreams = self.upstreams.borrow();
                for upstream in endpoints.iter().filter_map(|id| upstreams.get(id)) {
                    // Whoever has asked may have given up waiting.
                    let _ = to.send((upstream.endpoint.id, upstream.ages()));
                }
            }
            Order::End => {}
        }
    }

    fn tidy(&self) {
        self.upstreams
            .borrow_mut()
            .retain(|_, upstream| !upstream.tidy());
        self.tide.look(self.open.get());
    }
}

/// A task that the worker waits for, until it has ended, by a panic too.
struct Open(Rc<Worker>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.closed.notify_one();
    }
}

/// Whether another process accepts on this socket, too.
fn is_kept_by_successor(stage: &Stage, socket: &TcpListener) -> bool {
    let (Stage::Leaving(kept), Ok(address)) = (stage, socket.local_addr()) else {
        return false;
    };
    kept.contains(&address)
}

/// Leaves a socket alone for as long as another process accepts on it. Gives it back if that
/// process has died. Nothing is lost meanwhile: connections wait in the backlog, which both share.
async fn leave_to_successor(
    socket: TcpListener,
    stage: &mut watch::Receiver<Stage>,
) -> io::Result<Option<TcpListener>> {
    let socket = socket.into_std()?;
    let address = socket.local_addr()?;
    let is_over = |stage: &Stage| !matches!(stage, Stage::Leaving(kept) if kept.contains(&address));
    let back = stage.wait_for(is_over);
    match back.await.as_deref() {
        Ok(Stage::Serving) => TcpListener::from_std(socket).map(Some),
        _ => Ok(None),
    }
}

/// What is said of connections, each once in a while.
#[derive(Default)]
struct Complaints {
    /// None could be accepted.
    failed: Seldom,
    /// The listener has no place.
    full: Seldom,
    /// An address has too many.
    crowd: Seldom,
}

/// Waits where trying at once to accept a connection again would spin, and says why.
async fn pause_after(error: &io::Error, complaint: &Seldom) {
    let gone = [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
    ];
    if !gone.contains(&error.kind()) {
        if let Some(times) = complaint.happened(Instant::now()) {
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
