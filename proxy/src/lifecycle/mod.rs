//! The life of the process, once its workers run.
//!
//! ```text
//!            SIGTERM                        nothing is in flight, or time is up
//!   serving ─────────► stopping ──────────────────────────────────────────────► ended
//!    │   ▲                 ▲
//!    │   │ the successor   │ nothing is left, or `timeouts.drain` is over
//!    │   │ has died        │
//!    ▼   │                 │
//!   leaving ───────────────┘
//! ```
//!
//! Leaving, it accepts no connections, and responds to the next request on each of those that are
//! open: only then can it be closed without taking a request from a client that was just about to
//! send one.

mod error;
pub(crate) mod handover;
pub(crate) mod start;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use program::sockets::Given;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

pub use error::RunError;
pub use start::Before;

use crate::admin::{self, AdminApi};
use crate::control::Control;
use crate::lifecycle::handover::active_lock::ActiveLock;
use crate::lifecycle::handover::draining::{Finishing, Over};
use crate::lifecycle::handover::link::Links;
use crate::lifecycle::handover::offer::{HandoverState, Standbys, Successor};
use crate::server::admin_listener::AdminListener;
use crate::server::listeners::id_of;
use crate::table::counts::remote::ProcessId;
use crate::wire::tls::Listening;
use crate::worker::counters::Counters;
use crate::worker::order::{Order, Orders, ShutdownPhase};

/// How often a process that leaves looks whether anything is left.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// A successor that lives for so long is not expected to die of its start.
const PROBATION: Duration = Duration::from_secs(1);
/// How long the disk may take for the last write of the state file.
const SETTLING: Duration = Duration::from_secs(5);
/// How long the owner of the table may take to hear the last word of this process.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What lives.
pub(crate) struct Lifecycle {
    pub(crate) process: ProcessId,
    pub(crate) control: Arc<Control>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) links: Arc<Links>,
    pub(crate) shutdown_phase: watch::Sender<ShutdownPhase>,
    pub(crate) orders: Orders,
    pub(crate) admin: Option<(Arc<AdminApi>, AdminListener)>,
    /// Where a successor asks for everything.
    pub(crate) handover: Option<(PathBuf, UnixListener)>,
    pub(crate) active_lock: Arc<ActiveLock>,
    pub(crate) tls: Arc<Listening>,
}

/// How leaving has ended.
enum Left {
    /// The successor has died: this process serves again.
    Back(Vec<Given>),
    Ended(Result<(), RunError>),
}

impl Lifecycle {
    /// Serves until `shutdown`, or until a successor has taken over and nothing is left to
    /// finish. `sockets` are what it is given.
    pub(crate) async fn live<S, E>(
        mut self,
        sockets: Vec<Given>,
        mut shutdown: Pin<&mut S>,
        mut all_ended: Pin<&mut E>,
    ) -> Result<(), RunError>
    where
        S: Future<Output = ()>,
        E: Future<Output = Result<(), RunError>>,
    {
        let mut sockets = sockets;
        loop {
            let serving = self.serve_admin();
            let handover_state = HandoverState {
                control: self.control.clone(),
                links: self.links.clone(),
                process: self.process,
                tls: self.tls.clone(),
                sockets,
                standbys: Standbys::default(),
            };
            let successor = tokio::select! {
                () = &mut shutdown => {
                    drop(handover_state);
                    return self.stop(all_ended).await;
                }
                result = &mut all_ended => return result,
                successor = self.successor(&handover_state) => successor,
            };
            // Connections to the admin port are the successor's from here on.
            if let Some(serving) = serving {
                serving.abort();
            }
            match self
                .leave(
                    successor,
                    handover_state,
                    shutdown.as_mut(),
                    all_ended.as_mut(),
                )
                .await
            {
                Left::Back(again) => sockets = again,
                Left::Ended(result) => return result,
            }
        }
    }

    /// Finishes what is in flight, for `timeouts.drain` at most.
    pub(crate) async fn stop<E>(&self, mut all_ended: Pin<&mut E>) -> Result<(), RunError>
    where
        E: Future<Output = Result<(), RunError>>,
    {
        let within = self.control.table().timeouts.drain;
        tracing::info!("stopping: finishing requests in flight, for {within:?} at most");
        if let Some((admin, _)) = &self.admin {
            admin.stopping.store(true, Ordering::Relaxed);
        }
        self.shutdown_phase.send_replace(ShutdownPhase::Stopping);
        self.links.stop().await;
        let control = self.control.clone();
        let settling = tokio::spawn(async move { control.settle().await });
        let ended = self.end_within(Some(within), &mut all_ended).await;
        // Elapsed: the disk hangs. The file has everything all the same.
        let _ = timeout(SETTLING, settling).await;
        ended
    }

    async fn end_within<E>(
        &self,
        within: Option<Duration>,
        all_ended: &mut Pin<&mut E>,
    ) -> Result<(), RunError>
    where
        E: Future<Output = Result<(), RunError>>,
    {
        let Some(within) = within else {
            return all_ended.await;
        };
        match timeout(within, all_ended.as_mut()).await {
            Ok(result) => result,
            Err(_) => {
                tracing::warn!("time is up: cutting the remaining requests");
                self.orders.send(&Order::End);
                all_ended.await
            }
        }
    }

