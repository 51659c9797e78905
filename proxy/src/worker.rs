//! A worker: one thread with a runtime of its own, that accepts connections and forwards their
//! requests. Nothing of it is shared with other workers but the table and the counters.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::LocalSet;

use crate::client::{Client, ClientSocket};
use crate::config::{Limits, Listener};
use crate::counters::Counters;
use crate::endpoint::{Endpoint, EndpointId};
use crate::forward::forward;
use crate::headers::Peer;
use crate::table::Table;
use crate::upstream::Upstream;

/// How long to wait when the system has no file descriptor left for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often idle connections are looked through.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// What the control thread tells a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// The endpoint is retired: close the idle connections to it.
    Retire(EndpointId),
    /// The endpoint's drain has no more time: cut its requests, or its upgraded connections.
    Cut {
        endpoint: EndpointId,
        upgraded: bool,
    },
    /// Finish now, whatever is open.
    End,
}

/// What a worker is made of.
pub(crate) struct Setup {
    pub(crate) index: usize,
    pub(crate) table: Arc<ArcSwap<Table>>,
    /// Bound already, this worker's own sockets.
    pub(crate) listeners: Vec<(Listener, std::net::TcpListener)>,
    pub(crate) limits: Limits,
    pub(crate) counters: Arc<Counters>,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    /// True once no new connections are to be accepted.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// One worker, seen from its own tasks.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) counters: crate::counters::Own,
    limits: Limits,
    cache: RefCell<Cache<Arc<ArcSwap<Table>>, Arc<Table>>>,
    /// What the cache held when it was last looked at.
    table: RefCell<Rc<Held>>,
    upstreams: RefCell<HashMap<EndpointId, Rc<Upstream>>>,
    open: Cell<usize>,
    closed: Notify,
    stopping: watch::Receiver<bool>,
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
        .build()?;
    LocalSet::new().block_on(&runtime, async move {
        let Setup {
            index,
            table,
            listeners,
            limits,
            counters,
            mut orders,
            mut stopping,
        } = setup;
        let now = table.load_full();
        let worker = Rc::new(Worker {
            index,
            counters: counters.own(index),
            limits,
            cache: RefCell::new(Cache::new(table)),
            table: RefCell::new(Rc::new(Held(now))),
            upstreams: RefCell::default(),
            open: Cell::new(0),
            closed: Notify::new(),
            stopping: stopping.clone(),
        });
        for (config, socket) in listeners {
            let socket = TcpListener::from_std(socket)?;
            worker.spawn(worker.clone().accept(Rc::new(config), socket));
        }
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        loop {
            let ended = async {
                // Err: the control thread is gone, which is as good as being told to stop.
                let _ = stopping.wait_for(|stopping| *stopping).await;
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
        let new = || Rc::new(Upstream::new(endpoint.clone(), self.index));
        upstreams.entry(endpoint.id).or_insert_with(new).clone()
    }

    /// Runs a task that the worker waits for before it ends.
    pub(crate) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        self.open.set(self.open.get() + 1);
        let open = Open(self.clone());
        tokio::task::spawn_local(async move {
            let _open = open;
            task.await;
        });
    }

    async fn accept(self: Rc<Self>, listener: Rc<Listener>, socket: TcpListener) {
        let mut stopping = self.stopping.clone();
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                _ = stopping.wait_for(|stopping| *stopping) => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    self.spawn(self.clone().serve(listener.clone(), stream, peer.ip()));
                }
                Err(error) => pause_after(&error).await,
            }
        }
        // Connections that wait in the backlog were accepted as far as their clients know.
        while let Some(Ok((stream, peer))) = now_or_never(socket.accept()).await {
            self.spawn(self.clone().serve(listener.clone(), stream, peer.ip()));
        }
    }

    async fn serve(
        self: Rc<Self>,
        listener: Rc<Listener>,
        stream: TcpStream,
        ip: std::net::IpAddr,
    ) {
        let _open = self.counters.connection();
        // A socket that is gone already says so when it is read.
        let _ = stream.set_nodelay(true);
        let ip = ip.to_canonical();
        let trusted = listener.trusted_proxies.iter().any(|net| net.contains(&ip));
        let cut = Rc::new(Notify::new());
        let client = Client {
            peer: Peer { ip, trusted },
            cut: cut.clone(),
        };
        let worker = self.clone();
        let service = service_fn(move |request| {
            let (worker, client) = (worker.clone(), client.clone());
            async move { Ok::<_, Infallible>(forward(worker, client, request).await) }
        });
        let (keep_alive, body_idle) = {
            let table = self.table();
            (table.timeouts.keep_alive, table.timeouts.body_idle)
        };
        let socket = ClientSocket::new(stream, body_idle);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(keep_alive)
            .max_headers(self.limits.header_count)
            .max_header_size(self.limits.header_bytes)
            .serve_connection(TokioIo::new(socket), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let mut stopping = self.stopping.clone();
        // A connection that breaks is the client's to notice; its requests were settled.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = cut.notified() => return,
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection => {}
            () = cut.notified() => {}
        }
    }

    fn obey(&self, order: Order) {
        match order {
            Order::Retire(id) => {
                if let Some(upstream) = self.upstreams.borrow().get(&id) {
                    upstream.close_idle();
                }
            }
            Order::Cut { endpoint, upgraded } => {
                if let Some(upstream) = self.upstreams.borrow().get(&endpoint) {
                    upstream.cut(upgraded);
                }
            }
            Order::End => {}
        }
    }

    fn tidy(&self) {
        self.upstreams
            .borrow_mut()
            .retain(|_, upstream| !upstream.tidy());
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

/// Says why a connection could not be accepted, and waits where trying again at once would spin.
async fn pause_after(error: &io::Error) {
    let gone = [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
    ];
    if !gone.contains(&error.kind()) {
        tracing::warn!(%error, "cannot accept a connection; trying again in {ACCEPT_PAUSE:?}");
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
