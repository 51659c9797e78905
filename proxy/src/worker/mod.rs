//! A worker: one thread with a runtime of its own, that serves connections and forwards their
//! requests. Nothing of it is shared with other workers but the table and the counters.

pub(crate) mod connect;
pub(crate) mod counters;
pub(crate) mod date;
pub(crate) mod log_throttle;
pub(crate) mod memory;
pub(crate) mod order;
pub(crate) mod slots;
pub(crate) mod upstream;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, Cache};
use tokio::sync::{Notify, watch};

use crate::access_log::own::OfWorker;
use crate::config::Limits;
use crate::table::Table;
use crate::table::endpoint::Endpoint;
use crate::table::endpoint_id::EndpointId;
use crate::wire::h2::backlog;
use crate::wire::socket::Pool;
use crate::wire::timer::{Millis, Timers};
use crate::worker::counters::Counters;
use crate::worker::date::Date;
use crate::worker::memory::MemoryTrimmer;
use crate::worker::order::{Order, PhaseName, ShutdownPhase};
use crate::worker::upstream::Upstream;

/// One worker, seen from its own tasks.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) counters: counters::Own,
    /// Where requests that have ended have a line, if anywhere.
    pub(crate) access_log: Option<Rc<OfWorker>>,
    pub(crate) limits: Limits,
    pub(crate) timers: Rc<Timers>,
    pub(crate) pool: Pool,
    /// Bytes that clients of HTTP/2 do not take.
    pub(crate) backlog: Rc<backlog::OfWorker>,
    /// As `Date` says it, and the second that it is of.
    date: Cell<(Millis, Date)>,
    cache: RefCell<Cache<Arc<ArcSwap<Table>>, Arc<Table>>>,
    /// What the cache held when it was last looked at.
    table: RefCell<Rc<TableView>>,
    upstreams: RefCell<HashMap<EndpointId, Rc<Upstream>, BuildHasherDefault<Itself>>>,
    open: Cell<usize>,
    trimmer: MemoryTrimmer,
    closed: Notify,
    shutdown_phase: RefCell<watch::Receiver<ShutdownPhase>>,
    /// Of `shutdown_phase`, what every request asks for.
    phase: Cell<PhaseName>,
}

/// The hash of an endpoint's number: itself. Clients cannot choose these numbers.
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

/// A worker's own hold on a table. Its requests count their holds in the `Rc` around it, which
/// no other thread writes; the table's `Arc` is touched once a swap.
pub(crate) struct TableView(Arc<Table>);

impl std::ops::Deref for TableView {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.0
    }
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        table: Arc<ArcSwap<Table>>,
        limits: Limits,
        counters: &Arc<Counters>,
        shutdown_phase: watch::Receiver<ShutdownPhase>,
        access_log: Option<Rc<OfWorker>>,
    ) -> Rc<Self> {
        let now = table.load_full();
        let counters = counters.own(index);
        let phase = PhaseName::from(&*shutdown_phase.borrow());
        Rc::new(Self {
            index,
            access_log,
            limits,
            timers: Timers::new(),
            pool: Pool::new(counters.buffered().clone()),
            backlog: backlog::OfWorker::new(counters.buffered().clone()),
            counters,
            date: Cell::new((Millis::MAX, Date::NONE)),
            cache: RefCell::new(Cache::new(table)),
            table: RefCell::new(Rc::new(TableView(now))),
            upstreams: RefCell::default(),
            open: Cell::new(0),
            trimmer: MemoryTrimmer::default(),
            closed: Notify::new(),
            phase: Cell::new(phase),
            shutdown_phase: RefCell::new(shutdown_phase),
        })
    }

    /// The newest table. An attempt calls this once, and keeps what it got to its end.
    pub(crate) fn table(&self) -> Rc<TableView> {
        let mut cache = self.cache.borrow_mut();
        let newest = cache.load();
        let mut held = self.table.borrow_mut();
        if !Arc::ptr_eq(newest, &held.0) {
            *held = Rc::new(TableView(newest.clone()));
        }
        held.clone()
    }

    pub(crate) fn has_newer_than(&self, table: &Rc<TableView>) -> bool {
        !Rc::ptr_eq(&self.table(), table)
    }

    /// This worker's side of an endpoint, on which the caller has just taken a claim.
    pub(crate) fn upstream(&self, endpoint: &Arc<Endpoint>) -> Rc<Upstream> {
        let mut upstreams = self.upstreams.borrow_mut();
        let new = || {
            Rc::new(Upstream::new(
                endpoint.clone(),
                self.index,
                self.timers.clone(),
            ))
        };
        upstreams.entry(endpoint.id).or_insert_with(new).clone()
    }

    /// This worker's side of an endpoint with which it has something to do.
    pub(crate) fn known_upstream(&self, id: EndpointId) -> Option<Rc<Upstream>> {
        self.upstreams.borrow().get(&id).cloned()
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

    /// How far the process is, and what it becomes.
    pub(crate) fn shutdown_phase(&self) -> watch::Receiver<ShutdownPhase> {
        self.shutdown_phase.borrow().clone()
    }

    /// Waits until every task has ended that [`Self::spawn`] was given.
    pub(crate) async fn all_ended(&self) {
        while self.open.get() > 0 {
            self.closed.notified().await;
        }
    }

    /// Whether the proxy is about to end, and connections with it.
    pub(crate) fn is_stopping(&self) -> bool {
        self.phase() == PhaseName::Stopping
    }

    /// Whether the next response on a connection is the last.
    pub(crate) fn is_leaving(&self) -> bool {
        self.phase() != PhaseName::Serving
    }

    fn phase(&self) -> PhaseName {
        let mut shutdown_phase = self.shutdown_phase.borrow_mut();
        // Err: the control thread is gone; what it said last holds.
        if shutdown_phase.has_changed().unwrap_or(false) {
            self.phase
                .set(PhaseName::from(&*shutdown_phase.borrow_and_update()));
        }
        self.phase.get()
    }

    /// The time as `Date` says it (RFC 9110, 6.6.1).
    pub(crate) fn date(&self) -> Date {
        let second = self.timers.now() / 1000;
        if self.date.get().0 != second {
            self.date.set((second, Date::of(SystemTime::now())));
        }
        self.date.get().1
    }

    /// Does what the control thread says.
    pub(crate) fn obey(&self, order: Order) {
        match order {
            Order::Retire(id) => {
                if let Some(upstream) = self.upstreams.borrow().get(&id) {
                    upstream.close_idle();
                }
            }
            Order::Silent(id) => {
                if let Some(upstream) = self.upstreams.borrow().get(&id) {
                    upstream.wake();
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
                    // The receiver may have given up waiting.
                    let _ = to.send((upstream.endpoint.id, upstream.ages()));
                }
            }
            Order::End => {}
        }
    }

    /// Closes and forgets what was idle for long.
    pub(crate) fn tidy(&self) {
        self.upstreams
            .borrow_mut()
            .retain(|_, upstream| !upstream.tidy());
        self.trimmer.look(self.open.get());
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