    fn serve_admin(&self) -> Option<JoinHandle<()>> {
        let (admin, listener) = self.admin.as_ref()?;
        admin.successor.send_replace(None);
        let (admin, listener) = (admin.clone(), listener.try_clone());
        Some(tokio::spawn(async move {
            let served = match listener {
                Ok(listener) => admin::serve(admin, listener).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(%error, "the admin API has stopped");
            }
        }))
    }

    /// Waits for a process that takes over.
    async fn successor(&self, handover_state: &HandoverState) -> Successor {
        match &self.handover {
            Some((path, listener)) => handover_state.pass_on(path, listener).await,
            None => std::future::pending().await,
        }
    }

    /// Finishes what it has, after a successor has taken over.
    async fn leave<S, E>(
        &mut self,
        successor: Successor,
        handover_state: HandoverState,
        mut shutdown: Pin<&mut S>,
        mut all_ended: Pin<&mut E>,
    ) -> Left
    where
        S: Future<Output = ()>,
        E: Future<Output = Result<(), RunError>>,
    {
        tracing::info!("another process has taken over: finishing this process's requests");
        self.give_way_to(&successor);
        handover_state.standbys.dismiss();
        let (done, is_done) = watch::channel(false);
        let (standby, is_standby) = watch::channel(true);
        let finishing = self.finishing(is_done, standby);
        let mut following = tokio::spawn(async move {
            finishing
                .follow(successor.channel, successor.draining_processes)
                .await
        });
        // What the successor does not go on with is closed; the rest stays open for the case of
        // its death.
        let mut sockets = handover_state.sockets;
        sockets.retain(|given| {
            let id = id_of(&given.label);
            id.is_none_or(|id| successor.kept.contains(&id))
        });

        let drain = self.control.table().timeouts.drain;
        let began = Instant::now();
        let mut over = None;
        let counters = self.counters.clone();
        let is_left = || counters.connections() > 0 || began.elapsed() < PROBATION;
        while began.elapsed() < drain && is_left() {
            if !*is_standby.borrow() && !sockets.is_empty() {
                sockets.clear();
                self.close_listeners();
            }
            tokio::select! {
                () = &mut shutdown => break,
                result = &mut all_ended => return Left::Ended(result),
                ended = &mut following, if over.is_none() => match ended {
                    Ok(Over::Inherited(others)) => {
                        self.inherit(others);
                        return Left::Back(sockets);
                    }
                    ended => {
                        sockets.clear();
                        self.close_listeners();
                        over = Some(ended);
                    }
                },
                () = sleep(POLL_EVERY) => {}
            }
        }
        drop(sockets);
        self.close_listeners();
        self.shutdown_phase.send_replace(ShutdownPhase::Stopping);
        let within = self.control.table().longest_drain();
        let ended = tokio::select! {
            () = &mut shutdown => {
                self.end_within(Some(drain), &mut all_ended).await
            }
            ended = self.end_within(within, &mut all_ended) => ended,
        };
        done.send_replace(true);
        if over.is_none() {
            // Who does not want to hear it knows by now that this process has nothing.
            let _ = timeout(LAST_WORD, following).await;
        }
        tracing::info!("all requests are finished");
        Left::Ended(ended)
    }

    /// Everything that comes from here on is the successor's.
    fn give_way_to(&self, successor: &Successor) {
        if let Some((admin, _)) = &self.admin {
            let known = admin::successor::Successor {
                admin: successor.admin.clone(),
            };
            admin.successor.send_replace(Some(known));
        }
        self.active_lock.release();
        let kept = successor.kept.clone();
        self.shutdown_phase
            .send_replace(ShutdownPhase::Leaving(kept.into()));
        self.control.leave_draining_processes(&self.counters);
    }

    /// What tells the owner of the table how far this process is.
    fn finishing(&self, is_done: watch::Receiver<bool>, standby: watch::Sender<bool>) -> Finishing {
        let socket = self.handover.as_ref().map(|(path, _)| path.clone());
        Finishing {
            control: self.control.clone(),
            counters: self.counters.clone(),
            process: self.process,
            socket: socket.unwrap_or_default(),
            is_done,
            standby,
            active_lock: self.active_lock.clone(),
        }
    }

    /// New connections go to the active process from here on, or are refused: no client waits for a
    /// process that does not accept.
    fn close_listeners(&mut self) {
        self.admin = None;
        self.handover = None;
        self.shutdown_phase
            .send_replace(ShutdownPhase::Leaving(Arc::default()));
    }

    /// The successor has died: everything is this process's again.
    fn inherit(&self, others: Vec<u64>) {
        tracing::error!("the process that took over has died: this one serves again");
        let links = self.links.clone();
        tokio::spawn(async move { links.expect(&others).await });
        self.control.take_back();
        let control = self.control.clone();
        tokio::spawn(async move { control.begin_saving().await });
        self.shutdown_phase.send_replace(ShutdownPhase::Serving);
    }
}
